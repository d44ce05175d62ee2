"""Which account runs a child when we are root, and what that account can reach."""

from __future__ import annotations

import os
import pwd
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

_EXISTING_ACCOUNTS = ("nobody", "daemon")  # on every Unix; we never create one


@dataclass(frozen=True)
class Account:
    """An account of the operating system."""

    name: str
    uid: int
    gid: int


def unprivileged_account() -> Account | None:
    """Name the account for children that must not be root (PostgreSQL refuses to be); None when we are not root."""
    if os.geteuid() != 0:
        return None
    for name in _EXISTING_ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise LookupError(
        f"running as root needs one of the accounts {', '.join(_EXISTING_ACCOUNTS)}; run as an ordinary user"
    )


def can_reach(path: Path, account: Account | None) -> bool:
    """Say whether the account (None: we) may read the file, or enter the folder, and pass every folder on the way."""
    bit = os.X_OK if path.is_dir() else os.R_OK
    if account is None:
        return os.access(path, bit)
    path = path.resolve()
    return _may(account, path, bit) and all(_may(account, folder, os.X_OK) for folder in path.parents)


def _may(account: Account, path: Path, bit: int) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    if status.st_uid == account.uid:
        bit <<= 6
    elif status.st_gid == account.gid:
        bit <<= 3
    return bool(stat.S_IMODE(status.st_mode) & bit)


def temporary_folder(account: Account | None) -> Path:
    """Make a new folder of ours, open to nobody else; `account` may pass through it, not list it."""
    if account is None:
        return Path(tempfile.mkdtemp(prefix="understudy-"))
    for parent in (tempfile.gettempdir(), "/tmp", "/var/tmp"):  # noqa: S108 -- mkdtemp makes the name ours
        # TMPDIR may lie in root's home, which no other account can enter.
        if can_reach(Path(parent), account):
            folder = Path(tempfile.mkdtemp(prefix="understudy-", dir=parent))
            folder.chmod(0o711)
            return folder
    raise PermissionError(f"no temporary folder that the account {account.name} can enter; set TMPDIR to one")
