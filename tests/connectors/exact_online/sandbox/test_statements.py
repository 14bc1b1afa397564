"""Each statement about Exact Online that concerns reading items, with the requests that show the sandbox doing it.

The statements are those of the reference, sections 1.1 to 1.8, shortened. `NOT_YET` names what it says about
resources that the sandbox does not have, and `NOT_A_SERVERS` what it advises a client.
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import httpx
import pytest
from attrs import evolve, frozen
from tests.connectors.exact_online.sandbox.caller import ITEMS, REDIRECT_URI, Caller, message, running

Check = Callable[[Caller], None]


@frozen
class Statement:
    section: str
    text: str
    check: Check
    settings: dict[str, Any]


STATEMENTS: list[Statement] = []

NOT_YET = {
    "1.4 a collection is __deferred, or results after $expand": "items have none; comes with sales orders",
    "1.4 type names Account, Contact, SalesOrder, SalesOrderLine, VATCode, SalesEntry": "resources of later issues",
    "1.4 Account.Code, AccountCode and CustomerCode are padded to 18": "comes with accounts; Me and Divisions show it",
    "1.4 State is padded to 3, Language of accounts to 10": "comes with accounts",
    "1.4 UnitCode of a sales order line is not padded": "comes with sales orders",
    "1.4 SearchCode is padded in old data": "old data only",
    "1.5 $select of Nav/Field with $expand": "items have no navigation property",
    "1.7 sync twins of accounts, addresses, contacts, prices, orders, stock positions": "resources of later issues",
    "1.7 entity types other than 9": "resources of later issues",
    "1.7 accounts end by Blocked or Status": "comes with accounts",
    "1.8 users/UserHasRights for crm/Accounts": "false until there are accounts",
}
NOT_A_SERVERS = {
    "1.2 accept expires_in as string and as number": "the sandbox emits the string",
    "1.2 use a separate user per connection": "advice",
    "1.2 keep the token set in the database, lock, commit before use": "advice",
    "1.2 mark the connection as needing consent when the chain is lost": "advice",
    "1.3 one limiter per division in the client": "advice",
    "1.4 clients take array, results and object": "advice",
    "1.4 strip both ends on read": "advice",
    "1.5 send the L": "advice; both forms are taken",
    "1.6 walk pages one after another": "advice",
    "1.7 an overlap of some minutes, and dedupe by ID": "advice",
    "1.7 store the cursor per finished page": "advice",
}


def shows(section: str, text: str, **settings: Any) -> Callable[[Check], Check]:
    """Registers a check under the statement it shows; with `settings` it gets a sandbox of its own."""

    def register(check: Check) -> Check:
        STATEMENTS.append(Statement(section, text, check, settings))
        return check

    return register


def _named(statement: Statement) -> str:
    return f"{statement.section} {statement.text}"


@pytest.mark.parametrize("statement", [each for each in STATEMENTS if not each.settings], ids=_named)
def test_the_sandbox_shows(statement: Statement, site: Caller) -> None:
    statement.check(site)
