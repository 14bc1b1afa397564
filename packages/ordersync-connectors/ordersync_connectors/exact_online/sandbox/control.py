"""`/_sandbox/`: what tests and demos steer the sandbox with. Not part of Exact Online; no token, no limit, no log."""

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from fractions import Fraction
from random import Random
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .clock import SandboxClock
from .faults import FaultError, FaultScript, parse_faults
from .fields import ITEM_FIELDS, TEXT_LENGTHS, Value
from .request_log import RequestLog
from .store import Company, Row
from .values import BadValue, checked, iso_utc

_ROUND = re.compile(r" \(r\d+\)$")
_KEPT_BY_THE_SANDBOX = frozenset({"ID", "Code", "Created", "Modified", "Division"})


class _Unusable(ValueError):
    """What is wrong with a control request; answered as 400."""


class Control:
    def __init__(self, company: Company, clock: SandboxClock, faults: FaultScript, log: RequestLog) -> None:
        self._company = company
        self._clock = clock
        self._faults = faults
        self._log = log
        self._rounds = 0

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                _route("/clock", "GET", self._show_clock),
                _route("/clock", "POST", self._set_clock),
                _route("/faults", "GET", lambda _: {"faults": self._faults.shown()}),
                _route("/faults", "POST", self._add_faults),
                _route("/faults", "DELETE", self._clear_faults),
                _route("/items/{code:path}", "PUT", self._put_item),
                _route("/items/{code:path}", "DELETE", self._delete_item),
                _route("/change", "POST", self._change_some),
                _route("/state", "GET", lambda _: self._state()),
                _route("/log", "GET", self._show_log),
            ]
        )

    def _show_clock(self, _: "_Given") -> Any:
        return {"now": iso_utc(self._clock.now()), "frozen": self._clock.frozen}

    def _set_clock(self, given: "_Given") -> Any:
        """`{"now": "2026-01-01T00:00:00Z"}`, `{"advance": seconds}`, `{"frozen": true}`, or several of them."""
        asked = given.object({"now", "advance", "frozen"})
        try:
            if "now" in asked:
                self._clock.move_to(_moment(asked["now"]))
            if "advance" in asked:
                self._clock.move_to(self._clock.now() + timedelta(seconds=float(asked["advance"])))
        except (TypeError, ValueError, OverflowError) as error:
            raise _Unusable(str(error)) from error
        if asked.get("frozen") is True:
            self._clock.freeze()
        elif asked.get("frozen") is False:
            self._clock.run_on()
        return self._show_clock(given)

    def _add_faults(self, given: "_Given") -> Any:
        try:
            self._faults.add(parse_faults(given.json()))
        except FaultError as error:
            raise _Unusable(str(error)) from error
        return {"faults": self._faults.shown()}

    def _clear_faults(self, _: "_Given") -> Any:
        self._faults.clear()
        return {"faults": []}

    def _put_item(self, given: "_Given") -> Any:
        """Merge the sent properties into the item, read-only ones too; a new item also needs a Description."""
        code, values = given.code(), self._item_values(given)
        row = self._company.item(code)
        created = row is None
        if row is None:
            if not str(values.get("Description") or "").strip():
                raise _Unusable("Description is missing")
            row = self._company.create_item({**values, "Code": code})
        else:
            self._company.change_item(row, values)
        return _shown(row) | {"created": created}

    def _item_values(self, given: "_Given") -> Mapping[str, Value]:
        values: dict[str, Value] = {}
        for name, value in given.object().items():
            if name not in ITEM_FIELDS or name in _KEPT_BY_THE_SANDBOX:
                raise _Unusable(f"{name} is not a property that can be set")
            try:
                values[name] = checked(ITEM_FIELDS[name], value)
            except BadValue as reason:
                raise _Unusable(f"{name}: {reason}") from None
        return values

    def _delete_item(self, given: "_Given") -> Any:
        row = self._company.item(given.code())
        if row is None:
            raise _Unusable("no item by this code")
        self._company.delete_item(row)
        return _shown(row) | {"timestamp": self._company.highest_timestamp}

    def _change_some(self, given: "_Given") -> Any:
        """Change some items' descriptions; which ones follows from the seed and the number of earlier changes."""
        codes = sorted(self._company.by_code)
        count = _how_many(given.object({"percent", "count"}), len(codes))
        self._rounds += 1
        chosen = Random(f"{self._company.seed}/{self._rounds}").sample(codes, count)
        for code in chosen:
            row = self._company.by_code[code]
            self._company.change_item(row, {"Description": self._described(str(row.values["Description"]))})
        return {"changed": chosen, "round": self._rounds, "highest_timestamp": self._company.highest_timestamp}

    def _described(self, description: str) -> str:
        ending = f" (r{self._rounds})"
        return _ROUND.sub("", description)[: TEXT_LENGTHS["Description"] - len(ending)] + ending

    def _state(self) -> Any:
        company = self._company
        return {
            "division": company.division,
            "items": len(company.items),
            "deleted": len(company.deletions),
            "item_groups": len(company.item_groups),
            "units": len(company.units),
            "highest_timestamp": company.highest_timestamp,
            "requests": self._log.count,
            "changes": self._rounds,
            "now": iso_utc(self._clock.now()),
        }

    def _show_log(self, given: "_Given") -> Any:
        text = given.request.query_params.get("after", "0")
        if not text.isascii() or not text.isdigit():
            raise _Unusable("after is a number")
        return {"entries": self._log.after(int(text))}


