"""Sections 1.5, query options, and 1.6, paging."""

from urllib.parse import parse_qs, urlsplit

from tests.connectors.exact_online.sandbox.caller import ITEMS, Caller, message
from tests.connectors.exact_online.sandbox.statements import shows

SYNC = "sync/Logistics/Items?$filter=Timestamp gt 1L&$select=Code,Timestamp"
BULK = "bulk/Logistics/Items?$filter=Code ge 'A'&$select=ID,Code"
STANDARD = "logistics/Items?$filter=Code ge 'A'&$select=ID,Code"


@shows("1.5", "$select, $filter, $top, $orderby, $inlinecount and $skiptoken")
def _options(site: Caller) -> None:
    d = site.d("logistics/Items?$select=Code&$filter=Code le 'A0070'&$top=61&$orderby=Code desc&$inlinecount=allpages")
    assert d["__count"] == "70"
    assert [row["Code"] for row in d["results"]] == [f"A{number:04}" for number in range(70, 10, -1)]
    rest = site.d(d["__next"])["results"]
    assert [row["Code"] for row in rest] == ["A0010"]


@shows("1.5", "$skip is not supported")
def _skip(site: Caller) -> None:
    assert site.get(f"{STANDARD}&$skip=60").status_code == 400


@shows("1.5", "literals: guid, text with doubled apostrophe, null, true and false")
def _literals(site: Caller) -> None:
    key = site.item("A0001")["ID"]
    assert site.codes(f"ID eq guid'{key}'") == ["A0001"]
    assert site.codes(f"ID eq guid'{key.upper()}'") == ["A0001"]
    assert site.codes("Description eq 'It''s'") == []
    assert site.codes("EndDate ne null") == ["A0003"]
    assert site.codes("FreeBoolField_01 eq true") == ["A0004"]
    assert site.codes("IsSalesItem eq false") == []


@shows("1.5", "literals: datetime, integers and doubles")
def _more_literals(site: Caller) -> None:
    assert site.codes("EndDate eq datetime'2026-06-25T00:00:00'") == ["A0003"]
    assert site.codes("EndDate eq datetime'2026-06-25'") == ["A0003"]
    assert site.codes("SecurityLevel eq 1") == []
    site.put("WEIGHT", Description="Heavy", NetWeight=12.5)
    assert site.codes("NetWeight gt 12.4 and NetWeight lt 12.6d") == ["WEIGHT"]
    site.remove("WEIGHT")


@shows("1.5", "Int64 with an L, and taken without it")
def _int64(site: Caller) -> None:
    last = site.state()["highest_timestamp"]
    for literal in (f"{last - 5}L", f"{last - 5}"):
        assert site.get(f"sync/Logistics/Items?$select=Code&$filter=Timestamp gt {literal}").status_code == 200
    assert site.rows(f"sync/Logistics/Items?$select=Code&$filter=Timestamp gt {last}L") == []


@shows("1.5", "operators eq ne gt ge lt le and or not")
def _operators(site: Caller) -> None:
    assert site.codes("Code eq 'A0005'") == ["A0005"]
    assert site.codes("Code gt 'A0005' and Code lt 'A0008'") == ["A0006", "A0007"]
    assert site.codes("Code ge 'A0005' and Code le 'A0006'") == ["A0005", "A0006"]
    assert site.codes("Code eq 'A0001' or Code eq 'A0002'") == ["A0001", "A0002"]
    assert site.codes("Code le 'A0003' and not (Code eq 'A0002')") == ["A0001", "A0003"]
    assert site.codes("Code le 'A0003' and Code ne 'A0002'") == ["A0001", "A0003"]
    assert site.codes("Code eq 'A0001' or Code eq 'A0002' and Code eq 'A0003'") == ["A0001"]


@shows("1.5", "functions substringof, startswith, trim; endswith, tolower, toupper")
def _functions(site: Caller) -> None:
    assert site.codes("substringof('em 1129',Description) eq true") == ["A1129"]
    assert site.codes("startswith(Code,'A112')") == [f"A112{digit}" for digit in range(10)]
    assert site.codes("endswith(Code,'129') eq true") == ["A0129", "A1129"]
    assert site.codes("trim(Unit) eq 'stuk' and Code eq 'A0001'") == ["A0001"]
    assert site.codes("tolower(Code) eq 'a0007'") == ["A0007"]
    assert site.codes("toupper(Description) eq 'ITEM 7'") == ["A0007"]


@shows("1.5", "filters on navigation, computed and description properties are refused")
def _refused(site: Caller) -> None:
    for condition in ("ItemGroup/Code eq 'x'", "UnitDescription eq 'Piece'", "Stock gt 0", "PictureUrl ne null"):
        answer = site.get(f"logistics/Items?$select=Code&$filter={condition}")
        assert answer.status_code == 400
        assert "not supported" in message(answer)


