"""Says what a record of Auth0's tenant log means for the copy: whom it is about, and what follows.

A record is a reason to look at a user, never a source of its profile. Who it is about is its subject, not its actor.
The codes: https://auth0.com/docs/deploy-monitor/logs/log-event-type-codes and the schemas in https://github.com/auth0/auth0-log-schemas
"""

import re
from collections.abc import Callable
from datetime import datetime

from worker.domain.api_writes import api_write, scim_write
from worker.domain.news import (
    LATEST,
    NOTHING,
    LogRecord,
    Meaning,
    News,
    Unreadable,
    changed,
    gone,
    identity_id,
    inside,
    news_date,
    user_id,
)

__all__ = ["NOTHING", "TABLE", "LogRecord", "Meaning", "News", "Unreadable", "interpret", "news_date"]

Rule = Callable[[LogRecord, datetime | None], Meaning]

_UNKNOWN = Meaning(unknown=True)
_CODE = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_USER_ID_SAID = re.compile(r"user_id:\s*(\S+)\s*\Z")


def interpret(record: LogRecord, latest: datetime = LATEST) -> Meaning:
    """Return what follows from `record`; never raises. A date after `latest` (aware) is no date: as a login it would never be outdone.

    A user's record whose date is no date still marks its user, for a strong read, since losing the news would leave the copy wrong; and
    it is parked, since somebody should see it. Where a record is nobody's business its date is not even read.
    """
    rule = TABLE.get(record.type)
    if rule is None:
        return _UNKNOWN if _CODE.fullmatch(record.type) else Meaning(bad="its type is no code of Auth0's")
    if rule is nothing:
        return NOTHING
    date = news_date(record.date, latest)
    try:
        meaning = rule(record, date)
    except Unreadable as error:
        return Meaning(bad=str(error))
    if date is None and (meaning.news or meaning.connection_gone):
        undated = tuple(news._replace(strong=True) for news in meaning.news)
        return meaning._replace(news=undated, bad="its date is no date")
    return meaning


# What follows: one rule per kind of record; sapi's and sscim's are in api_writes


def nothing(_record: LogRecord, _date: datetime | None) -> Meaning:
    """Read what is nobody's business."""
    return NOTHING


def login(record: LogRecord, date: datetime | None) -> Meaning:
    """Read a login: it may be a user's first."""
    user = user_id(record.user_id)
    return Meaning((News(user, date, True),)) if user else _nobody(record)


def exchange(record: LogRecord, date: datetime | None) -> Meaning:
    """Read a login without a page: whoever has no user's id is a machine."""
    user = user_id(record.user_id)
    return Meaning((News(user, date, True),)) if user else NOTHING


def change(record: LogRecord, date: datetime | None) -> Meaning:
    """Read a sign-up or a change: about `user_id`, or where that names nobody, about whom the details name."""
    user = user_id(record.user_id)
    if user:
        return Meaning((changed(user, date),))
    details = record.details
    named = inside(details, "body", "user_id") or inside(details, "query", "user_id")
    user = user_id(named) or (_of_a_database(record, named))
    return Meaning((changed(user, date),)) if user else _nobody(record)


def change_of_a_row(record: LogRecord, date: datetime | None) -> Meaning:
    """Read what may have changed a profile, but never made a user: the `user_id` of a failure may be any text."""
    user = user_id(record.user_id)
    return Meaning((News(user, date, creates=False),)) if user else NOTHING


def deletion(record: LogRecord, date: datetime | None) -> Meaning:
    """Tell whose deletion this is: by `user_id`, else the description ("user_id: …"), else by strategy and bare id, else by comparing all."""
    said = _USER_ID_SAID.search(record.description) if isinstance(record.description, str) else None
    named = [record.user_id, said[1] if said else None]
    for one in named:
        if user := user_id(one) or _of_a_database(record, one):
            return Meaning((gone(user, date),))
    # Whose id is bare and whose kind of connection is unknown may be a database's user: a row that is there is looked at, no more.
    guesses = {identity_id(record.strategy or "auth0", one) for one in named} - {None}
    news = tuple(gone(guess, date)._replace(creates=False) for guess in sorted(filter(None, guesses)))
    return Meaning(news, "a deletion does not say whose")


def many(record: LogRecord, _date: datetime | None) -> Meaning:
    """Read what changes many users and names none."""
    return Meaning(reconcile=f"users were imported or synchronised in bulk ({record.type})")


def _of_a_database(record: LogRecord, bare: object) -> str | None:
    """Return the id of a database's user that a record calls by the bare part alone; other strategies' ids may have a part in between."""
    return identity_id("auth0", bare) if record.strategy == "auth0" else None


def _nobody(record: LogRecord) -> Meaning:
    return Meaning(reconcile=f"a record of type {record.type} does not say whom it is about")


