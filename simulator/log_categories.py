"""Which category each log code belongs to, for the filters of log streams (Event Filters, Auth0 docs)."""

_BY_CATEGORY = {
    "auth.login.fail": "f fp fu fc fcoa fens pwd_leak",
    "auth.login.notification": "cls cs mfar",
    "auth.login.success": "s scoa sens sdel",
    "auth.logout.fail": "flo",
    "auth.logout.success": "slo",
    "auth.signup.fail": "fs",
    "auth.signup.success": "ss",
    "auth.silent_auth.fail": "fsa",
    "auth.silent_auth.success": "ssa",
    "auth.token_exchange.fail": "feacft feccft fepft fertft fede fercft feoobft feotpft fecte",
    "auth.token_exchange.success": "seacft seccft sepft sertft sede sercft seoobft seotpft sepkoobft sepkotpft sepkrcft secte",
    "management.fail": "fapi",
    "management.success": "sapi mgmt_api_read",
    "scim.event": "sscim fscim",
    "system.notification": "api_limit api_limit_warning limit_mu limit_wc limit_ui fui sui du directory_sync_started directory_sync_completed directory_sync_failed w",
    "user.fail": "fce fcp fcpn fcpr fcu fdu fv fvr",
    "user.notification": "ublkdu",
    "user.success": "sce scp scpn scpr scu sdu sv svr scph",
}
_OF_CODE = {code: category for category, codes in _BY_CATEGORY.items() for code in codes.split()}

NAMES = frozenset(_BY_CATEGORY) | {"actions", "other"}


def category_of(code: str) -> str:
    """Name a code's category; one that stands in no list is `other`."""
    return _OF_CODE.get(code, "other")
