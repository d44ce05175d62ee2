"""Puts work in: deliveries into the inbox, rings for the loops, and the Celery app that carries the rings."""

from worker.queue.broker import connect_redis, make_celery
from worker.queue.doorbell import Doorbell
from worker.queue.inbox import Inbox
from worker.queue.witness import Witness

__all__ = ["Doorbell", "Inbox", "Witness", "connect_redis", "make_celery"]
