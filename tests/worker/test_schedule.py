"""When beat rings: everything at once when it starts, then each at its interval."""

from __future__ import annotations

from datetime import timedelta

from celery import Celery

from worker import tasks
from worker.schedule import Ringer, schedule


def ringer(pull_every: timedelta) -> Ringer:
    app = Celery("test", broker="memory://", set_as_current=False)
    tasks.register(app)
    app.conf.beat_schedule = schedule(pull_every)
    return Ringer(app)


def test_a_beat_that_starts_rings_for_everything_that_there_is() -> None:
    entries = ringer(timedelta(minutes=5)).schedule
    assert {f"worker.tasks.{name}" for name in entries} == {entry.task for entry in entries.values()}
    assert all(entry.is_due().is_due for entry in entries.values())
    assert not any(next(entry).is_due().is_due for entry in entries.values())


def test_what_is_pulled_is_pulled_as_often_as_the_setting_says() -> None:
    def seconds(pull_every: timedelta) -> dict[str, float]:
        return {name: entry.schedule.run_every.total_seconds() for name, entry in ringer(pull_every).schedule.items()}

    assert seconds(timedelta(minutes=5)).items() >= {"catch_up": 300, "heal": 300, "listen": 60}.items()
    assert seconds(timedelta(seconds=2)).items() >= {"catch_up": 2, "heal": 2, "listen": 2, "drain": 5}.items()
