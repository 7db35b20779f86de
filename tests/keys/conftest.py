from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from securecfg.crypto import Argon2Costs
from securecfg.keys import PassphraseProvider
from securecfg.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

# A deadline measures how busy the machine is.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

CHEAP = Argon2Costs(memory_kib=64, passes=1, lanes=1)


@pytest.fixture
def remembered() -> Callable[[str], PassphraseProvider]:
    """Makes a provider for a passphrase that costs next to nothing to try."""
    return lambda passphrase: PassphraseProvider(Secret(passphrase), costs=CHEAP)
