"""The built-in providers against the public suite, and what each refuses beyond it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from securecfg.crypto import Argon2Costs
from securecfg.errors import KeyProviderRefused, KeyProviderUnavailable, WrongKey
from securecfg.keys import (
    FileProvider,
    KeyringProvider,
    PassphraseProvider,
    RecoveryProvider,
    WrapContext,
    generate_key_file,
)
from securecfg.keys.keyfile import format_key, read_key_file
from securecfg.keys.providers.keyring import _choose
from securecfg.keys.recovery import format_recovery_code
from securecfg.secret import Secret
from securecfg.testing.key_provider_conformance import (
    CONTEXT,
    KEY,
    KeyProviderConformance,
    LocalKeyProviderConformance,
    RemoteKeyProviderConformance,
)
from securecfg.testing.key_services import MemoryKms, MemoryKmsProvider, ServiceFault

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.keys.providers.keyring import KeyringBackend

ROOT = Path(__file__).resolve().parents[2]
CHEAP = Argon2Costs(64, 1, 1)
PASSPHRASE = "canary-passphrase"


class TestPassphrase(LocalKeyProviderConformance):
    def provider(self) -> PassphraseProvider:
        return PassphraseProvider(Secret(PASSPHRASE), costs=CHEAP)

    def stranger(self) -> PassphraseProvider:
        return PassphraseProvider(Secret("another"), costs=CHEAP)

    def canaries(self) -> tuple[bytes, ...]:
        return (PASSPHRASE.encode(),)

    def test_every_slot_has_its_own_salt(self) -> None:
        assert len({self.provider().wrap(KEY, CONTEXT)[2:18] for _ in range(50)}) == 50

    def test_refuses_costs_that_cannot_be_computed(self) -> None:
        with pytest.raises(ValueError, match="costs"):
            PassphraseProvider(Secret(PASSPHRASE), costs=Argon2Costs(64, 0, 1))

    @pytest.mark.parametrize("passphrase", ["", "\ud800"])
    def test_refuses_an_empty_passphrase_and_one_that_is_not_text(self, passphrase: str) -> None:
        provider = PassphraseProvider(Secret(passphrase), costs=CHEAP)
        with pytest.raises(KeyProviderRefused):
            provider.wrap(KEY, CONTEXT)


class TestFile(LocalKeyProviderConformance):
    @pytest.fixture(autouse=True)
    def _files(self, tmp_path: Path) -> None:
        self._folder = tmp_path
        generate_key_file(tmp_path / "key")
        generate_key_file(tmp_path / "other")

    def provider(self) -> FileProvider:
        return FileProvider(self._folder / "key")

    def stranger(self) -> FileProvider:
        return FileProvider(self._folder / "other")

    def canaries(self) -> tuple[bytes, ...]:
        return read_key_file(self._folder / "key"), (self._folder / "key").read_bytes()[16:40]


class TestRecovery(LocalKeyProviderConformance):
    CODE = format_recovery_code(bytes(range(20)))

    def provider(self) -> RecoveryProvider:
        return RecoveryProvider(Secret(self.CODE))

    def stranger(self) -> RecoveryProvider:
        return RecoveryProvider(Secret(format_recovery_code(bytes(20))))

    def canaries(self) -> tuple[bytes, ...]:
        return bytes(range(20)), self.CODE.encode()


class TestMemoryKms(RemoteKeyProviderConformance):
    @pytest.fixture(autouse=True)
    def _keys(self) -> None:
        self._service = MemoryKms()
        self._service.create_key("alias/canary")
        self._service.create_key("alias/other")

    def provider(self) -> MemoryKmsProvider:
        return MemoryKmsProvider(self._service, "alias/canary")

    def stranger(self) -> MemoryKmsProvider:
        return MemoryKmsProvider(self._service, "alias/other")

    def faulty(self, fault: ServiceFault) -> MemoryKmsProvider:
        self._service.fail(fault)
        return self.provider()

    def asked(self) -> int:
        return self._service.calls

    def fail_next(self, *faults: ServiceFault) -> None:
        self._service.fail_next(*faults)

    def canaries(self) -> tuple[bytes, ...]:
        return (KEY,)


class MemoryKeyring:
    """A keyring that forgets when the process ends; it can be told to fail, to forget and to lie."""

    def __init__(self, kept: dict[tuple[str, str], str] | None = None) -> None:
        self.kept = {} if kept is None else kept
        self.failing = False
        self.forgetting = False

    def get_password(self, service: str, username: str, /) -> str | None:
        if self.failing:
            message = "org.freedesktop.Secret.Error.IsLocked"
            raise OSError(message)
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str, /) -> None:
        if not self.forgetting:
            self.kept[service, username] = password


class TestKeyring(KeyProviderConformance):
    @pytest.fixture(autouse=True)
    def _keyrings(self) -> None:
        self._backend = MemoryKeyring()
        self._other = MemoryKeyring()

    def provider(self) -> KeyringProvider:
        return KeyringProvider(self._backend)

    def stranger(self) -> KeyringProvider:
        return KeyringProvider(self._other)

    def faulty(self, fault: ServiceFault) -> KeyringProvider:
        if fault is not ServiceFault.UNREACHABLE:
            pytest.skip(f"not applicable: a keyring is locked or not, and not {fault}")
        self._backend.failing = True
        return self.provider()

    def canaries(self) -> tuple[bytes, ...]:
        self._backend.failing = False
        self.provider().wrap(KEY, CONTEXT)
        return tuple(text.encode() for text in self._backend.kept.values())

    def test_keeps_one_key_for_each_vault_under_its_id(self) -> None:
        self.provider().wrap(KEY, CONTEXT)
        kept = dict(self._backend.kept)
        assert list(kept) == [("securecfg", CONTEXT.vault_id.hex())]
        self.provider().wrap(KEY, WrapContext(CONTEXT.vault_id, b"another slot 123"))
        assert self._backend.kept == kept
        self.provider().wrap(KEY, WrapContext(b"another vault 12", CONTEXT.slot_id))
        assert len(self._backend.kept) == 2

    def test_says_that_the_keyring_keeps_no_key(self) -> None:
        wrapped = self.provider().wrap(KEY, CONTEXT)
        self._backend.kept.clear()
        with pytest.raises(WrongKey) as refused:
            self.provider().unwrap(wrapped, CONTEXT)
        assert "keyring" in refused.value.message

    @pytest.mark.parametrize("kept", ["", "canary", format_key(bytes(32))[:-1], "é" * 68])
    def test_refuses_an_entry_that_is_not_a_key(self, kept: str) -> None:
        wrapped = self.provider().wrap(KEY, CONTEXT)
        self._backend.kept["securecfg", CONTEXT.vault_id.hex()] = kept
        with pytest.raises(KeyProviderRefused):
            self.provider().unwrap(wrapped, CONTEXT)
        with pytest.raises(KeyProviderRefused):
            self.provider().wrap(KEY, CONTEXT)

    def test_a_locked_keyring_is_unavailable_and_its_own_words_stay_inside(self) -> None:
        wrapped = self.provider().wrap(KEY, CONTEXT)
        self._backend.failing = True
        for call in [self.provider().wrap, self.provider().unwrap]:
            with pytest.raises(KeyProviderUnavailable) as refused:
                call(wrapped[:32], CONTEXT)
            assert "freedesktop" not in str(refused.value)
            assert refused.value.__cause__ is None

    def test_a_keyring_that_keeps_nothing_is_noticed_before_a_slot_depends_on_it(self) -> None:
        self._backend.forgetting = True
        with pytest.raises(KeyProviderUnavailable):
            self.provider().wrap(KEY, CONTEXT)


# --- which keyrings are the operating system's ------------------------------------------------------------------------

PLAIN_FILE = """
import pathlib
from keyring.backend import KeyringBackend

