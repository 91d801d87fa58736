"""What a service is told by its environment."""

import os
from dataclasses import dataclass, fields
from pathlib import Path


class SettingsError(Exception):
    """Says in one sentence what is wrong with the environment."""


@dataclass(frozen=True)
class Settings:
    """Limits of the service, and the keys that open it; without keys it is open."""

    keys: tuple[str, ...] = ()
    most_images: int = 1_024  # in one request
    most_queued: int = 8_192  # images that wait at once
    most_bytes: int = 2**18  # of a request's body
    images_per_minute: int = 300_000  # for each key, or each client
    body_seconds: int = 10  # for a request's body to come
    check_seconds: int = 600  # from one check of golden images and a canary to the next


def settings_of_environment() -> Settings:
    """The keys in API_KEYS, with commas, or in the file that API_KEYS_FILE names, and the limits.

    Raises:
        SettingsError: if keys are meant and there is none, or a limit is no integer above 0.
    """
    return Settings(keys=keys_of_environment(), **limits_of_environment())


def keys_of_environment() -> tuple[str, ...]:
    file, text = os.environ.get("API_KEYS_FILE"), os.environ.get("API_KEYS")
    if file is not None:
        try:
            text = Path(file).read_text()
        except OSError as error:
            raise SettingsError(f"API_KEYS_FILE={file} cannot be read: {error.strerror}") from error
    if text is None:
        return ()
    keys = tuple(filter(None, (key.strip() for key in text.replace(",", "\n").splitlines())))
    if not keys or not all(key.isascii() for key in keys):
        raise SettingsError("API_KEYS and API_KEYS_FILE need a key of ASCII characters each line")
    return keys


def limits_of_environment() -> dict[str, int]:
    limits = {}
    for name in (field.name for field in fields(Settings) if field.name != "keys"):
        text = os.environ.get(name.upper())
        if text is None:
            continue
        if not text.isdecimal() or int(text) < 1:
            raise SettingsError(f"{name.upper()}={text} must be an integer from 1")
        limits[name] = int(text)
    return limits