# The table: every code of Auth0's lists, old and new. What is not here is unknown.
_KINDS: tuple[tuple[Rule, str], ...] = (
    # A person logged in: also again by SSO, and for the first time, which for social and enterprise users has no `ss`.
    (login, "s scoa sens sdel"),
    # The same without a page, by credentials sent to /oauth/token.
    (exchange, "sepft seoobft seotpft sercft sepkoobft sepkotpft sepkrcft secte ciba_exchange_succeeded"),
    # A token for a code, a device code, a refresh token, a session. The login behind it has its own record; neither last_login nor
    # logins_count moves (https://community.auth0.com/t/how-logins-count-work/91318), and there are many more of these than logins.
    (nothing, "seacft sede sertft ssa sdeleacft sdelsa"),
    # A token for a token, or for a machine.
    (nothing, "seccft seta sd srrt success_on_behalf_of_token_exchange"),
    (change_of_a_row, "idjag_exchange_succeeded"),
    # Sign-up, invitation accepted.
    (change, "ss si"),
    # E-mail, username, phone, password, e-mail verified; but a mail that was only sent has changed nothing yet.
    (change, "sce scu scpn scp scph sv"),
    (nothing, "scpr svr"),
    # Second factors are in the profile's `multifactor`, connected accounts may be in its `identities`.
    (change_of_a_row, "gd_enrollment_complete gd_unenroll gd_user_delete gd_auth_email_verification"),
    (change_of_a_row, "my_account_authentication_method_succeeded"),
    (change_of_a_row, "connected_accounts_connection_succeeded connected_accounts_delete_succeeded"),
    # A login that failed late: the password was right and last_login moved, then a block ("user is blocked"), an Action or a missing
    # second factor ended it. A wrong password or name moves nothing.
    (change_of_a_row, "f fcoa fens fepft feoobft feotpft fercft mfar"),
    (nothing, "fp fu"),
    # Deletion.
    (deletion, "sdu du"),
    # Writes to the Management API and by SCIM; an operation that failed has done nothing.
    (api_write, "sapi"),
    (scim_write, "sscim"),
    (nothing, "fapi fscim mgmt_api_read"),
    # Imports and directory syncs: one that failed may have got half way.
    (many, "sui fui directory_sync_completed directory_sync_failed"),
    (nothing, "directory_sync_started"),
    # Attack protection. Its blocks are not the profile's `blocked`.
    (nothing, "limit_wc limit_mu limit_sul limit_phone limit_delegation limit_ui ublkdu pla"),
    (nothing, "pwd_leak signup_pwd_leak reset_pwd_leak"),
    # Organizations are not in the profile.
    (nothing, "organization_member_added"),
    # Warnings for people.
    (
        nothing,
        "w wn wum depnote api_limit api_limit_warning appi elevated_rate_limit acls_summary acul_sdk_notice resource_cleanup",
    ),
    # What failed has changed nothing.
    (
        nothing,
        "fc fce fco fcp fcph fcpn fcpr fcpro fcu fd fdeac fdeaz fdecc fdeleacft fdelsa fdu feacft feccft fecte fede",
    ),
    (
        nothing,
        "fepotpft ferrt fertft feta fi flo fn fpar fpurh fs fsa fv fvr actions_execution_failed ciba_exchange_failed",
    ),
    (nothing, "ciba_start_failed connected_accounts_connection_failed connected_accounts_delete_failed"),
    (
        nothing,
        "custom_domain_verification_failed custom_domains_verification_failed failed_on_behalf_of_token_exchange",
    ),
    (nothing, "federated_logout_failed flows_execution_failed forms_submission_failed idjag_exchange_failed"),
    (nothing, "jwt_bearer_exchange_failed my_account_authentication_method_failed oidc_backchannel_logout_failed"),
    (nothing, "passkey_challenge_failed rich_consents_access_error universal_logout_failed"),
    # On the way to a login, and out again.
    (
        nothing,
        "ciba_start_succeeded cls cs flows_execution_completed forms_submission_succeeded passkey_challenge_started scv",
    ),
    (nothing, "oidc_backchannel_logout_succeeded slo universal_logout_succeeded"),
    # Second factors in use.
    (nothing, "gd_auth_fail_email_verification gd_auth_failed gd_auth_rejected gd_auth_succeed gd_module_switch"),
    (
        nothing,
        "gd_otp_rate_limit_exceed gd_recovery_failed gd_recovery_rate_limit_exceed gd_recovery_succeed gd_send_email",
    ),
    (
        nothing,
        "gd_send_email_verification gd_send_email_verification_failure gd_send_pn gd_send_pn_failure gd_send_sms",
    ),
    (
        nothing,
        "gd_send_sms_failure gd_send_voice gd_send_voice_failure gd_start_auth gd_start_enroll gd_start_enroll_failed",
    ),
    (nothing, "gd_tenant_update gd_update_device_account gd_webauthn_challenge_failed gd_webauthn_enrollment_failed"),
    # The tenant's own machinery; the last line is from older lists.
    (nothing, "kms_key_management_failure kms_key_management_success kms_key_state_changed"),
    (nothing, "ss_sso_failure ss_sso_info ss_sso_success"),
    (nothing, "admin_update_launch coff con sys_os_update_end sys_os_update_start sys_update_end sys_update_start"),
)
TABLE: dict[str, Rule] = {code: rule for rule, codes in _KINDS for code in codes.split()}
