"""Runs setup: probes our own end, then makes, mends or removes each thing, saying what it does."""

from collections.abc import Callable, Sequence

import httpx

from worker.errors import Permanent
from worker.settings import Settings
from worker.setup.api import Management
from worker.setup.credentials import Credentials
from worker.setup.things import Action, EventStream, LogStream, Thing

LOGS, EVENTS = "/webhooks/auth0/logs", "/webhooks/auth0/events"


class Unreachable(Permanent):
    """Our own web process does not answer at PUBLIC_URL as it should."""


def things(settings: Settings, credentials: Credentials, *, send_tokens: bool) -> list[Thing]:
    """Return what the settings ask for; raise WrongSetting where PUBLIC_URL or every token is missing."""
    settings.require("public_url")
    settings.require_any("log_stream_tokens", "event_stream_tokens")
    url = settings.public_url.rstrip("/")
    wanted: list[Thing] = []
    if settings.log_stream_tokens:
        token = settings.log_stream_tokens[0].get_secret_value()
        wanted.append(LogStream(url + LOGS, token, send_tokens))
    if settings.event_stream_tokens:
        token = settings.event_stream_tokens[0].get_secret_value()
        wanted.append(EventStream(url + EVENTS, token, settings.event_stream_header, send_tokens))
    namespace = credentials.token_claims_namespace or f"{url}/"
    return [*wanted, Action(namespace, settings.default_display_name)]


def probe(settings: Settings) -> None:
    """Send each webhook an empty delivery with its first token: only what is accepted may be connected."""
    url = settings.public_url.rstrip("/")
    if settings.log_stream_tokens:
        token = settings.log_stream_tokens[0].get_secret_value()
        _probe(url + LOGS, {"Authorization": token}, "LOG_STREAM_TOKENS")
    if settings.event_stream_tokens:
        token = settings.event_stream_tokens[0].get_secret_value()
        header = settings.event_stream_header
        headers = {header: token} if header else {"Authorization": f"Bearer {token}"}
        _probe(url + EVENTS, headers, "EVENT_STREAM_TOKENS")


def _probe(url: str, headers: dict[str, str], setting: str) -> None:
    try:
        answer = httpx.post(url, headers=headers, content=b"", timeout=15)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unreachable(
            f"{url} does not answer ({type(error).__name__}): is the web process deployed there?"
        ) from None
    if answer.status_code == 401:
        raise Unreachable(
            f"{url} refuses the first of {setting}: deploy the web process with the same setting, then try again"
        )
    if answer.status_code == 503:
        raise Unreachable(f"{url} cannot store deliveries now: ask its /readyz why")
    if answer.status_code != 204:
        raise Unreachable(f"{url} answers {answer.status_code} to an empty delivery, not 204: is PUBLIC_URL right?")


def connect(
    settings: Settings,
    credentials: Credentials,
    *,
    say: Callable[[str], None],
    remove: bool = False,
    dry_run: bool = False,
    send_tokens: bool = False,
) -> int:
    """Connect the tenant, or disconnect it with `remove`; return how many changes there were, or would be in a dry run."""
    wanted = things(settings, credentials, send_tokens=send_tokens)
    api = Management(settings, credentials)
    try:
        api.need(_scopes(wanted, changing=not dry_run))
        if not remove:
            probe(settings)
        return sum(_work(api, thing, say=say, remove=remove, dry_run=dry_run) for thing in wanted)
    finally:
        api.close()


def _scopes(wanted: Sequence[Thing], *, changing: bool) -> list[str]:
    return [scope for thing in wanted for scope in (*thing.reading, *(thing.changing if changing else ()))]


def _work(api: Management, thing: Thing, *, say: Callable[[str], None], remove: bool, dry_run: bool) -> int:
    steps = list(thing.present(api) if remove else thing.missing(api))
    for step in steps:
        say(f"would {step.says}" if dry_run else step.says)
        if not dry_run:
            step.do()
    if not steps:
        say(f"the {thing.title} is {'not there' if remove else 'as it should be'}")
    return len(steps)
