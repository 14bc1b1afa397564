from attrs import frozen

from ordersync_adapters.settings import Settings


@frozen(kw_only=True)
class ApiSettings(Settings):
    """What the API shell reads."""
