"""For whom and as whom the functions work when no message says so."""

from ordersync_core.kernel.context import Context


def platform(function: str) -> Context:
    """Work on the platform itself, in the name of a function."""
    return Context(administration=None, triggered_by=function, correlation_id=function)


def tenant(function: str, administration: str) -> Context:
    return platform(function).within(administration)
