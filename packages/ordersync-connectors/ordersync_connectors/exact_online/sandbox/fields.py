"""The properties of each resource: name, Edm type, who may write it, whether a filter may use it.

The order is the server's, and rows keep it whatever order `$select` had.
"""

from collections.abc import Mapping
from typing import Literal, get_args

from attrs import frozen

Edm = Literal["Guid", "String", "DateTime", "Int16", "Int32", "Int64", "Byte", "Double", "Boolean", "Binary"]
Written = Literal["never", "create", "always"]
Value = str | int | float | bool | None
"""A property's value. DateTime is held as milliseconds of wall time, whole Doubles as int, guids in lower case."""


@frozen
class Field:
    name: str
    edm: Edm
    written: Written = "never"
    filterable: bool = True


def _field(text: str, refused_in_filters: frozenset[str]) -> Field:
    name, edm, *flags = text.split()
    if edm not in get_args(Edm):
        raise ValueError(f"{name} has the unknown type {edm}")
    written: Written = "always" if "W" in flags else "create" if "C" in flags else "never"
    return Field(name, edm, written, name not in refused_in_filters)  # type: ignore[arg-type]


def _fields(text: str, refused_in_filters: frozenset[str] = frozenset()) -> Mapping[str, Field]:
    fields = (_field(part, refused_in_filters) for part in text.replace("\n", " ").split(";") if part.strip())
    return {each.name: each for each in fields}


# Computed and description columns: Exact refuses filters on many of them and lists them nowhere; this is our reading.
_ITEM_FIELDS_REFUSED_IN_FILTERS = frozenset(
    {"AverageCost", "CreatorFullName", "CustomField", "GLCostsDescription", "GLCostsWorkInProgressDescription"}
    | {"GLRevenueDescription", "GLRevenueWorkInProgressDescription", "GLStockDescription", "ItemGroupDescription"}
    | {"ModifierFullName", "Picture", "PictureName", "PictureThumbnailUrl", "PictureUrl", "SalesVatCodeDescription"}
    | {"StandardSalesPrice", "StatisticalNetWeight", "StatisticalUnits", "StatisticalValue", "Stock"}
    | {"UnitDescription"}
)

ITEM_FIELDS = _fields(
    """ID Guid; AssembledLeadDays Int32; AverageCost Double C; Barcode String W; BatchQuantity Double;
    Class_01 String W; Class_02 String W; Class_03 String W; Class_04 String W; Class_05 String W; Class_06 String W;
    Class_07 String W; Class_08 String W; Class_09 String W; Class_10 String W; Code String W; CopyRemarks Byte W;
    CostPriceCurrency String W; CostPriceNew Double W; CostPriceStandard Double C; Created DateTime; Creator Guid;
    CreatorFullName String; CustomField String; Description String W; Division Int32; EndDate DateTime W;
    ExtraDescription String W; FreeBoolField_01 Boolean W; FreeBoolField_02 Boolean W; FreeBoolField_03 Boolean W;
    FreeBoolField_04 Boolean W; FreeBoolField_05 Boolean W; FreeDateField_01 DateTime W; FreeDateField_02 DateTime W;
    FreeDateField_03 DateTime W; FreeDateField_04 DateTime W; FreeDateField_05 DateTime W; FreeNumberField_01 Double W;
    FreeNumberField_02 Double W; FreeNumberField_03 Double W; FreeNumberField_04 Double W; FreeNumberField_05 Double W;
    FreeNumberField_06 Double W; FreeNumberField_07 Double W; FreeNumberField_08 Double W; FreeTextField_01 String W;
    FreeTextField_02 String W; FreeTextField_03 String W; FreeTextField_04 String W; FreeTextField_05 String W;
    FreeTextField_06 String W; FreeTextField_07 String W; FreeTextField_08 String W; FreeTextField_09 String W;
    FreeTextField_10 String W; GLCosts Guid W; GLCostsCode String; GLCostsDescription String;
    GLCostsWorkInProgress Guid; GLCostsWorkInProgressCode String; GLCostsWorkInProgressDescription String;
    GLRevenue Guid W; GLRevenueCode String; GLRevenueDescription String; GLRevenueWorkInProgress Guid;
    GLRevenueWorkInProgressCode String; GLRevenueWorkInProgressDescription String; GLStock Guid W; GLStockCode String;
    GLStockDescription String; GrossWeight Double W; IsBatchItem Byte W; IsBatchNumberItem Byte W;
    IsFractionAllowedItem Boolean W; IsMakeItem Byte W; IsNewContract Byte W; IsOnDemandItem Byte W;
    IsPackageItem Boolean W; IsPurchaseItem Boolean W; IsRegistrationCodeItem Byte W; IsSalesItem Boolean W;
    IsSerialItem Boolean W; IsSerialNumberItem Boolean W; IsStockItem Boolean W; IsSubcontractedItem Boolean W;
    IsTaxableItem Byte W; IsTime Byte W; IsWebshopItem Byte W; ItemGroup Guid W; ItemGroupCode String;
    ItemGroupDescription String; Modified DateTime; Modifier Guid; ModifierFullName String; NetWeight Double W;
    NetWeightUnit String W; Notes String W; Picture Binary; PictureName String; PictureThumbnailUrl String;
    PictureUrl String; SalesVatCode String W; SalesVatCodeDescription String; SearchCode String W;
    SecurityLevel Int32 W; StandardSalesPrice Double; StartDate DateTime W; StatisticalCode String;
    StatisticalNetWeight Double; StatisticalUnits Double; StatisticalValue Double; Stock Double; Unit String W;
    UnitDescription String; UnitType String; UseExplosion Byte""",
    _ITEM_FIELDS_REFUSED_IN_FILTERS,
)

