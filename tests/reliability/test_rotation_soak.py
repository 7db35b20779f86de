"""Many secrets with schedules of all kinds, rotated for months by daemons that die: nothing is missed, or done twice.

Some thirty secrets for three months; with `SECURECFG_EXHAUSTIVE` also a thousand for a year, as by `make soak`.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.reliability.rotation_soak import Soak

if TYPE_CHECKING:
    from pathlib import Path

SIZES = [pytest.param(33, timedelta(days=90), id="a quarter")]
if "SECURECFG_EXHAUSTIVE" in os.environ:
    SIZES.append(pytest.param(1_000, timedelta(days=365), id="a year"))


@pytest.mark.timeout(7_200)
@pytest.mark.parametrize(("secrets", "span"), SIZES)
def test_nothing_is_missed_and_nothing_is_rotated_twice(tmp_path: Path, secrets: int, span: timedelta) -> None:
    soak = Soak(tmp_path, secrets, span, seed=4_711)
    soak.run()
    figures = soak.verify()
    print(figures)
    assert figures.rotations > 2 * secrets
    assert figures.deaths > 1
    assert figures.unanswered
    assert figures.looked_at
