"""A tenant alive: a random mix of everything people and admins do."""

from __future__ import annotations

import random

from simulator.errors import ApiError
from simulator.people import People
from simulator.tenant import Tenant

WEIGHTS: dict[str, int] = {
    "signup": 15,
    "login": 40,
    "failed_login": 4,
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
    "link": 3,
    "unlink": 3,
    "brute_force": 1,
    "scim": 1,
    "import": 1,
    "future_code": 1,
}


class Live:
    """Chooses who does what next."""

    def __init__(self, people: People, tenant: Tenant) -> None:
        self._people = people
        self._tenant = tenant

    def step(self, rng: random.Random, weights: dict[str, int] | None = None) -> tuple[str, bool]:
        """One act: its name, and whether Auth0 let it happen (an e-mail may be taken, a user have nothing to unlink)."""
        chances = {**WEIGHTS, **weights} if weights else WEIGHTS
        act = rng.choices(list(chances), list(chances.values()))[0]
        try:
            self._do(act, rng)
        except ApiError:
            return act, False
        return act, True

    def _do(self, act: str, rng: random.Random) -> None:
        users = self._tenant.users
        user = users.any_linked(rng) if act == "unlink" else users.any_of(rng)
        if act == "unlink" and user is None:
            raise ApiError(400, "Nobody is linked.")
        if act == "signup" or user is None:
            self._people.sign_up(rng, log_in=rng.random() < 0.9)
        elif act == "recreate":
            self._people.recreate_any(rng)
        elif act == "import":
            self._tenant.journal.imported(user.primary.connection)
        elif act == "future_code":
            self._tenant.journal.from_the_future()
        else:
            self._people.acts[act](user.user_id, {}, rng)
