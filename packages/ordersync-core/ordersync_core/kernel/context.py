from attrs import evolve, frozen


@frozen(kw_only=True)
class Context:
    """For whom and why a handler runs. A shell makes it once: from the verified membership (HTTP), the
    envelope (queue), the run (job) or the argument (command line).

    `administration` is None for work on the platform itself: no tenant database can be opened then.
    `triggered_by` is the `sub` of a person or machine, or the name of the part of OrderSync that acted.
    """

    administration: str | None
    triggered_by: str
    correlation_id: str
    traceparent: str | None = None

    def within(self, administration: str) -> "Context":
        return evolve(self, administration=administration)
