"""What the gateway can be told from outside, on top of what every process can."""

from pydantic import HttpUrl, SecretStr, field_validator

from shared.config import Settings

#: Characters. Shorter ones can be guessed.
SHORTEST_KEY = 16


class GatewaySettings(Settings):
    """Settings of the gateway.

    Attributes:
        gateway_api_keys: who may use the API, separated by commas or white space; without any, everyone may.
        mail_catcher_url: where a person reads what the mail catcher caught; the page has no link without it.
    """

    gateway_api_keys: SecretStr | None = None
    mail_catcher_url: HttpUrl | None = None

    @field_validator("gateway_api_keys")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _split(value):
            raise ValueError("holds no key: give one, or leave it out to let everyone in")
        if value is not None and any(len(key) < SHORTEST_KEY for key in _split(value)):
            raise ValueError(f"each key must have at least {SHORTEST_KEY} characters: `openssl rand -hex 24` makes one")
        if value is not None and not all(key.isascii() for key in _split(value)):
            raise ValueError("a key must be plain ASCII, because it travels in a header")
        return value

    @property
    def api_keys(self) -> tuple[str, ...]:
        """The keys, one by one. Never log them."""
        return _split(self.gateway_api_keys) if self.gateway_api_keys else ()


def _split(keys: SecretStr) -> tuple[str, ...]:
    return tuple(keys.get_secret_value().replace(",", " ").split())
