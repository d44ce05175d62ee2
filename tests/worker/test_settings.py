"""Settings: what is wrong is named in one line, secrets never."""

from datetime import timedelta
from typing import Any

import pytest

from worker.errors import WrongSetting
from worker.settings import Settings

GOOD = {"DATABASE_URL": "postgres://u:sekret@db/x", "REDIS_URL": "redis://r", "AUTH0_DOMAIN": "acme.eu.auth0.com"}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)

    def fill(**changes: str) -> Settings:
        for name, value in {**GOOD, **changes}.items():
            monkeypatch.setenv(name, value)
        return Settings.from_environment()

    return fill


def test_herokus_database_url_is_taken_as_it_is_given(environment: Any) -> None:
    assert environment().database_url.get_secret_value() == "postgresql+psycopg://u:sekret@db/x"


def test_every_missing_variable_is_named_in_one_line(environment: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001 clears the environment
    for name in GOOD:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(WrongSetting) as error:
        Settings.from_environment()
    assert str(error.value) == "DATABASE_URL is not set; REDIS_URL is not set; AUTH0_DOMAIN is not set"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://u:sekret@db/x"),
        ("DATABASE_URL", "sekret"),
        ("REDIS_URL", "sekret"),
        ("AUTH0_DOMAIN", "https://acme.auth0.com/login"),
        ("AUTH0_CA_FILE", "/no/such/file.pem"),
        ("SEARCH_SETTLE", "soon"),
        ("SEARCH_SETTLE", "-5s"),
        ("AUTH0_PLAN", "gold"),
        ("AUTH0_LIMITS", "read_users=fast"),
        ("AUTH0_BUDGET_SHARE", "1.5"),
        ("MAX_DELIVERY_BYTES", "0"),
        ("LOG_FORMAT", "xml"),
        ("AUTH0_ISSUER", "https://acme.eu.auth0.com"),
        ("AUTH0_ISSUER", "acme.eu.auth0.com/"),
        ("TOKEN_ALGORITHM", "none"),
        ("CORS_ALLOWED_ORIGINS", "*"),
        ("CORS_ALLOWED_ORIGINS", "null"),
        ("CORS_ALLOWED_ORIGINS", "https://app.acme.com/"),
        ("CORS_ALLOWED_ORIGINS", "https://*.acme.com"),
        ("PUBLIC_URL", "http://music.acme.com"),
        ("PUBLIC_URL", "music.acme.com"),
        ("PUBLIC_URL", "https://music.acme.com/app"),
        ("PUBLIC_URL", "https://u:sekret@music.acme.com"),
        ("SESSION_LIFETIME", "0"),
    ],
)
def test_a_wrong_variable_is_named_without_a_secret_value(environment: Any, name: str, value: str) -> None:
    with pytest.raises(WrongSetting, match=name) as error:
        environment(**{name: value})
    assert "sekret" not in str(error.value)


def test_durations_and_limits_are_read_in_their_units(environment: Any) -> None:
    settings = environment(
        INBOX_RETENTION="7d",
        SEARCH_SETTLE="90",
        AUTH0_TIMEOUT="500ms",
        AUTH0_LIMITS="read_users=40:600/min, other=2:1/s",
    )
    assert (settings.inbox_retention, settings.search_settle) == (timedelta(days=7), timedelta(seconds=90))
    assert settings.auth0_timeout == timedelta(milliseconds=500)
    assert settings.auth0_limits == {"read_users": (40, 10), "other": (2, 1)}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"AUTH0_HS256_SECRET": "sekret" * 8}, "AUTH0_HS256_SECRET is set but TOKEN_ALGORITHM is RS256"),
        ({"TOKEN_ALGORITHM": "HS256"}, "TOKEN_ALGORITHM is HS256 but AUTH0_HS256_SECRET is not set"),
        ({"TOKEN_ALGORITHM": "HS256", "AUTH0_HS256_SECRET": "sekret"}, "AUTH0_HS256_SECRET is shorter than 32 bytes"),
    ],
)
def test_a_shared_secret_is_used_on_purpose_or_not_at_all(environment: Any, changes: dict[str, str], said: str) -> None:
    with pytest.raises(WrongSetting, match=said) as error:
        environment(**changes)
    assert "sekret" not in str(error.value)


def test_the_issuer_is_the_tenants_own_unless_it_is_told(environment: Any) -> None:
    assert environment().issuer == "https://acme.eu.auth0.com/"
    assert environment(AUTH0_ISSUER="https://login.acme.com/").issuer == "https://login.acme.com/"


def test_origins_are_read_as_browsers_spell_them(environment: Any) -> None:
    origins = environment(CORS_ALLOWED_ORIGINS="https://App.acme.com, http://localhost:3000,").cors_allowed_origins
    assert origins == ["https://app.acme.com", "http://localhost:3000"]


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("https://Music.acme.com/", "https://music.acme.com"),
        ("https://music.acme.com:443", "https://music.acme.com"),
        ("https://music.acme.com:8443", "https://music.acme.com:8443"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
        ("http://localhost:80", "http://localhost"),
        ("", ""),
    ],
)
def test_the_public_url_is_read_as_browsers_spell_it(environment: Any, given: str, read: str) -> None:
    assert environment(PUBLIC_URL=given).public_url == read


def test_two_tokens_are_good_while_one_is_rotated_out(environment: Any) -> None:
    tokens = environment(LOG_STREAM_TOKENS="old-token,new-token").log_stream_tokens
    assert [token.get_secret_value() for token in tokens] == ["old-token", "new-token"]


def test_what_is_empty_is_lacking(environment: Any) -> None:
    settings = environment(PUBLIC_URL="https://music.acme.com", AUTH0_WEB_CLIENT_SECRET="")
    lacking = settings.lacking("public_url", "auth0_audience", "auth0_web_client_secret")
    assert lacking == ["AUTH0_AUDIENCE", "AUTH0_WEB_CLIENT_SECRET"]


def test_no_secret_shows_in_the_settings_repr(environment: Any) -> None:
    settings = environment(
        AUTH0_M2M_CLIENT_SECRET="sekret",
        LOG_STREAM_TOKENS="sekret",
        REDIS_URL="redis://:sekret@r",
        USER_HASH_KEY="sekret",
        AUTH0_WEB_CLIENT_SECRET="sekret",
        TOKEN_ALGORITHM="HS256",
        AUTH0_HS256_SECRET="sekret" * 8,
    )
    assert "sekret" not in repr(settings)
    assert "sekret" not in str(settings)


def test_the_default_display_name_can_be_turned_off(environment: Any) -> None:
    assert environment().default_display_name == "user"
    assert environment(DEFAULT_DISPLAY_NAME="").default_display_name == ""
