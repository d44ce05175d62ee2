"""What the page's forms do: each is an operation of the API, followed by the way back to the page and a sentence on it."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec
from starlette.responses import Response

from api import display_name, fields, genres, playlists, songs
from api.fields import Body, Query
from api.pages.home import Note
from api.pages.site import Visit
from api.problems import Problem
from worker.errors import Transient

B = TypeVar("B", bound=Body)
Act = Callable[[Visit], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Change:
    """A form: where it is posted to (after /page), the element to come back to, and what it does, in a sentence."""

    path: str
    back: str
    act: Act


async def _name(visit: Visit) -> str:
    given = _read(display_name.NewDisplayName, displayName=_text(visit, "name"))
    await display_name.choose(visit.call(given))
    return "Saved here, and on its way to Auth0."


async def _genre(visit: Visit) -> str:
    given = _read(genres.FavouriteGenre, fav_genre=_text(visit, "genre") or None)
    await genres.put(visit.call(given))
    return "Saved." if given.fav_genre else "You have no favourite genre now."


async def _add_song(visit: Visit) -> str:
    song = await songs.add(visit.call(_read(songs.NewSong, songname=_text(visit, "songname"))))
    return f"Added “{song.songname}”."


async def _remove_song(visit: Visit) -> str:
    await songs.remove(visit.call(Query()))
    return "The song is gone, from playlists too."


async def _create(visit: Visit) -> str:
    made = await playlists.create(visit.call(_read(playlists.NewPlaylist, name=_text(visit, "name"))))
    return f"Made “{made.name}”."


async def _rename(visit: Visit) -> str:
    made = await playlists.change(visit.call(_read(playlists.PlaylistChange, name=_text(visit, "name"))))
    return f"It is called “{made.name}” now."


async def _put_song(visit: Visit) -> str:
    held = await playlists.get(visit.call(Query()))
    ids = [song.song_id for song in held.songs]
    given = _read(playlists.PlaylistChange, songs=[*ids, _number(_text(visit, "song"), "Choose a song.")])
    made = await playlists.change(visit.call(given))
    return f"Put “{made.songs[-1].songname}” into “{made.name}”."


async def _take_song(visit: Visit) -> str:
    held = await playlists.get(visit.call(Query()))
    position, song = (_number(_text(visit, name), "Choose a song.") for name in ("position", "song"))
    ids = [song.song_id for song in held.songs]
    if ids[position - 1 : position] != [song]:
        raise Problem(409, "This list has changed meanwhile. Please look again.")
    del ids[position - 1]
    await playlists.change(visit.call(_read(playlists.PlaylistChange, songs=ids)))
    return f"Took a song out of “{held.name}”."


async def _delete(visit: Visit) -> str:
    await playlists.delete(visit.call(Query()))
    return "The playlist is gone, and its plays with it."


async def _play(visit: Visit) -> str:
    await playlists.play(visit.call(_read(playlists.Play, play_id=_text(visit, "play_id"))))
    return "Played. It counts in a moment; plays of your own playlists do not count."


async def _play_any(visit: Visit) -> str:
    visit.request.path_params["id"] = str(_playlist(visit))
    return await _play(visit)


async def _feature(visit: Visit) -> str:
    await playlists.feature(visit.call(Query()))
    return "Everybody sees it among the featured now."


async def _feature_any(visit: Visit) -> str:
    visit.request.path_params["id"] = str(_playlist(visit))
    return await _feature(visit)


async def _unfeature(visit: Visit) -> str:
    await playlists.unfeature(visit.call(Query()))
    return "It is featured no longer."


# The fields that people type into.
_TYPED: Final = {"name", "genre", "songname", "playlist"}

CHANGES: Final = (
    Change("/name", "name", _name),
    Change("/genre", "genre", _genre),
    Change("/songs", "add-song", _add_song),
    Change("/songs/{id}/delete", "songs", _remove_song),
    Change("/playlists", "add-playlist", _create),
    Change("/playlists/{id}/name", "playlist-{id}", _rename),
    Change("/playlists/{id}/songs", "playlist-{id}", _put_song),
    Change("/playlists/{id}/songs/delete", "playlist-{id}", _take_song),
    Change("/playlists/{id}/delete", "playlists", _delete),
    Change("/playlists/{id}/play", "", _play),
    Change("/playlists/{id}/feature", "featured", _feature),
    Change("/playlists/{id}/unfeature", "featured", _unfeature),
    Change("/featured", "feature", _feature_any),
    Change("/plays", "play-any", _play_any),
)


def endpoint(change: Change) -> Callable[[Visit], Awaitable[Response]]:
    """Return the endpoint: it does the change, keeps the sentence for the page, and leads back to it."""

    async def post(visit: Visit) -> Response:
        back = change.back.format(**visit.request.path_params) or _back(visit)
        try:
            note = Note(await change.act(visit), back)
        except Problem as error:
            note = Note(_sentence(error), back, True, _typed(visit))
        except Transient:
            said = "The database cannot be reached at the moment, so nothing was saved. Please try again."
            note = Note(said, back, True, _typed(visit))
        session = visit.session
        assert session is not None  # noqa: S101 nobody else gets here
        await visit.site.sessions.write(session, {**session.data, "note": msgspec.to_builtins(note)})
        return visit.site.redirect(f"{visit.site.home}#{back}")

    return post


def _back(visit: Visit) -> str:
    """Return the element that the form names; a fragment of a redirect is no place for anything else."""
    back = _text(visit, "back")
    return back if re.fullmatch(r"(playlist|featured)-[0-9]{1,18}", back) else ""


def _read(kind: type[B], **given: object) -> B:
    """Decode what a form gave as the API would. Raises Invalid."""
    return fields.convert(kind, given)


def _text(visit: Visit, name: str) -> str:
    return visit.form.get(name, [""])[0]


def _playlist(visit: Visit) -> int:
    return _number(_text(visit, "playlist").strip().removeprefix("#"), "A playlist's number is needed, such as 12.")


def _number(text: str, otherwise: str) -> int:
    """Return the number that a form names, from 1; raises Problem, saying `otherwise`."""
    if not re.fullmatch(r"[1-9][0-9]{0,17}", text):
        raise Problem(422, otherwise)
    return int(text)


def _typed(visit: Visit) -> str:
    return next((values[0][:300] for name, values in visit.form.items() if name in _TYPED), "")


def _sentence(error: Problem) -> str:
    """Say what was wrong without the API's names for things."""
    detail = error.errors[0]["detail"] if error.errors else error.detail
    return detail[:1].upper() + detail[1:].rstrip(".") + "."
