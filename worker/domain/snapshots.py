"""What a snapshot that Auth0 pushed does to a row: docs/protocol.md's P2, P6, P7, P11 and P12 as pure functions.

Nobody asked for it, so nothing is known of the moment at which it was true but its own `updated_at`: it improves the
row when newer, and asks for a strong read wherever that alone does not settle it.
"""

from collections.abc import Iterable
from datetime import datetime

from worker.domain.news import LATEST
from worker.domain.users import (
    Mark,
    Profile,
    Row,
    Tolerances,
    Verdict,
    Write,
    canonical,
    profile_time,
    same_content,
    secondary_ids,
)

# What a `user.*` event's `data.object` may hold: Auth0's Event Catalog, https://auth0.com/docs/events. Of these, what is
# absent is unset; of anything else an event says nothing (P2).
EVENT_COVERS = frozenset(
    [
        "user_id",
        "email",
        "email_verified",
        "username",
        "phone_number",
        "phone_verified",
        "name",
        "given_name",
        "family_name",
        "nickname",
        "picture",
        "blocked",
        "created_at",
        "updated_at",
        "last_login",
        "last_ip",
        "logins_count",
        "identities",
        "user_metadata",
        "app_metadata",
        "multifactor",
    ]
)


def on_event(
    row: Row, mark: Mark | None, snapshots: Iterable[Profile], tolerances: Tolerances, latest: datetime = LATEST
) -> tuple[Verdict, Profile]:
    """Decide on one user's snapshots in a batch, each with an `updated_at`; return the whole profile to write with it.

    Only the newest counts (P6), but every id that any of them gains or loses is to be asked for (P7). A row that is dated after
    `latest`, by the tenant's own answer, is read strongly: no event would be newer.
    """
    told = list(snapshots)
    newest = max(told, key=_updated_at)
    date = _updated_at(newest)
    torn = any(_updated_at(one) == date and not same_content(one, newest) for one in told)
    said = over(row.profile, newest, EVENT_COVERS)
    held = secondary_ids(row.profile)
    gained = frozenset[str]().union(*(secondary_ids(one) - held for one in told))
    lost = frozenset[str]().union(*(held - secondary_ids(one) for one in told))
    others = (gained | lost) - {row.user_id}
    if row.forgotten is not None:
        return Verdict(ask=True), said  # a strong read decides (P14)
    if row.deleted or torn or _no_later_than_a_deletion(row, mark, date, tolerances):
        return Verdict(ask=True, ask_others=others, expected_gone=gained), said
    known = profile_time(row.profile.get("updated_at")) if row.profile else None
    newer = known is None or date > known
    contradicts = date == known and not same_content(row.profile, said)
    if contradicts or (known is not None and known > latest):
        return Verdict(ask=True, ask_others=others, expected_gone=gained), said
    reaches = (
        mark is not None
        and mark.newest is not None
        and date >= mark.newest + tolerances.log_date_skew
        and not mark.strong
    )
    write = Write.SNAPSHOT if newer else Write.NOTHING
    return Verdict(write, clear=reaches and (newer or date == known), ask_others=others, expected_gone=gained), said


def on_export(
    row: Row,
    mark: Mark | None,
    said: Profile,
    covers: frozenset[str] | None,
    tolerances: Tolerances,
    began_at: datetime,
) -> tuple[Verdict, Profile]:
    """Decide on a row of an export: it improves the row like a search hit and clears nothing (P10); return what to write with it.

    `covers` None: the profile is whole, as a search shows it. `began_at`: before the export was asked for, by our clock.
    """
    whole = said if covers is None else over(row.profile, said, covers)
    held, told = secondary_ids(row.profile), secondary_ids(said)
    others, gained = (held ^ told) - {row.user_id}, told - held
    date = profile_time(said.get("updated_at"))
    if row.forgotten is not None:
        return Verdict(ask=True), whole  # a strong read decides (P14)
    if date is None or row.deleted or _no_later_than_a_deletion(row, mark, date, tolerances):
        return Verdict(ask=True, ask_others=others, expected_gone=gained), whole
    known = profile_time(row.profile.get("updated_at")) if row.profile else None
    if known is None or date > known:
        return Verdict(Write.SNAPSHOT, ask_others=others, expected_gone=gained), whole
    # Newer here is as it should be where we learned it since; what we had before, the tenant should show.
    contradicts = date == known or row.synced_at is None or row.synced_at < began_at
    ask = contradicts and not same_content(row.profile, whole)
    return Verdict(ask=ask, ask_others=others, expected_gone=gained), whole


def over(known: Profile | None, said: Profile, covers: frozenset[str]) -> Profile:
    """Return the whole profile that `said` makes of what is known: it replaces what its source covers, and only that (P2)."""
    kept = {name: value for name, value in (known or {}).items() if name not in covers}
    return kept | {name: value for name, value in said.items() if value is not None or name not in covers}


def differing(known: Profile | None, said: Profile, covers: frozenset[str] | None) -> list[str]:
    """Return the covered attributes, sorted, of which a row and a snapshot say different things; None covers everything."""
    here = canonical(_only(known or {}, covers))
    there = canonical(_only(said, covers))
    return sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))


def _only(profile: Profile, covers: frozenset[str] | None) -> Profile:
    if covers is None:
        return profile
    return {name: value for name, value in profile.items() if name in covers}


def _updated_at(snapshot: Profile) -> datetime:
    date = profile_time(snapshot.get("updated_at"))
    assert date is not None, "a payload without updated_at is news, not a snapshot (P2)"  # noqa: S101 the caller sorts them
    return date


def _no_later_than_a_deletion(row: Row, mark: Mark | None, date: datetime, tolerances: Tolerances) -> bool:
    """P12: whether a deletion, link or unlink that we heard of may be the later of the two."""
    dates = [told for told in (row.deletion_seen_at, mark and mark.deletion_seen_at) if told]
    return bool(dates) and date <= max(dates) + tolerances.log_date_skew
