"""Creating, changing and deleting items through the data API, with the refusals of the business rules.

Business rules answer 500, as Exact does. A body is checked for its properties first (400).
"""

from collections.abc import Mapping
from typing import Any

import orjson

from .answers import Call, DataError
from .fields import TEXT_LENGTHS, Field, Value
from .resources import Resource
from .store import Company, Row
from .values import BadValue, checked

_DUTCH = {
    "Data already exists": "Gegevens bestaan reeds",
    "Mandatory": "Verplicht",
    "Invalid": "Ongeldig",
    "Can't delete": "Kan niet verwijderen",
    "Used in": "Gebruikt in",
}


class BusinessRules:
    def __init__(self, language: str) -> None:
        self._language = language

    def create(self, resource: Resource, company: Company, body: bytes) -> Row:
        values = _values(resource, body, creating=True)
        for required in ("Code", "Description"):
            if not str(values.get(required) or "").strip():
                raise self._broken(f"{self._said('Mandatory')}: {required}")
        self._check(company, values)
        if company.item(str(values["Code"])) is not None:
            raise self._broken(self._said("Data already exists"))
        return company.create_item(values)

    def change(self, resource: Resource, company: Company, row: Row, body: bytes) -> None:
        """Only the properties that were sent change."""
        values = _values(resource, body, creating=False)
        for required in ("Code", "Description"):
            if required in values and not str(values[required] or "").strip():
                raise self._broken(f"{self._said('Mandatory')}: {required}")
        self._check(company, values)
        taken = company.item(str(values["Code"])) if "Code" in values else None
        if taken is not None and taken is not row:
            raise self._broken(self._said("Data already exists"))
        company.change_item(row, values)

    def delete(self, company: Company, row: Row) -> None:
        """An item with stock stays; it stands for all that Exact finds in use."""
        if row.values.get("Stock"):
            refused, used = self._said("Can't delete"), self._said("Used in")
            raise self._broken(f"{refused}: {row.values['Code']} - {used}: Stock")
        company.delete_item(row)

    def _check(self, company: Company, values: Mapping[str, Value]) -> None:
        # Whether Exact cuts or refuses longer texts is unknown; the sandbox refuses them.
        for name, longest in TEXT_LENGTHS.items():
            if len(str(values.get(name) or "")) > longest:
                raise self._broken(f"{self._said('Invalid')}: {name}")
        if values.get("Unit") and not company.has_unit(str(values["Unit"])):
            raise self._broken(f"{self._said('Invalid')}: Unit")
        if values.get("ItemGroup") and company.item_groups.find(str(values["ItemGroup"])) is None:
            raise self._broken(f"{self._said('Invalid')}: ItemGroup")

    def _said(self, text: str) -> str:
        return _DUTCH[text] if self._language == "nl-NL" else text

    def _broken(self, text: str) -> DataError:
        return DataError(500, text)


def prefers_representation(call: Call) -> bool:
    return "return=representation" in call.headers.get("prefer", "").lower().replace(" ", "")


def _values(resource: Resource, body: bytes, *, creating: bool) -> Mapping[str, Value]:
    """The writable properties of a body; read-only ones are left out in silence (Exact's own rule is unknown)."""
    try:
        sent = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise DataError(400, "Error processing request stream.") from None
    if not isinstance(sent, dict):
        raise DataError(400, "Error processing request stream. The request should contain a single object.")
    values: dict[str, Value] = {}
    for name, value in sent.items():
        field = resource.fields.get(name)
        if field is None:
            raise DataError(
                400,
                f"Error processing request stream. The property name '{name}' specified for type "
                f"'Exact.Web.Api.Models.{resource.type_name}' is not valid.",
            )
        if field.written == "always" or (creating and field.written == "create"):
            values[name] = _checked(field, value)
    return values


def _checked(field: Field, value: Any) -> Value:
    if field.name in TEXT_LENGTHS and isinstance(value, str) and len(value) > TEXT_LENGTHS[field.name]:
        return value  # the business rule answers this one
    try:
        return checked(field, value)
    except BadValue as reason:
        raise DataError(400, f"Error processing request stream. Error in property '{field.name}': {reason}.") from None
