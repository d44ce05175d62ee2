"""Simulators for the tests beside this file: real processes on free ports."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.simulator.running import Receiver, Simulator


@pytest.fixture
def start() -> Iterator[Callable[..., Simulator]]:
    """Call it with command-line options for a simulator of one's own."""
    started: list[Simulator] = []

    def start(*options: str) -> Simulator:
        started.append(Simulator(*options))
        return started[-1]

    yield start
    for simulator in started:
        simulator.stop()


@pytest.fixture(scope="module")
def tenant() -> Iterator[Simulator]:
    """One simulator for a module: no rate limits, search up to date, log dates exact."""
    simulator = Simulator("--plan", "none", "--index-lag", "0", "--log-skew", "0")
    yield simulator
    code, errors = simulator.stop()
    assert (code, errors) == (0, "")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()
