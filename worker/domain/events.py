"""Says what a record of Auth0's tenant log means for the copy: whom it is about, and what follows.

The records' facts: https://auth0.com/docs/deploy-monitor/logs/log-event-type-codes, and the schemas in auth0/auth0-log-schemas.
A record is a reason to look at a user, never a source of its profile. Who it is about is its *subject*, not its actor:
a `sapi` record's `user_id` is whoever called the Management API, the user it changed is in the path of the call.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple, Protocol
from urllib.parse import unquote

# PostgreSQL's btree holds keys up to about 2,700 bytes; Auth0's own ids are some 30 bytes, an enterprise one a few hundred.
MAX_USER_ID_BYTES = 1024


class LogRecord(Protocol):
    """What is read of a record. Auth0 omits, nulls or empties what it does not know: all three mean the same here."""

    @property
    def type(self) -> str:
        """The code, such as "s" or "sapi"."""

    @property
    def date(self) -> object:
        """When it happened, by Auth0's clock; ISO 8601 text in all but odd records."""

    @property
    def user_id(self) -> object:
        """The subject, or for `sapi` the actor; on failures any text."""

    @property
    def description(self) -> object:
        """Free text."""

    @property
    def connection(self) -> object:
        """The connection's name."""

    @property
    def connection_id(self) -> object:
        """The connection's id."""

    @property
    def strategy(self) -> object:
        """The connection's kind, which is also the first part of its users' ids."""

    @property
    def details(self) -> object:
        """The decoded details; raises Unreadable where their bytes cannot be decoded."""


class Unreadable(ValueError):  # noqa: N818 - it reads as the error tree does
    """A record that cannot be understood. The text is the reason, shown to the operator: it holds no personal data."""


class News(NamedTuple):
    """A reason to look at one user (P5). A NamedTuple: a frozen dataclass costs three times as much to make."""

    user_id: str
    date: datetime | None  # when it happened by Auth0's clock, aware, UTC; None where the record does not say
    login: bool = False  # the user was seen logging in at `date`
    strong: bool = False  # only a strong read will do (P7)
    severed: bool = False  # a deletion, link or unlink: snapshots no later than `date` do not win (P12)
    deletion: bool = False  # announces that this id is gone: not counted by the brake (P19)
    creates: bool = True  # an unknown id gets a row; False: only a row that is there is marked

    def __repr__(self) -> str:
        return "<news>"  # the id is personal


class Meaning(NamedTuple):
    """What follows from one record. All fields may hold at once: a record with a broken date marks its user and is parked."""

    news: tuple[News, ...] = ()
    reconcile: str | None = None  # the copy must be compared with the tenant, and why
    connection_gone: str | None = None  # the name (else the id) of a deleted connection: its users went with it
    unknown: bool = False  # a code this table does not list: counted, never an error
    bad: str | None = None  # to be parked, and why


Rule = Callable[[LogRecord, datetime | None], Meaning]

NOTHING = Meaning()
UNKNOWN = Meaning(unknown=True)

# A login dated after this would never be outdone (P3: only forward), so it is no date. Callers who know the time pass their own.
_LATEST = datetime(2100, 1, 1, tzinfo=UTC)
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)


def interpret(record: LogRecord, latest: datetime = _LATEST) -> Meaning:
    """Return what follows from `record`; never raises. Dates after `latest` (aware) are taken for no date.

    A user's record whose date is no date still marks its user, without the date and for a strong read, since losing the news would leave
    the copy wrong, and is parked as well, since somebody should see it. In records that are nobody's business the date is not even read.
    """
    rule = TABLE.get(record.type)
    if rule is None:
        return UNKNOWN if record.type else Meaning(bad="the record has no type")
    if rule is _nothing:
        return NOTHING
    date = instant(record.date, latest)
    try:
        meaning = rule(record, date)
    except Unreadable as error:
        return Meaning(bad=str(error))
    if date is None and meaning.news:
        return meaning._replace(
            news=tuple(news._replace(strong=True) for news in meaning.news), bad="the record's date is no date"
        )
    return meaning


