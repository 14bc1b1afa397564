"""What every adapter of a port promises, as examples: one suite a port.

A subclass says how to build the adapter and inherits the tests:

class TestItemsOnMyDatabase(ItemsContract):
    def make_databases(self, clock: ManualClock) -> Databases:
        return MyDatabases(clock, ...)  # new ones, with the tenants alpha and beta
"""
