"""Section 1.8, errors."""

from tests.connectors.exact_online.sandbox.caller import Caller, message
from tests.connectors.exact_online.sandbox.statements import shows

MISSING = "logistics/Items(guid'00000000-0000-0000-0000-000000000001')"
UNITS = "logistics/Units"


@shows("1.8", "the body is error, code, message, lang, value; the code is empty")
def _body(site: Caller) -> None:
    answer = site.get(MISSING)
    assert message(answer)
    assert answer.json()["error"]["code"] == ""
    assert answer.json()["error"]["message"]["lang"] == ""


@shows("1.8", "lang can be nl-NL and the text Dutch", language="nl-NL")
def _dutch(site: Caller) -> None:
    answer = site.send("POST", "logistics/Items", json={"Code": "X", "Description": "x" * 61})
    assert answer.status_code == 500
    assert answer.json()["error"]["message"]["lang"] == "nl-NL"
    assert message(answer) == "Ongeldig: Description"


@shows("1.8", "400 for a bad query")
def _bad_query(site: Caller) -> None:
    for condition in ("Code eq", "(Code eq 'A'", "Code", "Code eq 1", "Nothing eq 'A'", "ID eq guid'x'"):
        answer = site.get(f"logistics/Items?$select=Code&$filter={condition}")
        assert answer.status_code == 400
        assert message(answer)
        site.advance(3600)
        site.consent()


@shows("1.8", "400 for an unknown property in a body")
def _unknown_property(site: Caller) -> None:
    answer = site.send("POST", "logistics/Items", json={"Code": "X", "Description": "X", "Colour": "red"})
    assert answer.status_code == 400
    assert message(answer).startswith("Error processing request stream. The property name 'Colour'")


@shows("1.8", "400 for a bad value and for a body that is no JSON")
def _bad_value(site: Caller) -> None:
    for values in ({"NetWeight": "heavy"}, {"EndDate": "/Date(1782345600000)/"}, {"ItemGroup": "none"}):
        answer = site.send("POST", "logistics/Items", json={"Code": "X", "Description": "X", **values})
        assert answer.status_code == 400
        assert "Error processing request stream" in message(answer)
    assert site.send("POST", "logistics/Items", content=b"{").status_code == 400


@shows("1.8", "403 without the right", without_right=frozenset({"logistics/units"}))
def _forbidden(site: Caller) -> None:
    answer = site.get(UNITS)
    assert answer.status_code == 403
    assert message(answer)


@shows("1.8", "403 for a division the user cannot open")
def _division(site: Caller) -> None:
    assert site.get(UNITS, division=99).status_code == 403


@shows(
    "1.8",
    "a user without rights sometimes gets an empty list instead",
    without_right=frozenset({"logistics/units"}),
    without_right_answer="empty",
)
def _empty(site: Caller) -> None:
    assert site.d(UNITS) == {"results": []}


@shows("1.8", "404 for an unknown key and an unknown resource")
def _not_found(site: Caller) -> None:
    for path in (MISSING, "logistics/Nothing", "crm/Accounts", "system/Divisions(5)"):
        answer = site.get(path)
        assert answer.status_code == 404
        assert message(answer)


@shows("1.8", "408, 429 and 500 on demand")
def _on_demand(site: Caller) -> None:
    for status in (408, 429, 500):
        site.fault(match="Units", do="status", status=status)
        assert site.get(UNITS).status_code == status
    assert site.get(UNITS).status_code == 200


@shows("1.8", "500 for business rules: Data already exists")
def _exists(site: Caller) -> None:
    answer = site.send("POST", "logistics/Items", json={"Code": "A0001", "Description": "Again"})
    assert (answer.status_code, message(answer)) == (500, "Data already exists")
    other = f"logistics/Items(guid'{site.item('A0005')['ID']}')"
    assert site.send("PUT", other, json={"Code": "A0001"}).status_code == 500


@shows("1.8", "500 for business rules: Can't delete, used in")
def _in_use(site: Caller) -> None:
    answer = site.send("DELETE", f"logistics/Items(guid'{site.item('A0002')['ID']}')")
    assert (answer.status_code, message(answer)) == (500, "Can't delete: A0002 - Used in: Stock")


@shows("1.8", "500 for business rules: mandatory, too long, unknown unit or group")
def _rules(site: Caller) -> None:
    whole = {"Code": "R-1", "Description": "Rule"}
    for values in (
        {"Code": None},
        {"Description": " "},
        {"Code": "x" * 31},
        {"Description": "x" * 61},
        {"Unit": "none"},
        {"ItemGroup": "00000000-0000-0000-0000-000000000001"},
    ):
        answer = site.send("POST", "logistics/Items", json={**whole, **values})
        assert answer.status_code == 500
        assert message(answer).split(":")[0] in ("Mandatory", "Invalid")
    assert site.codes("Code eq 'R-1'") == []


@shows("1.8", "500 for true faults: A problem has occurred")
def _true_fault(site: Caller) -> None:
    site.fault(match="Units", do="status", status=500)
    assert message(site.get(UNITS)) == "A problem has occurred."


@shows("1.8", "502 and 503 are HTML during maintenance")
def _maintenance(site: Caller) -> None:
    for status in (502, 503):
        site.fault(match="Units", do="status", status=status)
        answer = site.get(UNITS)
        assert answer.status_code == status
        assert answer.headers["content-type"].startswith("text/html")
        assert answer.text.startswith("<!DOCTYPE html>")


@shows("1.8", "OAuth errors are error and error_description")
def _oauth(site: Caller) -> None:
    assert set(site.refresh("none").json()) == {"error", "error_description"}


@shows("1.8", "UserHasRights gives a d object", without_right=frozenset({"logistics/itemgroups"}))
def _rights(site: Caller) -> None:
    def has(endpoint: str, action: str = "GET") -> bool:
        d = site.d(f"users/UserHasRights?endpoint='{endpoint}'&action='{action}'")
        assert list(d) == ["UserHasRights"]
        right: bool = d["UserHasRights"]
        return right

    assert has("logistics/Items")
    assert has("logistics/Items", "PUT")
    assert not has("logistics/Units", "PUT")
    assert not has("logistics/ItemGroups")
    assert not has("crm/Accounts")


@shows("1.8", "a method that a resource does not have is refused")
def _method(site: Caller) -> None:
    for path in ("sync/Logistics/Items", "bulk/Logistics/Items", UNITS):
        assert site.send("POST", path, json={}).status_code == 405
