"""What a connection to Exact Online needs to know."""

from collections.abc import Mapping
from typing import Any, NewType
from urllib.parse import urlsplit

from attrs import field, frozen

from ordersync_core.items.model import VatTariff
from ordersync_core.kernel.decoding import register, text
from ordersync_core.kernel.localised import localised_text

HOSTS = (
    "https://start.exactonline.nl",
    "https://start.exactonline.be",
    "https://start.exactonline.de",
    "https://start.exactonline.fr",
    "https://start.exactonline.es",
    "https://start.exactonline.co.uk",
    "https://start.exactonline.com",
)

Host = NewType("Host", str)
"""Scheme and name of a country's site, without a path."""

Division = NewType("Division", int)
"""The number of a company; above zero."""

Filled = NewType("Filled", str)

Language = NewType("Language", str)
"""A language tag such as en or nl-BE."""


def _host(value: Any) -> Host:
    host = text(value).rstrip("/")
    parts = urlsplit(host)
    if parts.scheme not in ("https", "http") or not parts.hostname or host != f"{parts.scheme}://{parts.netloc}":
        raise ValueError(f"must be the address of an Exact Online site such as {HOSTS[0]}")
    if "@" in parts.netloc:
        raise ValueError("must not hold a user or a password")
    return Host(host)


def _division(value: Any) -> Division:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError("must be the number of a division, such as 124132")
    return Division(value)


def _language(value: Any) -> Language:
    localised_text({text(value): ""})
    return Language(value)


def _filled(value: Any) -> Filled:
    filled = text(value).strip()
    if not filled:
        raise ValueError("must not be empty")
    return Filled(filled)


register(Host, _host)
register(Division, _division)
register(Filled, _filled)
register(Language, _language)


@frozen(kw_only=True)
class ExactSettings:
    """One company (division) on one country's site.

    language: the language that the company's item descriptions are written in.
    vat_tariffs: OrderSync's tariff for each of the company's VAT codes; items with other codes get none.
    """

    host: Host = Host(HOSTS[0])
    division: Division
    client_id: Filled
    language: Language = Language("en")
    vat_tariffs: Mapping[str, VatTariff] = field(factory=dict)


@frozen(kw_only=True)
class ExactSecrets:
    client_secret: Filled = field(repr=False)


SETTINGS_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "required": ["division", "client_id"],
    "additionalProperties": False,
    "properties": {
        "host": {"type": "string", "title": "Site", "default": HOSTS[0], "examples": list(HOSTS)},
        "division": {"type": "integer", "minimum": 1, "title": "Division"},
        "client_id": {"type": "string", "title": "Client id of the app registration"},
        "language": {"type": "string", "title": "Language of the item descriptions", "default": "en"},
        "vat_tariffs": {
            "type": "object",
            "title": "VAT tariff by VAT code",
            "additionalProperties": {"enum": [tariff.value for tariff in VatTariff]},
        },
    },
}

SECRETS_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "required": ["client_secret"],
    "additionalProperties": False,
    "properties": {"client_secret": {"type": "string", "title": "Client secret of the app registration"}},
}
