"""Made-up people: names, addresses and metadata of realistic variety."""

from __future__ import annotations

import random
import unicodedata

from simulator.connections import Connection
from simulator.users import Metadata

_GIVEN = (
    "Ada", "Akira", "Amélie", "Anjali", "Björn", "Carla", "Chidi", "Dmitri", "Eleni", "Fatima", "Giulia", "Hana",
    "Hugo", "Ines", "Jürgen", "Kofi", "Lars", "Leïla", "Mateo", "Mei", "Nadia", "Noah", "Olga", "Pedro", "Quynh",
    "Rania", "Sven", "Tomás", "Ursula", "Viktor", "Wanjiru", "Xiomara", "Yusuf", "Zoë",
)  # fmt: skip
_FAMILY = (
    "Abara", "Bauer", "Castillo", "D'Angelo", "Eriksson", "Fischer", "García", "Haddad", "Ivanova", "Jansen",
    "Kowalski", "Lindqvist", "Müller", "Nguyen", "O'Brien", "Okafor", "Petrov", "Qureshi", "Rossi", "Sato", "Tanaka",
    "Uzun", "Van-Dijk", "Wójcik", "Yildiz", "Zhang",
)  # fmt: skip
_DOMAINS = ("example.com", "example.org", "example.net", "mail.example.com", "music.example.org")
_GENRES = ("rock", "jazz", "techno", "fado", "K-pop", "bossa nova", "drum & bass")
_LOCALES = ("en", "de", "fr", "pt-BR", "ja")


def person(rng: random.Random, connection: Connection, number: int) -> Metadata:
    """Invent the profile attributes of a new person; `number` makes the e-mail address their own."""
    given, family = rng.choice(_GIVEN), rng.choice(_FAMILY)
    fields: Metadata = {}
    if connection.strategy == "sms":
        return {"phone_number": f"+4479{number % 10**8:08d}", "phone_verified": True}
    fields["email"] = email_of(rng, given, family, number)
    fields["email_verified"] = not connection.is_database or rng.random() < 0.3
    if connection.strategy == "email":
        return fields
    fields["name"] = f"{given} {family}" + (" 🎸" if rng.random() < 0.02 else "")
    if connection.is_database:
        if rng.random() < 0.1:
            fields["username"] = f"{_plain(given)}{number}"
        return {**fields, **metadata(rng)}
    fields |= {"given_name": given, "family_name": family}
    if connection.is_social:
        fields["picture"] = f"https://pictures.example.com/{rng.getrandbits(64):016x}=s96-c"
        if rng.random() < 0.5:
            fields["locale"] = rng.choice(_LOCALES)
    return fields


def metadata(rng: random.Random) -> Metadata:
    """Invent some metadata, often none."""
    fields: Metadata = {}
    if rng.random() < 0.3:
        fields["user_metadata"] = {"fav_genre": rng.choice(_GENRES), "newsletter": rng.random() < 0.5}
    if rng.random() < 0.2:
        fields["app_metadata"] = {
            "plan": rng.choice(("free", "pro")),
            "roles": ["listener"],
            "limits": {"songs": rng.randrange(100)},
        }
    return fields


def odd_id(rng: random.Random, number: int) -> str:
    """Invent an id such as imports from older systems bring: slashes, quotes, per cent signs, spaces."""
    return f'legacy/{number} {rng.choice(_FAMILY)}%7C"ü'


def email_of(rng: random.Random, given: str, family: str, number: int) -> str:
    return f"{_plain(given)}.{_plain(family)}.{number}@{rng.choice(_DOMAINS)}"


def full_name(rng: random.Random) -> str:
    return f"{rng.choice(_GIVEN)} {rng.choice(_FAMILY)}"


def _plain(name: str) -> str:
    ascii_only = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return "".join(letter for letter in ascii_only.lower() if letter.isalnum())
