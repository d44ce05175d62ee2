"""How the simulator starts and ends."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.simulator.running import DEADLINE_SECONDS, Simulator

Start = Callable[..., Simulator]


def test_it_says_where_it_is_in_one_line_of_json(start: Start) -> None:
    simulator = start("--tenant", "acme")
    assert simulator.ready["tenant"] == "acme"
    named = {"domain", "browser_issuer", "control_url", "ca_file", "client_id", "client_secret", "tenant"}
    assert set(simulator.ready) == named
    assert Path(simulator.ready["ca_file"]).read_text().startswith("-----BEGIN CERTIFICATE-----")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(start: Start, number: signal.Signals) -> None:
    simulator = start()
    assert simulator.http.get("/.well-known/jwks.json").status_code == 200  # a connection is kept open meanwhile
    simulator.process.send_signal(number)
    assert simulator.process.wait(DEADLINE_SECONDS) == 0
    assert simulator.stop()[1] == ""


def test_it_ends_with_its_parent(start: Start) -> None:
    assert start().stop() == (0, "")


def test_its_temporary_files_go_with_it(start: Start) -> None:
    simulator = start()
    folder = Path(simulator.ready["ca_file"]).parent
    simulator.stop()
    assert not folder.exists()


def test_a_given_data_folder_stays(start: Start, tmp_path: Path) -> None:
    simulator = start("--data", str(tmp_path / "with space"))
    simulator.stop()
    assert Path(simulator.ready["ca_file"]).exists()


def test_nobody_trusts_it_without_its_authority(start: Start) -> None:
    simulator = start()
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{simulator.origin}/.well-known/jwks.json")


def test_localhost_is_in_the_certificate(start: Start) -> None:
    simulator = start()
    port = simulator.ready["domain"].split(":")[1]
    assert httpx.get(f"https://localhost:{port}/.well-known/jwks.json", verify=simulator.tls).status_code == 200


def test_the_same_seed_makes_the_same_people(start: Start) -> None:
    first, second, other = start("--seed", "7"), start("--seed", "7"), start("--seed", "8")
    for simulator in (first, second, other):
        simulator.sign_up(20)
    lives = {"actions": 300, "seed": 5}
    acts = [simulator.control("POST", "people/live", lives) for simulator in (first, second)]
    assert acts[0] == acts[1]
    people = [{u["user_id"]: u.get("name") for u in s.truth().values()} for s in (first, second, other)]
    assert people[0] == people[1]
    assert people[0] != people[2]
    assert first.ready["client_secret"] == second.ready["client_secret"]
