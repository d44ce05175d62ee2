"""Masking of personal data in streamed log records, as a stream's `pii_config` asks for it (Log Streams, Auth0 docs)."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from simulator.logs import LogRecord

_FIELDS = {
    "first_name": {"first_name", "given_name", "name"},
    "last_name": {"last_name", "family_name", "name"},
    "email": {"email", "newEmail", "oldEmail"},
    "phone": {"phone", "phone_number", "old_phone_number", "new_phone_number"},
    "address": {"address"},
    "username": {"username", "user_name"},
}
LOG_FIELDS = frozenset(_FIELDS)
MASK_ALL: dict[str, Any] = {"log_fields": sorted(_FIELDS), "method": "mask"}


def masked(record: LogRecord, config: dict[str, Any]) -> LogRecord:
    """Star or hash the configured fields of a record; `user_id` is never among them."""
    names = {name for group in config["log_fields"] for name in _FIELDS[group]}
    hashing = config.get("method") == "hash"
    data = _cover(msgspec.json.decode(record.data), names, hashing=hashing)
    return LogRecord(record.log_id, record.type, msgspec.json.encode(data))


def _cover(value: Any, names: set[str], *, hashing: bool) -> Any:
    if isinstance(value, list):
        return [_cover(item, names, hashing=hashing) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _covered(held, hashing=hashing)
        if key in names and isinstance(held, str) and held
        else _cover(held, names, hashing=hashing)
        for key, held in value.items()
    }


def _covered(text: str, *, hashing: bool) -> str:
    """Auth0 hashes with xxHash; any 64-bit hash serves a reader as well, for it can only be compared."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest() if hashing else "*****"