def instant(value: object, latest: datetime = _LATEST) -> datetime | None:
    """Return the moment `value` names, aware and in UTC; None where it names none between 2000 and `latest`.

    Text in ISO 8601 (without an offset: UTC), seconds or milliseconds since 1970, or an object that wraps one of these ("$date").
    """
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            moment = datetime.fromtimestamp(value / 1000 if value > 1e11 else value, UTC)
        elif isinstance(value, Mapping) and not isinstance(value.get("$date"), Mapping):
            return instant(value.get("$date"), latest)
        else:
            return None
        if moment.tzinfo is not UTC:
            moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return moment if _EARLIEST <= moment <= latest else None


# Whom it is about


def user_id(value: object) -> str | None:
    """Return `value` if it is a user's id (`strategy|id`), None if it is none; raise Unreadable if PostgreSQL cannot hold it.

    A machine's id (`…@clients`, an agent's) has no strategy, so it never becomes a user.
    """
    if not isinstance(value, str) or "|" not in value or value.endswith("@clients"):
        return None
    if value.isascii():
        size = len(value)
    else:
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            raise Unreadable(
                "a user's id holds half a character (a lone surrogate, or bytes that are no UTF-8)"
            ) from None
    if size > MAX_USER_ID_BYTES:
        raise Unreadable(f"a user's id is longer than {MAX_USER_ID_BYTES} bytes")
    if "\0" in value:
        raise Unreadable("a user's id holds a NUL character")
    return value


def identity_id(provider: object, identity: object) -> str | None:
    """Return the id a user has, had or will have when this identity stands alone. `identity` is text or an integer."""
    if (
        not isinstance(provider, str)
        or not provider
        or isinstance(identity, bool)
        or not isinstance(identity, str | int)
        or identity == ""
    ):
        return None
    text = str(identity)
    return user_id(text if text.startswith(provider + "|") else f"{provider}|{text}")


def _at(value: object, *keys: str) -> object:
    for key in keys:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def _subject(record: LogRecord) -> str | None:
    """Return the user most records are about: `user_id`, or where that is empty what the details call so."""
    subject = user_id(record.user_id)
    if subject is None and record.user_id in (None, ""):
        details = record.details
        subject = user_id(_at(details, "query", "user_id")) or user_id(_at(details, "body", "user_id"))
    return subject


def _subjectless(record: LogRecord) -> Meaning:
    return Meaning(reconcile=f"a {record.type} record does not say whom it is about")


# What follows: one rule per kind of record


def _nothing(_record: LogRecord, _date: datetime | None) -> Meaning:
    return NOTHING


def _login(record: LogRecord, date: datetime | None) -> Meaning:
    subject = user_id(record.user_id)
    return Meaning((News(subject, date, True),)) if subject else _subjectless(record)


def _exchange(record: LogRecord, date: datetime | None) -> Meaning:
    """Read a login without a page: whoever has no user's id is a machine."""
    subject = user_id(record.user_id)
    return Meaning((News(subject, date, True),)) if subject else NOTHING


def _changed(record: LogRecord, date: datetime | None) -> Meaning:
    subject = _subject(record)
    return Meaning((News(subject, date),)) if subject else _subjectless(record)


def _maybe_changed(record: LogRecord, date: datetime | None) -> Meaning:
    """Mark a row that is there: a failed login never makes a user, and its `user_id` may be any text."""
    subject = user_id(record.user_id)
    return Meaning((News(subject, date, creates=False),)) if subject else NOTHING


