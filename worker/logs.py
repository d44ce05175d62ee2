"""Structured logs without personal data: one line per batch, users named by a keyed hash, errors by their kind."""

import hashlib
import hmac
import logging
import sys
import traceback
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any, TextIO

import structlog
from billiard.einfo import ExceptionWithTraceback

from worker.settings import Settings

# LOG_LEVEL is for these. Of any library we are told warnings at most: what else they say, at INFO or DEBUG, are URLs (ids can
# be e-mail addresses), headers, and a line for each task where one for each batch says more.
_OURS = ("api", "worker", "uvicorn.error")
# These put what they were given into their warnings too: URLs, request bodies, SQL values.
_TALKATIVE = (
    *("httpx", "httpcore", "httpx2", "httpcore2", "auth0", "fern", "authlib", "urllib3"),
    *("sqlalchemy", "psycopg", "redis", "kombu", "amqp", "uvicorn.access"),
)
# Servers that bring handlers of their own.
_SELF_CONFIGURED = ("uvicorn", "uvicorn.error", "celery")


def get_logger(name: str) -> Any:
    """Return a logger whose lines are an event and fields: `get_logger(__name__).info("drained", deliveries=3)`."""
    return structlog.stdlib.get_logger(name)


def fingerprint(user_id: str, key: bytes) -> str:
    """Return the name by which a user appears in log lines: 12 hex digits of a keyed hash of the id.

    `understudy fingerprint USER_ID` computes the same, so an operator who knows the id can find its lines.
    """
    return hmac.digest(key, user_id.encode("utf-8", "surrogatepass"), hashlib.sha256).hex()[:12]


def describe(error: BaseException) -> str:
    """Return where an error happened and its kind, never its message: messages of libraries quote what they were given."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__module__}.{type(error).__qualname__}{place}"


def frames(error: BaseException) -> list[str]:
    """Return where an error came through, the last eight places, the innermost last."""
    found = traceback.extract_tb(error.__traceback__)
    return [f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in found][-8:]


def _withhold_exception(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace a traceback by the kinds and places of its errors; SQLAlchemy's and PostgreSQL's quote whole rows."""
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    error = info[1] if isinstance(info, tuple) else info
    if isinstance(error, ExceptionWithTraceback):  # how Celery carries what ended a child, a kill for one
        error = error.exc
    if isinstance(error, BaseException):
        event["error"] = describe(error)
        event["frames"] = frames(error)
    return event


def configure(settings: Settings, stream: TextIO | None = None) -> None:
    """Send every log line, ours and the libraries', to `stream` (standard output) in the one form; a command's standard output is its answer."""
    stream = stream or sys.stdout
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _withhold_exception,
    ]
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=stream.isatty())
        if settings.log_format == "console"
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    root.setLevel(max(level, logging.WARNING))
    for name in _SELF_CONFIGURED:
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    for name in _OURS:
        logging.getLogger(name).setLevel(level)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
    sys.excepthook = _last_words


def _last_words(kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
    """Report an error nobody caught, without its message."""
    if issubclass(kind, KeyboardInterrupt):
        sys.exit(130)
    get_logger("worker").critical("died", exc_info=error)
