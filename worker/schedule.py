"""When beat rings. Every task is harmless when run twice at once: deploys overlap, and someone scales beat to two."""

from typing import Any


def _every(seconds: float, task: str) -> dict[str, Any]:
    # A message that nobody took before the next one comes is worth nothing.
    return {"task": f"worker.tasks.{task}", "schedule": seconds, "options": {"expires": seconds, "ignore_result": True}}


SCHEDULE = {
    "drain": _every(5, "drain"),
    "refresh": _every(5, "refresh"),
    "push": _every(5, "push"),
    "sweep": _every(60, "sweep"),
    "heartbeat": _every(15, "heartbeat"),
    "clean": _every(600, "clean"),
}
