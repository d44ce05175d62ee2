"""Decodes deliveries of Auth0's event streams: one CloudEvent each, as far as the documents say; several do no harm.

Only what is read is validated: of an event its `type`, of a user's event the id. Delivered and documented envelopes differ in the rest.
"""

import json
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from worker.auth0.spans import REFUSED, pieces
from worker.auth0.wire import SECOND_LOOK_BYTES, BadRecord
from worker.domain.nesting import too_deep


class CloudEvent(Struct, gc=False):
    """What is read of an event; `type` alone is sure to be text."""

    type: str
    id: Any = None
    time: Any = None
    a0purpose: Any = None
    data: Any = None
    # Ours, and always set after decoding, whatever a body holds under these names.
    position: int = msgspec.field(default=0, name="(position)")  # in the delivery, from 0; bad ones count
    raw: bytes = msgspec.field(default=b"", name="(raw)")  # its bytes as they came

    def __repr__(self) -> str:
        return "<cloud event>"  # the rest is personal


class Decoded(NamedTuple):
    """A decoded delivery: the events in order, and what is none."""

    events: list[CloudEvent]
    bad: list[BadRecord]

    def __repr__(self) -> str:
        return f"<{len(self.events)} events, {len(self.bad)} bad>"


_EVENT = msgspec.json.Decoder(CloudEvent)


def decode_events(body: bytes) -> Decoded:
    """Decode the (decompressed) body of a delivery; never raises. An empty one holds no events."""
    body = body.removeprefix(b"\xef\xbb\xbf")
    found = Decoded([], [])
    for position, (start, end) in enumerate(pieces(body)):
        raw = body[start:end]
        event = _decode(raw)
        if isinstance(event, CloudEvent):
            event.position, event.raw = position, raw
            found.events.append(event)
        else:
            found.bad.append(BadRecord(position, event, raw))
    return found


def _decode(raw: bytes) -> CloudEvent | str:
    """Return the event, or why it is none."""
    try:
        return "nested too deeply" if too_deep(raw) else _EVENT.decode(raw)
    except msgspec.ValidationError:
        return "no event: an object with a type"
    except REFUSED:
        pass
    if len(raw) > SECOND_LOOK_BYTES:
        return "not JSON"
    try:  # the standard library reads what msgspec refuses: halves of characters, numbers beyond a double
        return msgspec.convert(json.loads(raw), CloudEvent)
    except msgspec.ValidationError:
        return "no event: an object with a type"
    except (ValueError, RecursionError):
        return "not JSON"