def _deleted(record: LogRecord, date: datetime | None) -> Meaning:
    """Tell whose deletion this is: by `user_id`, else the description ("user_id: …"), else strategy and id, else by comparing all."""
    said = re.search(r"user_id:\s*(\S+)", record.description) if isinstance(record.description, str) else None
    named = [record.user_id, said[1] if said else None]
    subject = next((one for one in map(user_id, named) if one), None)
    if subject:
        return Meaning((_gone(subject, date),))
    bare = next((one for one in named if isinstance(one, str) and one and not one.endswith("@clients")), None)
    # Real captures hold a bare id. Only a database's users are surely called `auth0|id`; any other guess marks a row that is there, no more.
    guess = identity_id(record.strategy or "auth0", bare)
    if guess and record.strategy == "auth0":
        return Meaning((_gone(guess, date),))
    reconcile = "a deletion does not say whose"
    return Meaning((_gone(guess, date)._replace(creates=False),), reconcile) if guess else Meaning(reconcile=reconcile)


def _gone(subject: str, date: datetime | None) -> News:
    return News(subject, date, strong=True, severed=True, deletion=True)


def _import(record: LogRecord, _date: datetime | None) -> Meaning:
    return Meaning(reconcile=f"users were imported or synchronised in bulk ({record.type})")


def _scim(record: LogRecord, date: datetime | None) -> Meaning:
    """Read a SCIM write: its path or answer may hold a user's id; where it does not, only a comparison finds the user."""
    details = record.details
    method = _at(details, "request", "method")
    method = method.upper() if isinstance(method, str) else ""
    if method == "GET":
        return NOTHING
    path = _at(details, "request", "path")
    place = re.search(r"/Users/([^/?]+)", path) if isinstance(path, str) else None
    subject = user_id(_decoded(place[1])) if place else None
    subject = subject or user_id(_at(details, "response", "body", "id"))
    if subject is None:
        return Meaning(reconcile="a SCIM write does not say which user it is about")
    return Meaning((_gone(subject, date) if method == "DELETE" else News(subject, date),))


# The Management API (`sapi`): method and path decide, the description is text for people and changes

_USER_PATH = re.compile(r"/users/(?P<id>[^/]+)(?:/(?P<part>[^/]+))?(?P<rest>/.*)?")
_PATH = re.compile(r"(?:https?://[^/]+)?/api/v2(/[^?#]*)")
# Parts of a user that are not in its profile. What is not listed here, unlisted newer parts included, is worth a look.
_NOT_PROFILE = frozenset(
    {
        *("roles", "permissions", "effective-roles", "effective-permissions", "organizations", "groups"),
        *("sessions", "refresh-tokens", "revoke-access", "federated-connections-tokensets"),
        *("logs", "risk-assessments", "recovery-code-regeneration"),
    }
)


def _decoded(segment: str) -> str:
    try:
        return unquote(segment, errors="strict")
    except UnicodeDecodeError:
        raise Unreadable("a user's id in a path is not UTF-8") from None


def _api_write(record: LogRecord, date: datetime | None) -> Meaning:
    details = record.details
    method, path = _at(details, "request", "method"), _at(details, "request", "path")
    place = _PATH.match(path) if isinstance(path, str) else None
    if not place or not isinstance(method, str):
        return Meaning(reconcile="a write to the Management API does not say what it did")
    method, path = method.upper(), place[1].rstrip("/")
    if path == "/users":
        return _created(details, date)
    user = _USER_PATH.fullmatch(path)
    if user:
        return _user_write(method, user, details, date)
    return _other_write(method, path, record)


def _other_write(method: str, path: str, record: LogRecord) -> Meaning:
    """Read everything but users: connections hold users, and imports make them; the rest is nobody's business."""
    if method == "DELETE" and (gone := re.fullmatch(r"/connections/([^/]+)", path)):
        # Profiles know their connections by name, the path by id; the record's own connection is the actor's unless the ids agree.
        name = record.connection if record.connection_id == gone[1] and isinstance(record.connection, str) else ""
        return Meaning(reconcile="a connection was deleted, and its users with it", connection_gone=name or gone[1])
    if method == "DELETE" and re.fullmatch(r"/connections/[^/]+/users", path):
        return Meaning(reconcile="a user was deleted by e-mail")  # an e-mail is not a key: it may be several users'
    if path == "/jobs/users-imports":
        return Meaning(reconcile="users were imported")
    return NOTHING


