"""A person's consent, given by a program: for a sandbox that consents by itself."""

import httpx

from ordersync_core.kernel.errors import ExternalFailure

CALLBACK = "/api/complete-authorisation"
"""Where the local host takes the answer of an external system's consent page."""


def give_consent(url: str) -> None:
    """Go to the address and on to our callback, as a browser does; ExternalFailure unless that ends well."""
    try:
        response = httpx.get(url, follow_redirects=True, timeout=30, trust_env=False)
    except httpx.HTTPError as error:
        raise ExternalFailure(f"the consent could not be followed: {type(error).__name__} {error}") from error
    if response.status_code != 200:
        raise ExternalFailure(f"the consent was answered with {response.status_code}: {response.text[:200]}")
