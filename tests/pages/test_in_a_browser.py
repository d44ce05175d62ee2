"""People at the page, in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from playwright.sync_api import Page, expect

from tests.pages.conftest import Open
from tests.pages.people import Member

pytestmark = pytest.mark.journey

Make = Callable[[str], Member]
SOON = 30_000  # milliseconds; others may be at work on this machine


def log_in(page: Page, member: Member) -> None:
    page.get_by_role("link", name="Log in").click()
    page.get_by_label("E-mail address").fill(member.email)
    page.get_by_role("button", name="Continue", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Welcome, ", timeout=SOON)


def test_a_person_becomes_an_editor_at_the_hundredth_play_and_edits_the_featured_list(
    member: Make, open_page: Open
) -> None:
    ada, page = member("Ada"), open_page()
    expect(page).to_have_title("Understudy")
    log_in(page, ada)

    page.get_by_label("Display name").fill("Ada Lovelace")
    page.locator("#name-save").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Welcome, Ada Lovelace")
    expect(page.locator("#name-state")).to_have_text("Auth0 has the same name.", timeout=SOON)
    assert ada.truth()["user_metadata"]["displayName"] == "Ada Lovelace"

    for song in ("Wintersong", "Night Train"):
        page.get_by_label("New song").fill(song)
        page.get_by_role("button", name="Add", exact=True).click()
        expect(page.locator(".songs").get_by_text(song)).to_be_visible()
    page.get_by_label("New playlist").fill("Mornings")
    page.get_by_role("button", name="Make it").click()
    expect(page.get_by_role("heading", name="Mornings")).to_be_visible()
    page.get_by_text("0 songs of Mornings").click()
    page.get_by_label("Put a song in").select_option("Night Train")
    page.get_by_role("button", name="Put in").click()
    expect(page.get_by_text("1 song of Mornings")).to_be_visible()

    (mornings,) = (playlist["playlist_id"] for playlist in ada.api("GET", "/playlists")["playlists"])
    listeners = [member(f"Listener{number}") for number in range(10)]
    with ThreadPoolExecutor(5) as people:
        list(people.map(lambda listener: [listener.play(mornings) for _ in range(10)], listeners[:9]))
    for _ in range(9):
        listeners[9].play(mornings)
    expect(page.get_by_text("99 plays in all. 100 make you an editor of the featured list.")).to_be_visible(
        timeout=SOON
    )
    expect(page.get_by_text("EDITOR", exact=True)).to_have_count(0)

    listeners[9].play(mornings)
    expect(page.get_by_role("heading", level=1)).to_have_text("Welcome, Ada Lovelace EDITOR", timeout=SOON)
    assert "playlist_editor" in ada.truth()["app_metadata"]["roles"]

    page.reload()
    page.get_by_text("1 song of Mornings").click()
    page.get_by_role("button", name="Feature it").click()
    featured = page.locator("#featured-list")
    expect(featured.get_by_role("heading", name="Mornings")).to_be_visible()
    assert [one["owner"] for one in listeners[0].api("GET", "/playlists/featured")["playlists"]] == ["Ada Lovelace"]
    featured.get_by_role("button", name="Take Mornings off the featured list").click()
    expect(featured.get_by_text("Nothing is featured at the moment.")).to_be_visible()
    theirs = listeners[0].api("POST", "/playlists", {"name": "Evenings"})["playlist_id"]
    featured.get_by_label("Feature a playlist, by its number").fill(str(theirs))
    featured.get_by_role("button", name="Feature", exact=True).click()
    expect(featured.get_by_role("heading", name="Evenings")).to_be_visible()
    featured.get_by_role("button", name="Take Evenings off the featured list").click()
    expect(featured.get_by_text("Nothing is featured at the moment.")).to_be_visible()
