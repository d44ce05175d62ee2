"""Cuts a person's records out of deliveries: out of what is kept, when somebody is forgotten; out of what is drained, ever after (P14)."""

from collections.abc import Sequence
from typing import Final

import zstandard
from sqlalchemy import Connection

from worker.auth0.spans import pieces
from worker.domain.mentions import Mentions, ids_in
from worker.queue import plays
from worker.store import forgotten, inbox, notes
from worker.store.inbox import Body, Claimed

# As `worker.sync.drain` parks them: the delivery, then the record's place in it, why, its bytes.
Bad = tuple[int, tuple[int, str, bytes]]

_LOST: Final = "a delivery that could not be read spoke of somebody who was forgotten, so it was not kept"


def cut(source: str, content: bytes, person: Mentions) -> tuple[bytes, int]:
    """Return a body without the records that speak of a person, in a form that its source reads; and how many those were."""
    if not person.are_in(content):
        return content, 0
    spans = list(pieces(content)) if source != plays.SOURCE else list(_lines(content))
    kept = [content[start:end] for start, end in spans if not person.are_in(content[start:end])]
    gone = len(spans) - len(kept)
    if not gone:  # the bytes speak of them across what looks like records
        return b"", 1
    if not kept:
        return b"", gone
    whole = b"\n".join(kept) if source == plays.SOURCE else b"[" + b",".join(kept) + b"]"
    return (b"", len(spans)) if person.are_in(whole) else (whole, gone)


def _lines(content: bytes) -> Sequence[tuple[int, int]]:
    spans, start = [], 0
    for line in content.split(b"\n"):
        spans.append((start, start + len(line)))
        start += len(line) + 1
    return spans


def content_of(body: Body) -> tuple[bytes, bool]:
    """Return what can be read of a stored body, and whether that is all of it."""
    if body.encoding != "zstd":
        return body.body, True
    read = b""
    try:
        with zstandard.ZstdDecompressor().stream_reader(body.body) as reader:
            while chunk := reader.read(1 << 16):
                read += chunk
    except zstandard.ZstdError:
        return read + body.body, False
    return read, len(read) == body.size


def cut_out(body: Body, person: Mentions) -> int:
    """Return how many records of a stored body speak of a person."""
    return cut(body.source, content_of(body)[0], person)[1]


def cut_stored(connection: Connection, body: Body, person: Mentions) -> int:
    """Cut a person's records out of a stored body; return how many. One that cannot be read whole, and speaks of them, goes whole."""
    content, whole = content_of(body)
    left, gone = cut(body.source, content, person)
    left = left if whole else b""
    if gone and (left or body.state != "parked"):
        inbox.rewrite(connection, body.id, left)
    elif gone:  # there is nothing left for a human to look at
        inbox.delete(connection, body.id)
    return gone


def cut_drained(connection: Connection, source: str, deliveries: Sequence[Claimed]) -> None:
    """Cut the records of whoever was forgotten out of deliveries that are about to be done."""
    if not forgotten.are_any(connection):
        return
    contents = {delivery.id: delivery.content() for delivery in deliveries}
    out = forgotten.among(connection, set[str]().union(*map(ids_in, contents.values())))
    if not out:
        return
    person, cut_out = Mentions(out), 0
    for delivery_id, content in contents.items():
        left, gone = cut(source, content, person)
        if gone:
            inbox.rewrite(connection, delivery_id, left)
            cut_out += gone
    notes.count(connection, {"records_cut": cut_out})


def without_forgotten(connection: Connection, bad: Sequence[Bad]) -> Sequence[Bad]:
    """Return those of these records that speak of nobody who was forgotten."""
    if not bad or not forgotten.are_any(connection):
        return bad
    mentioned = [ids_in(raw) for _, (_, _, raw) in bad]
    out = forgotten.among(connection, set[str]().union(*mentioned))
    return [one for one, ids in zip(bad, mentioned, strict=True) if not ids & out.keys()]


def cut_parked(connection: Connection, delivery: Claimed) -> None:
    """Empty a delivery that is about to be parked whole, if it speaks of anybody forgotten: what cannot be read cannot be cut."""
    if not forgotten.are_any(connection):
        return
    content, _ = content_of(Body(delivery.id, "", "parked", delivery.encoding, delivery.size, delivery.body))
    if forgotten.among(connection, ids_in(content)):
        inbox.rewrite(connection, delivery.id, b"")
        notes.raise_condition(connection, "reconcile_wanted", _LOST)
