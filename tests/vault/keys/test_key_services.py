"""A vault whose key a service holds: one call to open it, none to use it, and a way in when the service is away."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from securecfg import Vault
from securecfg.errors import AlreadyExists, KeyDisabled, KeyProviderUnavailable, WrongKey
from securecfg.keys import PassphraseProvider
from securecfg.keys.roots import SEALED_ROOT_BYTES
from securecfg.secret import Secret
from securecfg.testing.key_services import MemoryKms, MemoryKmsProvider, ServiceFault
from securecfg.vault.keys.slots import Slots
from tests.decoder.agreement import assert_agrees
from tests.decoder.keys import Passphrase
from tests.vault.world import ADMIN, text_of

if TYPE_CHECKING:
    from pathlib import Path

PASSPHRASE = "correct horse"


@pytest.fixture
def service() -> MemoryKms:
    service = MemoryKms(filling_bytes=1_200)  # as large as what a hybrid key encapsulation returns
    service.create_key("app")
    service.create_key("other")
    return service


@pytest.fixture
def path(service: MemoryKms, tmp_path: Path) -> Path:
    path = tmp_path / "a.vault"
    with Vault.create(path, key=MemoryKmsProvider(service, "app"), admin=ADMIN) as vault:
        vault.write("app/a", "canary")
    service.calls = 0
    return path


def test_one_call_opens_a_vault_and_none_is_made_to_use_it(path: Path, service: MemoryKms) -> None:
    with Vault.open(path, key=MemoryKmsProvider(service, "app"), principal=ADMIN) as vault:
        vault.write("app/b", "2")
        vault.list()
        assert text_of(vault, "app/a") == "canary"
    assert service.calls == 1


def test_threads_that_open_it_at_once_share_the_call(path: Path, service: MemoryKms) -> None:
    service.latency_s = 0.5
    together = threading.Barrier(8)

    def read() -> str:
        together.wait()
        with Vault.open(path, key=MemoryKmsProvider(service, "app"), principal=ADMIN) as vault:
            return text_of(vault, "app/a")

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: read(), range(8))) == ["canary"] * 8
    assert service.calls == 1


def test_opens_with_another_key_while_the_service_is_away(path: Path, service: MemoryKms) -> None:
    passphrase = PassphraseProvider(Secret(PASSPHRASE))
    with Vault.open(path, key=MemoryKmsProvider(service, "app"), principal=ADMIN) as vault:
        assert Slots(vault.authority).add(passphrase) == 2
    service.fail(ServiceFault.DISABLED)
    with pytest.raises(KeyDisabled) as refused:
        Vault.open(path, key=MemoryKmsProvider(service, "app"), principal=ADMIN)
    assert refused.value.hint.endswith("`passphrase:`")
    with Vault.open(path, key=passphrase, principal=ADMIN) as vault:
        assert text_of(vault, "app/a") == "canary"


def test_a_service_that_is_away_when_a_vault_is_made_leaves_no_file(service: MemoryKms, tmp_path: Path) -> None:
    service.fail(ServiceFault.UNREACHABLE)
    with pytest.raises(KeyProviderUnavailable):
        Vault.create(tmp_path / "b.vault", key=MemoryKmsProvider(service, "app"), admin=ADMIN)
    assert list(tmp_path.glob("b.vault*")) == []
    service.fail(None)
    Vault.create(tmp_path / "b.vault", key=MemoryKmsProvider(service, "app"), admin=ADMIN).close()
    with pytest.raises(AlreadyExists):
        Vault.create(tmp_path / "b.vault", key=MemoryKmsProvider(service, "app"), admin=ADMIN)


def test_large_slots_come_and_go_and_another_implementation_reads_the_vault(path: Path, service: MemoryKms) -> None:
    with Vault.open(path, key=MemoryKmsProvider(service, "app"), principal=ADMIN) as vault:
        slots = Slots(vault.authority)
        slots.add(PassphraseProvider(Secret(PASSPHRASE)))
        assert slots.add(MemoryKmsProvider(service, "other")) == 3
        assert slots.test(MemoryKmsProvider(service, "other")) == 3
        sizes = [len(row) for _, row in sorted(vault.opened.replica.slots.items())]
        assert sizes == [1_536, 256, 1_536, *[SEALED_ROOT_BYTES] * 3]
        assert_agrees(path, Passphrase(PASSPHRASE), vault)
        slots.remove(1)
        with pytest.raises(WrongKey):
            slots.test(MemoryKmsProvider(service, "app"))
        assert_agrees(path, Passphrase(PASSPHRASE), vault)
