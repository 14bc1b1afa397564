from attrs import frozen

from ordersync_adapters.settings import Settings


@frozen(kw_only=True)
class JobsSettings(Settings):
    """What the Jobs shell reads."""
