"""A model tenant that answers what the loops ask: strongly, by a lagging search, by export, by pages of its log and events.

It stands in for the clients of `worker.auth0` under their own method names. Every request stops its process twice: before
the tenant looks, and while the answer is on its way.
"""

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from tests.worker.sync.model import EPOCH, State, Tenant, iso
from tests.worker.sync.processes import Process, current
from worker.auth0.client import Rejected
from worker.auth0.event_feed import Message, Sign
from worker.auth0.exports import COVERS, Job
from worker.auth0.log_pages import TAKE, Page
from worker.auth0.pace import Grant, Look
from worker.auth0.search import SearchPage
from worker.domain.feeds import Entry
from worker.errors import TenantDown

# A role that rules give, or that somebody else does: what becomes of a list of roles is told apart by these.
OURS: Final = ("fan", "star")
BAD_NAME: Final = "*"
# Seconds: no request takes longer, or it has failed.
LONGEST_CALL: Final = 20.0


class People(Tenant):
    """The model of what Auth0 would hold, with metadata that we and others write."""

    def __init__(self) -> None:
        super().__init__()
        self.written_late: dict[int, float] = {}
        """By the place of a record: when it came into the log that is pulled, where that was not at once."""

    def look(self) -> datetime:
        """Return what time it is, by Auth0's clock."""
        return EPOCH + timedelta(seconds=self.now)

    def patch(self, user_id: str, body: dict[str, dict[str, Any]], skew: float, correlation_id: str = "") -> None:
        """Write somebody's metadata, as the Management API does."""
        user = self.users[user_id]
        for place, said in body.items():
            self._merge(user, place, said)
        user["updated_at"] = iso(self.now)
        self._tell("user.updated", user)
        self._api("PATCH", user_id, skew)
        if correlation_id:
            self.records[-1]["data"]["references"] = {"correlation_id": correlation_id}
        self._happened()

    def foreign_roles(self, user_id: str) -> list[str]:
        """Return the roles of somebody that are not ours, in their order."""
        return [role for role in roles_of(self.users[user_id]) if role not in OURS]

    def mask_the_last_record(self) -> None:
        """Have the last record, of a link or a deletion, not say whom it linked or deleted."""
        data = self.records[-1]["data"]
        if data["type"] == "sdu":
            data["user_id"] = ""
        else:
            data["details"]["request"]["body"] = {"link_with": "*****"}

    def _happened(self) -> None:
        self.users = copy.deepcopy(self.users)
        self.states.append((self.now, copy.deepcopy(self.users)))


def roles_of(user: dict[str, Any]) -> list[str]:
    found: list[str] = user.get("app_metadata", {}).get("roles", [])
    return found


