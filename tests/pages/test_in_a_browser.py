"""People at the page, in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.journeys.stage import Stage
from tests.pages.conftest import Open
from tests.pages.people import Member

pytestmark = pytest.mark.journey

Make = Callable[[str], Member]
# WCAG 2.2 A and AA, and what axe calls best practices.
AXE = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
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
    page.get_by_label("Feature a playlist, by its number").fill(str(theirs))
    page.get_by_role("button", name="Feature", exact=True).click()
    expect(featured.get_by_role("heading", name="Evenings")).to_be_visible()
    page.get_by_label("Play a playlist that a friend told you of").fill(f"#{theirs}")
    page.get_by_role("button", name="Play", exact=True).click()
    expect(featured.get_by_text("· 1 play")).to_be_visible(timeout=SOON)
    featured.get_by_role("button", name="Take Evenings off the featured list").click()
    expect(featured.get_by_text("Nothing is featured at the moment.")).to_be_visible()


def test_what_was_chosen_travels_before_the_persons_eyes(stage: Stage, member: Make, open_page: Open) -> None:
    ada, page = member("Ada"), open_page()
    log_in(page, ada)
    stage.faults({"where": "api", "kind": "status", "status": 503, "match": {"method": "PATCH"}})
    try:
        page.get_by_label("Display name").fill("Countess")
        page.locator("#name-save").click()
        expect(page.locator("#name-state")).to_have_text("Saved here, and on its way to Auth0.")
        expect(page.get_by_role("heading", level=1)).to_have_text("Welcome, Countess")
    finally:
        stage.faults()
    expect(page.locator("#name-state")).to_have_text("Auth0 has the same name.", timeout=90_000)


def test_what_changes_elsewhere_shows_and_what_is_being_typed_stays(member: Make, open_page: Open) -> None:
    ada, page = member("Ada"), open_page()
    log_in(page, ada)
    page.get_by_label("Favourite genre").press_sequentially("Ja")
    made = ada.api("POST", "/playlists", {"name": "From elsewhere"})["playlist_id"]
    ada.api("PATCH", "/displayName", {"displayName": "Somebody else"})
    expect(page.get_by_role("heading", level=1)).to_have_text("Welcome, Somebody else", timeout=SOON)
    expect(page.get_by_role("heading", name=f"From elsewhere #{made}")).to_be_visible(timeout=SOON)
    expect(page.get_by_label("Favourite genre")).to_be_focused()
    page.get_by_label("Favourite genre").press_sequentially("zz")
    page.keyboard.press("Enter")
    expect(page.locator("#genre-note")).to_have_text("Saved.")
    assert ada.api("GET", "/genres/getFav") == "Jazz"


def test_each_press_of_a_play_button_is_one_play(stage: Stage, member: Make, open_page: Open) -> None:
    ada, ben, page = member("Ada"), member("Ben"), open_page()
    playlist = ada.api("POST", "/playlists", {"name": "Pressed"})["playlist_id"]
    stage.execute(f"UPDATE playlists SET featured = true WHERE playlist_id = {playlist}")  # noqa: S608
    log_in(page, ben)
    place = page.locator(f"#featured-{playlist}")
    for plays in (1, 2):
        place.get_by_role("button", name="Play Pressed").click()
        counted = f"{plays} play" if plays == 1 else f"{plays} plays"
        expect(place.get_by_text(f"· {counted}")).to_be_visible(timeout=SOON)
    stage.execute(f"UPDATE playlists SET featured = false WHERE playlist_id = {playlist}")  # noqa: S608


def test_what_is_refused_says_why_and_keeps_what_was_typed(member: Make, open_page: Open) -> None:
    ada, page = member("Ada"), open_page()
    log_in(page, ada)
    page.get_by_label("Favourite genre").fill("\u202ezzaJ")
    page.locator("#genre-save").click()
    expect(page.get_by_role("alert")).to_have_text("Must be text to see, without control characters.")
    expect(page.get_by_label("Favourite genre")).to_be_focused()
    expect(page.get_by_label("Favourite genre")).to_have_value("\u202ezzaJ")
    expect(page.get_by_label("Favourite genre")).to_have_accessible_description(
        "Must be text to see, without control characters."
    )


def test_a_blocked_person_is_out_at_the_next_request(stage: Stage, member: Make, open_page: Open) -> None:
    ada, page = member("Ada"), open_page()
    log_in(page, ada)
    ada.act("block")
    stage.wait_until(lambda: ada.row("blocked")[0] is True, "the block")
    page.get_by_label("Favourite genre").fill("Jazz")
    page.locator("#genre-save").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("You have been logged out")
    expect(page.get_by_role("alert")).to_contain_text("This account is blocked.")
    page.get_by_role("link", name="Log in").click()
    expect(page.get_by_role("alert")).to_have_text("Auth0 did not let you in: user is blocked.")
    with pytest.raises(AssertionError, match="403"):
        ada.api("GET", "/genres/getFav")


def test_logging_out_ends_the_session_here_and_at_auth0(stage: Stage, member: Make, open_page: Open) -> None:
    ada, page = member("Ada"), open_page()
    log_in(page, ada)
    assert [cookie["name"] for cookie in page.context.cookies()].count("understudy") == 1
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("link", name="Log in")).to_be_visible()
    assert "understudy" not in [cookie["name"] for cookie in page.context.cookies()]
    assert stage.count(f"sessions WHERE user_id = '{ada.user_id}'") == 0
    page.get_by_role("link", name="Log in").click()
    expect(page.get_by_label("E-mail address")).to_be_visible()  # Auth0 asks again


def test_everything_is_done_by_keyboard(member: Make, open_page: Open) -> None:
    ada, page = member("Ada"), open_page()
    keys = page.keyboard
    reach(page, "Log in")
    keys.press("Enter")
    expect(page.get_by_label("E-mail address")).to_be_focused()
    keys.type(ada.email)
    keys.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Welcome, ", timeout=SOON)
    reach(page, "Skip to the content")
    keys.press("Enter")
    reach(page, "New playlist")
    keys.type("Mornings")
    keys.press("Enter")
    expect(page.get_by_role("heading", name="Mornings")).to_be_visible()
    reach(page, "Play Mornings", back=True)
    keys.press("Space")
    expect(page.get_by_text("Played. It counts in a moment")).to_be_visible()
    reach(page, "Play Mornings", at_most=0)  # the focus has stayed
    reach(page, "0 songs of Mornings")
    keys.press("Enter")
    reach(page, "Name of this playlist")
    keys.press("Control+A")
    keys.type("Evenings")
    keys.press("Enter")
    expect(page.get_by_role("heading", name="Evenings")).to_be_visible()
    reach(page, "Delete Evenings …")
    keys.press("Enter")
    reach(page, "Delete Evenings and its plays")
    keys.press("Enter")
    expect(page.get_by_role("heading", name="Evenings")).to_have_count(0)
    reach(page, "Log out", back=True)
    keys.press("Enter")
    expect(page.get_by_role("link", name="Log in")).to_be_visible()


def reach(page: Page, name: str, *, back: bool = False, at_most: int = 40) -> None:
    """Press Tab until what is called so has the focus, which shows all the way."""
    focused: list[str] = []
    for pressed in range(at_most + 1):
        if pressed:
            page.keyboard.press("Shift+Tab" if back else "Tab")
        found = page.evaluate(_FOCUSED)
        if found is None:
            continue
        focused.append(found["name"])
        assert found["outline"] >= 2, f"the focus on {found['name']} cannot be seen"
        if found["name"] == name:
            return
    raise AssertionError(f"{name} cannot be reached by Tab: {focused}")


_FOCUSED = """() => {
  const it = document.activeElement;
  if (it === document.body || it === document.documentElement || it.id === "main") return null;
  const name = it.ariaLabel || it.labels?.[0]?.textContent || it.textContent;
  return { name: name.trim(), outline: parseFloat(getComputedStyle(it).outlineWidth) };
}"""


def test_it_works_without_scripts(member: Make, open_page: Open) -> None:
    ada, page = member("Ada"), open_page(java_script_enabled=False)
    log_in(page, ada)
    page.get_by_label("Display name").fill("Ada, unscripted")
    page.locator("#name-save").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Welcome, Ada, unscripted")
    page.get_by_label("New playlist").fill("Mornings")
    page.get_by_role("button", name="Make it").click()
    page.get_by_role("button", name="Play Mornings").click()
    expect(page.get_by_text("Played. It counts in a moment")).to_be_visible()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("link", name="Log in")).to_be_visible()


LOOKS: dict[str, dict[str, Any]] = {
    "desktop-light": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "phone-dark": {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark", "has_touch": True},
    "small-phone": {"viewport": {"width": 320, "height": 640}, "color_scheme": "light", "reduced_motion": "reduce"},
    "forced-colors": {"viewport": {"width": 800, "height": 600}, "forced_colors": "active"},
}


@pytest.mark.parametrize("look", LOOKS)
def test_nobody_is_shut_out_by_how_it_looks(look: str, stage: Stage, member: Make, open_page: Open) -> None:
    ada, ben, page = member("Ada"), member("Ben"), open_page(**LOOKS[look])
    assert_accessible(page)
    ada.act("metadata", app_metadata={"roles": ["playlist_editor", "admin"]}, user_metadata={"displayName": "A" * 90})
    song = ada.api("POST", "/songs", {"songname": "Wintersong " * 18})["song_id"]
    for name in ("Mornings", "B" * 100):
        ada.api("POST", "/playlists", {"name": name, "songs": [song, song]})
    ben.play(ada.api("GET", "/playlists")["playlists"][0]["playlist_id"])
    stage.wait_until(lambda: "admin" in (ada.row("roles")[0] or []), "the roles")
    log_in(page, ada)
    page.locator("summary").first.click()
    assert_accessible(page)
    page.get_by_label("New song").fill(" ")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("alert")).to_be_in_viewport(ratio=0.9)
    assert_accessible(page)


def assert_accessible(page: Page) -> None:
    found = Axe().run(page, options=AXE)
    assert found.violations_count == 0, found.generate_report()
    width = page.evaluate("() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert width[0] <= width[1], "the page scrolls sideways"
