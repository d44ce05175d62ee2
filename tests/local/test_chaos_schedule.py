"""The schedule of `make chaos`: the seed alone decides it, and every fault is in it."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from local.chaos.schedule import CROWD, Cast, Step, schedule
from simulator.faults import KINDS, WHERE, Fault
from simulator.live import WEIGHTS

SHORT = 24.0


def steps(seed: int, seconds: float = SHORT) -> list[Step]:
    return schedule(seed, seconds, Cast.of(seconds))


def said(made: list[Step]) -> list[str]:
    return [f"{step.lane} {step}" for step in made]


def test_the_same_seed_is_the_same_run_and_another_is_another() -> None:
    assert said(steps(1)) == said(steps(1))
    assert said(steps(1)) != said(steps(2))


def test_steps_come_in_order_of_time_and_end_with_the_run() -> None:
    times = [step.at for step in steps(3, 120)]
    assert times == sorted(times)
    assert 0 <= times[0] < 1
    assert 110 < times[-1] <= 120


@pytest.mark.parametrize("seed", range(5))
def test_even_a_short_run_has_every_fault(seed: int) -> None:
    done = Counter(step.do for step in steps(seed))
    for fault in ("kill worker", "kill web", "kill beat", "kill a child of the worker", "restart worker", "wipe redis",
                  "kill redis", "freeze redis", "pause log stream", "disable event stream", "logs age out",
                  "events age out", "role by hand", "plan", "name", "drop playlist", "import"):  # fmt: skip
        assert done[fault] >= 1, fault
    assert done["restart postgres"] + done["crash postgres"] >= 1
    assert done["rotate tokens"] + done["wrong tokens"] >= 1
    assert done["cut connections"] >= 3


def test_every_fault_of_the_tenant_begins_and_ends_and_is_one_the_simulator_knows() -> None:
    made = steps(4, 300)
    begun = Counter(step.details["name"] for step in made if step.do == "fault begins")
    assert begun == Counter(step.details["name"] for step in made if step.do == "fault ends")
    faults = [Fault(**{k: v for k, v in step.details.items() if k != "name"}) for step in made if "fault" in step.do]
    assert {fault.where for fault in faults} == set(WHERE)
    # A broken upstream that says nobody exists is the brake's, which then waits for a human.
    assert {fault.kind for fault in faults} == set(KINDS) - {"missing_user"}


def test_people_do_all_that_people_of_the_simulator_do() -> None:
    assert CROWD.keys() == WEIGHTS.keys() - {"change_password", "future_code"}


def test_nobody_is_pushed_for_so_often_that_it_looks_like_a_fight() -> None:
    for seed in range(20):
        made = steps(seed, 600)
        acts = Counter(step.details["person"] for step in made if step.do in {"name", "plan", "role by hand"})
        assert max(acts.values()) <= 8  # and two roles earned


def test_a_play_has_an_id_of_its_own() -> None:
    ids = [step.details["play_id"] for step in steps(5, 120) if step.do == "play"]
    assert len(set(ids)) == len(ids) > 1000
    assert re.fullmatch(r"[0-9a-f-]{36}", ids[0])
