"""Who the person at the keyboard is."""

from __future__ import annotations

import getpass
import os
import re

_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")
_NAME_MAX = 64


def login() -> str:
    """Return the principal of the user who is logged in."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = ""
    return f"user:{fit_name(name) or f'uid-{os.getuid()}'}"


def fit_name(name: str) -> str:
    """Return a name with only what a principal may have; perhaps nothing is left."""
    return _UNFIT.sub("-", name)[:_NAME_MAX].strip("._-")
