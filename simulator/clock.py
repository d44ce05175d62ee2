"""Time as Auth0 writes it: ISO 8601 in UTC, to the millisecond, with a Z."""

import time
from collections.abc import Callable
from functools import lru_cache

Clock = Callable[[], float]
"""Answers UNIX seconds; injected, so that a test can hold time still."""


def iso(moment: float) -> str:
    """UNIX seconds as `2026-01-31T12:00:00.123Z`."""
    whole, millis = divmod(int(moment * 1000), 1000)
    return f"{_to_the_second(whole)}.{millis:03d}Z"


def compact(moment: float) -> str:
    """UNIX seconds as the 17 digits `YYYYMMDDhhmmssmmm` that log ids carry."""
    whole, millis = divmod(int(moment * 1000), 1000)
    return f"{_digits(whole)}{millis:03d}"


@lru_cache(maxsize=4096)
def _to_the_second(whole: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))


@lru_cache(maxsize=4096)
def _digits(whole: int) -> str:
    return time.strftime("%Y%m%d%H%M%S", time.gmtime(whole))