def _created(details: object, date: datetime | None) -> Meaning:
    """`POST /users`: the id is in the answer alone."""
    body = _at(details, "response", "body")
    subject = user_id(_at(body, "user_id"))
    if subject is None:
        identities = _at(body, "identities")
        first = identities[0] if isinstance(identities, list) and identities else None
        subject = identity_id(_at(first, "provider"), _at(first, "user_id"))
    if subject is None:
        return Meaning(reconcile="the creation of a user does not say whose")
    return Meaning((News(subject, date),))


def _user_write(method: str, place: re.Match[str], details: object, date: datetime | None) -> Meaning:
    subject = user_id(_decoded(place["id"]))
    if subject is None:
        return Meaning(reconcile="a write to the Management API names no user it could be about")
    part = place["part"]
    if part == "identities":
        if method == "POST":
            return _linked(subject, details, date)
        if method == "DELETE":
            return _unlinked(subject, place["rest"] or "", date)
    if part is None and method == "DELETE":
        return Meaning((_gone(subject, date),))
    return NOTHING if part in _NOT_PROFILE else Meaning((News(subject, date),))


def _severed(subject: str, date: datetime | None) -> News:
    return News(subject, date, strong=True, severed=True)


def _linked(primary: str, details: object, date: datetime | None) -> Meaning:
    """`POST /users/{id}/identities`: the secondary is in the body, or the answer lists the identities; a `link_with` token names nobody.

    A link deletes the secondary (P13), so for the secondary it is an announced deletion.
    """
    body = _at(details, "request", "body")
    named = {identity_id(_at(body, "provider"), _at(body, "user_id"))} - {None}
    if not named:
        answer = _at(details, "response", "body")
        named = (
            {identity_id(_at(one, "provider"), _at(one, "user_id")) for one in answer} - {None}
            if isinstance(answer, list)
            else named
        )
    secondaries = sorted(one for one in named if one and one != primary)
    news = (_severed(primary, date), *(_gone(secondary, date) for secondary in secondaries))
    return Meaning(news, None if secondaries else "a link does not say whom it linked")


def _unlinked(primary: str, rest: str, date: datetime | None) -> Meaning:
    """`DELETE /users/{id}/identities/{provider}/{id}`: the secondary is a user of its own again."""
    parts = [_decoded(part) for part in rest.split("/")[1:]]
    secondary = identity_id(parts[0], parts[1]) if len(parts) == 2 else None
    if secondary is None:
        return Meaning((_severed(primary, date),), "an unlink does not say whom it unlinked")
    return Meaning((_severed(primary, date), _severed(secondary, date)))


