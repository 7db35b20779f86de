"""Many secrets with schedules of all kinds, rotated for months by daemons that die: nothing is missed, or done twice.

Normally some thirty secrets for three months; a thousand for a year with `SECURECFG_EXHAUSTIVE`, as by `make soak`.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.reliability.rotation_soak import Soak

if TYPE_CHECKING:
    from pathlib import Path

IS_EXHAUSTIVE = "SECURECFG_EXHAUSTIVE" in os.environ
SECRETS, SPAN = (1_000, timedelta(days=365)) if IS_EXHAUSTIVE else (33, timedelta(days=90))


@pytest.mark.timeout(3_600)
def test_nothing_is_missed_and_nothing_is_rotated_twice(tmp_path: Path) -> None:
    soak = Soak(tmp_path, SECRETS, SPAN, seed=4_711)
    soak.run()
    figures = soak.verify()
    print(figures)
    assert figures.rotations > 2 * SECRETS
    assert figures.deaths > 1
    assert figures.unanswered
    assert figures.looked_at
