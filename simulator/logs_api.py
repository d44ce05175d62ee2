"""Management API: the tenant log, by checkpoint and by page."""

from __future__ import annotations

from urllib.parse import urlencode

from simulator.errors import ApiError, invalid_query
from simulator.management import Answer, Call, Endpoint
from simulator.tenant import Tenant
from simulator.users_api import SEARCH_CAP, number_of


class LogsApi:
    """Handlers of `/api/v2/logs*`."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant

    def endpoints(self) -> list[Endpoint]:
        scopes = ("read:logs", "read:logs_users")
        return [
            Endpoint("GET", "/api/v2/logs", scopes, self.pull),
            Endpoint("GET", "/api/v2/logs/{id}", scopes, self.get),
        ]

    def get(self, call: Call) -> Answer:
        record = self._tenant.logs.find(call.params["id"])
        if record is None:
            raise ApiError(404, "Log not found", "inexistent_log")
        return Answer(record.flat())

    def pull(self, call: Call) -> Answer:
        """With `from`: by checkpoint, whatever else is asked. Otherwise the newest first, by page."""
        if "from" in call.query or "take" in call.query:
            return self._from_checkpoint(call)
        per_page, page = number_of(call.query, "per_page", 50, 100), number_of(call.query, "page", 0, None)
        if (page + 1) * per_page > SEARCH_CAP:
            raise ApiError(400, "You can only page through the first 1000 records.", "invalid_paging")
        wanted = _codes(call.query.get("q"))
        found = [record for record in self._tenant.logs.newest() if not wanted or record.type in wanted]
        start = page * per_page
        logs = [record.flat() for record in found[start : start + per_page]]
        if call.query.get("include_totals") != "true":
            return Answer(logs)
        return Answer({"start": start, "limit": per_page, "length": len(logs), "total": len(found), "logs": logs})

    def _from_checkpoint(self, call: Call) -> Answer:
        take = number_of(call.query, "take", 50, 100)
        checkpoint = call.query.get("from", "")
        records = self._tenant.logs.after(checkpoint, take)
        following = urlencode({"from": records[-1].log_id if records else checkpoint, "take": take})
        link = f'<{self._tenant.authority.audience}logs?{following}>; rel="next"'
        return Answer([record.flat() for record in records], headers={"Link": link})


def _codes(q: str | None) -> set[str]:
    """Read the codes of `type:s` or `type:(s OR f)`. Auth0 takes more; ApiError 400 says so here."""
    if not q:
        return set()
    if not q.startswith("type:"):
        raise invalid_query("This simulator searches logs by type alone")
    return set(q.removeprefix("type:").replace('"', "").strip("() ").split(" OR "))
