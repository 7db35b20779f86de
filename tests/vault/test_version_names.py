"""A version of the vault itself is named by its number; the name that a store gave is refused at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from securecfg.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.vault import Vault


@pytest.mark.parametrize(
    "change",
    [
        lambda vault: vault.write("app/a", "x", expect="1"),
        lambda vault: vault.delete("app/a", "1"),
        lambda vault: vault.undelete("app/a", "1"),
        lambda vault: vault.label("app/a", "canary", "1"),
        lambda vault: vault.destroy("app/a", "1"),
    ],
)
def test_the_name_that_a_store_gave_is_none_here(vault: Vault, change: Callable[[Vault], object]) -> None:
    vault.write("app/a", "x")
    with pytest.raises(UsageError) as refused:
        change(vault)
    assert refused.value.hint
    assert len(vault.history("app/a")) == 1
