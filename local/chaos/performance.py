"""Carries out a schedule: each lane's steps one after the other, the lanes beside each other."""

from __future__ import annotations

import os
import queue
import secrets
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import httpx
import psutil
import redis

from local.chaos.listeners import MusicApp, Told
from local.chaos.schedule import CROWD, Cast, Details, Step
from local.chaos.stage import Stage
from local.copy_watch import CopyWatch
from local.processes import Process
from local.product import MUSIC_API

# What musicians do of the crowd's acts: nothing that ends or joins them, or would take away what they chose.
_HARMLESS = frozenset(CROWD) - {"signup", "metadata", "block", "delete", "recreate", "admin_create", "link", "unlink"}


# Whoever acts in these has a mind of its own, and is not stopped by the end of the faults.
_PEOPLE = ("people", "crowd", "operator")
_COPIED_WITHIN = 120.0  # seconds


class Broken(Exception):
    """Chaos itself could not do what it meant to, or the product answered what it never should."""


class Performance:
    """A run of a schedule on a stage. `told` is what people were told, `done` how often what was done."""

    def __init__(self, stage: Stage, cast: Cast, note: Callable[[str], None]) -> None:
        self._stage, self._cast, self._note = stage, cast, note
        self._control = stage.tenant.control
        self._over = threading.Event()
        self._faults: dict[str, dict[str, Any]] = {}
        self._faulting = threading.Lock()
        self._lanes: dict[str, _Lane] = {}
        self.told = Told()
        self.done: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.musicians: list[str] = []
        self.crowd: list[str] = []
        self.playlists: list[int] = []

    def gather(self) -> None:
        """Let everybody sign up, and the owners make a playlist each, before anything goes wrong."""
        cast = self._cast
        self.musicians = self._sign_up(cast.musicians, connection="Username-Password-Authentication")
        restless = self._sign_up(cast.restless)
        self.crowd = [*restless, *self._sign_up(cast.crowd)]
        stage = self._stage
        with CopyWatch(stage.database_url, stage.tenant) as watch:
            stage.processes.wait_until(watch.is_quiet, "the people to be copied", time.monotonic() + _COPIED_WITHIN)
        owners = [*self.musicians, *restless]
        given = self._control("POST", "tokens", {"user_ids": owners, "audience": MUSIC_API, "seconds": 10 * 86_400})
        tokens = dict(zip(owners, given["access_tokens"], strict=True))
        self._app = MusicApp(self._stage.public_url, tokens, self.told, self._over)
        self.playlists = [self._app.make_playlist(owner) for owner in owners]

    def play(self, steps: Sequence[Step]) -> None:
        """Carry out all steps, each at its time or when its lane is free; raises Broken for what should not happen."""
        begun = time.monotonic()
        for step in steps:
            self._wait(begun + step.at)
            lane = self._lanes.get(step.lane)
            if lane is None:
                lane = self._lanes[step.lane] = _Lane(step.lane)
            lane.put(lambda step=step: self._do(step))  # type: ignore[misc]

    def finish(self, patience: float) -> None:
        """End all faults, those that a slow machine is late with too, and wait until everybody has done what they meant to."""
        deadline = time.monotonic() + patience
        for lane in self._lanes.values():
            if lane.name.startswith(_PEOPLE):
                lane.close()
            else:
                lane.abandon()
        with self._faulting:
            self._faults.clear()
            self._control("DELETE", "faults")
        for lane in self._lanes.values():
            lane.join(deadline)
        self._control("DELETE", "faults")  # one that began while its lane was abandoned
        self._check()

    def stop(self) -> None:
        """Let nothing go on, and nothing new begin."""
        self._over.set()
        for lane in self._lanes.values():
            lane.abandon()
        for lane in self._lanes.values():
            with suppress(Broken):
                lane.join(time.monotonic() + 10)

    def _wait(self, until: float) -> None:
        while (left := until - time.monotonic()) > 0:
            self._check()
            time.sleep(min(left, 0.25))

    def _check(self) -> None:
        """Raise what a lane met, or that a process has ended though nobody stopped it."""
        for lane in self._lanes.values():
            if lane.trouble is not None:
                raise Broken(f"{lane.name}: {type(lane.trouble).__name__}: {lane.trouble}") from lane.trouble
        self._stage.processes.check()

    def _do(self, step: Step) -> None:
        begun = time.monotonic()
        act = self._acts().get(step.do)
        if act is not None:
            act(step.details)
        elif not self._crowd_acts(step.do, step.details):
            self.refused[step.do] += 1
            return
        self.done[step.do] += 1
        self._note(f"{step}  ({time.monotonic() - begun:.2f} s)")

    def _acts(self) -> dict[str, Callable[[Details], object]]:
        stage = self._stage
        now = stage.product
        return {
            "play": lambda say: self._app.play(
                self.musicians[say["listener"]], self.playlists[say["playlist"]], say["play_id"]
            ),
            "name": lambda say: self._app.choose_name(self.musicians[say["person"]], say["name"]),
            "drop playlist": self._drop_playlist,
            "plan": self._choose_plan,
            "kill worker": lambda say: self._kill(now.worker, say["away"]),
            "kill beat": lambda say: self._kill(now.beat, say["away"]),
            "kill web": lambda say: self._kill(now.web, say["away"]),
            "kill a child of the worker": lambda say: _kill_a_child(now.worker, say["which"]),
            "restart worker": lambda _: now.worker.restart(),
            "wipe redis": lambda _: self._wipe(),
            "kill redis": lambda say: self._away(stage.redis.kill, stage.redis.start, say["away"]),
            "freeze redis": lambda say: self._away(stage.redis.pause, stage.redis.resume, say["away"]),
            "restart postgres": lambda say: self._away(stage.postgres.stop, stage.postgres.start, say["away"]),
            "crash postgres": lambda say: self._away(stage.postgres.kill, stage.postgres.start, say["away"]),
            "cut connections": lambda say: stage.wires[say["to"]].cut(),
            "stall connections": lambda say: self._away(
                stage.wires[say["to"]].stall, stage.wires[say["to"]].flow, say["away"]
            ),
            "fault begins": lambda say: self._set_fault(say, on=True),
            "fault ends": lambda say: self._set_fault(say, on=False),
            "pause log stream": lambda say: self._control("POST", "streams/pause", {"status": say["status"]}),
            "disable event stream": lambda _: self._control("POST", "event-streams/disable", {}),
            "logs age out": lambda say: self._control("POST", "logs/expire", {"keep": say["keep"]}),
            "events age out": lambda say: self._control("POST", "events/expire", {"keep": say["keep"]}),
            "wrong tokens": self._wrong_tokens,
            "rotate tokens": lambda _: self._rotate_tokens(),
            "import": lambda say: self.crowd.extend(self._control("POST", "people/import", dict(say))["user_ids"]),
            "role by hand": self._take_role_by_hand,
            **{f"ring {task}": self._ringer(task) for task in ("heal", "catch_up", "listen", "reconcile")},
        }

    # People

    def _sign_up(self, count: int, **how: Any) -> list[str]:
        return [str(one) for one in self._control("POST", "people/signup", {"count": count, **how})["user_ids"]]

    def _crowd_acts(self, act: str, say: Details) -> bool:
        """Let somebody do something; tell whether the tenant let it happen."""
        if act == "signup":
            self.crowd += self._sign_up(1)
            return True
        some = [*self.musicians, *self.crowd] if act in _HARMLESS else self.crowd
        asked = {"act": act, "user_id": _one_of(some, say["who"])}
        if act == "link":
            asked["secondary"] = _one_of(self.crowd, say["other"])
        try:
            done = self._control("POST", "people/act", asked)
        except httpx.HTTPStatusError as error:
            if not error.response.is_client_error:
                raise
            return False
        if act == "admin_create":
            self.crowd.append(str(done["user_id"]))
        return True

    def _drop_playlist(self, say: Details) -> None:
        person = 3 + say["person"]
        self._app.drop_playlist(self.musicians[person], self.playlists[person])

    def _choose_plan(self, say: Details) -> None:
        person = self.musicians[say["person"]]
        if self._stage.persistently("plan", "set", person, say["plan"], go_on=self._goes_on):
            self.told.plans[person] = say["plan"]

    def _take_role_by_hand(self, say: Details) -> None:
        asked = {"act": "metadata", "user_id": self.musicians[say["person"]], "app_metadata": {"roles": ["by hand"]}}
        self._control("POST", "people/act", asked)

    # Faults

    def _kill(self, process: Process, away: float) -> None:
        process.kill()
        self._sleep(away)
        process.start()

    def _away(self, goes: Callable[[], object], comes: Callable[[], object], away: float) -> None:
        goes()
        try:
            self._sleep(away)
        finally:
            comes()

    def _wipe(self) -> None:
        with suppress(redis.RedisError), redis.Redis.from_url(self._stage.redis.url, socket_timeout=1) as client:
            client.flushall()

    def _set_fault(self, say: Details, *, on: bool) -> None:
        fault = dict(say)
        name = fault.pop("name")
        with self._faulting:
            if on:
                self._faults[name] = fault
            else:
                self._faults.pop(name, None)
            self._control("PUT", "faults", list(self._faults.values()))

    def _wrong_tokens(self, say: Details) -> None:
        """Deploy a web process that knows none of the streams' tokens, and undo the mistake a moment later."""
        right = self._stage.environ["LOG_STREAM_TOKENS"], self._stage.environ["EVENT_STREAM_TOKENS"]
        self._stage.deploy(secrets.token_urlsafe(32), secrets.token_urlsafe(32), web_alone=True)
        self._sleep(say["away"])
        self._stage.deploy(*right, web_alone=True)

    def _rotate_tokens(self) -> None:
        """Do it as docs/operating.md says."""
        stage = self._stage
        old = stage.environ["LOG_STREAM_TOKENS"], stage.environ["EVENT_STREAM_TOKENS"]
        new = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        stage.deploy(f"{new[0]},{old[0]}", f"{new[1]},{old[1]}")
        if stage.persistently("setup", "--send-tokens", go_on=self._goes_on):
            stage.deploy(*new)

    def _ringer(self, task: str) -> Callable[[Details], object]:
        def ring(_: Details) -> None:
            with suppress(Exception):  # Redis may be away: whatever kombu lets through then, nobody misses a ring
                self._stage.ring(task)

        return ring

    def _goes_on(self) -> bool:
        return not self._over.is_set()

    def _sleep(self, seconds: float) -> None:
        self._over.wait(seconds)


class _Lane:
    """A thread that does what it is given in the order in which it was given."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.trouble: Exception | None = None
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._abandoned = False
        self._thread = threading.Thread(target=self._run, name=f"lane {name}", daemon=True)
        self._thread.start()

    def put(self, work: Callable[[], None]) -> None:
        self._queue.put(work)

    def close(self) -> None:
        """Let it end when everything is done."""
        self._queue.put(None)

    def abandon(self) -> None:
        """Let it end after what it is at."""
        self._abandoned = True
        self._queue.put(None)

    def join(self, deadline: float) -> None:
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            raise Broken(f"{self.name} is not done yet")

    def _run(self) -> None:
        while (work := self._queue.get()) is not None and not self._abandoned:
            try:
                work()
            except Exception as error:  # noqa: BLE001 whatever it is, the main thread tells it
                self.trouble = self.trouble or error


def _kill_a_child(worker: Process, which: float) -> None:
    with suppress(psutil.NoSuchProcess, ProcessLookupError):
        children = psutil.Process(worker.pid).children(recursive=True)
        if children:
            os.kill(_one_of(children, which).pid, signal.SIGKILL)


def _one_of(some: Sequence[Any], share: float) -> Any:
    return some[int(share * len(some))]
