"""The Celery entry point: `celery -A worker.celery worker` and `… beat`."""

import gc
import sys
import warnings
from typing import Any

from celery.exceptions import CPendingDeprecationWarning
from celery.signals import beat_init, celeryd_init, setup_logging, worker_init, worker_ready

from worker import tasks
from worker.bootstrap import BEAT, parts, this_worker
from worker.errors import Error, Transient
from worker.logs import configure
from worker.schedule import Ringer, schedule

try:
    app = parts().celery
except Error as error:
    sys.exit(f"understudy: {error}")
app.conf.beat_schedule = schedule(parts().settings.pull_every)
app.conf.beat_scheduler = Ringer
tasks.register(app)


@setup_logging.connect
def _log_our_way(**_: Any) -> None:
    configure(parts().settings)


@celeryd_init.connect
def _worker_starts(**_: Any) -> None:
    _refuse_a_wrong_database(this_worker())
    parts().begin_anew()


@worker_init.connect
def _spare_the_collector(**_: Any) -> None:
    """Let the collector pass over what was loaded: else every drain pays for walks over it all, and each child for a copy of it."""
    gc.collect()
    gc.freeze()


@worker_ready.connect
def _say_less(**_: Any) -> None:
    """Leave out what Celery, which turns the warning on when it starts, would tell in eight lines at each loss of Redis: worker.queue.broker has chosen."""
    warnings.simplefilter("ignore", CPendingDeprecationWarning)


@beat_init.connect
def _beat_starts(**_: Any) -> None:
    _refuse_a_wrong_database(BEAT)


def _refuse_a_wrong_database(process: str) -> None:
    """End with one line if the settings or the database are wrong; a database that is away may come back."""
    try:
        parts().check(process)
    except Transient as error:
        print(f"understudy: {error}; starting all the same", file=sys.stderr)  # noqa: T201 logging is not set up yet
    except Error as error:
        sys.exit(f"understudy: {error}")
