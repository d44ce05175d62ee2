"""Reads the repository's pages: their code, their links, their headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
README = CHECKOUT / "README.md"
OPERATING = CHECKOUT / "docs" / "operating.md"
RUNBOOKS = CHECKOUT / "docs" / "runbooks.md"
PROTOCOL = CHECKOUT / "docs" / "protocol.md"

_FENCED = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)


def pages() -> list[Path]:
    """Return every page of the documentation."""
    return [README, CHECKOUT / "CHANGELOG.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of one language, in order."""
    return [body for name, body in _FENCED.findall(page.read_text()) if name == language]


def code(page: Path) -> Iterator[str]:
    """Yield what a page shows as code: the lines of its fenced blocks, and its inline code."""
    text = page.read_text()
    for _, body in _FENCED.findall(text):
        yield from body.splitlines()
    yield from _INLINE.findall(_FENCED.sub("", text))


def links(page: Path) -> list[str]:
    """Return the links of a page that stay in the repository."""
    found = _LINK.findall(_FENCED.sub("", page.read_text()))
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to a page's headings."""
    headings = _HEADING.findall(_FENCED.sub("", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def first_cells(page: Path) -> list[str]:
    """Return the first cell of each row of a page's tables."""
    return [line.split("|")[1].strip() for line in page.read_text().splitlines() if line.startswith("|")]
