"""A person's consent, given by a program: for a sandbox that consents by itself."""

import re
from html import unescape

import httpx

from ordersync_core.kernel.errors import ExternalFailure

CALLBACK = "/api/complete-authorisation"
"""Where the local host takes the answer of an external system's consent page."""


def give_consent(url: str, *, redirect_uri: str) -> None:
    """Go to the address and on to our callback, as a browser does; ExternalFailure unless that ends well there."""
    try:
        response = httpx.get(url, follow_redirects=True, timeout=30, trust_env=False)
    except httpx.ConnectError as error:
        asked = f"{error.request.url.scheme}://{error.request.url.netloc.decode()}"
        ours = redirect_uri.startswith(f"{asked}/")
        hint = "Functions takes the answer there; 'ordersync up' starts it" if ours else "is it running?"
        raise ExternalFailure(f"nobody answers at {asked}: {hint}") from error
    except httpx.HTTPError as error:
        raise ExternalFailure(f"the consent could not be followed: {type(error).__name__} {error}") from error
    if response.status_code != 200:
        raise ExternalFailure(f"the consent was answered with {response.status_code}: {_words(response.text)}")
    if not str(response.url).startswith(redirect_uri):
        raise ExternalFailure(f"{response.url.host} does not consent by itself: a person has to, in a browser")


def _words(page: str) -> str:
    """What the page says, without its tags."""
    text = re.sub(r"<head>.*?</head>|<[^>]*>", " ", page, flags=re.DOTALL)
    return " ".join(unescape(text).split())[:200]
