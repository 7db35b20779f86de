from __future__ import annotations

import os

import pytest
from hypothesis import settings

# A deadline measures how busy the machine is.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# Read before a test's own environment hides it.
EXHAUSTIVE = os.environ.get("SECURECFG_EXHAUSTIVE") == "1"


@pytest.fixture(scope="session")
def exhaustive() -> bool:
    """Whether runs that take long are wanted."""
    return EXHAUSTIVE
