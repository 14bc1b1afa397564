from attrs import frozen

from ordersync_adapters.settings import Settings


@frozen(kw_only=True)
class AdminSettings(Settings):
    """What the Admin shell reads."""
