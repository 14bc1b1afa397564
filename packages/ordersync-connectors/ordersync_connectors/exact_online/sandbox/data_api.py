"""`/api/v1`: from a request to the answer of a resource, past tokens, limits, scopes and rights."""

import re
from collections.abc import Mapping

from attrs import evolve, frozen

from . import atom
from .answers import Answer, Call, DataError, data_error, json_answer
from .fields import SYNC_TIMESTAMP_FIELDS, Value
from .filters import Constant, FilterError, literals
from .limits import CallLimits, ErrorVelocity
from .oauth import TokenDesk
from .odata import BadQuery, next_query, parameters, parse_options
from .reading import count, read_page, refuse_unusable
from .resources import ME, RESOURCES, Resource, Site
from .shapes import Shape, envelope, shape, single
from .sources import MadeSource, Orders
from .store import Company, Row
from .writing import BusinessRules, prefers_representation

LARGEST_BODY = 10 * 1024 * 1024
_SEGMENT = re.compile(r"(?P<name>[^()]*)(?:\((?P<key>.*)\))?")
_FAMILIES = frozenset({"bulk", "sync", "read"})
_SYNC_TIMESTAMP, _USER_HAS_RIGHTS = "read/sync/Sync/SyncTimestamp", "users/UserHasRights"
_FUNCTIONS = {each.lower(): each for each in (_SYNC_TIMESTAMP, _USER_HAS_RIGHTS)}


@frozen
class _Target:
    """What a path names.

    Attributes:
        division: None when the segment is no number.
        endpoint: in lower case, without key and `/$count`; limits and rights are counted by it.
        key: the text between parentheses; None without them.
    """

    division: int | None
    endpoint: str
    key: str | None
    counted: bool

    @property
    def service(self) -> str:
        parts = self.endpoint.split("/")
        return parts[1] if parts[0] in _FAMILIES and len(parts) > 2 else parts[0]


