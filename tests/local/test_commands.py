"""`services`, `dev`, the demo and chaos as a person starts them."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest

from local.processes import Processes
from local.product import inherited

CHECKOUT = Path(__file__).resolve().parents[2]


def run(*arguments: str, patience: float = 240) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(
        command, cwd=CHECKOUT, capture_output=True, text=True, timeout=patience, check=False, env=inherited(os.environ)
    )


def stop(started: subprocess.Popen[str], number: signal.Signals) -> Sequence[int]:
    """Send a signal; return the pids that were its descendants and are still there a while later."""
    descendants = [process.pid for process in psutil.Process(started.pid).children(recursive=True)]
    assert descendants
    started.send_signal(number)
    started.wait(timeout=60)
    deadline = time.monotonic() + 60
    while (left := [pid for pid in descendants if psutil.pid_exists(pid)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def start(*arguments: str, cwd: Path = CHECKOUT) -> subprocess.Popen[str]:
    environ = {**inherited(os.environ), "PYTHONPATH": str(CHECKOUT)}
    return subprocess.Popen([sys.executable, "-m", *arguments], cwd=cwd, stdout=subprocess.PIPE, text=True, env=environ)


@pytest.mark.journey
def test_a_small_demo_ends_with_the_line_that_says_so(tmp_path: Path) -> None:
    done = run("local.demo", "--people", "40", "--seconds", "4", "--log", str(tmp_path / "demo.log"))
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout + done.stderr
    assert lines[-1].startswith("local copy = tenant: ")
    assert lines[-1].endswith(" users, 0 differences")


@pytest.mark.journey
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_demo_that_is_ended_leaves_no_process(number: signal.Signals, tmp_path: Path) -> None:
    with start("local.demo", "--people", "40", "--log", str(tmp_path / "demo.log")) as demo:
        assert demo.stdout is not None
        assert "start" in demo.stdout.readline()  # the first phase is over: everything runs
        assert stop(demo, number) == []


@pytest.mark.journey
@pytest.mark.timeout(900)  # a minute and a half where nobody else wants the machine
def test_a_short_chaos_ends_with_everything_right() -> None:
    done = run("local.chaos", "--seed", "11", "--log", "build/test-chaos.log", patience=850)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("seed 11: again with `make chaos MINUTES=0.4 SEED=11`")
    assert done.stdout.endswith("seed 11: all right\n")
    assert not re.search("^no ", done.stdout, re.MULTILINE)


@pytest.mark.journey
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_chaos_that_is_ended_leaves_no_process(number: signal.Signals) -> None:
    with start("local.chaos", "--seed", "12", "--log", "build/test-chaos.log") as chaos:
        assert chaos.stdout is not None
        for line in chaos.stdout:
            if "sign up" in line:  # from now on everything goes wrong
                break
        time.sleep(3)
        assert stop(chaos, number) == []


def test_services_print_urls_that_work_until_they_are_stopped(children_folder: Path) -> None:
    with start("local.services", cwd=children_folder) as services:
        assert services.stdout is not None
        url = services.stdout.readline().strip().removeprefix("DATABASE_URL=")
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert services.stdout.readline().startswith("REDIS_URL=redis://")
        assert stop(services, signal.SIGINT) == []
        assert services.returncode == 0


@pytest.mark.journey
def test_dev_prints_where_the_page_is_and_who_can_log_in(children_folder: Path) -> None:
    with start("local.dev", cwd=children_folder) as dev:
        assert dev.stdout is not None
        said = itertools.takewhile(lambda line: "Redis │" not in line, dev.stdout)
        printed = dict(re.findall(r"^ *([\w ]+) │ (\S+)", "\n".join(said), re.MULTILINE))
        with httpx.Client(follow_redirects=True, timeout=30, trust_env=False) as browser:
            login = browser.get(f"{printed['the page']}login")
            hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', login.text))
            who = printed["log in as"].rstrip(",")
            page = browser.post(login.url.join("/u/login"), data={**hidden, "who": who})
        assert (str(page.url), page.status_code) == (printed["the page"], 200)
        assert "Welcome, " in page.text
        assert stop(dev, signal.SIGINT) == []


def test_the_environment_of_a_real_tenant_is_not_inherited() -> None:
    example = (CHECKOUT / ".env.example").read_text()
    settings = [*re.findall(r"^#?([A-Z][A-Z0-9_]+)=", example, re.MULTILINE), "AUTH0_SETUP_CLIENT_SECRET"]
    assert "PULL_LOGS" in settings
    assert inherited({**dict.fromkeys(settings, "theirs"), "HOME": "/home/me"}) == {"HOME": "/home/me"}


def test_a_death_in_the_set_ends_the_watch(processes: Processes) -> None:
    processes.start("web", [sys.executable, "-c", "raise SystemExit(4)"])
    with pytest.raises(Exception, match="web ended with status 4"):
        processes.watch()
