"""The shipped Action, run as it is under node."""

import json
import shutil
import subprocess
from typing import Any

import pytest

from worker.setup.things import Action

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="the Action is JavaScript, and there is no node")

RUN = """
const claims = { id: {}, access: {} };
const api = {
  idToken: { setCustomClaim: (name, value) => { claims.id[name] = value; } },
  accessToken: { setCustomClaim: (name, value) => { claims.access[name] = value; } },
};
const action = require(process.argv[1]);
action.onExecutePostLogin({ user: JSON.parse(process.argv[2]) }, api).then(() => console.log(JSON.stringify(claims)));
"""


@pytest.fixture
def claims(tmp_path: Any) -> Any:
    def of(
        user: dict[str, Any], namespace: str = "https://music.example/", default_name: str = "user"
    ) -> dict[str, Any]:
        file = tmp_path / "action.js"
        file.write_text(Action(namespace, default_name).code, encoding="utf-8")
        ran = subprocess.run(
            ["node", "-e", RUN, str(file), json.dumps(user)], capture_output=True, text=True, timeout=60, check=True
        )
        told: dict[str, dict[str, Any]] = json.loads(ran.stdout)
        assert told["id"] == told["access"]
        return told["id"]

    return of


def test_roles_and_display_name_are_in_both_tokens(claims: Any) -> None:
    user = {"app_metadata": {"roles": ["admin", "playlist_editor"]}, "user_metadata": {"displayName": "Ada"}}
    assert claims(user) == {
        "https://music.example/roles": ["admin", "playlist_editor"],
        "https://music.example/display_name": "Ada",
    }


def test_whoever_has_neither_gets_no_roles_and_the_default_name(claims: Any) -> None:
    expected = {"https://music.example/roles": [], "https://music.example/display_name": "user"}
    assert claims({}) == claims({"app_metadata": {}, "user_metadata": {}}) == expected


@pytest.mark.parametrize("odd", ["admin", {"admin": True}, [7, None, {"a": 1}], 5])
def test_what_is_no_list_of_names_is_no_role(claims: Any, odd: object) -> None:
    assert claims({"app_metadata": {"roles": odd}})["https://music.example/roles"] == []


def test_without_a_default_name_none_is_made_up(claims: Any) -> None:
    told = claims({"user_metadata": {"displayName": 7}}, default_name="")
    assert told == {"https://music.example/roles": []}


def test_a_namespace_and_a_name_are_written_as_javascript_reads_them(claims: Any) -> None:
    told = claims({}, namespace='https://a.example/"\\\n$&\u2028/', default_name="</script>'\"")
    assert told == {
        'https://a.example/"\\\n$&\u2028/roles': [],
        'https://a.example/"\\\n$&\u2028/display_name': "</script>'\"",
    }
