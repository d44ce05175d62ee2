"""Every command that a page shows exists, with the options it is shown with."""

from __future__ import annotations

import re
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from tests.docs.pages import CHECKOUT, README, code, pages
from worker.cli import cli

FILES = [CHECKOUT / name for name in (".env.example", "app.json", "Procfile")]
_SHOWN = re.compile(r"(?:^|[\s/])understudy((?: +(?:--)?[a-z][a-z-]*)+)")

Command = tuple[str, ...]


def shown(text: str) -> list[Command]:
    """Return the words after `understudy`, options included, wherever a line of code shows it."""
    return [tuple(words.split()) for words in _SHOWN.findall(text)]


def shown_anywhere() -> set[Command]:
    lines = [line for page in pages() for line in code(page)]
    spans = [span for path in FILES for span in re.findall(r"`([^`]+)`|^\w+: (.*)$", path.read_text(), re.MULTILINE)]
    return {command for line in (*lines, *(part for span in spans for part in span)) for command in shown(line)}


def resolve(words: Command) -> Any:
    """Follow the words to their command; fails where there is none, or where it lacks an option."""
    command: Any = typer.main.get_command(cli)
    names = [word for word in words if not word.startswith("--")]
    options = [word for word in words if word.startswith("--") and word != "--help"]
    for name in names:
        if not hasattr(command, "commands"):
            break  # an argument
        assert name in command.commands, f"understudy has no command {' '.join(words)}"
        command = command.commands[name]
    known = {spelling for parameter in command.params for spelling in parameter.opts}
    assert set(options) <= known, f"understudy {' '.join(names)} has no {set(options) - known}"
    return command


def paths(command: Any, path: Command = ()) -> list[Command]:
    if not hasattr(command, "commands"):
        return [path]
    return [leaf for name, inner in command.commands.items() for leaf in paths(inner, (*path, name))]


def test_every_command_shown_exists() -> None:
    commands = shown_anywhere()
    assert ("brake", "--recheck") in commands
    for command in commands:
        resolve(command)


def test_a_command_that_does_not_exist_is_noticed() -> None:
    for command in [("flourish",), ("db", "downgrade"), ("status", "--yaml")]:
        with pytest.raises(AssertionError):
            resolve(command)


@pytest.mark.parametrize("path", paths(typer.main.get_command(cli)), ids=" ".join)
def test_every_command_explains_itself_and_is_in_the_readme(path: Command) -> None:
    told = CliRunner().invoke(cli, [*path, "--help"])
    assert told.exit_code == 0, told.output
    assert "usage" in told.output.lower()
    assert any(command[: len(path)] == path for line in code(README) for command in shown(line))


def test_the_script_is_what_the_pages_call_it() -> None:
    script = Path(sysconfig.get_path("scripts")) / "understudy"
    done = subprocess.run([script, "--help"], capture_output=True, text=True, check=False, cwd=CHECKOUT)
    assert done.returncode == 0, done.stderr
    for name in typer.main.get_command(cli).commands:  # type: ignore[attr-defined]
        assert f" {name} " in done.stdout


def test_every_make_target_shown_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    named = {target for page in pages() for line in code(page) for target in re.findall(r"^make ([a-z]+)$", line)}
    assert {"demo", "test"} <= named <= targets
