"""Section 1.1, hosts and paths, and 1.2, OAuth."""

from urllib.parse import parse_qs, quote, urlsplit

from tests.connectors.exact_online.sandbox.caller import REDIRECT_URI, Caller
from tests.connectors.exact_online.sandbox.statements import shows


@shows("1.1", "data lives under /api/v1/{division}/{service}/{Entity}, Me without a division")
def _paths(site: Caller) -> None:
    assert site.get("/api/v1/current/Me").status_code == 200
    assert site.get("/api/v1/1/logistics/Units").status_code == 200
    assert site.get("/api/v1/none/logistics/Units").status_code == 404


@shows("1.1", "standard, bulk, sync and read families")
def _families(site: Caller) -> None:
    for path in ("logistics/Items", "bulk/Logistics/Items"):
        assert site.rows(f"{path}?$select=Code&$filter=Code eq 'A0001'") != []
    assert site.rows("sync/Logistics/Items?$select=Code&$filter=Timestamp gt 1L&$top=1") != []
    assert site.rows("read/sync/Sync/SyncTimestamp?modified=datetime'2026-01-01'&endPoint='Items'") != []


@shows("1.1", "path segments are treated without regard to case")
def _case(site: Caller) -> None:
    for path in ("LOGISTICS/items", "Logistics/ITEMS"):
        assert len(site.rows(f"{path}?$filter=Code eq 'A0001'&$select=Code")) == 1
    assert site.get("/API/V1/Current/me").status_code == 200


@shows("1.1", "single entity: Items(guid'...'), integer keys without quotes")
def _keys(site: Caller) -> None:
    key = site.item("A0001")["ID"]
    assert site.d(f"logistics/Items(guid'{key}')?$select=Code")["Code"] == "A0001"
    assert site.d("system/Divisions(1)")["Code"] == 1


@shows("1.1", "without Accept: application/json the reply is an Atom XML feed")
def _atom(site: Caller) -> None:
    answer = site.get("logistics/Items?$filter=Code eq 'A0001'&$select=Code,Modified", accept="*/*")
    assert answer.headers["content-type"].startswith("application/atom+xml")
    assert "<feed " in answer.text
    assert "<d:Code>A0001</d:Code>" in answer.text


@shows("1.2", "only the authorization-code grant exists")
def _grants(site: Caller) -> None:
    for grant in ("client_credentials", "password"):
        answer = site.token(grant_type=grant, username="u", password="p")
        assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_grant_type")


@shows("1.2", "the client id may stand in curly braces")
def _braces(site: Caller) -> None:
    assert site.ask_code(client_id="{" + site.settings.client_id + "}").status_code == 302


@shows("1.2", "redirect_uri is https (here also loopback http)")
def _redirect_scheme(site: Caller) -> None:
    assert site.ask_code(redirect_uri="https://shop.example/cb").status_code == 302
    assert site.ask_code(redirect_uri="http://shop.example/cb").status_code == 400


@shows("1.2", "redirect_uri must equal the registered one", redirect_uris=(REDIRECT_URI,))
def _redirect_registered(site: Caller) -> None:
    assert site.ask_code().status_code == 302
    assert site.ask_code(redirect_uri=REDIRECT_URI + "/other").status_code == 400


@shows("1.2", "Exact redirects to redirect_uri with code and state")
def _redirect(site: Caller) -> None:
    location = site.ask_code(state="a b&c").headers["location"]
    assert location.startswith(f"{REDIRECT_URI}?code=")
    assert parse_qs(urlsplit(location).query)["state"] == ["a b&c"]


@shows("1.2", "the code is long, URL-encoded and single use")
def _code(site: Caller) -> None:
    code = site.code()
    assert len(code) > 60
    assert quote(code, safe="") != code
    assert site.exchange(code).status_code == 200
    again = site.exchange(code)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")


@shows("1.2", "the code lives about 3 minutes")
def _code_life(site: Caller) -> None:
    young, old = site.code(), site.code()
    site.advance(179)
    assert site.exchange(young).status_code == 200
    site.advance(1)
    assert site.exchange(old).status_code == 400


@shows("1.2", "the token body is a form, JSON is refused")
def _form(site: Caller) -> None:
    answer = site.http.post("/api/oauth2/token", json={"grant_type": "authorization_code", "code": site.code()})
    assert answer.status_code == 400


@shows("1.2", "redirect_uri is sent again with the code")
def _redirect_again(site: Caller) -> None:
    answer = site.token(grant_type="authorization_code", code=site.code(), redirect_uri="https://other.example/")
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


@shows("1.2", 'the reply has four fields; expires_in is the string "600", token_type is bearer')
def _reply(site: Caller) -> None:
    tokens = site.exchange(site.code()).json()
    assert set(tokens) == {"access_token", "token_type", "expires_in", "refresh_token"}
    assert (tokens["token_type"], tokens["expires_in"]) == ("bearer", "600")


