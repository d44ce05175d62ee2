"""Rings for a loop: one queued message is enough, and a Redis that is away costs nobody more than a moment."""

import contextlib
import threading
from typing import Any

from celery import Celery
from redis.exceptions import RedisError

from worker.logs import describe, get_logger
from worker.queue.broker import connect_redis
from worker.settings import Settings

log = get_logger(__name__)

# How long a ring holds, in seconds: its message expires in the broker when its bell does, so at most one is alive. A
# message that the broker loses silences the bell for that long; beat runs the loop all the same.
HOLDS = 10
# The longest wait for Redis, in seconds, for a connection and for an answer.
PATIENCE = 0.2
# Between rings of one process, in seconds: thousands of deliveries a second would be as many round trips for nothing.
SPACING = 0.02
# After a ring that Redis did not take, in seconds.
PAUSE = 1.0

# A later ring is worth sending only if it would be heard before the one that waits.
_SOONER = """
local left = redis.call('PTTL', KEYS[1])
if left >= 0 and left <= tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
return 1
"""


class Doorbell:
    """Says "look" to a task of `worker.tasks`; best effort, coalesced in Redis across all processes.

    Nothing is opened before the first ring, so a Celery pool may fork after this was made.
    """

    def __init__(self, settings: Settings, app: Celery) -> None:
        self._app = app
        self._redis = connect_redis(settings, timeout=PATIENCE, max_connections=2)
        self._publisher: Any = None
        self._silent = False
        self._wanted: set[tuple[str, float | None]] = set()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._ringing = threading.Lock()

    def ring(self, task: str, countdown: float | None = None) -> bool:
        """Ring now and say whether Redis heard it; with `countdown`, to be answered in so many seconds.

        Never raises; blocks for some 0.2 s at each of two steps if Redis is away.
        """
        with self._ringing:
            first = False
            try:
                first = self._first(task, countdown)
                if first:
                    self._publish(task, countdown)
            except Exception as error:  # noqa: BLE001 kombu lets through whatever a socket raises; none of it is our caller's
                self._forget_connection()
                if first:
                    self._clear(_key(task, countdown))  # a bell without a message would silence the next ring
                if not self._silent:
                    log.warning("doorbell_silent", task=task, reason=describe(error))
                self._silent = True
                return False
            self._silent = False
            return True

    def ring_soon(self, task: str, countdown: float | None = None) -> None:
        """Ring from a thread of our own, without blocking; rings while one is under way become one that follows it."""
        self._wanted.add((task, countdown))
        if not self._wake.is_set():
            self._wake.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._ring_on, name="doorbell", daemon=True)
            self._thread.start()

    def answered(self, task: str) -> None:
        """Clear the bell: what arrives from now on rings again. A task calls it before it looks."""
        self._clear(_key(task))

    def close(self, patience: float = 0.5) -> None:
        """Let the last ring out, for at most `patience` seconds."""
        self._closing.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(patience)

    def _ring_on(self) -> None:
        closing = False
        while not closing:
            self._wake.wait()
            self._wake.clear()
            closing = self._closing.is_set()
            heard = True
            while self._wanted:
                heard = self.ring(*self._wanted.pop()) and heard
            self._closing.wait(SPACING if heard else PAUSE)

    def _first(self, task: str, countdown: float | None) -> bool:
        key = _key(task, countdown)
        if countdown is None:
            return bool(self._redis.set(key, "1", nx=True, ex=HOLDS))
        return bool(self._redis.eval(_SOONER, 1, key, str(max(1, round(countdown * 1000)))))

    def _clear(self, key: str) -> None:
        with contextlib.suppress(RedisError, OSError):  # it clears itself, after HOLDS or when it is due
            self._redis.delete(key)

    def _publish(self, task: str, countdown: float | None) -> None:
        if self._publisher is None:
            self._publisher = self._app.connection_for_write(
                transport_options={"socket_timeout": PATIENCE, "socket_connect_timeout": PATIENCE, "max_connections": 1}
            )
        self._app.send_task(
            f"worker.tasks.{task}",
            connection=self._publisher,
            countdown=countdown,
            expires=(countdown or 0) + HOLDS,
            ignore_result=True,
            retry=False,
        )

    def _forget_connection(self) -> None:
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            with contextlib.suppress(Exception):  # it is broken, which is why it goes
                publisher.release()


def _key(task: str, countdown: float | None = None) -> str:
    return f"bell:{task}" if countdown is None else f"bell:{task}:later"
