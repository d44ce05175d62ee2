"""A witness outside the database: it remembers how far the database had come, so that one restored from a backup is noticed."""

from redis import Redis

_LOOK = """
local known = tonumber(redis.call('GET', KEYS[1]) or '0')
redis.call('SET', KEYS[1], ARGV[1])
return known > tonumber(ARGV[1]) and 1 or 0
"""


class Witness:
    """Remembers a number that only grows. Where Redis was wiped it knows nothing, and says nothing."""

    def __init__(self, redis: Redis, domain: str) -> None:
        self._redis, self._key = redis, f"understudy:{domain}:pushed"

    def fell_behind(self, position: int) -> bool:
        """Remember where the database is now; tell, once, that it was further on before."""
        return bool(self._redis.eval(_LOOK, 1, self._key, str(position)))
