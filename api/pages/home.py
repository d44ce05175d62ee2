"""GET /: what a person sees of themselves, their music and the list that editors feature; or how to log in."""

import asyncio
import re
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec
from starlette.responses import Response

from api import me, playlists, songs
from api.fields import Page, Query
from api.pages.site import Visit
from api.playlists import EDITOR
from worker.music import Me, genres, playlists as kept
from worker.music.playlists import Playlist

_PER_PAGE: Final = 50
# Which list is shown from where on, by the name of its parameter.
# Where the page has a place for a note, beside the playlists.
_FORMS: Final = {"name", "genre", "songs", "add-song", "playlists", "add-playlist", "featured", "play-any"}
_CURSOR: Final = re.compile(r"[0-9]{1,18}")
_CURSORS: Final = ("playlists", "featured", "songs")


class Note(msgspec.Struct, frozen=True):
    """What the last form led to: a sentence, and the id of the form it is about. `typed` is what was refused, to mend."""

    text: str
    form: str = ""
    is_bad: bool = False
    typed: str = ""


async def home(visit: Visit) -> Response:
    """Show the page of whoever is logged in."""
    if visit.subject is None:
        return visit.site.renderer.page("welcome.html")
    given = visit.call(Query())
    music, caller = visit.site.music, await given.caller()
    cursors = {name: visit.request.query_params.get(name, "0") for name in _CURSORS}
    page = {name: Page(cursor if _CURSOR.fullmatch(cursor) else "0", _PER_PAGE) for name, cursor in cursors.items()}
    own, featured, owned_songs = await asyncio.gather(
        playlists.page(visit.call(page["playlists"])),
        playlists.featured(visit.call(page["featured"])),
        songs.page(visit.call(page["songs"])),
    )
    person, genre, plays, note = await asyncio.gather(
        me.me(given), genres.favourite(music.database, caller), kept.plays(music.database, caller), _take_note(visit)
    )
    return visit.site.renderer.page(
        "home.html",
        csrf=visit.csrf(),
        me=person,
        genre=genre,
        playlists=own,
        featured=featured,
        songs=owned_songs,
        plays=plays,
        most=max((playlist.plays for playlist in own.playlists), default=0),
        is_editor=EDITOR in person.roles,
        other_roles=[role for role in person.roles if role != EDITOR],
        tier=visit.site.settings.role_tiers.get(EDITOR),
        is_named=_is_named(person),
        is_travelling=_is_travelling(person, own.playlists, plays, visit),
        note=_placed(note, own.playlists, featured.playlists, is_editor=EDITOR in person.roles),
        play_id=lambda: str(uuid.uuid4()),
        now=datetime.now(UTC),
        paged={name: page[name].after > 0 for name in _CURSORS},
    )


async def _take_note(visit: Visit) -> Note | None:
    """Return what the last form left to say, once."""
    session = visit.session
    if session is None or visit.is_watching or "note" not in session.data:
        return None
    await visit.site.sessions.write(session, {name: value for name, value in session.data.items() if name != "note"})
    return msgspec.convert(session.data["note"], Note)


def _placed(
    note: Note | None, own: Sequence[Playlist], featured: Sequence[Playlist], *, is_editor: bool
) -> Note | None:
    """Have a note said at the top of the page where the form that it is about is not shown (any more)."""
    shown = {f"playlist-{one.playlist_id}" for one in own} | {f"featured-{one.playlist_id}" for one in featured}
    if is_editor:
        shown.add("feature")
    return note if note is None or note.form in _FORMS | shown else msgspec.structs.replace(note, form="")


def _is_named(person: Me) -> bool:
    """Say whether Auth0 has the name that is shown: a default one may not be there yet, or never."""
    metadata = msgspec.json.decode(person.profile.user_metadata)
    chosen = metadata.get("displayName") if isinstance(metadata, dict) else None
    return chosen is not None and chosen == person.display_name


def _is_travelling(person: Me, own: Sequence[Playlist], plays: int, visit: Visit) -> bool:
    """Say whether something is under way that will show here within seconds: then the page looks often."""
    freshness = person.freshness
    if freshness.pending or freshness.stale or freshness.synced_at is None:
        return True
    tier = visit.site.settings.role_tiers.get(EDITOR)
    return bool(own) and tier is not None and (plays >= tier) != (EDITOR in person.roles)
