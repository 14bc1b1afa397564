"""Each statement about Exact Online that concerns reading items, with the requests that show the sandbox doing it.

The statements are those of the reference on external systems, sections 1.1 to 1.8, shortened; they stand in the
modules beside this one, a module for each section.
"""

from pathlib import Path

import pytest
from attrs import evolve

from ordersync_connectors.exact_online.sandbox import SandboxSettings
from tests.connectors.exact_online.sandbox import (
    error_statements,
    limit_statements,
    oauth_statements,
    query_statements,
    shape_statements,
    sync_statements,
)
from tests.connectors.exact_online.sandbox.caller import FIRST_DAY, Caller, running
from tests.connectors.exact_online.sandbox.statements import STATEMENTS, Statement

MODULES = (
    oauth_statements,
    limit_statements,
    shape_statements,
    query_statements,
    sync_statements,
    error_statements,
)

NOT_YET = {
    "1.1 resources under beta": "none of the items sync lives there; the path is read",
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
}
ADVICE_TO_CLIENTS = (
    "1.1 make the host a connection setting",
    "1.2 accept expires_in as string and as number",
    "1.2 use a separate user per connection",
    "1.2 keep the token set in the database, lock, commit before use, refresh in the last 30 s",
    "1.2 mark the connection as needing consent when the chain is lost",
    "1.3 one limiter per division",
    "1.4 take array, results and object",
    "1.4 strip both ends on read",
    "1.5 send the L",
    "1.6 walk pages one after another",
    "1.7 an overlap of some minutes, and dedupe by ID",
    "1.7 store the cursor per finished page",
    "1.7 apply changes first, then deletions",
)


@pytest.mark.parametrize("statement", [each for each in STATEMENTS if not each.settings], ids=str)
def test_the_sandbox_shows(statement: Statement, site: Caller) -> None:
    statement.check(site)


@pytest.mark.parametrize("statement", [each for each in STATEMENTS if each.settings], ids=str)
def test_the_sandbox_shows_when_set_so(statement: Statement, item_file: Path) -> None:
    settings = SandboxSettings(items=item_file, clock=FIRST_DAY)
    with running(evolve(settings, **statement.settings)) as caller:
        statement.check(caller)


def test_every_section_has_statements_and_none_is_told_twice() -> None:
    told = [str(each) for each in STATEMENTS]
    assert len(told) == len(set(told))
    assert {each.section for each in STATEMENTS} == {f"1.{number}" for number in range(1, 9)}
    assert {each.check.__module__ for each in STATEMENTS} == {module.__name__ for module in MODULES}
    assert not set(told) & (set(NOT_YET) | set(ADVICE_TO_CLIENTS))
