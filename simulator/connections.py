"""The connections people come through, and what a user id looks like in each."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from simulator.errors import ApiError
from simulator.users import Identity


@dataclass(frozen=True)
class Connection:
    """One connection of the tenant. `strategy` is the first part of its users' ids."""

    name: str
    id: str
    strategy: str
    strategy_type: str
    is_social: bool
    share: int
    """How many of a hundred new people come through it."""

    @property
    def is_database(self) -> bool:
        return self.strategy == "auth0"

    def new_identity(self, rng: random.Random, email: str) -> Identity:
        return Identity(
            user_id=self._new_user_id(rng, email),
            provider=self.strategy,
            connection=self.name,
            is_social=self.is_social,
        )

    def _new_user_id(self, rng: random.Random, email: str) -> str | int:
        if self.strategy == "google-oauth2":
            return f"1{rng.randrange(10**20):020d}"
        if self.strategy == "github":
            return rng.randrange(
                1_000_000, 200_000_000
            )  # an integer in `identities`, text behind the pipe in `user_id`
        if self.strategy == "samlp":
            return f"{self.name}|{email}"
        return f"{rng.getrandbits(96):024x}"


DATABASE = "Username-Password-Authentication"

CONNECTIONS: dict[str, Connection] = {
    connection.name: connection
    for connection in (
        Connection(DATABASE, "con_7yJq0Zb5Tn1dVx2k", "auth0", "database", is_social=False, share=60),
        Connection("google-oauth2", "con_m1Rr8bWcE4sYp0Ua", "google-oauth2", "social", is_social=True, share=20),
        Connection("acme-saml", "con_Zk3uHq6Lw9tXn5Cd", "samlp", "enterprise", is_social=False, share=8),
        Connection("sms", "con_Q0fVt7Gm2yJb4Sei", "sms", "passwordless", is_social=False, share=5),
        Connection("email", "con_A9xPz1Nk6oUc3Rlw", "email", "passwordless", is_social=False, share=4),
        Connection("github", "con_D5hTs8Kv0qMi7Fgy", "github", "social", is_social=True, share=3),
    )
}


class Connections:
    """The connections that a tenant still has."""

    def __init__(self) -> None:
        self._open = dict(CONNECTIONS)

    def __iter__(self) -> Iterator[Connection]:
        return iter(self._open.values())

    def named(self, name: str) -> Connection:
        """ApiError 400 when there is none."""
        if name not in self._open:
            raise ApiError(400, "The connection does not exist.", "inexistent_connection")
        return self._open[name]

    def with_id(self, connection_id: str) -> Connection:
        """ApiError 404 when there is none."""
        found = next((c for c in self if c.id == connection_id), None)
        if found is None:
            raise ApiError(404, "The connection does not exist", "inexistent_connection")
        return found

    def pick(self, rng: random.Random) -> Connection:
        """Choose a connection, each as often as people use it."""
        choices = list(self)
        if not choices:
            raise ApiError(400, "The tenant has no connection left.")
        return rng.choices(choices, [c.share for c in choices])[0]

    def remove(self, connection: Connection) -> None:
        del self._open[connection.name]


def of_identity(identity: Identity) -> Connection:
    """Name the connection an identity came through; the database one when it is of none of ours."""
    return CONNECTIONS.get(identity.connection, CONNECTIONS[DATABASE])