@shows("1.5", "mandatory filter: an unfiltered read of a resource with a sync twin gives 400 and names fields")
def _mandatory(site: Caller) -> None:
    for path in ("logistics/Items?$select=Code", "logistics/Items", "bulk/Logistics/Items?$select=Code"):
        answer = site.get(path)
        assert answer.status_code == 400
        for word in ("Mandatory", "Barcode", "Code", "Created", "Description", "Modified"):
            assert word in message(answer)
    assert site.get("logistics/Units").status_code == 200


@shows("1.5", "the mandatory filter is not enforced for every app", mandatory_filter=False)
def _optional_filter(site: Caller) -> None:
    d = site.d("logistics/Items?$select=Code&$orderby=Modified asc")
    assert len(d["results"]) == 60
    assert "__next" in d


@shows("1.5", "a broad read without $select gives 400 and asks for $select or $top=1", mandatory_filter=False)
def _broad(site: Caller) -> None:
    for path in ("logistics/Items", "bulk/Logistics/Items"):
        answer = site.get(path)
        assert answer.status_code == 400
        assert "$select" in message(answer)
        assert "$top=1" in message(answer)
        assert len(site.rows(f"{path}?$top=1")) == 1
        assert len(site.rows(f"{path}?$select=Code")) >= 60


@shows("1.5", "bulk and sync always need $select")
def _always_select(site: Caller) -> None:
    for path in ("bulk/Logistics/Items?$filter=Code eq 'A0001'", "sync/Logistics/Items?$filter=Timestamp gt 1L"):
        assert site.get(path).status_code == 400
        assert site.get(f"{path}&$select=Code").status_code == 200
    assert site.get("sync/Deleted?$filter=Timestamp gt 1L").status_code == 400


@shows("1.5", "25 or-ed ids in one call")
def _many_ids(site: Caller) -> None:
    keys = [row["ID"] for row in site.rows(f"{STANDARD}&$top=25")]
    condition = " or ".join(f"ID eq guid'{key}'" for key in keys)
    assert len(site.codes(condition)) == 25


@shows("1.5", "an unknown property or option is refused")
def _unknown(site: Caller) -> None:
    for query in ("$select=Nothing", "$orderby=Nothing", "$top=x", "$nothing=1", "$expand=Lines", "$top=1&$top=2"):
        assert site.get(f"logistics/Items?$filter=Code eq 'A0001'&{query}").status_code == 400


@shows("1.6", "60 rows a standard page, 1000 a bulk or sync page")
def _page_sizes(site: Caller) -> None:
    assert len(site.d(STANDARD)["results"]) == 60
    assert len(site.d(BULK)["results"]) == 1000
    assert len(site.d(SYNC)["results"]) == 1000


@shows("1.6", "__next is an absolute URL with the original options and %24skiptoken=guid'...'")
def _next(site: Caller) -> None:
    d = site.d(BULK)
    following = d["__next"]
    assert following.startswith(f"{site.url}/api/v1/1/bulk/Logistics/Items?$filter=")
    assert "&%24skiptoken=guid'" in following
    options = parse_qs(urlsplit(following).query)
    assert options["$select"] == ["ID,Code"]
    assert options["$filter"] == ["Code ge 'A'"]


@shows("1.6", "an integer key gives $skiptoken=493115L; several values when ordered by another property")
def _other_tokens(site: Caller) -> None:
    d = site.d(SYNC)
    assert parse_qs(urlsplit(d["__next"]).query)["$skiptoken"] == [f"{d['results'][-1]['Timestamp']}L"]
    d = site.d(f"{STANDARD}&$orderby=Code")
    assert parse_qs(urlsplit(d["__next"]).query)["$skiptoken"] == [f"'A0060',guid'{d['results'][-1]['ID']}'"]


@shows("1.6", "following __next gives every row once; the last page has no __next")
def _walk(site: Caller) -> None:
    for path in (STANDARD, BULK, SYNC, f"{STANDARD}&$orderby=Description desc"):
        codes = [row["Code"] for row in site.walk(path)]
        assert len(codes) == len(set(codes)) == ITEMS


@shows("1.6", "the skip token is the key of the last row of the page")
def _last_row(site: Caller) -> None:
    d = site.d(STANDARD)
    assert d["__next"].endswith(f"guid'{d['results'][-1]['ID']}'")


@shows("1.6", "a page can be shorter and still have __next")
def _short(site: Caller) -> None:
    site.fault(match="logistics/Items", do="short_page")
    d = site.d(STANDARD)
    assert len(d["results"]) == 30
    assert "__next" in d
    assert len(list(site.walk(d["__next"]))) == ITEMS - 30


@shows("1.6", "a failure in the middle comes as 200 with JSON that stops and an error glued behind it")
def _glued(site: Caller) -> None:
    site.fault(match="sync/Logistics/Items", do="error_glued")
    answer = site.get(SYNC)
    assert answer.status_code == 200
    assert answer.text.startswith('{"d":{"results":[{')
    assert answer.text.endswith("}}}")
    assert '{"error":{' in answer.text
    try:
        answer.json()
    except ValueError:
        pass
    else:
        raise AssertionError("the page can be parsed")
    assert len(site.d(SYNC)["results"]) == 1000
