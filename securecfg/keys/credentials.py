"""Credentials that lie in a file or in an environment variable, so that no URI holds them."""

from __future__ import annotations

import os
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from securecfg.secret import Secret

_CREDENTIAL_BYTES = 65_536


class CredentialMissing(Exception):
    """There is nothing to log in with.

    Attributes:
        places: Where it was looked for.
    """

    def __init__(self, places: str) -> None:
        """Say where it was looked for."""
        super().__init__(f"looked for in {places}")
        self.places = places


def find_credential(
    file: str,
    variable: str,
    last: str = "",
    given: Mapping[str, Secret[str]] = MappingProxyType({}),
) -> str:
    """Return what lies in a file, or is given under the name of a variable, or in the variable, or in the last file.

    Raises:
        CredentialMissing: Nowhere.
    """
    if not file and variable in given:
        return given[variable].reveal()
    if not file and os.environ.get(variable):
        return os.environ[variable].strip()
    try:
        path = os.path.expanduser(file or last)  # noqa: PTH111 - `Path.expanduser` fails for an unknown user
        with open(path, encoding="utf-8") as lines:
            found = lines.read(_CREDENTIAL_BYTES).strip()
    except (OSError, ValueError):
        found = ""
    if not found:
        raise CredentialMissing(" or ".join(filter(None, ("" if file else variable, file or last))))
    return found
