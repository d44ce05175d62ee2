"""What is to be done for one user's push now: what to send, what waits for a change, what waits for a human (P16 to P19)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from worker.domain.pushes import MOST_IN_A_DAY, Difference, Part, Wanted, difference
from worker.domain.roles import Rule, earned
from worker.store.people import Person
from worker.store.pushes import Mark

TOO_MANY = f"more than {MOST_IN_A_DAY} pushes in a day: somebody else keeps undoing them"

Parked = Mapping[Part, dict[str, str]]
"""By part: what it was made of ("for"), and the "reason"."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`send` now; `waiting`: parts that wait for a change (P18); `held_back`: the loss of a role waits for a human (P19).

    `wanted` is what it was made of, `updated_at` the profile's that it was compared with.
    """

    wanted: Wanted
    updated_at: str | None
    send: Difference
    waiting: Parked = field(default_factory=dict)
    held_back: bool = False

    @property
    def waits(self) -> bool:
        """Whether something is left that a change or a human must bring on."""
        return bool(self.waiting) or self.held_back

    def parked(self, reasons: Mapping[Part, str]) -> Parked:
        """Return what to keep of parts that are parked for these reasons: tried again when what they are made of differs."""
        made_of = self.wanted.made_of(self.updated_at)
        return {part: {"for": made_of, "reason": reason} for part, reason in reasons.items()}

    def also_waiting(self, parked: Parked) -> "Plan":
        """Return the same with these parts waiting instead of being sent."""
        send = self.send.only(self.send.values.keys() - parked.keys())
        return replace(self, send=send, waiting={**self.waiting, **parked})

    def without_losses(self) -> "Plan":
        """Return the same with the loss of a role held back."""
        return replace(self, send=self.send.without_losses(), held_back=True)

    @property
    def loses(self) -> bool:
        """Whether a role is to be taken away now."""
        return self.send.roles is not None and bool(self.send.roles.lost)


@dataclass(frozen=True, slots=True)
class Planner:
    """Compares users with what is wanted of them, by the rules and the default name ("" for none)."""

    rules: Sequence[Rule]
    default_name: str

    def plan(self, mark: Mark, person: Person, profile: Mapping[str, Any], updated_at: str | None) -> Plan:
        """Compare a profile (its metadata is enough) with what is wanted of this person, less what waits."""
        wanted = Wanted(earned(self.rules, person.facts), person.wishes, self.default_name if person.logs_in else "")
        lacks = difference(profile, wanted, self.rules)
        plan = Plan(wanted, updated_at, lacks)
        waiting = {
            part: parked for part in lacks.values if (parked := mark.parked.get(part)) and _waits(parked, plan, person)
        }
        plan = plan.also_waiting({**plan.parked(lacks.unwritable), **waiting})
        held_back = mark.braked and not mark.removal_allowed and plan.loses
        return plan.without_losses() if held_back else plan

    def bounded(self, mark: Mark, person: Person, plan: Plan) -> Plan:
        """Park what would be one push too many in a day, unless it is another than the one that was parked for that."""
        if person.pushed_in_a_day < MOST_IN_A_DAY:
            return plan
        ours = plan.wanted.made_of(None)
        if any(parked["reason"] == TOO_MANY and parked["for"] != ours for parked in mark.parked.values()):
            return plan
        return plan.also_waiting({part: {"for": ours, "reason": TOO_MANY} for part in plan.send.values})


def _waits(parked: Mapping[str, str], plan: Plan, person: Person) -> bool:
    if parked["reason"] == TOO_MANY:
        return parked["for"] == plan.wanted.made_of(None) and person.pushed_in_a_day >= MOST_IN_A_DAY
    return parked["for"] == plan.wanted.made_of(plan.updated_at)
