"""Section 4.13 of the format: a passphrase and a key file, neither of which opens anything alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from securecfg.errors import FileMissing, InvalidKeyUri, KeyProviderRefused, SettingMissing, WrongKey
from securecfg.keys import FileProvider, PassphraseFileProvider, PassphraseProvider, generate_key_file, open_provider
from securecfg.keys.keyfile import read_key_file
from securecfg.secret import Secret
from securecfg.testing.key_provider_conformance import CONTEXT, KEY, LocalKeyProviderConformance
from tests.keys.conftest import CHEAP

if TYPE_CHECKING:
    from pathlib import Path

PASSPHRASE = "canary-passphrase"


@pytest.fixture(autouse=True)
def files(tmp_path: Path) -> Path:
    """A folder with two key files."""
    generate_key_file(tmp_path / "key")
    generate_key_file(tmp_path / "other")
    return tmp_path


def both(folder: Path, name: str = "key", passphrase: str = PASSPHRASE) -> PassphraseFileProvider:
    return PassphraseFileProvider(folder / name, Secret(passphrase), costs=CHEAP)


class TestPassphraseAndFile(LocalKeyProviderConformance):
    @pytest.fixture(autouse=True)
    def _folder(self, files: Path) -> None:
        self._files = files

    def provider(self) -> PassphraseFileProvider:
        return both(self._files)

    def stranger(self) -> PassphraseFileProvider:
        return both(self._files, "other", "another")

    def canaries(self) -> tuple[bytes, ...]:
        return PASSPHRASE.encode(), read_key_file(self._files / "key"), (self._files / "key").read_bytes()[16:40]


def test_whichever_of_the_two_is_wrong_it_is_the_same_wrong_key(files: Path) -> None:
    wrapped = both(files).wrap(KEY, CONTEXT)
    seen = set()
    for wrong in (both(files, "other"), both(files, passphrase="another"), both(files, "other", "another")):
        with pytest.raises(WrongKey) as refused:
            wrong.unwrap(wrapped, CONTEXT)
        seen.add((refused.value.message, refused.value.hint))
    assert len(seen) == 1


def test_neither_opens_it_alone(files: Path) -> None:
    wrapped = both(files).wrap(KEY, CONTEXT)
    for alone in (PassphraseProvider(Secret(PASSPHRASE), costs=CHEAP), FileProvider(files / "key")):
        with pytest.raises(WrongKey):
            alone.unwrap(wrapped, CONTEXT)


def test_every_slot_has_its_own_salt(files: Path) -> None:
    assert len({both(files).wrap(KEY, CONTEXT)[2:18] for _ in range(20)}) == 20


def test_nobody_is_asked_for_a_passphrase_that_could_not_be_used(tmp_path: Path) -> None:
    asked: list[str] = []

    def ask(what: str) -> str:
        asked.append(what)
        return PASSPHRASE

    (tmp_path / "other").chmod(0o644)
    for name, error in (("absent", FileMissing), ("other", KeyProviderRefused)):
        with pytest.raises(error):
            open_provider(f"passphrase+file:{tmp_path / name}", ask=ask).wrap(KEY, CONTEXT)
    assert asked == []


def test_the_passphrase_is_asked_for_or_comes_from_a_variable(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"passphrase+file:{files / 'key'}"
    wrapped = open_provider(uri, ask=lambda _: PASSPHRASE).wrap(KEY, CONTEXT)
    monkeypatch.setenv("PW", PASSPHRASE)
    assert open_provider(f"{uri}?env=PW").unwrap(wrapped, CONTEXT) == KEY
    monkeypatch.delenv("PW")
    for wrong in (uri, f"{uri}?env=PW"):
        with pytest.raises(SettingMissing):
            open_provider(wrong).unwrap(wrapped, CONTEXT)


def test_a_tilde_is_the_home_directory(home: Path) -> None:
    generate_key_file(home / "key")
    wrapped = both(home).wrap(KEY, CONTEXT)
    assert open_provider("passphrase+file:~/key", ask=lambda _: PASSPHRASE).unwrap(wrapped, CONTEXT) == KEY


@pytest.mark.parametrize("rest", ["", "?env=PW", "?fd=3", "a\x00"])
def test_refuses_uris_that_name_no_file(rest: str) -> None:
    with pytest.raises(InvalidKeyUri):
        open_provider(f"passphrase+file:{rest}")
