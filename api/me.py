"""GET /me: the caller's row as the local copy has it."""

from api.fields import Query
from api.operations import GONE, Call, Operation, admitted
from api.problems import Problem
from worker.music import Me


async def me(call: Call[Query]) -> Me:
    """Answer what is known of the caller, who may have arrived this very moment."""
    seen = await call.music.mirror.look(call.subject)
    if seen is None:
        await call.music.callers.introduce(call.subject)
        seen = await call.music.mirror.look(call.subject)
    if seen is None or seen.me is None:
        if seen is not None:
            await call.music.callers.ask_again(call.subject)
        raise Problem(403, GONE)
    admitted(seen.caller)
    return seen.me


OPERATIONS = (
    Operation("GET", "/me", me, "The caller: profile, display name, roles, plan, and how fresh they are", Query, Me),
)
