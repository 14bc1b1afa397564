"""Builds the API shell: the only module here that names adapters and knows the container."""

from collections.abc import Sequence

from punq import Container
from starlette.applications import Starlette

from ordersync_adapters.secrets.fernet import make_key_file
from ordersync_adapters.tokens.verifier import make_verifier
from ordersync_adapters.wiring import SECRET_KEY_FILE, make_application, register_adapters
from ordersync_api.app import build_app
from ordersync_api.cursors import Cursors
from ordersync_api.settings import ApiSettings
from ordersync_connectors.wiring import register_connectors
from ordersync_core.kernel.clock import Clock


def compose(settings: ApiSettings) -> Starlette:
    """The API that the settings ask for; InvalidInput for settings that make no sense. No store is opened yet."""
    container = Container()
    register_adapters(container, settings)
    register_connectors(container, allow_private_targets=settings.allow_private_targets)
    clock: Clock = container.resolve(Clock)
    tokens = make_verifier(
        issuer=settings.auth_issuer,
        audience=settings.auth_audience,
        jwks=settings.auth_jwks,
        folder=settings.keys_folder,
        clock=clock,
    )
    return build_app(make_application(container), tokens=tokens, cursors=Cursors.of(_cursor_secrets(settings)))


def _cursor_secrets(settings: ApiSettings) -> Sequence[bytes]:
    """Those that all processes of a deployment share, and that are exchanged one after another."""
    keys = settings.secret_keys or (make_key_file(settings.keys_folder / SECRET_KEY_FILE),)
    return [key.encode() for key in keys]
