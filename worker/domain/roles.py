"""Which roles a person's facts earn, and what that makes of the list of roles in Auth0.

A role that a rule names is ours wholly (P15): it is there if it is earned. Every other role is somebody else's and stays
where it is. How to add a rule of one's own: docs/own-rules.md.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any


@dataclass(frozen=True, slots=True)
class Facts:
    """What is counted of one person, linked identities included (P13); `worker.store.people` counts it, field by field."""

    plays: int = 0


@dataclass(frozen=True, slots=True)
class Rule:
    """A role and what earns it."""

    role: str
    earned_by: Callable[[Facts], bool]


# Rules that no setting can say.
OWN_RULES: tuple[Rule, ...] = ()


def rules(tiers: Mapping[str, int]) -> tuple[Rule, ...]:
    """Return all rules: those of ROLE_TIERS, {role: plays that earn it}, then our own."""
    return (*(Rule(role, partial(_played, least)) for role, least in tiers.items()), *OWN_RULES)


def _played(least: int, facts: Facts) -> bool:
    return facts.plays >= least


def earned(rules: Iterable[Rule], facts: Facts) -> tuple[str, ...]:
    """Return the roles that the facts earn, in the order of the rules, each once."""
    return tuple(dict.fromkeys(rule.role for rule in rules if rule.earned_by(facts)))


@dataclass(frozen=True, slots=True)
class RoleChange:
    """What becomes of the list `held`: the list to write, what it gains and what it loses."""

    roles: list[Any]
    gained: tuple[str, ...]
    lost: tuple[str, ...]
    held: list[Any]


def role_change(held: Sequence[Any], rules: Sequence[Rule], earned: Sequence[str]) -> RoleChange | None:
    """Return the change that makes `held` what was earned, None where it is that already.

    Whatever else is in the list (foreign roles, things that are no text) is kept, in its order; a gained role comes last.
    """
    ours = {rule.role for rule in rules}
    gained = tuple(role for role in earned if role not in held)
    lost = tuple(dict.fromkeys(role for role in held if isinstance(role, str) and role in ours - set(earned)))
    if not gained and not lost:
        return None
    kept = [role for role in held if not (isinstance(role, str) and role in lost)]
    return RoleChange([*kept, *gained], gained, lost, list(held))