@dataclass
class Answering:
    """The tenant's end of every request."""

    people: People
    exports: dict[str, tuple[float, State]] = field(default_factory=dict)
    patching: dict[str, tuple[Process, float]] = field(default_factory=dict)
    """By user: who has a PATCH under way, since when."""
    rests_on: dict[tuple[int, str], float] = field(default_factory=dict)
    """By process and user: when the answer came that its next PATCH rests on."""
    windows: dict[str, Process] = field(default_factory=dict)
    """By user: who is between a read and its PATCH, where a foreign change of the same key may be lost (P16)."""
    longest_call: float = LONGEST_CALL

    # Users

    def read_user(self, user_id: str) -> dict[str, Any] | None:
        process = self._ask()
        answer = copy.deepcopy(self.people.users.get(user_id))
        process.answered[user_id] = answer is not None
        if process.kind == "push":
            self.windows[user_id] = process
        self._answer(process)
        self.rests_on[id(process), user_id] = self.people.now
        return answer

    def take_that_fit(self, user_ids: list[str]) -> int:
        return len(user_ids)

    def search_users(self, user_ids: list[str]) -> SearchPage:
        process = self._ask()
        indexed = {
            one: self.people.at(max(0.0, self.people.now - process.lags.get(one, process.lag))) for one in user_ids
        }
        hits = [copy.deepcopy(index[user_id]) for user_id, index in indexed.items() if user_id in index]
        self._answer(process)
        return SearchPage(hits, frozenset(user_ids))

    def patch_user(self, user_id: str, body: dict[str, dict[str, Any]], correlation_id: str) -> dict[str, Any] | None:
        assert body, "a PATCH says nothing"
        assert all(body.values()), "an empty object would wipe all metadata of its kind (P16)"
        process = current()
        assert process is not None
        assert self.people.now - self.rests_on[id(process), user_id] <= 2.0, "a PATCH rests on an old answer (P16)"
        other, since = self.patching.get(user_id, (process, 0.0))
        assert other is process or other.at == "over" or self.people.now - since > LONGEST_CALL, (
            "two PATCHes at once (P16)"
        )
        self.patching[user_id] = (process, self.people.now)
        self._ask()
        self.windows.pop(user_id, None)
        user = self.people.users.get(user_id)
        if user is not None:
            for place, said in body.items():
                for key, value in said.items():
                    assert key in ("roles", "plan", "displayName"), "a PATCH writes what is not ours (P16)"
                    assert user.get(place, {}).get(key) != value, "a PATCH holds what does not differ (P16)"
            if body.get("user_metadata", {}).get("displayName") == BAD_NAME:
                self.patching.pop(user_id, None)
                raise Rejected(400, "invalid_body")
            self.people.patch(user_id, copy.deepcopy(body), 0.0, correlation_id)
            process.answered[user_id] = True
        answer = copy.deepcopy(self.people.users.get(user_id))
        self._answer(process)
        self.patching.pop(user_id, None)
        return answer

    # Exports

    def begin(self) -> Job:
        process = self._ask()
        name = f"job_{len(self.exports)}"
        self.exports[name] = (self.people.now + process.lag, copy.deepcopy(self.people.users))
        self._answer(process)
        return Job(name, process.lag == 0, name, None)

    def look_at(self, job_id: str) -> Job:
        process = self._ask()
        done = self.exports[job_id][0] <= self.people.now
        self._answer(process)
        return Job(job_id, done, job_id, None)

    def lines(self, job: Job) -> Iterator[bytes]:
        """Yield the lines of a file; a thread of the loop's reads them ahead, so nobody is stopped here."""
        for user in self.exports[job.id][1].values():
            yield json.dumps({name: value for name, value in user.items() if name in COVERS}).encode()

    # The log and the events, pulled

    def after(self, log_id: str) -> Page:
        process = self._ask()
        page = self._page([place for place in self._written() if place > int(log_id)])
        self._answer(process)
        return page

    def before(self, date: datetime) -> Page:
        process = self._ask()
        page = self._page([place for place in self._by_date() if self._date(place) < date][-1:])
        self._answer(process)
        return page

    def since(self, date: datetime, number: int) -> Page:
        process = self._ask()
        page = self._page([place for place in self._by_date() if self._date(place) >= date][number * TAKE :])
        self._answer(process)
        return page

    def messages(self, offset: str | None, since: datetime) -> Iterator[Message | Sign]:
        process = self._ask()
        # Where the loop has no offset yet it goes by the machine's clock, which is ahead of the model's.
        since = min(since, self.people.look() - timedelta(minutes=10))
        events = [
            Message(str(place), json.dumps(event).encode())
            for place, event in enumerate(self.people.events)
            if (place > int(offset) if offset is not None else event["time"] >= since.isoformat())
        ]
        self._answer(process)
        yield from events
        yield Sign.CAUGHT_UP

    def _written(self) -> list[int]:
        late = self.people.written_late
        return [place for place in range(len(self.people.records)) if late.get(place, 0.0) <= self.people.now]

    def _by_date(self) -> list[int]:
        return sorted(self._written(), key=self._date)

    def _date(self, place: int) -> datetime:
        return datetime.fromisoformat(self.people.records[place]["data"]["date"])

    def _page(self, places: list[int]) -> Page:
        records = [self.people.records[place] for place in places[:TAKE]]
        flat = [{"_id": one["log_id"], "log_id": one["log_id"], **one["data"]} for one in records]
        entries = [Entry(str(place), self._date(place)) for place in places[:TAKE]]
        now = self.people.look().astimezone(UTC)
        return Page(json.dumps(flat).encode(), len(flat), entries, now, is_the_end=len(flat) < TAKE)

    # Requests

    def _ask(self) -> Process:
        process = current()
        assert process is not None
        assert not process.in_transaction, "a transaction is open while Auth0 is asked (P8)"
        process.breaks = None
        began = self.people.now
        process.stand("request")
        if self.people.now - began > LONGEST_CALL:
            raise TenantDown("no answer in time")
        return process

    def _answer(self, process: Process) -> None:
        process.stand("answer")
        if process.breaks is not None:
            raise process.breaks


class Jobs:
    """The same tenant's exports, under the names of their client."""

    def __init__(self, answering: Answering) -> None:
        self.begin, self.look, self.lines = answering.begin, answering.look_at, answering.lines
        self._people = answering.people

    def total(self) -> int:
        return len(self._people.users)


@dataclass
class Purse:
    """A budget that is ample, or under pressure: which of the two decides how a loop reads."""

    ample: bool = True

    def look(self, _group: str) -> Look:
        level = 100.0 if self.ample else 0.0
        return Look(level, 100.0, 1.0, 0.0, "", 0)

    def take(self, *_: object) -> Grant:
        return Grant(1, 0.0, 0.0, "")

    def take_read_and_write(self, _priority: str) -> Grant:
        return Grant(1, 0.0, 0.0, "")

    def give_back(self, *_: object) -> None:
        """Take back what was not spent."""
