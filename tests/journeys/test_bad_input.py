"""The corpus of bad input through the real web process and worker: no 5xx, nothing lost beside it, memory bounded."""

from __future__ import annotations

import psutil
import pytest

from tests.corpus import MIB, Sample, corpus, large_samples
from tests.journeys.conftest import OnStage

pytestmark = pytest.mark.journey

# The web process may hold four bodies of 16 MiB while it stores them, a worker child one of them decoded.
MOST_WEB = 400 * MIB
MOST_WORKER_CHILD = 700 * MIB


def resident(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)


def test_bad_input_harms_nobody_and_nothing(play: OnStage) -> None:
    samples: list[Sample] = [*corpus(), *large_samples()]
    with play(people=40) as stage:
        worker = psutil.Process(stage.product.worker.pid)
        web = most = 0
        for number, sample in enumerate(samples):
            status = stage.deliver(sample.body)
            assert 200 <= status < 300, f"{sample} was answered {status}"
            if number % 20 == 0:
                stage.tenant.control("POST", "people/login", {"count": 2})
            web = max(web, resident(stage.product.web.pid))
            most = max(most, *(resident(child.pid) for child in worker.children()))
        stage.settle()
        most = max(most, *(resident(child.pid) for child in worker.children()))

        known = {row[0] for row in stage.query("SELECT user_id FROM users")}
        for sample in samples:
            assert sample.applied <= known, f"{sample}: {len(sample.applied - known)} good records were lost"
        assert stage.count("inbox WHERE attempts > 1") == 0, "a body killed its process"
        stage.assert_equal(at_least=40, parked=stage.counts().parked)
        assert web < MOST_WEB, f"the web process grew to {web // MIB} MiB"
        assert most < MOST_WORKER_CHILD, f"a worker grew to {most // MIB} MiB"
