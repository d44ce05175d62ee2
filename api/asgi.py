"""The web process's application, as an ASGI server imports it: `api.asgi:app`."""

from api.app import make_app
from worker.errors import Permanent
from worker.logs import configure
from worker.settings import settings

try:
    configure(settings())
    app = make_app(settings())
except Permanent as error:
    raise SystemExit(str(error)) from None
