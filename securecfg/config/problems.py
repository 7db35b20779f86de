"""The problems of a configuration, collected so that all are reported at once, and without values."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from securecfg.config.keys import is_secret_name
from securecfg.config.origins import locate
from securecfg.config.tree import Config
from securecfg.errors import ConfigErrors, SecurecfgError
from securecfg.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterable

KeyPath: TypeAlias = tuple[str | int, ...]


class Problems:
    """What is wrong with a configuration so far."""

    def __init__(self, root: Config) -> None:
        """Start without problems."""
        self._root = root
        self._found: list[tuple[KeyPath, SecurecfgError]] = []

    def add(self, path: KeyPath, error: SecurecfgError) -> None:
        """Add one, at a path."""
        self._found.append((path, error))

    def has_at(self, path: KeyPath) -> bool:
        """Tell whether there is a problem at exactly this path."""
        return any(found == path for found, _ in self._found)

    def __len__(self) -> int:
        """Count them."""
        return len(self._found)

    def drop_after(self, count: int) -> None:
        """Forget those that were added after the first `count`."""
        del self._found[count:]

    def raise_if_any(self) -> None:
        """Raise what was found, in the order of places; a single problem as itself.

        Raises:
            SecurecfgError: The only problem.
            ConfigErrors: Several problems.
        """
        if not self._found:
            return
        if len(self._found) == 1:
            raise self._found[0][1]
        origins = [(locate(self._root, path), error) for path, error in self._found]
        origins.sort(key=lambda pair: (pair[0].path, pair[0].line, pair[0].column))
        raise ConfigErrors(tuple(error for _, error in origins))


class Redactor:
    """Keeps texts of others (a validator's message) from repeating a secret."""

    def __init__(self, root: Config, secrets: Iterable[Secret[str] | Secret[bytes]]) -> None:
        """Know where secrets are: those that were resolved, and all values that are named as secrets usually are."""
        self._root = root
        self._secrets = secrets
        self._texts: set[str] = set()

    def redact(self, message: str) -> str:
        """Return a message on one line, or an empty string if it repeats a secret."""
        if not self._texts:
            texts = {secret.reveal() for secret in self._secrets}
            self._texts = {text if isinstance(text, str) else text.decode(errors="replace") for text in texts}
            self._collect(self._root, named=False)
        if any(text and text in message for text in self._texts):
            return ""
        return " ".join(message.split()).rstrip(".")

    def _collect(self, value: object, *, named: bool) -> None:
        if isinstance(value, Config):
            for key, item in value.__dict__.items():
                self._collect(item, named=named or is_secret_name(key))
        elif isinstance(value, tuple):
            for item in value:
                self._collect(item, named=named)
        elif named and not isinstance(value, Secret | bool) and value is not None:
            self._texts |= {str(value), repr(value)}