SYNC_ITEM_FIELDS: Mapping[str, Field] = {
    "Timestamp": Field("Timestamp", "Int64"),
    **{name: each for name, each in ITEM_FIELDS.items() if name != "StandardSalesPrice"},
}

DELETED_FIELDS = _fields(
    "Timestamp Int64; DeletedBy Guid; DeletedDate DateTime; Division Int32; EntityKey Guid; EntityType Int32; ID Guid"
)

ITEM_GROUP_FIELDS = _fields(
    """ID Guid; Code String; Created DateTime; Creator Guid; CreatorFullName String; Description String;
    Division Int32; GLCosts Guid; GLCostsCode String; GLCostsDescription String; GLRevenue Guid; GLRevenueCode String;
    GLRevenueDescription String; GLStock Guid; GLStockCode String; GLStockDescription String; IsDefault Byte;
    Modified DateTime; Modifier Guid; ModifierFullName String; Notes String"""
)

UNIT_FIELDS = _fields(
    "ID Guid; Active Boolean; Code String; Description String; Division Int32; Main Byte; TimeUnit String; Type String"
)

DIVISION_FIELDS = _fields(
    """Code Int32; ArchiveDate DateTime; BlockingStatus Int32; ChamberOfCommerceNumber String; Country String;
    Created DateTime; Currency String; Current Boolean; Customer Guid; CustomerCode String; CustomerName String;
    Description String; Hid Int64; IsMainDivision Boolean; Legislation String; Modified DateTime; SiretNumber String;
    StartDate DateTime; Status Int32; VATNumber String"""
)

ME_FIELDS = _fields(
    """UserID Guid; AccountingDivision Int32; CurrentDivision Int32; CustomerCode String; DivisionCustomer Guid;
    DivisionCustomerCode String; DivisionCustomerName String; DivisionCustomerSiretNumber String;
    DivisionCustomerVatNumber String; DossierDivision Int32; Email String; EmployeeID Guid; FirstName String;
    FullName String; Gender String; Initials String; IsClientUser Boolean; IsEmployeeSelfServiceUser Boolean;
    IsMyFirmLiteUser Boolean; IsMyFirmPortalUser Boolean; IsOEIMigrationMandatory Boolean; IsStarterUser Boolean;
    Language String; LanguageCode String; LastName String; Legislation Int64; MiddleName String; Mobile String;
    Nationality String; PackageCode String; Phone String; PhoneExtension String; PictureUrl String; ServerTime String;
    ServerUtcOffset Double; ThumbnailPicture Binary; ThumbnailPictureFormat String; Title String; UserName String"""
)

SYNC_TIMESTAMP_FIELDS = _fields("API String; Modified DateTime; TimeStampAsBigInt Int64")

TEXT_LENGTHS: Mapping[str, int] = {
    "Code": 30,
    "Description": 60,
    "ExtraDescription": 255,
    "Barcode": 64,
    "Unit": 8,
    "SalesVatCode": 3,
}
"""The longest text an item property takes, in characters."""

PADDED: Mapping[str, int] = {"Unit": 8, "SalesVatCode": 3}
"""Item properties that are fixed-length columns, filled up with spaces to this many characters."""
