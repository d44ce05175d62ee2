"""The page's style sheet, script and icon."""

from typing import Any, Final

from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from api.pages.rendering import STATIC

# Pages name the version of what they link to, so a browser never needs to ask again.
_HEADERS: Final = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}


class Files(StaticFiles):
    """Serves them, to be kept."""

    def __init__(self) -> None:
        super().__init__(directory=STATIC)

    def file_response(self, *given: Any, **named: Any) -> Response:
        """Answer a file."""
        answer = super().file_response(*given, **named)
        answer.headers.update(_HEADERS)
        return answer
