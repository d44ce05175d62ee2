"""Makes the Celery app and the plain Redis client, both by the same settings."""

import ssl
from typing import Any

from celery import Celery
from kombu.transport import redis as kombu_redis
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.settings import Settings

# In seconds. A task is a bounded batch: one that runs for two minutes hangs, and beat starts the next.
SOFT_LIMIT, HARD_LIMIT = 120, 150


class _Channel(kombu_redis.Channel):
    """Takes a message off the queue for good, and counts by itself how many its worker holds.

    kombu would keep a copy of each in Redis until it is acknowledged. An acknowledgement that Redis could not hear (it was
    restarted while all children were busy) left the message counted as held for ever, and the worker deaf. Our messages say
    "look", no more: one that goes down with its worker is not missed, since beat rings again within seconds.
    """

    ack_emulation = False
    do_restore = False


class Transport(kombu_redis.Transport):
    """Redis as a broker of doorbells; Celery finds it by name."""

    Channel = _Channel


def make_celery(settings: Settings) -> Celery:
    """Return the Celery app: JSON messages that say "look", counted as held until the work is done, no results kept."""
    app = Celery("understudy", set_as_current=False)
    app.conf.update(
        broker_url=settings.redis_url.get_secret_value(),
        broker_transport=f"{Transport.__module__}:{Transport.__qualname__}",
        broker_use_ssl=_tls(settings),
        broker_transport_options={
            # A consumer waits at most 1 s in BRPOP, so 10 s of silence is a broken connection. Who rings waits far
            # less: worker.queue.doorbell.
            "socket_timeout": 10,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "max_connections": 8,
        },
        broker_pool_limit=1,  # beat publishes one message at a time; small Redis plans allow 20 connections in all
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # a Redis that comes back after an hour finds its workers waiting
        task_default_queue="understudy",
        task_acks_late=True,  # a busy worker leaves the next message to an idle one
        task_ignore_result=True,
        task_soft_time_limit=SOFT_LIMIT,
        task_time_limit=HARD_LIMIT,
        task_serializer="json",
        accept_content=["json"],
        result_backend=None,
        timezone="UTC",
        enable_utc=True,
        worker_prefetch_multiplier=1,
        worker_send_task_events=False,
        worker_enable_remote_control=False,  # its fan-out costs a connection per process; `understudy status` asks PostgreSQL
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        # The work of a task whose connection broke is as good as before: let it commit. Run twice is harmless.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_soft_shutdown_timeout=20,  # Heroku kills 30 s after SIGTERM
        worker_enable_soft_shutdown_on_idle=True,
    )
    return app


def connect_redis(settings: Settings, *, timeout: float = 1.0, max_connections: int = 4) -> Redis:
    """Return a plain client, connected at first use. No call takes much longer than `timeout` seconds, none is retried."""
    tls = _tls(settings) or {}
    return Redis.from_url(
        settings.redis_url.get_secret_value(),
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        max_connections=max_connections,
        retry=Retry(NoBackoff(), 0),
        **tls,
    )


def _tls(settings: Settings) -> dict[str, Any] | None:
    """Say how to verify a `rediss://` server: kombu would not verify at all, silently, where nobody says."""
    if not settings.redis_url.get_secret_value().startswith("rediss://"):
        return None
    verify = settings.redis_tls_verify
    return {"ssl_cert_reqs": ssl.CERT_REQUIRED if verify else ssl.CERT_NONE, "ssl_check_hostname": verify}
