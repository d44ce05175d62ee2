"""GET and PATCH /displayName: the name a person chose; the last choice made here wins (P17)."""

from api.fields import Body, Name, Query
from api.operations import Call, Operation
from worker.music import display_names
from worker.music.display_names import DisplayName


class NewDisplayName(Body, rename="camel"):
    """A display name to go by from now on."""

    display_name: Name


async def get(call: Call[Query]) -> DisplayName:
    """Answer the name to show."""
    return await display_names.get(call.music.database, await call.caller(), call.music.default_name)


async def choose(call: Call[NewDisplayName]) -> DisplayName:
    """Keep the name; Auth0 gets it from a worker within seconds."""
    name = call.given.display_name
    await display_names.choose(call.music.database, await call.caller(), name)
    call.music.doorbell.ring_soon("push")
    return DisplayName(name, pending=True)


OPERATIONS = (
    Operation("GET", "/displayName", get, "The caller's display name", Query, DisplayName),
    Operation("PATCH", "/displayName", choose, "Choose a display name", NewDisplayName, DisplayName),
)
