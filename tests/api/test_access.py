"""Who may do what: tokens, roles, memberships."""

from collections.abc import Mapping
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from ordersync_core.administrations.commands import GrantMembership, RevokeMembership
from ordersync_core.administrations.handlers import grant_membership, revoke_membership
from ordersync_core.administrations.model import Role
from tests.api.site import BOTH, EDITOR, OWNER, READER, STRANGER, A, Site

OTHER_KEY = generate_private_key(public_exponent=65537, key_size=2048)


def forged(api: Site, **changed: Any) -> str:
    claims = jwt.decode(api.token(OWNER), options={"verify_signature": False})
    header = jwt.get_unverified_header(api.token(OWNER))
    return jwt.encode({**claims, **changed}, OTHER_KEY, algorithm="RS256", headers={"kid": header["kid"]})


def secured(api: Site) -> list[tuple[str, str, Mapping[str, Any]]]:
    return [
        (method.upper(), path, operation)
        for path, methods in api.openapi["paths"].items()
        for method, operation in methods.items()
        if operation["security"]
    ]


def test_everything_below_v1_and_nothing_else_needs_a_token(memory_api: Site) -> None:
    for path, methods in memory_api.openapi["paths"].items():
        for operation in methods.values():
            assert bool(operation["security"]) == path.startswith("/v1/")


def test_without_a_good_token_every_operation_answers_401(memory_api: Site) -> None:
    api = memory_api
    unsigned = jwt.encode(jwt.decode(api.token(OWNER), options={"verify_signature": False}), key="", algorithm="none")
    bad: list[dict[str, str]] = [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": f"Basic {api.token(OWNER)}"},
        {"Authorization": api.token(OWNER)},
        {"Authorization": f"Bearer {forged(api)}"},
        {"Authorization": f"Bearer {unsigned}"},
        {"Authorization": f"Bearer {api.token(OWNER)}x"},
        {"Authorization": f"Bearer {api.issuer.issue(OWNER, audience='another')}"},
    ]
    for method, path, _ in secured(api):
        for headers in bad:
            answer = api.call(method, path, subject=None, headers=headers, content=b"\xff")
            assert answer.status_code == 401, (method, path, headers)
            assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="ordersync"')
            assert answer.json()["type"] == "urn:ordersync:problem:unauthenticated"


def test_the_challenge_tells_whether_a_token_was_sent(memory_api: Site) -> None:
    without = memory_api.call("GET", "/v1/items", subject=None)
    assert without.headers["WWW-Authenticate"] == 'Bearer realm="ordersync"'
    wrong = memory_api.call("GET", "/v1/items", token=forged(memory_api))
    assert wrong.headers["WWW-Authenticate"] == (
        'Bearer realm="ordersync", error="invalid_token", error_description="the token\'s signature is wrong"'
    )


def test_a_token_sent_twice_or_in_the_query_is_no_token(memory_api: Site) -> None:
    token = memory_api.token(OWNER)
    twice = [("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {token}")]
    assert memory_api.client.get(f"{memory_api.url}/v1/items", headers=twice).status_code == 401
    assert memory_api.call("GET", f"/v1/items?access_token={token}", subject=None).status_code == 401


def test_the_scheme_is_spelt_in_any_case(memory_api: Site) -> None:
    for scheme in ("bearer", "BEARER"):
        headers = {"Authorization": f"{scheme} {memory_api.token(OWNER)}"}
        assert memory_api.call("GET", "/v1/items", subject=None, headers=headers).status_code == 200


def test_a_role_may_do_what_its_description_says(memory_api: Site) -> None:
    """Every operation, by every role: too little is 403 before anything else is looked at."""
    api = memory_api
    order = [READER, EDITOR, OWNER]
    needs = {"Reader": READER, "Editor": EDITOR, "Owner": OWNER}
    for method, path, operation in secured(api):
        if path == "/v1/administrations":
            continue
        (needed,) = (
            identity for role, identity in needs.items() if f"Needs the role {role}." in operation["description"]
        )
        assert (needed == READER) == (method == "GET")
        assert (needed == EDITOR) == (method != "GET" and path.startswith("/v1/items"))
        for identity in order:
            answer = api.call(method, path, subject=identity, content=b"\xff")
            if order.index(identity) < order.index(needed):
                assert answer.status_code == 403, (method, path, identity)
                assert answer.json()["type"] == "urn:ordersync:problem:not-allowed"
            else:
                assert answer.status_code not in (401, 403), (method, path, identity)


def test_a_stranger_sees_no_administration(api: Site) -> None:
    assert api.call("GET", "/v1/items", subject=STRANGER).status_code == 403
    assert api.call("GET", "/v1/items", subject=STRANGER, headers={"X-Administration": A}).status_code == 404
    assert api.call("GET", "/v1/administrations", subject=STRANGER).json()["data"] == []


def test_a_caller_sees_its_own_administrations(api: Site) -> None:
    assert api.call("GET", "/v1/administrations", subject=BOTH).json() == {
        "data": [
            {"code": "alpha", "name": "Alpha", "role": "Owner"},
            {"code": "beta", "name": "Beta", "role": "Owner"},
        ],
        "next": None,
    }
    mine = api.call("GET", "/v1/administrations", subject=READER).json()["data"]
    assert [(m["code"], m["role"]) for m in mine] == [("alpha", "Reader")]


def test_a_revoked_membership_ends_at_once(api: Site) -> None:
    context = api.context(None)
    grant = GrantMembership(identity="guest", administration=A, role=Role.READER)
    api.application.run(grant_membership, grant, context)
    token = api.token("guest")
    assert api.call("GET", "/v1/items", token=token).status_code == 200
    api.application.run(revoke_membership, RevokeMembership(identity="guest", administration=A), context)
    assert api.call("GET", "/v1/items", token=token).status_code == 403


@pytest.mark.parametrize("name", ["ALPHA", "alpha,beta", "", "*", "../alpha", "é"])
def test_an_administration_is_named_exactly(memory_api: Site, name: str) -> None:
    headers = [(b"Authorization", f"Bearer {memory_api.token(OWNER)}".encode()), (b"X-Administration", name.encode())]
    answer = memory_api.client.get(f"{memory_api.url}/v1/items", headers=headers)
    assert answer.status_code == 404
