"""The credentials of `understudy setup`: its own, from its environment, never stored, never the runtime's.

A runtime that could deploy Actions could run code in every login.
"""

from typing import Annotated, Self

from pydantic import AfterValidator, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from worker.errors import WrongSetting


def _namespace(value: str) -> str:
    if value and not value.startswith(("https://", "http://")):
        raise ValueError("must be a URL that you own, such as https://music.example.com/")
    return value


class Credentials(BaseSettings):
    """AUTH0_SETUP_CLIENT_ID, AUTH0_SETUP_CLIENT_SECRET, and under which namespace the Action puts its claims."""

    model_config = SettingsConfigDict(extra="ignore", hide_input_in_errors=True, frozen=True, env_ignore_empty=True)

    auth0_setup_client_id: str = ""
    auth0_setup_client_secret: SecretStr = SecretStr("")
    token_claims_namespace: Annotated[str, AfterValidator(_namespace)] = ""

    @classmethod
    def from_environment(cls) -> Self:
        """Read the environment; raises WrongSetting for what cannot be, without its value."""
        try:
            return cls()
        except ValidationError as error:
            wrong = error.errors()[0]
            name = str(wrong["loc"][0]).upper()
            raise WrongSetting(f"{name}: {wrong['msg'].removeprefix('Value error, ')}") from None

    def check(self) -> None:
        """Raise WrongSetting where one is missing."""
        for name, value in (
            ("AUTH0_SETUP_CLIENT_ID", self.auth0_setup_client_id),
            ("AUTH0_SETUP_CLIENT_SECRET", self.auth0_setup_client_secret.get_secret_value()),
        ):
            if not value:
                raise WrongSetting(
                    f"{name} is not set: setup uses an application of its own, with the scopes that docs/operating.md lists"
                )