class DataApi:
    """Answers data calls. `halve_pages` of `answer` is for the scripted fault that shortens one page."""

    def __init__(self, site: Site, tokens: TokenDesk) -> None:
        settings, clock = site.settings, site.clock
        self._site = site
        self._tokens = tokens
        self._limits = CallLimits(minutely=settings.minutely_limit, daily=settings.daily_limit, clock=clock)
        self._velocity = ErrorVelocity(errors=settings.error_velocity, clock=clock)
        self._rules = BusinessRules(settings.language)
        self._orders = Orders()

    def answer(self, call: Call, *, halve_pages: bool = False) -> Answer:
        target = self._target(call.path)
        return evolve(self._guarded(call, target, halve_pages=halve_pages), resource=_spelled(target.endpoint))

    def scripted_status(self, call: Call, status: int, text: str | None) -> Answer:
        """An error that the fault script asks for, shaped as Exact shapes that status."""
        target = self._target(call.path)
        self._velocity.note(self._division(target), target.endpoint, status)
        return evolve(self._shaped(call, target, status, text), resource=_spelled(target.endpoint))

    def _guarded(self, call: Call, target: _Target, *, halve_pages: bool) -> Answer:
        """What the resource answers, past tokens, limits and blocked endpoints."""
        refused = self._unauthorised(call, target)
        if refused is not None:
            return refused
        division = self._division(target)
        admission = self._limits.admit(self._site.settings.client_id, division)
        if not admission.admitted:
            return Answer(status=429, headers=admission.headers)
        if self._velocity.blocked(division, target.endpoint):
            return self._error(call, 429, "Too many errors on this endpoint.")
        answer = self._attempt(call, target, halve_pages=halve_pages)
        self._velocity.note(division, target.endpoint, answer.status)
        return answer.with_headers(admission.headers)

    def _shaped(self, call: Call, target: _Target, status: int, text: str | None) -> Answer:
        app, division = self._site.settings.client_id, self._division(target)
        if status == 401:
            return Answer(status=401)
        if status == 429:
            return Answer(status=429, headers=self._limits.minutely_headers(app, division))
        error = self._error(call, status, text or "A problem has occurred.")
        return error.with_headers(self._limits.headers(app, division))

    def _division(self, target: _Target) -> int:
        """Whose limits count; those of the first company where the path names none."""
        return self._site.settings.division if target.division is None else target.division

    def _target(self, path: str) -> _Target:
        """`/api/v1/{division}/{service}/{Entity}`, also below `beta`; segments in any case."""
        parts = [part for part in path.split("/") if part][2:]
        if parts and parts[0].lower() == "beta":
            parts = parts[1:]
        if [part.lower() for part in parts] == ["current", "me"]:
            return _Target(self._site.settings.division, "current/me", None, counted=False)
        counted = bool(parts) and parts[-1].lower() == "$count"
        if counted:
            parts = parts[:-1]
        # A key may hold slashes: what follows the first parenthesis belongs to it.
        found = _SEGMENT.fullmatch("/".join(parts[1:]))
        name, key = (found["name"], found["key"]) if found is not None else ("/".join(parts[1:]), None)
        division = int(parts[0]) if parts and re.fullmatch(r"\d{1,9}", parts[0], re.ASCII) else None
        return _Target(division, name.lower(), key, counted)

    def _unauthorised(self, call: Call, target: _Target) -> Answer | None:
        state = self._tokens.state_of(call.headers.get("authorization", ""))
        if state == "valid":
            return None
        if state == "unknown":
            return Answer(status=401)
        self._velocity.note(self._division(target), target.endpoint, 401)
        return Answer(status=401, headers={"Reason": "Access token expired"})

    def _attempt(self, call: Call, target: _Target, *, halve_pages: bool) -> Answer:
        try:
            return self._resolved(call, target, halve_pages=halve_pages)
        except DataError as error:
            return self._error(call, error.status, error.text)
        except (BadQuery, FilterError) as error:
            return self._error(call, 400, str(error))

    def _error(self, call: Call, status: int, text: str) -> Answer:
        return data_error(status, text, language=self._site.settings.language, json=call.wants_json)

    def _resolved(self, call: Call, target: _Target, *, halve_pages: bool) -> Answer:
        if len(call.body) > LARGEST_BODY:
            raise DataError(413, "The body is larger than 10 MB.")
        company = self._company(target)
        self._check_scope(call, target)
        if target.endpoint == "current/me":
            me = shape(ME, company, call.base_url, parse_options(call.query, ME.fields).select)
            return _list_of_one(call, me, ME.source(company, self._site).find(company.user_id))
        if target.endpoint in _FUNCTIONS:
            return self._function(call, company, _FUNCTIONS[target.endpoint])
        resource = RESOURCES.get(target.endpoint)
        if resource is None:
            raise DataError(404, f"Resource not found for the segment '{target.endpoint.rpartition('/')[2]}'.")
        if target.endpoint in self._site.settings.without_right:
            return self._without_right(resource)
        return self._of_resource(call, target, company, resource, halve_pages=halve_pages)

    def _company(self, target: _Target) -> Company:
        if target.division is None:
            raise DataError(404, "Resource not found.")
        company = self._site.companies.get(target.division)
        if company is None:
            raise DataError(403, "Forbidden - You have no access to this division.")
        return company

    def _check_scope(self, call: Call, target: _Target) -> None:
        if target.service in self._site.settings.outside_scope:
            act = "read" if call.method == "GET" else "write"
            raise DataError(403, f"Forbidden - Application Scope Violated. Cannot {act}")

    def _without_right(self, resource: Resource) -> Answer:
        if self._site.settings.without_right_answer == "empty":
            return json_answer({"d": {"results": []}})
        raise DataError(403, f"Forbidden - You have no rights to {resource.path}")

    def _of_resource(
        self, call: Call, target: _Target, company: Company, resource: Resource, *, halve_pages: bool
    ) -> Answer:
        match call.method:
            case "GET" if target.counted:
                return self._count(call, company, resource)
            case "GET" if target.key is not None:
                options = parse_options(call.query, resource.fields)
                found = self._found(resource, company, target.key)
                return _one(call, shape(resource, company, call.base_url, options.select), found)
            case "GET":
                return self._list(call, company, resource, halve_pages=halve_pages)
            case "POST" if resource.writable and target.key is None:
                return self._create(call, company, resource)
            case "PUT" | "PATCH" | "MERGE" if resource.writable and target.key is not None:
                row = self._found(resource, company, target.key)
                self._rules.change(resource, company, row, call.body)
                return Answer(status=204)
            case "DELETE" if resource.writable and target.key is not None:
                self._rules.delete(company, self._found(resource, company, target.key))
                return Answer(status=204)
        raise DataError(405, f"{call.method} is not supported on {resource.path}.")

    def _list(self, call: Call, company: Company, resource: Resource, *, halve_pages: bool) -> Answer:
        options = parse_options(call.query, resource.fields)
        size = max(resource.page // 2, 1) if halve_pages else resource.page
        page = read_page(resource, company, self._site, options, self._orders, page_size=size)
        shown = shape(resource, company, call.base_url, options.select)
        next_url = None
        if page.token is not None:
            next_url = f"{call.base_url}{call.path}?{next_query(call.query, page.token, page.top_left)}"
        if not call.wants_json:
            return atom.feed(shown, page.rows, next_url)
        entities = [shown.entity(row) for row in page.rows]
        content = envelope(page, entities, options, page_size=size, next_url=next_url)
        return json_answer(content, rows=len(entities))

    def _count(self, call: Call, company: Company, resource: Resource) -> Answer:
        # Exact wants no JSON Accept header here; what it answers to one is unknown.
        if call.wants_json:
            raise DataError(406, "A count is plain text.")
        options = parse_options(call.query, resource.fields)
        refuse_unusable(resource, self._site, evolve(options, top=1))
        total = count(resource, company, self._site, options)
        return Answer(status=200, body=str(total).encode(), content_type="text/plain; charset=utf-8")

    def _found(self, resource: Resource, company: Company, key: str) -> Row:
        given = literals(key)
        row = resource.source(company, self._site).find(given[0].value) if len(given) == 1 else None
        if row is None:
            raise DataError(404, f"Resource not found for the segment '{resource.path.rpartition('/')[2]}'.")
        return row

    def _create(self, call: Call, company: Company, resource: Resource) -> Answer:
        """Nearly everything in the answer is null, unless the caller prefers the representation."""
        row = self._rules.create(resource, company, call.body)
        whole = shape(resource, company, call.base_url, None)
        if not call.wants_json:
            answer = atom.entry(whole, row, status=201)
        else:
            entity = whole.entity(row)
            if not prefers_representation(call):
                kept = ("__metadata", "ID", "Code")
                entity = {name: value if name in kept else None for name, value in entity.items()}
            answer = json_answer(single(entity), status=201)
        return answer.with_headers({"Location": whole.uri(row)})

    def _function(self, call: Call, company: Company, path: str) -> Answer:
        if call.method != "GET":
            raise DataError(405, f"{call.method} is not supported on {path}.")
        given = {name: _literal(name, text) for name, text in parameters(call.query).items()}
        return self._user_has_rights(given) if path == _USER_HAS_RIGHTS else self._sync_timestamp(call, company, given)

    def _user_has_rights(self, given: Mapping[str, Constant]) -> Answer:
        endpoint, action = _parameter(given, "endpoint", "text"), _parameter(given, "action", "text")
        resource = RESOURCES.get(str(endpoint).lower())
        allowed = resource is not None and resource.path.lower() not in self._site.settings.without_right
        writes = str(action).upper() in ("POST", "PUT", "DELETE")
        has_right = allowed and (not writes or (resource is not None and resource.writable))
        return json_answer(single({"UserHasRights": has_right}), rows=1)

    def _sync_timestamp(self, call: Call, company: Company, given: Mapping[str, Constant]) -> Answer:
        modified = _parameter(given, "modified", "date")
        endpoint = _parameter(given, "endPoint", "text")
        if endpoint != "Items" or not isinstance(modified, int):
            raise DataError(400, f"Unknown endPoint '{endpoint}'.")
        timestamp = company.timestamp_before(modified)
        values: Mapping[str, Value] = {"API": "Items", "Modified": modified, "TimeStampAsBigInt": timestamp}
        resource = Resource(
            path=_SYNC_TIMESTAMP,
            type_name="Sync.SyncTimestamp",
            fields=SYNC_TIMESTAMP_FIELDS,
            source=lambda *_: MadeSource([Row(values)], "TimeStampAsBigInt"),
            key="TimeStampAsBigInt",
        )
        options = parse_options(call.query, resource.fields)
        return _list_of_one(call, shape(resource, company, call.base_url, options.select), Row(values))


def _list_of_one(call: Call, shown: Shape, row: Row | None) -> Answer:
    rows = [row] if row is not None else []
    if not call.wants_json:
        return atom.feed(shown, rows, None)
    return json_answer({"d": {"results": [shown.entity(each) for each in rows]}}, rows=len(rows))


def _one(call: Call, shown: Shape, row: Row) -> Answer:
    return json_answer(single(shown.entity(row)), rows=1) if call.wants_json else atom.entry(shown, row)


def _literal(name: str, text: str) -> Constant:
    given = literals(text)
    if len(given) != 1:
        raise DataError(400, f"Error in parameter '{name}'.")
    return given[0]


def _parameter(given: Mapping[str, Constant], name: str, kind: str) -> Value:
    """A parameter by name, in any case of letters; DataError 400 when it is missing or of another kind."""
    for spelled, value in given.items():
        if spelled.lower() == name.lower() and value.kind == kind:
            return value.value
    raise DataError(400, f"Parameter '{name}' is missing or malformed.")


def _spelled(endpoint: str) -> str | None:
    if endpoint == "current/me":
        return ME.path
    resource = RESOURCES.get(endpoint)
    return resource.path if resource is not None else _FUNCTIONS.get(endpoint)
