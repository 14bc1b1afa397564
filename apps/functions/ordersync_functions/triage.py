"""Which claimed messages can be worked on, and why the others cannot."""

from collections.abc import Container, Iterable, Sequence

from attrs import frozen

from ordersync_core.kernel.errors import InvalidInput
from ordersync_core.messaging.envelope import Envelope, decode_envelope
from ordersync_core.messaging.queue import MAXIMUM_DEATHS, Claim


@frozen(kw_only=True)
class Task:
    """A message that is ours and that could be read."""

    claim: Claim
    envelope: Envelope


@frozen(kw_only=True)
class Hopeless:
    """A message that nobody can work on. `envelope` is None when it could not even be read, or names a tenant that
    does not exist: then there is no row to note it on."""

    claim: Claim
    reason: str
    description: str
    envelope: Envelope | None = None


@frozen
class Triage:
    tasks: Sequence[Task]
    hopeless: Sequence[Hopeless]


def triage(claims: Iterable[Claim], administrations: Container[str]) -> Triage:
    """Sort them. The administration is the envelope's; whatever a message body says about it is not looked at."""
    judged = [_judge(claim, administrations) for claim in claims]
    return Triage(
        [entry for entry in judged if isinstance(entry, Task)],
        [entry for entry in judged if isinstance(entry, Hopeless)],
    )


def _judge(claim: Claim, administrations: Container[str]) -> Task | Hopeless:
    try:
        envelope = decode_envelope(claim.message.body)
    except InvalidInput as error:
        return Hopeless(claim=claim, reason="Malformed", description=f"the message cannot be read: {error}")
    if envelope.administration not in administrations:
        description = f"there is no administration {envelope.administration!r}"
        return Hopeless(claim=claim, reason="UnknownAdministration", description=description)
    if claim.deaths >= MAXIMUM_DEATHS:
        description = f"{claim.deaths} processes died while they worked on it"
        return Hopeless(claim=claim, reason="KilledItsProcess", description=description, envelope=envelope)
    return Task(claim=claim, envelope=envelope)