class _Given:
    """A control request with its body read."""

    def __init__(self, request: Request, body: bytes) -> None:
        self.request = request
        self._body = body

    def json(self) -> Any:
        try:
            return orjson.loads(self._body)
        except orjson.JSONDecodeError as error:
            raise _Unusable(f"not JSON: {error}") from None

    def object(self, allowed: set[str] | None = None) -> Mapping[str, Any]:
        """The body as an object with no keys but the allowed ones (None: any); an empty body is an empty object."""
        content = self.json() if self._body else {}
        if not isinstance(content, dict):
            raise _Unusable("not a JSON object")
        for key in content:
            if allowed is not None and key not in allowed:
                raise _Unusable(f"unknown key {key!r}")
        return content

    def code(self) -> str:
        code = str(self.request.path_params["code"])
        if not code.strip() or len(code) > TEXT_LENGTHS["Code"]:
            raise _Unusable(f"a Code has 1 to {TEXT_LENGTHS['Code']} characters")
        return code


def _route(path: str, method: str, answer: Callable[[_Given], Any]) -> Route:
    async def endpoint(request: Request) -> Response:
        try:
            content, status = answer(_Given(request, await request.body())), 200
        except _Unusable as error:
            content, status = {"error": str(error)}, 400
        return Response(orjson.dumps(content), status, media_type="application/json")

    return Route(f"/_sandbox{path}", endpoint, methods=[method])


def _moment(text: Any) -> datetime:
    moment = datetime.fromisoformat(str(text))
    if moment.tzinfo is None:
        raise ValueError("the moment needs a zone")
    return moment


def _how_many(asked: Mapping[str, Any], known: int) -> int:
    """A percentage is rounded up, so that one percent of a few items is one item."""
    if len(asked) != 1:
        raise _Unusable("either percent or count")
    [(name, value)] = asked.items()
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise _Unusable(f"{name} is a number from 0 on")
    if name == "count" and not isinstance(value, int):
        raise _Unusable("count is a whole number")
    wanted = -(-known * Fraction(value) // 100) if name == "percent" else value
    if wanted > known:
        raise _Unusable(f"there are {known} items")
    return int(wanted)


def _shown(row: Row) -> dict[str, Any]:
    return {"code": row.values["Code"], "id": row.id, "timestamp": row.timestamp}
