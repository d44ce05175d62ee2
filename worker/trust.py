"""Says which certificates are believed where the tenant is asked something."""

import ssl

import httpx

from worker.errors import WrongSetting
from worker.settings import Settings


def trust(settings: Settings) -> ssl.SSLContext:
    """Return whom to trust for the tenant: the usual authorities and AUTH0_CA_FILE's. Raises WrongSetting if that is none."""
    context = httpx.create_ssl_context()
    if settings.auth0_ca_file:
        try:
            context.load_verify_locations(cafile=settings.auth0_ca_file)
        except OSError:  # ssl.SSLError is one
            raise WrongSetting("AUTH0_CA_FILE is no readable file of PEM certificates") from None
    return context