@shows("1.2", "an access token lives 600 s; after that the answer is 401 with an empty body")
def _access_life(site: Caller) -> None:
    site.advance(599)
    assert site.get("/api/v1/current/Me").status_code == 200
    site.advance(1)
    expired = site.get("/api/v1/current/Me")
    assert (expired.status_code, expired.content) == (401, b"")
    assert "Reason" in expired.headers


@shows("1.2", "a call without a token gets 401")
def _no_token(site: Caller) -> None:
    assert site.http.get("/api/v1/current/Me").status_code == 401
    assert site.http.get("/api/v1/current/Me", headers={"Authorization": "Bearer none"}).status_code == 401


@shows("1.2", "a refresh replies the same four fields and a new refresh token")
def _refresh(site: Caller) -> None:
    site.advance(575)
    renewed = site.refresh().json()
    assert set(renewed) == set(site.tokens)
    assert renewed["refresh_token"] != site.tokens["refresh_token"]
    assert renewed["access_token"] != site.tokens["access_token"]


@shows("1.2", "the earlier access token goes on until its end")
def _earlier_access(site: Caller) -> None:
    site.advance(575)
    assert site.refresh().status_code == 200
    assert site.get("/api/v1/current/Me").status_code == 200


@shows("1.2", "a spent refresh token: 401 Old refresh token used.")
def _spent(site: Caller) -> None:
    site.advance(575)
    assert site.refresh().status_code == 200
    answer = site.refresh()
    assert answer.status_code == 401
    assert answer.json() == {"error": "unauthorized_client", "error_description": "Old refresh token used."}


@shows("1.2", "refresh sooner than 570 s after the previous token: 400, and the token is not spent")
def _too_early(site: Caller) -> None:
    site.advance(569)
    early = site.refresh()
    assert early.status_code == 400
    assert "Rate limit exceeded" in early.json()["error_description"]
    assert "not expired" in early.json()["error_description"]
    site.advance(1)
    assert site.refresh().status_code == 200


@shows("1.2", "an unknown refresh token: 400 invalid_grant")
def _unknown(site: Caller) -> None:
    for token in ("unknown", ""):
        answer = site.refresh(token)
        assert answer.status_code == 400
        assert answer.json() == {
            "error": "invalid_grant",
            "error_description": "Token is not allowed, because of invalid or empty chainId",
        }


@shows("1.2", "a refresh token that is not used expires after 30 days")
def _lapsed(site: Caller) -> None:
    site.advance(30 * 24 * 3600 - 1)
    site.use(site.refresh())
    site.advance(30 * 24 * 3600)
    answer = site.refresh()
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    site.consent()
    assert site.get("/api/v1/current/Me").status_code == 200


@shows("1.2", "a wrong client id or secret: invalid_client")
def _client(site: Caller) -> None:
    for wrong in ({"client_secret": "wrong"}, {"client_id": "wrong"}):
        answer = site.token(grant_type="refresh_token", refresh_token=site.tokens["refresh_token"], **wrong)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_client")


@shows("1.2", "more than 200 token calls a day are refused")
def _token_calls(site: Caller) -> None:
    refused = [site.refresh("x").status_code for _ in range(201)]
    assert refused[:199] == [400] * 199  # one call was the consent
    assert refused[199:] == [429, 429]
    site.advance(24 * 3600)
    assert site.refresh().status_code == 200


@shows("1.2", "one chain per user and app: a new consent kills the earlier one")
def _chain(site: Caller) -> None:
    earlier = site.tokens
    site.consent()
    site.advance(575)
    dead = site.refresh(earlier["refresh_token"])
    assert (dead.status_code, dead.json()["error"]) == (400, "invalid_grant")
    bearer = {"Authorization": f"Bearer {earlier['access_token']}"}
    assert site.http.get("/api/v1/current/Me", headers=bearer).status_code == 401
    assert site.refresh().status_code == 200


@shows("1.2", "another installation that refreshes ends the chain of the first")
def _other_installation(site: Caller) -> None:
    shared_token = site.tokens["refresh_token"]
    site.advance(575)
    site.use(site.refresh(shared_token))
    assert site.refresh(shared_token).status_code == 401


@shows("1.2", "outside its scope the API answers 403", outside_scope=frozenset({"logistics"}))
def _scope(site: Caller) -> None:
    for path in ("logistics/Units", "sync/Logistics/Items?$select=Code", "bulk/Logistics/Items?$select=Code"):
        answer = site.get(path)
        assert answer.status_code == 403
        assert "Forbidden - Application Scope Violated. Cannot read" in answer.text
    assert site.get("system/Divisions").status_code == 200
