"""Builds the API shell: the only module here that names adapters and knows the container."""

from punq import Container
from starlette.applications import Starlette

from ordersync_adapters.tokens.verifier import make_verifier
from ordersync_adapters.wiring import make_application, register_adapters, secret_keys
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
    # all processes of a deployment share these keys, and they are exchanged one after another
    cursors = Cursors.of([key.encode() for key in secret_keys(settings)])
    return build_app(make_application(container), tokens=tokens, cursors=cursors)
