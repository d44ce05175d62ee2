"""Every setting, typed, from environment variables; .env.example and docs/operating.md list the same ones."""

import hashlib
import hmac
import os
import re
from datetime import timedelta
from functools import lru_cache
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, FilePath, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from worker.errors import WrongSetting

Plan = Literal["free", "essentials", "professional", "enterprise", "enterprise-nonprod", "private-cloud"]

# RFC 7518 §3.2: a key for HS256 is at least as long as the hash.
SHORTEST_SECRET = 32

# An empty variable means the default, but for these, which it turns off.
_OFF_WHEN_EMPTY = ("role_tiers", "default_display_name")

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


def _duration(value: object) -> object:
    """Read "7d", "60s", "500ms" or a bare number of seconds."""
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*", str(value))
    if not match:
        raise ValueError('must be a duration such as "60s", "15m" or "7d"')
    return timedelta(seconds=float(match[1]) * _UNITS[match[2] or "s"])


def _secrets(value: object) -> object:
    return [part for part in str(value).split(",") if part] if isinstance(value, str) else value


def _database_url(value: str) -> str:
    """Accept `postgres://` as Heroku gives it; SQLAlchemy wants the driver's name."""
    try:
        url = make_url(value)
    except ArgumentError:
        raise ValueError("must be a PostgreSQL URL such as postgresql://user:password@host:5432/name") from None
    if url.get_backend_name() not in ("postgresql", "postgres"):
        raise ValueError("must be a PostgreSQL URL")
    return url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


