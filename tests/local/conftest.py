"""What the tests of `local` share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from local.children import Children
from local.privileges import unprivileged_account
from local.processes import Processes

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def said() -> list[tuple[str, str]]:
    """What the processes said: names and lines."""
    return []


@pytest.fixture
def processes(children: Children, said: list[tuple[str, str]]) -> Iterator[Processes]:
    with Processes(children, cwd=CHECKOUT, say=lambda name, line: said.append((name, line))) as processes:
        yield processes


@pytest.fixture
def children_folder(children: Children) -> Iterator[Path]:
    """A folder with a space in its path which PostgreSQL's account can enter too; pytest's own it cannot."""
    with children.folder(unprivileged_account()) as folder:
        inside = folder / "with a space"
        inside.mkdir()
        inside.chmod(0o711)
        yield inside
