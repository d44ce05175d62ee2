"""A tenant alive: a random mix of everything people and admins do."""

from __future__ import annotations

import random

from simulator.errors import ApiError
from simulator.people import People
from simulator.tenant import Tenant

WEIGHTS: dict[str, float] = {
    "signup": 15,
    "login": 40,
    "failed_login": 4,
    "noise": 5,
    "change_email": 3,
    "change_name": 5,
    "change_username": 1,
    "change_phone": 1,
    "change_password": 2,
    "verify_email": 3,
    "metadata": 6,
    "block": 2,
    "unblock": 2,
    "delete": 4,
    "recreate": 2,
    "admin_create": 2,
    "link": 3,
    "unlink": 2,
    "brute_force": 1,
    "scim": 1,
    "future_code": 1,
}
"""How often each act is chosen; a request's own weights replace single ones."""


class Live:
    """Chooses who does what next."""

    def __init__(self, people: People, tenant: Tenant) -> None:
        self._people = people
        self._tenant = tenant

    def step(self, rng: random.Random, weights: dict[str, float]) -> tuple[str, bool]:
        """Carry out one act: its name, and whether Auth0 let it happen (an e-mail may be taken, nothing be linked)."""
        act = rng.choices(list(weights), list(weights.values()))[0]
        try:
            self._do(act, rng)
        except ApiError:
            return act, False
        return act, True

    def _do(self, act: str, rng: random.Random) -> None:
        users = self._tenant.users
        user = users.any_linked(rng) if act == "unlink" else users.any_of(rng)
        if act == "signup":
            self._people.sign_up(rng, log_in=rng.random() < 0.9)
        elif act == "recreate":
            self._people.recreate_any(rng)
        elif act == "future_code":
            self._tenant.journal.from_the_future()
        elif user is None:
            raise ApiError(400, "There is nobody to do this.")
        else:
            self._people.acts[act](user.user_id, {}, rng)


def weights_with(own: dict[str, float] | None) -> dict[str, float]:
    """WEIGHTS with some replaced. ValueError for an act that does not exist."""
    unknown = set(own or ()) - WEIGHTS.keys()
    if unknown:
        raise ValueError(f"no such act: {', '.join(sorted(unknown))}; there are {', '.join(WEIGHTS)}")
    return {**WEIGHTS, **(own or {})}
