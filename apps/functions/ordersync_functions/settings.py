from attrs import frozen

from ordersync_adapters.settings import Settings


@frozen(kw_only=True)
class FunctionsSettings(Settings):
    """What the Functions shell reads."""
