"""Links lead somewhere, SQL runs, and the rules that the code cites are written down."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

from tests.docs.pages import CHECKOUT, PROTOCOL, anchors, blocks, links, pages

RULES = {f"P{number}" for number in range(1, 27)}


def name_of(page: Path) -> str:
    return str(page.relative_to(CHECKOUT))


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_links_inside_the_repository_lead_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", [page for page in pages() if blocks(page, "sql")], ids=name_of)
def test_sql_runs_on_a_migrated_database(page: Path, database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        for block in blocks(page, "sql"):
            connection.execute(block.encode())
        connection.rollback()


def test_every_rule_is_written_down_once() -> None:
    assert sorted(re.findall(r"^\*\*(P\d+)(?:\.|\*\*)", PROTOCOL.read_text(), re.MULTILINE)) == sorted(RULES)


def test_every_rule_that_the_code_cites_is_written_down() -> None:
    sources = [path for folder in ("api", "worker", "tests") for path in (CHECKOUT / folder).rglob("*.py")]
    cited = {rule for path in sources for rule in re.findall(r"\bP\d{1,2}\b", path.read_text())}
    assert {"P9", "P12", "P26"} <= cited <= RULES