def _redis_url(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().startswith(("redis://", "rediss://")):
        raise ValueError("must be a Redis URL such as redis://:password@host:6379/0, or rediss:// for TLS")
    return value


def _domain(value: str) -> str:
    domain = value.strip().removeprefix("https://").rstrip("/").lower()
    if not re.fullmatch(r"[a-z0-9.-]+(:\d+)?", domain):
        raise ValueError("must be a tenant's domain such as acme.eu.auth0.com")
    return domain


def _issuer(value: str) -> str:
    if value and not re.fullmatch(r"https?://[^\s/?#@]+/", value):
        raise ValueError("must be as tokens spell it, with the slash at its end, such as https://login.acme.com/")
    return value


def _origins(value: object) -> object:
    """Read "https://app.acme.com, http://localhost:3000" into the origins as browsers spell them."""
    if not isinstance(value, str):
        return value
    origins = [part.strip().lower() for part in value.split(",") if part.strip()]
    if not all(re.fullmatch(r"https?://[^\s/?#@*]+", origin) for origin in origins):
        raise ValueError("must be origins such as https://app.acme.com, separated by commas: no path, no *")
    return origins


def _public_url(value: str) -> str:
    """Take the address at which browsers reach the web process, without a slash at its end; http is for this machine alone."""
    url = value.strip().removesuffix("/").lower()
    url = url.removesuffix(":443") if url.startswith("https:") else url.removesuffix(":80")  # as browsers say it
    if url and not re.fullmatch(r"https://[^\s/?#@*]+|http://(127\.0\.0\.1|localhost|\[::1\])(:\d+)?", url):
        raise ValueError(
            "must be an address without a path, https:// but on this machine, such as https://music.acme.com"
        )
    return url


def _limits(value: object) -> object:
    """Read "read_users=40:500/min, write_users=20:200/min" (burst:rate) into {group: (burst, per second)}."""
    if not isinstance(value, str):
        return value
    limits: dict[str, tuple[float, float]] = {}
    for part in filter(None, (piece.strip() for piece in value.split(","))):
        match = re.fullmatch(r"(\w+)=(\d+(?:\.\d+)?):(\d+(?:\.\d+)?)/(s|sec|min)", part)
        if not match:
            raise ValueError('must look like "read_users=40:500/min,write_users=20:200/min" (burst:rate)')
        limits[match[1]] = (float(match[2]), float(match[3]) / (60 if match[4] == "min" else 1))
    return limits


def _tiers(value: object) -> object:
    """Read "playlist_editor=100, curator=1000" (role=plays) into {role: plays}."""
    if not isinstance(value, str):
        return value
    tiers: dict[str, int] = {}
    for part in filter(None, (piece.strip() for piece in value.split(","))):
        match = re.fullmatch(r"([^\s,=]{1,100})\s*=\s*([1-9]\d{0,17})", part)
        if not match:
            raise ValueError('must look like "playlist_editor=100,curator=1000" (role=plays that earn it)')
        tiers[match[1]] = int(match[2])
    return tiers


Duration = Annotated[timedelta, BeforeValidator(_duration), Field(ge=timedelta(0))]
Period = Annotated[timedelta, BeforeValidator(_duration), Field(ge=timedelta(seconds=1), le=timedelta(days=1))]
Lifetime = Annotated[timedelta, BeforeValidator(_duration), Field(gt=timedelta(0), le=timedelta(days=400))]


class Settings(BaseSettings):
    """What an operator decides. Names are the environment variables' names in lower case."""

    model_config = SettingsConfigDict(extra="ignore", hide_input_in_errors=True, frozen=True, env_ignore_empty=True)

    database_url: Annotated[SecretStr, AfterValidator(lambda url: SecretStr(_database_url(url.get_secret_value())))]
    redis_url: Annotated[SecretStr, AfterValidator(_redis_url)]
    redis_tls_verify: bool = True

    auth0_domain: Annotated[str, AfterValidator(_domain)]
    auth0_m2m_client_id: str = ""
    auth0_m2m_client_secret: SecretStr = SecretStr("")
    auth0_ca_file: FilePath | None = None
    auth0_plan: Plan = "free"
    auth0_limits: Annotated[dict[str, tuple[float, float]], NoDecode, BeforeValidator(_limits)] = Field(
        default_factory=dict
    )
    auth0_budget_share: float = Field(default=0.5, gt=0, le=1)
    auth0_timeout: Duration = timedelta(seconds=10)

    auth0_audience: str = ""
    auth0_issuer: Annotated[str, AfterValidator(_issuer)] = ""
    token_algorithm: Literal["RS256", "HS256"] = "RS256"  # noqa: S105 no password but an algorithm
    auth0_hs256_secret: SecretStr = SecretStr("")
    cors_allowed_origins: Annotated[list[str], NoDecode, BeforeValidator(_origins)] = Field(default_factory=list)

    public_url: Annotated[str, AfterValidator(_public_url)] = ""
    auth0_web_client_id: str = ""
    auth0_web_client_secret: SecretStr = SecretStr("")
    session_lifetime: Lifetime = timedelta(days=7)
    session_idle_lifetime: Lifetime = timedelta(days=1)

    role_tiers: Annotated[dict[str, int], NoDecode, BeforeValidator(_tiers)] = Field(
        default_factory=lambda: {"playlist_editor": 100}
    )
    default_display_name: Annotated[str, Field(max_length=100)] = "user"

    plays_per_listener_per_day: int = Field(default=10, ge=0)

    log_stream_tokens: Annotated[list[SecretStr], NoDecode, BeforeValidator(_secrets)] = Field(default_factory=list)
    event_stream_tokens: Annotated[list[SecretStr], NoDecode, BeforeValidator(_secrets)] = Field(default_factory=list)
    event_stream_header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]*$")] = ""
    max_delivery_bytes: int = Field(default=16 * 1024 * 1024, ge=1024)
    metrics_token: SecretStr = SecretStr("")
    inbox_retention: Duration = timedelta(days=7)

    run_retention: Duration = timedelta(days=90)

    reconcile_every: Duration = timedelta(days=1)

    pull_logs: bool = True
    pull_every: Period = timedelta(minutes=5)
    pull_overlap: Duration = timedelta(minutes=3)
    silence_floor: Duration = timedelta(minutes=15)
    pull_events: bool = False
    watch_streams: bool = False
    heal_streams: bool = False

    log_date_skew: Duration = timedelta(seconds=5)
    search_settle: Duration = timedelta(seconds=60)

    log_format: Literal["json", "console"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    user_hash_key: SecretStr = SecretStr("")

    @model_validator(mode="after")
    def _one_way_to_sign(self) -> Self:
        """A shared secret is the weaker way: it takes two settings that agree, so that nobody gets there by accident."""
        secret = self.auth0_hs256_secret.get_secret_value()
        match self.token_algorithm, bool(secret):
            case "RS256", True:
                raise ValueError("AUTH0_HS256_SECRET is set but TOKEN_ALGORITHM is RS256: remove one, or mean HS256")
            case "HS256", False:
                raise ValueError("TOKEN_ALGORITHM is HS256 but AUTH0_HS256_SECRET is not set")
        if secret and len(secret.encode()) < SHORTEST_SECRET:
            raise ValueError(f"AUTH0_HS256_SECRET is shorter than {SHORTEST_SECRET} bytes, so it could be guessed")
        return self

    @classmethod
    def from_environment(cls) -> Self:
        """Read the environment; raises WrongSetting naming every wrong variable, without its value."""
        off = {name: "" for name in _OFF_WHEN_EMPTY if os.environ.get(name.upper()) == ""}
        try:
            return cls(**off)  # type: ignore[arg-type]  # the environment fills it
        except ValidationError as error:
            raise WrongSetting(
                "; ".join(_sentence(problem["loc"], problem["msg"], problem["type"]) for problem in error.errors())
            ) from None

    def lacking(self, *names: str) -> list[str]:
        """Return the variables of those of `names` that are empty."""
        values = {name: getattr(self, name) for name in names}
        return [
            name.upper()
            for name, value in values.items()
            if not (value.get_secret_value() if isinstance(value, SecretStr) else value)
        ]

    def require(self, *names: str) -> None:
        """Raise WrongSetting for the first of `names` that is empty: a process says what it cannot do without."""
        for name in self.lacking(*names):
            raise WrongSetting(f"{name} is not set")

    def require_any(self, *names: str) -> None:
        """Raise WrongSetting if all of `names` are empty."""
        if len(self.lacking(*names)) == len(names):
            raise WrongSetting(f"none of {', '.join(name.upper() for name in names)} is set")

    @property
    def issuer(self) -> str:
        """What the `iss` of a token must be: AUTH0_ISSUER, or the tenant's own."""
        return self.auth0_issuer or f"https://{self.auth0_domain}/"

    @property
    def streams(self) -> tuple[Literal["logs", "events"], ...]:
        """The webhooks that a stream should fill."""
        tokens = {"logs": self.log_stream_tokens, "events": self.event_stream_tokens}
        return tuple(name for name in ("logs", "events") if tokens[name])

    @property
    def pulls_log(self) -> bool:
        """Whether the tenant's log is pulled: where it is streamed. Event streams alone spare every read, and it would cause them."""
        return self.pull_logs and bool(self.log_stream_tokens)

    @property
    def fingerprint_key(self) -> bytes:
        """The key under which a user's id is hashed for log lines: USER_HASH_KEY, or one that the client secret gives."""
        chosen = self.user_hash_key.get_secret_value()
        secret = chosen or self.auth0_m2m_client_secret.get_secret_value() or self.auth0_domain
        return hmac.digest(secret.encode(), b"understudy user fingerprint", hashlib.sha256)


def _sentence(loc: tuple[int | str, ...], message: str, kind: str) -> str:
    said = message.removeprefix("Value error, ")
    if not loc:  # a rule about several settings names them itself
        return said
    name = str(loc[0]).upper()
    return f"{name} is not set" if kind == "missing" else f"{name}: {said}"


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Return the process's settings, read once, at the first call and never at import."""
    return Settings.from_environment()
