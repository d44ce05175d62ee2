"""The judge of `make chaos`: each thing that may be wrong is told, and nothing else."""

from __future__ import annotations

from datetime import date
from typing import Any

from local.chaos.listeners import Told
from local.chaos.stage import CAP, TIERS
from local.chaos.verdict import wrong_plays, wrong_roles, wrong_sums, wrong_wishes

TODAY, TOMORROW = date(2026, 1, 1), date(2026, 1, 2)
EDITOR = min(TIERS.values())


def play(number: int, playlist: int = 1, listener: str = "auth0|l", day: date = TODAY) -> tuple[int, str, str, date]:
    return playlist, f"play {number}", listener, day


def user(user_id: str = "auth0|1", roles: Any = (), linked: str = "", **metadata: Any) -> dict[str, Any]:
    ids = [user_id, *([linked] if linked else [])]
    identities = [dict(zip(("provider", "user_id"), one.split("|", 1), strict=True)) for one in ids]
    app_metadata = {"roles": list(roles), "plan": metadata.get("plan")}
    return {
        "user_id": user_id,
        "identities": identities,
        "app_metadata": app_metadata,
        "user_metadata": {"displayName": metadata.get("name")},
    }


def test_accepted_plays_are_kept_once_and_no_others() -> None:
    told = Told(accepted={(1, "play 1"), (1, "play 2")})
    assert wrong_plays(told, [play(1), play(2)]) == []
    assert wrong_plays(told, [play(1)]) == ["play play 2 of playlist 1 was accepted and is lost"]
    assert wrong_plays(told, [play(1), play(2), play(3)]) == ["play play 3 of playlist 1 is kept and was not accepted"]
    assert wrong_plays(told, [play(1), play(2), play(2, listener="auth0|other")]) == [
        "play play 2 of playlist 1 is kept 2 times"
    ]


def test_of_a_dropped_playlist_nothing_is_asked() -> None:
    assert wrong_plays(Told(accepted={(1, "play 1")}, dropped={1}), [play(9)]) == []


def test_sums_count_so_many_a_day_and_none_of_the_owners_own() -> None:
    plays = [play(number) for number in range(CAP + 5)]
    plays += [play(100 + number, day=TOMORROW) for number in range(3)]
    plays += [play(200, listener="auth0|owner")]
    assert wrong_sums(plays, [(1, "auth0|owner", CAP + 3)]) == []
    assert wrong_sums(plays, [(1, "auth0|owner", CAP + 4)]) == [f"playlist 1 says {CAP + 4} plays, and has {CAP + 3}"]


def test_roles_are_what_all_linked_ids_earn_together() -> None:
    playlists = [(1, "auth0|1", EDITOR - 1), (2, "sms|2", 1)]
    both = user(roles=["playlist_editor", "foreign"], linked="sms|2")
    assert wrong_roles([both], playlists, {"auth0|1": {"playlist_editor"}}) == []
    assert len(wrong_roles([both], playlists, {"auth0|1": set()})) == 1
    assert len(wrong_roles([user(roles=["playlist_editor"])], playlists, {"auth0|1": {"playlist_editor"}})) == 2


def test_what_was_chosen_last_is_in_both_places() -> None:
    told = Told(names={"auth0|1": "Ada"}, plans={"auth0|1": "pro"})
    assert wrong_wishes([user(name="Ada", plan="pro")], {"auth0|1": ("Ada", "pro")}, told) == []
    assert len(wrong_wishes([user(name="Ben", plan="pro")], {"auth0|1": ("Ada", "pro")}, told)) == 1
    assert len(wrong_wishes([user(name="Ada", plan="pro")], {"auth0|1": ("Ada", None)}, told)) == 1
    assert len(wrong_wishes([], {}, told)) == 2
