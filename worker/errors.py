"""The error tree, split first by what to do.

Error
├── Transient            wait and try again; nothing is wrong with what was asked
│   ├── DatabaseDown     PostgreSQL cannot be reached
│   ├── Locked           somebody else holds a lock that a migration needs
│   ├── BrokerDown       Redis cannot be reached
│   ├── TenantDown       Auth0 answers 5xx, nothing, or no JSON
│   └── Throttled        the budget is spent, or Auth0 said 429
└── Permanent            a human, or a new release, must act
    ├── WrongSetting     a setting is missing or wrong
    ├── WrongTenant      the database is a copy of another tenant
    ├── SchemaBehind     the database lacks a migration that this code needs
    ├── TooOld           the server is older than the migrations need
    ├── BadValue         what somebody typed cannot be
    ├── Refused          Auth0 refuses our credentials or lacks a scope for us
    └── BadRecord        a record that cannot be understood; it is parked

An error's text is its message to the operator: it holds no secret and no personal data.
"""


class Error(Exception):
    """Anything this product raises on purpose."""


class Transient(Error):
    """Wait and try again."""


class DatabaseDown(Transient):
    """PostgreSQL cannot be reached."""


class Locked(Transient):
    """Somebody else holds a lock that a migration needs."""


class BrokerDown(Transient):
    """Redis cannot be reached."""


class TenantDown(Transient):
    """Auth0 answers 5xx, nothing at all, or something that is not its JSON."""


class Throttled(Transient):
    """No request may be sent now: the budget is spent or Auth0 answered 429.

    `retry_after` is in seconds, None where nobody knows.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Permanent(Error):
    """A human, or a new release, must act."""


class WrongSetting(Permanent):
    """A setting is missing or wrong."""


class WrongTenant(Permanent):
    """The database is a copy of another tenant."""


class SchemaBehind(Permanent):
    """The database lacks a migration that this code needs."""


class TooOld(Permanent):
    """The PostgreSQL server is older than the migrations need."""


class Refused(Permanent):
    """Auth0 refuses our credentials, or they lack a scope.

    `scope` names the missing one ("read:users"), None where the credentials themselves are wrong.
    """

    def __init__(self, message: str, scope: str | None = None) -> None:
        super().__init__(message)
        self.scope = scope


class BadRecord(Permanent):
    """A record that cannot be understood; its neighbours can."""


class BadValue(Permanent):
    """What somebody typed cannot be; the text says why and does not repeat it."""
