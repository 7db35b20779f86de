"""Promise 2: whatever is done to whatever row, a reader gets the value that was written, or an error that says so."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from securecfg.store import Space
from tests.reliability.tampering import (
    Sample,
    alterations,
    flip_bytes,
    is_noticed_by_reading,
    is_noticed_by_verification,
    make_sample,
    name_of,
)

if TYPE_CHECKING:
    from tests.reliability.tampering import Key

pytestmark = pytest.mark.no_cover

KINDS = {
    *("head", "header", "slot", "keyring", "manifest", "segment", "history", "dek", "value", "delta"),
    *("log", "tile", "sealer", "part"),
}
# Reading does not touch these: the log below the manifest, its tiles, the keys of its records and their parts. A copy
# of a row under an id that nothing names does nothing. `vault verify` and `audit verify` look at all of them.
UNTOUCHED_BY_READING = {"log", "tile", "sealer", "part"}
COPY = "duplicate"
# Hashes behind those that the signed size counts are not looked at.
WITHOUT_EFFECT = {("tile", "extend")}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("sample"))


@pytest.fixture(scope="module")
def small_sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("small"), is_small=True)


def some_of_each_kind(sample: Sample) -> dict[str, list[Key]]:
    found: dict[str, list[Key]] = {}
    for key in sorted(sample.rows.rows):
        found.setdefault(name_of(key), []).append(key)
    return {name: [*keys[:2], *keys[-3:]] if len(keys) > 5 else keys for name, keys in found.items()}


def test_the_sample_has_every_kind_of_row(sample: Sample) -> None:
    assert set(some_of_each_kind(sample)) == KINDS
    assert len(sample.rows.opened().scan(Space.SEGMENT, 0, 2**63 - 1, 10)) >= 1
    assert not is_noticed_by_reading(sample, sample.rows)
    assert not is_noticed_by_verification(sample, sample.rows)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_no_alteration_of_a_row_gives_a_wrong_value_or_goes_unnoticed(sample: Sample, kind: str) -> None:
    unnoticed_by_reading: Counter[str] = Counter()
    for key in some_of_each_kind(sample)[kind]:
        for alteration, rows in alterations(sample.rows, sample.older, key):
            if is_noticed_by_reading(sample, rows):
                continue
            unnoticed_by_reading[alteration] += 1
            if alteration != COPY and (kind, alteration) not in WITHOUT_EFFECT:
                assert is_noticed_by_verification(sample, rows), f"{alteration} of {kind} {key}"
    print(f"{kind}: not noticed by reading alone: {dict(unnoticed_by_reading)}")
    if kind not in UNTOUCHED_BY_READING:
        assert set(unnoticed_by_reading) <= {COPY}


def test_any_byte_of_any_row_of_a_small_vault(small_sample: Sample) -> None:
    """Every 29th byte here; `python -m tests.reliability.tamper` flips every one."""
    flip_bytes(small_sample, step=29)