class PlaintextKeyring(KeyringBackend):
    priority = 9

    def get_password(self, service, username):
        raise AssertionError("asked for a key")

    def set_password(self, service, username, password):
        pathlib.Path("leak").write_text(password)
"""

WRAP = """
import sys
from securecfg.errors import SecurecfgError
from securecfg.keys import WrapContext, open_provider

try:
    provider = open_provider("keyring:")
    context = WrapContext(bytes(16), bytes(16))
    wrapped = provider.wrap(b"k" * 32, context)
    assert open_provider("keyring:").unwrap(wrapped, context) == b"k" * 32
    print("round trip")
except SecurecfgError as error:
    print(error.code, "|", error.message, "|", error.hint)
"""


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., str]:
    """Wraps and unwraps a key with `keyring:` in a process of its own."""
    (tmp_path / "plain_file.py").write_text(PLAIN_FILE)

    def start(*prefix: str, program: str = WRAP, **variables: str) -> str:
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}", **variables}
        command = [*prefix, sys.executable, "-c", program]
        result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    return start


@pytest.mark.parametrize(
    ("backend", "code"),
    [
        ("keyring.backends.fail.Keyring", "key-provider-unavailable"),
        ("keyring.backends.null.Keyring", "key-provider-refused"),
        ("plain_file.PlaintextKeyring", "key-provider-refused"),
        ("no_such_module.Keyring", "key-provider-unavailable"),
    ],
)
def test_refuses_every_keyring_but_the_operating_systems(
    backend: str, code: str, run: Callable[..., str], tmp_path: Path
) -> None:
    shown = run(PYTHON_KEYRING_BACKEND=backend)
    assert shown.startswith(f"{code} | ")
    assert "passphrase:" in shown or "another key" in shown
    assert not (tmp_path / "leak").exists()


def test_a_plain_file_behind_a_chain_is_never_used(run: Callable[..., str], tmp_path: Path) -> None:
    # The chain takes every backend that thinks it can work; registering the plain one puts it in front.
    program = "import plain_file\n" + WRAP
    shown = run(program=program, PYTHON_KEYRING_BACKEND="keyring.backends.chainer.ChainerBackend")
    assert shown.startswith("key-provider-refused | `plain_file`")
    assert not (tmp_path / "leak").exists()


def backend(module: str, **attributes: object) -> KeyringBackend:
    return cast("KeyringBackend", type("Keyring", (), {"__module__": module, **attributes})())


def test_of_a_chain_only_the_operating_systems_link_is_used() -> None:
    system = backend("keyring.backends.SecretService")
    plain, none = backend("keyrings.alt.file"), backend("keyring.backends.fail")
    for links in [[system], [plain, system], [none, plain, system]]:
        assert _choose(backend("keyring.backends.chainer", backends=links)) is system
    assert _choose(system) is system
    with pytest.raises(KeyProviderRefused):
        _choose(backend("keyring.backends.chainer", backends=[none, plain]))
    with pytest.raises(KeyProviderRefused):
        _choose(backend("keyring.backends.chainer", backends=[]))
    with pytest.raises(KeyProviderUnavailable):
        _choose(backend("keyring.backends.chainer", backends=[none]))


def test_a_machine_without_a_keyring_says_so(run: Callable[..., str]) -> None:
    shown = run()
    assert shown.startswith("key-provider-unavailable | there is no keyring on this machine")
    assert "file:PATH" in shown


def test_without_the_package_says_what_to_install(run: Callable[..., str]) -> None:
    program = "import sys\nsys.modules['keyring'] = None\n" + WRAP
    shown = run(program=program)
    assert shown.startswith("extra-missing | ")
    assert "pip install keyring" in shown


def test_round_trip_through_a_real_keyring(run: Callable[..., str], program: Callable[[str], str], home: Path) -> None:
    bus, daemon = program("dbus-run-session"), program("gnome-keyring-daemon")
    # The daemon takes the login keyring's password from its standard input.
    start = (
        f'printf canary | {daemon} --unlock --components=secrets --control-directory={home}/run >/dev/null && exec "$@"'
    )
    assert run(bus, "--", "sh", "-c", start, "sh") == "round trip"
