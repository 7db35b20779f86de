"""Whatever is done to a vault, decoder and package read the same out of it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from securecfg import Vault
from securecfg.errors import Conflict, NotFound
from securecfg.policy import default_documents
from securecfg.vault import Batch
from securecfg.vault.commits.epochs import rotate_signing_key
from securecfg.vault.commits.maintenance import compact
from tests.decoder import decode
from tests.decoder.agreement import assert_agrees
from tests.decoder.place import Place

Change = Callable[[Vault | Batch], object]
Operation = Callable[[Vault], object]

PATHS = st.sampled_from(["a", "\u00fc/" + "x" * 200, "z" * 1_024])
VERSIONS = st.integers(1, 4)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
VALUES = st.one_of(
    TEXT,
    st.binary(max_size=300),
    st.dictionaries(st.sampled_from(["user", "password", "\u00e9"]), TEXT | st.binary(max_size=50), min_size=1),
    st.sampled_from([0, 46, 55, 56, 65_535, 65_536, 65_537, 262_135, 600_000]).map(bytes),
)
TTLS = st.none() | st.timedeltas(timedelta(microseconds=1), timedelta(days=36_500))
METADATA = st.none() | st.dictionaries(
    st.sampled_from(["owner", "\u00e4"]), st.text("ab\u00e9", max_size=20), max_size=2
)


def written(path: str, value: object, ttl: timedelta | None, metadata: dict[str, str] | None) -> Change:
    return lambda vault: vault.write(path, value, ttl=ttl, metadata=metadata)  # type: ignore[arg-type]  # of VALUES


CHANGES: st.SearchStrategy[Change] = st.one_of(
    st.builds(written, PATHS, VALUES, TTLS, METADATA),
    st.builds(written, PATHS, VALUES, TTLS, METADATA),
    st.builds(lambda path, version: lambda vault: vault.delete(path, version), PATHS, st.none() | VERSIONS),
    st.builds(lambda path, version: lambda vault: vault.undelete(path, version), PATHS, VERSIONS),
    st.builds(lambda path, version: lambda vault: vault.rollback(path, to=version), PATHS, VERSIONS),
    st.builds(lambda path, target: lambda vault: vault.move(path, target), PATHS, PATHS),
    st.builds(lambda path, version: lambda vault: vault.label(path, "here", version), PATHS, st.none() | VERSIONS),
)


def in_a_batch(changes: list[Change]) -> Operation:
    def operation(vault: Vault) -> None:
        with vault.batch() as batch:
            for change in changes:
                change(batch)

    return operation


OPERATIONS: st.SearchStrategy[Operation] = st.one_of(
    CHANGES,
    CHANGES,
    st.builds(in_a_batch, st.lists(CHANGES, max_size=5)),
    st.builds(lambda path, version: lambda vault: vault.destroy(path, version), PATHS, VERSIONS),
    st.builds(lambda path, version: lambda vault: vault.read(path, at=version), PATHS, st.none() | VERSIONS),
    st.just(lambda vault: compact(vault.opened)),
    st.just(lambda vault: rotate_signing_key(vault.authority)),
    st.just(lambda vault: vault.administration.apply_policy(default_documents("shop", "user:alice"))),
)


@pytest.mark.no_cover
# Shrinking would outlast the time limit: each example is a vault.
@settings(max_examples=25, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(operations=st.lists(OPERATIONS, min_size=8, max_size=25))
def test_any_operations(operations: list[Operation]) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", folder)
        place = Place(Path(folder))
        with place.create() as vault:
            for number in range(6):
                vault.write("a" if number < 3 else "z" * 1_024, str(number))
            for operation in operations:
                with suppress(NotFound, Conflict):
                    operation(vault)
            contents = assert_agrees(place.path, place.key, vault)
        closed = decode(place.path, place.key)
        assert (closed.secrets, closed.documents) == (contents.secrets, contents.documents)
        assert closed.records[: len(contents.records)] == contents.records