# The table: every code of Auth0's list, and the older ones. What is not here is unknown: counted, and no error.
_KINDS: tuple[tuple[Rule, str], ...] = (
    # A person logged in. `s` also stands for a re-login by SSO; a first social or enterprise login makes the user without any `ss`.
    (_login, "s scoa sens sdel"),
    # A login without a page, by credentials sent to /oauth/token. With a code, a device code or a refresh token (below) nobody logs in:
    # the login has its own `s`, and neither last_login nor logins_count moves (https://community.auth0.com/t/91318).
    (_exchange, "sepft seoobft seotpft sercft sepkoobft sepkotpft sepkrcft secte ciba_exchange_succeeded"),
    (_nothing, "seacft sertft sede ssa sdeleacft sdelsa"),
    (_nothing, "seccft"),  # a machine's token
    (_nothing, "seta sd srrt success_on_behalf_of_token_exchange"),  # a token for a token
    (_maybe_changed, "idjag_exchange_succeeded"),  # the same, but it may come from outside
    # A new user.
    (_changed, "ss si"),
    # A changed profile; the second factors are in `multifactor`.
    (_changed, "sce scu scpn scp scph sv"),
    (_maybe_changed, "gd_enrollment_complete gd_unenroll gd_user_delete gd_auth_email_verification"),
    (_maybe_changed, "my_account_authentication_method_succeeded"),
    (_maybe_changed, "connected_accounts_connection_succeeded connected_accounts_delete_succeeded"),
    (_nothing, "scpr svr"),  # only asked for, nothing has changed yet
    # A login that ended late: the password was right, so logins_count and last_login moved, then a block ("user is blocked"), an Action
    # or a missing second factor stopped it.
    (_maybe_changed, "f fcoa fens fepft feoobft feotpft fercft mfar"),
    (_nothing, "fp fu"),  # a wrong password, an unknown name: nothing moves
    # A user is gone.
    (_deleted, "sdu du"),
    # Management API, SCIM, and what changes many users at once (a failed one may have got half way).
    (_api_write, "sapi"),
    (_scim, "sscim"),
    (_import, "sui fui directory_sync_completed directory_sync_failed"),
    (_nothing, "fapi fscim mgmt_api_read directory_sync_started"),
    # Attack protection's blocks: not the `blocked` attribute of the profile.
    (
        _nothing,
        "limit_wc limit_mu limit_sul limit_phone limit_delegation limit_ui ublkdu pwd_leak signup_pwd_leak reset_pwd_leak pla",
    ),
    # Organizations are not in the profile.
    (_nothing, "organization_member_added"),
    # Warnings for people.
    (
        _nothing,
        "w wn wum api_limit api_limit_warning appi elevated_rate_limit depnote acls_summary acul_sdk_notice resource_cleanup",
    ),
    # What failed, changed nothing.
    (
        _nothing,
        "fc fce fco fcp fcph fcpn fcpr fcpro fcu fd fdeac fdeaz fdecc fdeleacft fdelsa fdu feacft feccft fecte fede fepotpft ferrt",
    ),
    (
        _nothing,
        "fertft feta fi flo fn fpar fpurh fs fsa fv fvr ciba_exchange_failed ciba_start_failed idjag_exchange_failed",
    ),
    (
        _nothing,
        "jwt_bearer_exchange_failed failed_on_behalf_of_token_exchange passkey_challenge_failed federated_logout_failed",
    ),
    (
        _nothing,
        "connected_accounts_connection_failed connected_accounts_delete_failed my_account_authentication_method_failed",
    ),
    (
        _nothing,
        "oidc_backchannel_logout_failed universal_logout_failed rich_consents_access_error actions_execution_failed",
    ),
    (
        _nothing,
        "flows_execution_failed forms_submission_failed custom_domain_verification_failed custom_domains_verification_failed",
    ),
    # On the way to a login, or out.
    (
        _nothing,
        "cls cs scv slo ciba_start_succeeded passkey_challenge_started flows_execution_completed forms_submission_succeeded",
    ),
    (_nothing, "oidc_backchannel_logout_succeeded universal_logout_succeeded"),
    # Second factors in use.
    (
        _nothing,
        "gd_auth_fail_email_verification gd_auth_failed gd_auth_rejected gd_auth_succeed gd_module_switch gd_otp_rate_limit_exceed",
    ),
    (
        _nothing,
        "gd_recovery_failed gd_recovery_rate_limit_exceed gd_recovery_succeed gd_send_email gd_send_email_verification",
    ),
    (
        _nothing,
        "gd_send_email_verification_failure gd_send_pn gd_send_pn_failure gd_send_sms gd_send_sms_failure gd_send_voice",
    ),
    (
        _nothing,
        "gd_send_voice_failure gd_start_auth gd_start_enroll gd_start_enroll_failed gd_tenant_update gd_update_device_account",
    ),
    (_nothing, "gd_webauthn_challenge_failed gd_webauthn_enrollment_failed"),
    # The tenant's own machinery; the last line is from older tenants.
    (
        _nothing,
        "kms_key_management_failure kms_key_management_success kms_key_state_changed ss_sso_failure ss_sso_info ss_sso_success",
    ),
    (_nothing, "admin_update_launch coff con sys_os_update_end sys_os_update_start sys_update_end sys_update_start"),
)
TABLE: dict[str, Rule] = {code: rule for rule, codes in _KINDS for code in codes.split()}
