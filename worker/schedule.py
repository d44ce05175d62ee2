"""When beat rings. Every task is harmless when run twice at once: deploys overlap, and someone scales beat to two."""

from datetime import timedelta
from typing import Any

from celery.beat import Scheduler

from worker.logs import describe, get_logger

log = get_logger(__name__)


def _every(seconds: float, task: str) -> dict[str, Any]:
    # A message that nobody took before the next one comes is worth nothing.
    return {"task": f"worker.tasks.{task}", "schedule": seconds, "options": {"expires": seconds, "ignore_result": True}}


def schedule(pull_every: timedelta) -> dict[str, dict[str, Any]]:
    """Return what beat rings and how often; `pull_every` is PULL_EVERY."""
    pull = pull_every.total_seconds()
    return {
        "drain": _every(5, "drain"),
        "refresh": _every(5, "refresh"),
        "push": _every(5, "push"),
        "sweep": _every(60, "sweep"),
        "reconcile": _every(60, "reconcile"),
        "catch_up": _every(pull, "catch_up"),
        "listen": _every(min(60, pull), "listen"),
        "heal": _every(pull, "heal"),
        "heartbeat": _every(15, "heartbeat"),
        "clean": _every(600, "clean"),
    }


class Ringer(Scheduler):  # type: ignore[misc]  # Celery is not typed
    """Celery's scheduler in memory (a dyno's disk goes with it, and every interval is short), of few words while Redis is away."""

    _silent = False

    def setup_schedule(self) -> None:
        """Ring everything once at the start: else a beat that is restarted every few minutes would never ring for what is rarer."""
        super().setup_schedule()
        for entry in self.schedule.values():
            entry.last_run_at = entry.default_now() - entry.schedule.run_every

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """Ring. What fails is said once, without the stack that Celery would add each time; the next ring comes soon."""
        try:
            self.apply_async(entry, producer=producer, advance=False)
        except Exception as error:  # noqa: BLE001 Celery lets through whatever a socket raises; beat must go on
            if not self._silent:
                log.warning("beat cannot ring", reason=describe(error.__context__ or error))
            self._silent = True
        else:
            if self._silent:
                log.info("beat rings again")
            self._silent = False
