"""The options of rotators: text that people give, taken strictly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.errors import InvalidRotation
from securecfg.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Sequence

    from securecfg.rotation.interface import Options


_DIGITS_MAX = 10


class GivenOptions:
    """The options of one rotator, each taken once; what nobody took is refused at the end.

    Args:
        rotator: The rotator's name, for errors.
        options: What was given.
    """

    def __init__(self, rotator: str, options: Options) -> None:
        """Take none yet."""
        self._rotator = rotator
        self._options = options
        self._known: list[str] = []

    def text(self, name: str, default: str | None = None) -> str:
        """Return an option that is plain text.

        Raises:
            InvalidRotation: It is missing and has no default, or is a reference to a secret.
        """
        value = self._take(name)
        if value is None:
            if default is None:
                raise self._wrong(name, "is needed")
            return default
        if isinstance(value, Secret):
            raise self._wrong(name, "is plain text, not a reference to a secret")
        return value

    def secret(self, name: str) -> Secret[str] | None:
        """Return an option that is a reference to a secret, None where it is not given.

        Raises:
            InvalidRotation: It is plain text, or a secret that is not.
        """
        value = self._take(name)
        if value is None:
            return None
        if not isinstance(value, Secret):
            raise self._wrong(name, "must be a reference such as `${secret:db/admin#password}`")
        if not isinstance(value.reveal(), str):
            raise self._wrong(name, "refers to a secret that is not text")
        return value  # type: ignore[return-value]  # checked in the line above

    def number(self, name: str, default: int, at_least: int, at_most: int) -> int:
        """Return an option that is a whole number.

        Raises:
            InvalidRotation: It is none, or out of its range.
        """
        text = self.text(name, str(default))
        if not (text.isascii() and text.isdecimal() and len(text) <= _DIGITS_MAX and at_least <= int(text) <= at_most):
            raise self._wrong(name, f"is a whole number from {at_least} to {at_most}")
        return int(text)

    def choice(self, name: str, choices: Sequence[str], default: str | None = None) -> str:
        """Return an option that is one of some words.

        Raises:
            InvalidRotation: It is none of them.
        """
        text = self.text(name, default)
        if text not in choices:
            raise self._wrong(name, f"is one of {', '.join(f'`{each}`' for each in choices if each)}")
        return text

    def finish(self) -> None:
        """Refuse what nobody took.

        Raises:
            InvalidRotation: There is such an option.
        """
        if not self._options.keys() <= set(self._known):
            known = ", ".join(f"`{name}`" for name in self._known) or "no options"
            message = f"the rotator `{self._rotator}` has the options {known}"
            raise InvalidRotation(message)

    def _take(self, name: str) -> str | Secret[str] | Secret[bytes] | None:
        self._known.append(name)
        return self._options.get(name)

    def _wrong(self, name: str, what: str) -> InvalidRotation:
        return InvalidRotation(f"the option `{name}` of the rotator `{self._rotator}` {what}")
