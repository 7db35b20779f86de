"""Section 4.11 of the format: identities, their files, and slots that open with them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from securecfg.crypto import KeyBytes, expand, hybrid_public_key, open_sealed, seal_to
from securecfg.errors import (
    FileMissing,
    InvalidKeyUri,
    KeyProviderRefused,
    SecurecfgError,
    SettingMissing,
    WrongKey,
)
from securecfg.keys import (
    FileProvider,
    Identity,
    IdentityProvider,
    ProvesPrincipal,
    WrapContext,
    generate_key_file,
    open_provider,
    parse_params,
    seal_under_kek,
)
from securecfg.keys.identity import (
    UNPROTECTED,
    IdentityFile,
    PrivateHalf,
    format_identity_file,
    generate_identity,
    identity_of,
    opening_key_of,
    parse_identity_file,
    protect_seed,
    read_identity_file,
)
from securecfg.testing.key_provider_conformance import CONTEXT, KEY, LocalKeyProviderConformance

if TYPE_CHECKING:
    from pathlib import Path

SEED = KeyBytes(b"canary-seed-0123456789abcdefghij")
OTHER_SEED = KeyBytes(bytes(32))
WEB = identity_of("svc:web", SEED)
OTHER = identity_of("svc:other", OTHER_SEED)
OPEN = IdentityFile(WEB, PrivateHalf(UNPROTECTED, SEED))


def write(path: Path, file: IdentityFile, mode: int = 0o600) -> Path:
    path.touch(mode=mode)
    path.chmod(mode)
    path.write_text(format_identity_file(file))
    return path


class TestIdentity(LocalKeyProviderConformance):
    @pytest.fixture(autouse=True)
    def _files(self, tmp_path: Path) -> None:
        self._own = write(tmp_path / "own", OPEN)
        self._other = write(tmp_path / "other", IdentityFile(OTHER, PrivateHalf(UNPROTECTED, OTHER_SEED)))

    def provider(self) -> IdentityProvider:
        return IdentityProvider(self._own)

    def stranger(self) -> IdentityProvider:
        return IdentityProvider(self._other)

    def canaries(self) -> tuple[bytes, ...]:
        return SEED, opening_key_of(SEED)[:32], self._own.read_bytes()[-60:-10]


class TestProtectedIdentity(LocalKeyProviderConformance):
    @pytest.fixture(autouse=True)
    def _files(self, tmp_path: Path) -> None:
        generate_key_file(tmp_path / "key")
        uri = f"file:{tmp_path / 'key'}"
        self._own = write(tmp_path / "own", IdentityFile(WEB, protect_seed(WEB, SEED, open_provider(uri), uri)))
        self._other = write(tmp_path / "other", IdentityFile(OTHER, PrivateHalf(UNPROTECTED, OTHER_SEED)))

    def provider(self) -> IdentityProvider:
        return IdentityProvider(self._own)

    def stranger(self) -> IdentityProvider:
        return IdentityProvider(self._other)

    def canaries(self) -> tuple[bytes, ...]:
        return SEED, opening_key_of(SEED)[:32]


# --- key pairs --------------------------------------------------------------------------------------------------------


def test_all_keys_follow_from_the_seed_as_the_format_says() -> None:
    keys = expand(SEED, "securecfg/1/identity", b"", 128)
    signer = Ed25519PrivateKey.from_private_bytes(keys[96:])
    assert WEB.public_key == hybrid_public_key(keys[:96]) + signer.public_key().public_bytes_raw()
    assert opening_key_of(SEED) == keys[:96]
    assert open_sealed(opening_key_of(SEED), seal_to(WEB.recipient, b"x", b""), b"") == b"x"


def test_every_identity_is_new() -> None:
    made = [generate_identity("user:ana") for _ in range(20)]
    assert len({identity.fingerprint for identity, _ in made}) == 20
    assert all(identity_of("user:ana", seed) == identity for identity, seed in made)


def test_the_fingerprint_stands_for_name_and_both_keys() -> None:
    flipped = [WEB.public_key[:place] + b"\x00" + WEB.public_key[place + 1 :] for place in (5, 1_200, 1_230)]
    others = [identity_of("svc:wed", SEED), OTHER, *(Identity("svc:web", public) for public in flipped)]
    assert len({WEB.fingerprint, *(other.fingerprint for other in others)}) == 6


def test_the_public_half_is_enough_to_make_a_slot(tmp_path: Path) -> None:
    public = write(tmp_path / "public", IdentityFile(WEB, None), 0o644)
    wrapped = IdentityProvider(public).wrap(KEY, CONTEXT)
    assert IdentityProvider(write(tmp_path / "private", OPEN)).unwrap(wrapped, CONTEXT) == KEY
    with pytest.raises(KeyProviderRefused, match="public half of an identity only"):
        IdentityProvider(public).unwrap(wrapped, CONTEXT)


def test_two_slots_of_one_identity_have_nothing_in_common(tmp_path: Path) -> None:
    provider = IdentityProvider(write(tmp_path / "own", OPEN))
    one, two = (parse_params(provider.wrap(KEY, CONTEXT)) for _ in range(2))
    assert len(one) == 1_168
    assert not {one[place : place + 16] for place in range(1_152)} & {two[place : place + 16] for place in range(1_152)}


def test_a_slot_opens_in_its_own_vault_and_slot_only(tmp_path: Path) -> None:
    provider = IdentityProvider(write(tmp_path / "own", OPEN))
    wrapped = provider.wrap(KEY, CONTEXT)
    for context in (WrapContext(bytes(16), CONTEXT.slot_id), WrapContext(CONTEXT.vault_id, bytes(16))):
        with pytest.raises(WrongKey):
            provider.unwrap(wrapped, context)


def test_a_public_key_with_which_nothing_can_be_agreed_on_is_refused(tmp_path: Path) -> None:
    for hostile in (WEB.public_key[:1_184] + bytes(64), b"\xff" * 1_248):
        public = write(tmp_path / "public", IdentityFile(Identity("svc:web", hostile), None))
        with pytest.raises(KeyProviderRefused, match="is none"):
            IdentityProvider(public).wrap(KEY, CONTEXT)


def test_a_key_says_whose_it_is(tmp_path: Path) -> None:
    provider = open_provider(f"identity:{write(tmp_path / 'own', OPEN)}")
    assert isinstance(provider, ProvesPrincipal)
    assert provider.read_principal() == "svc:web"
    assert not isinstance(open_provider("file:x"), ProvesPrincipal)


def test_name_and_key_are_of_one_file(tmp_path: Path) -> None:
    provider = IdentityProvider(write(tmp_path / "own", OPEN))
    assert provider.read_principal() == "svc:web"
    write(tmp_path / "own", IdentityFile(OTHER, None))
    wrapped = provider.wrap(KEY, CONTEXT)
    assert provider.unwrap(wrapped, CONTEXT) == KEY


# --- files ------------------------------------------------------------------------------------------------------------

NAMES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=255)


@settings(max_examples=30)
@given(name=NAMES, protection=st.text(min_size=1, max_size=60), content=st.binary(min_size=1, max_size=400))
def test_what_was_written_is_read(name: str, protection: str, content: bytes) -> None:
    identity = identity_of(name, SEED)
    private = PrivateHalf(f"file:{protection}", KeyBytes(content))
    for file in (IdentityFile(identity, None), IdentityFile(identity, private)):
        try:
            text = format_identity_file(file)
        except UnicodeEncodeError:
            return
        assert text.isascii()
        assert parse_identity_file(text.encode()) == file


def test_any_altered_missing_or_added_character_is_refused() -> None:
    uri = "file:/keys/web"
    text = format_identity_file(IdentityFile(WEB, PrivateHalf(uri, KeyBytes(b"x" * 256))))
    for place in range(len(text)):
        for other in {"A", "b", "0", "-", " ", "\n", "%", ""} - {text[place]}:
            with pytest.raises(KeyProviderRefused):
                parse_identity_file((text[:place] + other + text[place + 1 :]).encode())


@given(st.binary(max_size=300))
def test_no_octets_make_it_fail_otherwise(octets: bytes) -> None:
    for content in (
        octets,
        format_identity_file(OPEN).encode() + octets,
        format_identity_file(IdentityFile(WEB, None)).encode() + octets,
    ):
        try:
            assert format_identity_file(parse_identity_file(content)).encode() == content
        except KeyProviderRefused:
            continue


def test_a_private_half_must_be_private_and_a_public_one_need_not(tmp_path: Path) -> None:
    assert read_identity_file(write(tmp_path / "public", IdentityFile(WEB, None), 0o666)).private is None
    for mode in (0o640, 0o604, 0o620):
        with pytest.raises(KeyProviderRefused, match="by others"):
            read_identity_file(write(tmp_path / "private", OPEN, mode))


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none"
    path.write_bytes(b"SECURECFG-IDENTITY-1 svc:web\n")
    with pytest.raises(KeyProviderRefused) as refused:
        read_identity_file(path)
    assert refused.value.message.startswith(f"`{path}`: ")
    path.write_bytes(bytes(40_000))
    with pytest.raises(KeyProviderRefused, match="larger"):
        read_identity_file(path)
    os.mkfifo(tmp_path / "pipe")
    for wrong, error in ((tmp_path / "pipe", KeyProviderRefused), (tmp_path / "absent", FileMissing)):
        with pytest.raises(error):
            read_identity_file(wrong)


# --- protection -------------------------------------------------------------------------------------------------------


def guarded(path: Path, passphrase: str) -> Path:
    provider = open_provider("passphrase:", ask=lambda _: passphrase)
    return write(path, IdentityFile(WEB, protect_seed(WEB, SEED, provider, "passphrase:")))


def test_a_passphrase_is_asked_for_once_however_many_slots_are_tried(tmp_path: Path) -> None:
    asked: list[str] = []

    def ask(what: str) -> str:
        asked.append(what)
        return "canary"

    provider = open_provider(f"identity:{guarded(tmp_path / 'own', 'canary')}", ask=ask)
    wrapped = provider.wrap(KEY, CONTEXT)
    assert asked == []
    assert [provider.unwrap(wrapped, CONTEXT) for _ in range(3)] == [KEY] * 3
    assert asked == ["passphrase"]


def test_a_passphrase_comes_from_a_variable_or_a_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"identity:{guarded(tmp_path / 'own', 'canary')}"
    wrapped = open_provider(uri).wrap(KEY, CONTEXT)
    monkeypatch.setenv("PW", "canary")
    assert open_provider(f"{uri}?env=PW").unwrap(wrapped, CONTEXT) == KEY
    monkeypatch.setenv("PW", "another")
    with pytest.raises(WrongKey):
        open_provider(f"{uri}?env=PW").unwrap(wrapped, CONTEXT)
    reading, writing = os.pipe()
    os.write(writing, b"canary\n")
    os.close(writing)
    assert open_provider(f"{uri}?fd={reading}").unwrap(wrapped, CONTEXT) == KEY
    os.close(reading)
    with pytest.raises(SettingMissing):
        open_provider(uri).unwrap(wrapped, CONTEXT)


def test_a_source_for_what_is_no_passphrase_is_refused(tmp_path: Path) -> None:
    provider = open_provider(f"identity:{write(tmp_path / 'own', OPEN)}?env=PW")
    with pytest.raises(KeyProviderRefused, match="no passphrase protects"):
        provider.unwrap(provider.wrap(KEY, CONTEXT), CONTEXT)


@pytest.mark.parametrize("uri", ["command:/bin/true", "COMMAND:/bin/true", "identity:/other"])
def test_a_file_starts_no_program_and_leads_to_no_other_identity(uri: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidKeyUri):
        protect_seed(WEB, SEED, open_provider("file:x"), uri)
    path = write(tmp_path / "own", IdentityFile(WEB, PrivateHalf(uri, KeyBytes(b"x"))))
    provider = open_provider(f"identity:{path}")
    with pytest.raises(InvalidKeyUri):
        provider.wrap(KEY, CONTEXT)
    with pytest.raises(InvalidKeyUri):
        read_identity_file(path)


def test_what_protects_one_identity_opens_no_other(tmp_path: Path) -> None:
    generate_key_file(tmp_path / "key")
    uri = f"file:{tmp_path / 'key'}"
    half = protect_seed(OTHER, bytes(32), open_provider(uri), uri)
    wrapped = IdentityProvider(write(tmp_path / "open", OPEN)).wrap(KEY, CONTEXT)
    with pytest.raises(WrongKey):
        IdentityProvider(write(tmp_path / "mixed", IdentityFile(WEB, half))).unwrap(wrapped, CONTEXT)


# --- URIs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rest", ["", "?env=PW", "?fd=3", "a\x00b", "a?env=", "a?fd=x", "a?env=1", "a?file=b", "a?env=A&fd=3"]
)
def test_refuses_uris_that_name_no_file(rest: str) -> None:
    with pytest.raises(InvalidKeyUri):
        open_provider(f"identity:{rest}")


@pytest.mark.parametrize("name", ["a?b", "a?=b", "a&b=c", "a\nb"])
def test_what_is_no_parameter_belongs_to_the_path(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "own", OPEN)
    path.rename(tmp_path / name)
    provider = open_provider(f"identity:{tmp_path / name}")
    assert provider.unwrap(provider.wrap(KEY, CONTEXT), CONTEXT) == KEY


def test_a_tilde_is_the_home_directory(home: Path) -> None:
    write(home / "own", OPEN)
    provider = open_provider("identity:~/own")
    assert provider.unwrap(provider.wrap(KEY, CONTEXT), CONTEXT) == KEY


def test_a_missing_file_is_said_when_it_is_needed(tmp_path: Path) -> None:
    provider = open_provider(f"identity:{tmp_path / 'absent'}")
    with pytest.raises(FileMissing):
        provider.wrap(KEY, CONTEXT)


def test_nothing_of_a_seed_is_shown() -> None:
    text = format_identity_file(OPEN)
    with pytest.raises(SecurecfgError) as refused:
        parse_identity_file(text.encode()[:-1])
    shown = (
        f"{parse_identity_file(text.encode())!r}{generate_identity('user:ana')!r}{refused.value!r}{refused.value.hint}"
    )
    assert "canary" not in shown
    assert text[-50:-10] not in shown
    assert shown.count("key of 32 bytes") == 2


class EncryptOnly(FileProvider):
    """A key that its holder may wrap with, and unwrap nothing."""

    def unwrap(self, wrapped: bytes, context: WrapContext) -> bytes:
        """Refuse."""
        message = "access denied: decrypt"
        raise KeyProviderRefused(message)


class Forgetful(FileProvider):
    """A key that opens nothing of what it wraps, for instance one whose newest version cannot be read."""

    def wrap(self, key: bytes, context: WrapContext) -> bytes:
        """Wrap under another key."""
        return seal_under_kek(bytes(32), self.kind, b"", key, context)


@pytest.mark.parametrize("kind", [EncryptOnly, Forgetful])
def test_a_key_that_does_not_open_what_it_wraps_protects_no_identity(tmp_path: Path, kind: type[FileProvider]) -> None:
    generate_key_file(tmp_path / "k")
    with pytest.raises(KeyProviderRefused):
        protect_seed(WEB, SEED, kind(tmp_path / "k"), f"file:{tmp_path}/k")
