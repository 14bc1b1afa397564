"""Which resources there are: names, properties, keys, page sizes, and where their rows come from."""

from collections.abc import Callable, Mapping
from typing import Literal

from attrs import frozen

from .clock import SandboxClock
from .fields import (
    DELETED_FIELDS,
    DIVISION_FIELDS,
    ITEM_FIELDS,
    ITEM_GROUP_FIELDS,
    ME_FIELDS,
    SYNC_ITEM_FIELDS,
    UNIT_FIELDS,
    Field,
    Value,
)
from .settings import SandboxSettings
from .sources import ChangedItemSource, DeletionSource, ItemSource, KeptSource, MadeSource, Source
from .store import USER_NAME, Company, Row
from .values import ZERO_GUID

STANDARD_PAGE, LARGE_PAGE = 60, 1000


@frozen
class Site:
    """What a resource may ask for beside its company."""

    settings: SandboxSettings
    clock: SandboxClock
    companies: Mapping[int, Company]


@frozen(kw_only=True)
class Resource:
    """
    Attributes:
        path: in Exact's spelling; callers may spell it in any case.
        type_name: behind `Exact.Web.Api.Models.`; those of sync and deleted rows are our guess.
        select: whether `$select` can be left out: always, not on a broad read, or never.
        ordered_by_timestamp: rows come by Timestamp and cannot be ordered or looked up otherwise.
        has_sync_twin: with the mandatory-filter switch on, it cannot be listed without `$filter`.
    """

    path: str
    type_name: str
    fields: Mapping[str, Field]
    source: Callable[[Company, Site], Source]
    key: str = "ID"
    page: int = STANDARD_PAGE
    select: Literal["optional", "for broad reads", "required"] = "optional"
    ordered_by_timestamp: bool = False
    has_sync_twin: bool = False
    writable: bool = False


def divisions(company: Company, site: Site) -> MadeSource:
    return MadeSource([_division(each, company, site) for each in site.companies.values()], "Code")


RESOURCES: Mapping[str, Resource] = {
    each.path.lower(): each
    for each in (
        Resource(
            path="logistics/Items",
            type_name="Item",
            fields=ITEM_FIELDS,
            source=lambda company, _: ItemSource(company),
            select="for broad reads",
            has_sync_twin=True,
            writable=True,
        ),
        Resource(
            path="bulk/Logistics/Items",
            type_name="Item",
            fields=ITEM_FIELDS,
            source=lambda company, _: ItemSource(company),
            page=LARGE_PAGE,
            select="required",
            has_sync_twin=True,
        ),
        Resource(
            path="sync/Logistics/Items",
            type_name="Sync.Logistics.Item",
            fields=SYNC_ITEM_FIELDS,
            source=lambda company, _: ChangedItemSource(company),
            key="Timestamp",
            page=LARGE_PAGE,
            select="required",
            ordered_by_timestamp=True,
        ),
        Resource(
            path="sync/Deleted",
            type_name="Sync.Deleted",
            fields=DELETED_FIELDS,
            source=lambda company, site: DeletionSource(company, site.settings.retrieve_deleted_records),
            key="Timestamp",
            page=LARGE_PAGE,
            select="required",
            ordered_by_timestamp=True,
        ),
        Resource(
            path="logistics/ItemGroups",
            type_name="ItemGroup",
            fields=ITEM_GROUP_FIELDS,
            source=lambda company, _: KeptSource(company.item_groups),
        ),
        Resource(
            path="logistics/Units",
            type_name="Unit",
            fields=UNIT_FIELDS,
            source=lambda company, _: KeptSource(company.units),
        ),
        Resource(
            path="system/Divisions", type_name="System.Division", fields=DIVISION_FIELDS, source=divisions, key="Code"
        ),
        Resource(path="hrm/Divisions", type_name="Hrm.Division", fields=DIVISION_FIELDS, source=divisions, key="Code"),
    )
}

ME = Resource(
    path="current/Me",
    type_name="System.Me",
    fields=ME_FIELDS,
    source=lambda company, site: MadeSource([_me(company, site)], "UserID"),
    key="UserID",
)


def _division(company: Company, current: Company, site: Site) -> Row:
    values: Mapping[str, Value] = {
        "Code": company.division,
        "BlockingStatus": 0,
        "Country": site.settings.country.ljust(3),
        "Currency": site.settings.currency,
        "Current": company is current,
        "Customer": company.guid("customer"),
        "CustomerCode": "1".rjust(18),
        "CustomerName": "Sandbox Wholesale",
        "Description": f"Sandbox division {company.division}",
        "Hid": company.division,
        "IsMainDivision": company.division == site.settings.division,
        "Legislation": site.settings.country.ljust(3),
        "Status": 0,
    }
    return Row(values)


def _me(company: Company, site: Site) -> Row:
    local = site.clock.local()
    values: Mapping[str, Value] = {
        "UserID": company.user_id,
        "AccountingDivision": company.division,
        "CurrentDivision": company.division,
        "DivisionCustomer": company.guid("customer"),
        "DivisionCustomerCode": "1".rjust(18),
        "DivisionCustomerName": "Sandbox Wholesale",
        "DivisionCustomerSiretNumber": "",
        "DossierDivision": company.division,
        "Email": "user@example.com",
        "EmployeeID": ZERO_GUID,
        "FirstName": "Sandbox",
        "FullName": USER_NAME,
        "IsClientUser": False,
        "IsEmployeeSelfServiceUser": False,
        "IsMyFirmLiteUser": False,
        "IsMyFirmPortalUser": False,
        "IsOEIMigrationMandatory": False,
        "IsStarterUser": False,
        "Language": "NL",
        "LanguageCode": "nl-NL",
        "LastName": "User",
        "Legislation": 1,
        "ServerTime": local.strftime("%Y-%m-%dT%H:%M:%S"),
        "ServerUtcOffset": site.clock.utc_offset_seconds(),
        "UserName": "sandbox",
    }
    return Row(values)
