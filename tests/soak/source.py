"""The sandbox, and what it holds as the test knows it: every change is made by the test, so it needs not ask."""

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import orjson
from attrs import define, field

from ordersync_connectors.exact_online.sandbox import read_item_file
from ordersync_connectors.exact_online.sandbox.samples import SAMPLE_ITEMS

LONGEST_CODE, LONGEST_DESCRIPTION = 30, 60


def numbered_items(count: int) -> dict[str, str]:
    """Descriptions by code: the sample's real items again and again, each time with the next number behind the code."""
    sample = read_item_file(SAMPLE_ITEMS)
    items: dict[str, str] = {}
    while len(items) < count:
        row, turn = sample[len(items) % len(sample)], len(items) // len(sample)
        items[f"{row['Code']}-{turn}"[:LONGEST_CODE]] = str(row["Description"])
    return items


def write_items(path: Path, items: dict[str, str]) -> None:
    rows = [{"Code": code, "Description": description} for code, description in items.items()]
    path.write_bytes(b"\n".join(orjson.dumps(row) for row in rows))


@define
class Source:
    """descriptions: of what it holds, by code. refused: codes of records that become no item."""

    url: str
    descriptions: dict[str, str]
    changes: int = 0
    _http: httpx.Client = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._http = httpx.Client(base_url=self.url, timeout=30, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def change(self, codes: Iterable[str]) -> None:
        for code in codes:
            self.changes += 1
            ending = f" (change {self.changes})"
            kept = self.descriptions[code].partition(" (change ")[0]
            self.put(code, kept[: LONGEST_DESCRIPTION - len(ending)].rstrip() + ending)

    def add(self, count: int) -> list[str]:
        codes = []
        for _ in range(count):
            self.changes += 1
            codes.append(f"NEW-{self.changes}")
            self.put(codes[-1], f"Something new, by number {self.changes}")
        return codes

    def remove(self, codes: Iterable[str]) -> None:
        for code in codes:
            self._ask("DELETE", f"/items/{quote(code, safe='')}")
            del self.descriptions[code]

    def put(self, code: str, description: str) -> None:
        self._ask("PUT", f"/items/{quote(code, safe='')}", {"Description": description})
        self.descriptions[code] = description

    def put_twin(self, code: str) -> None:
        """Another record whose code is the same once it is trimmed: it becomes no item."""
        self._ask("PUT", f"/items/%20{quote(code, safe='')}", {"Description": f"The twin of {code}"})

    def remove_twin(self, code: str) -> None:
        self._ask("DELETE", f"/items/%20{quote(code, safe='')}")

    def play(self, *faults: dict[str, Any]) -> None:
        self._ask("POST", "/faults", list(faults))

    def let_pass(self, span: timedelta) -> None:
        self._ask("POST", "/clock", {"advance": span.total_seconds()})

    def calm_down(self) -> None:
        self._ask("DELETE", "/faults")

    def some(self, count: int, *, skip: int = 0) -> list[str]:
        """Codes that follow from how much was changed before, so that each time it is others."""
        codes = sorted(self.descriptions)
        first = (self.changes * 7919 + skip) % len(codes)
        return (codes[first:] + codes[:first])[:count]

    def expected(self) -> dict[str, dict[str, Any]]:
        """The items that the platform must hold of it, as its API shows them."""
        return {code: _item(code, description) for code, description in self.descriptions.items()}

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        answer = self._http.request(method, f"/_sandbox{path}", json=body)
        answer.raise_for_status()
        return answer.json()


def _item(code: str, description: str) -> dict[str, Any]:
    """What the sandbox gives every item that says nothing else: a piece of the default group, sold and on stock."""
    return {
        "code": code,
        "name": {"en": description.strip()},
        "family_code": "DEFAULT",
        "unit": "pc",
        "units": [],
        "vat_tariff": None,
        "attributes": {"is_sales_item": True, "is_stock_item": True, "is_webshop_item": False},
        "images": [],
        "attachments": [],
        "stocks": [],
        "restock_orders": [],
    }
