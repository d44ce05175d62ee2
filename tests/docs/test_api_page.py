"""docs/api.md names the routes that there are, and its examples are what the API takes."""

from __future__ import annotations

import json
import re

import msgspec

from api.fields import MAX_BODY_BYTES
from api.music import OPERATIONS
from tests.docs.pages import CHECKOUT, blocks, first_cells

PAGE = CHECKOUT / "docs" / "api.md"


def test_the_page_names_every_route_once() -> None:
    named = [pair for cell in first_cells(PAGE) for pair in re.findall(r"`([A-Z]+) (/[^`]+)`", cell)]
    assert sorted(named) == sorted((operation.method, operation.path) for operation in OPERATIONS)


def test_the_bodies_that_curl_sends_are_taken() -> None:
    taken = {(operation.method, re.sub(r"\{\w+\}", "1", operation.path)): operation.takes for operation in OPERATIONS}
    sent = re.findall(r"""(-X PATCH )?-d (?:'([^']+)'|"(.*?[^\\])") \$API(\S+)""", "\n".join(blocks(PAGE, "sh")))
    assert len(sent) == 4
    for method, plain, quoted, path in sent:
        body = plain or quoted.replace('\\"', '"').replace("$(uuidgen)", "8b0c6c0e-0d0e-4d0e-8d0e-8d0e8d0e8d0e")
        msgspec.json.decode(body.encode(), type=taken["PATCH" if method else "POST", path])


def test_the_page_knows_the_limit_of_bodies() -> None:
    assert f"over {MAX_BODY_BYTES // 1024} KB" in PAGE.read_text()


def test_its_json_is_json() -> None:
    assert [json.loads(block) for block in blocks(PAGE, "json")]
