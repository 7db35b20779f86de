from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securecfg.errors import (
    FileMissing,
    InvalidKeyUri,
    KeyProviderRefused,
    KeyProviderUnavailable,
    SettingMissing,
)
from securecfg.keys import (
    CommandProvider,
    FileProvider,
    IdentityProvider,
    KeyringProvider,
    KeyUri,
    PassphraseFileProvider,
    PassphraseProvider,
    RecoveryProvider,
    ShamirProvider,
    WrapContext,
    generate_key_file,
    generate_recovery_code,
    open_provider,
    open_under_kek,
    parse_params,
)
from securecfg.keys.secret_input import open_secret_input
from securecfg.keys.uri import names_code, parse_key_uri

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from securecfg.secret import Secret

CANARY = "canary-correct-horse"
CONTEXT = WrapContext(bytes(16), bytes(16))
KEY = bytes(range(32))
SOURCES = ("env", "fd", "file")


def secret(rest: str, ask: Callable[[str], str] | None = None) -> Secret[str]:
    return open_secret_input(KeyUri("passphrase", rest), ask, what="passphrase", sources=SOURCES)


def descriptor(content: bytes) -> int:
    """A pipe's reading end with this in it."""
    reading, writing = os.pipe()
    os.write(writing, content)
    os.close(writing)
    return reading


# --- schemes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "provider"),
    [
        ("passphrase:", PassphraseProvider),
        ("PASSPHRASE:", PassphraseProvider),
        ("passphrase:?fd=3", PassphraseProvider),
        ("passphrase:?env=NAME", PassphraseProvider),
        ("file:/etc/app.key", FileProvider),
        ("file:///etc/app.key", FileProvider),
        ("file:relative/app.key", FileProvider),
        ("file:C:?#%41", FileProvider),
        ("file:a&b=c?", FileProvider),
        ("keyring:", KeyringProvider),
        ("recovery:", RecoveryProvider),
        ("identity:web.identity", IdentityProvider),
        ("identity:web.identity?env=NAME", IdentityProvider),
        ("shamir:", ShamirProvider),
        ("command:cat 'a b'", CommandProvider),
        ("passphrase+file:a.key", PassphraseFileProvider),
        ("passphrase+file:a.key?env=NAME", PassphraseFileProvider),
        ("shamir:a,b", ShamirProvider),
        ("recovery:?file=code.txt", RecoveryProvider),
    ],
)
def test_a_scheme_names_its_provider_and_nothing_is_touched_yet(uri: str, provider: type) -> None:
    opened = open_provider(uri)
    assert type(opened) is provider
    assert opened.scheme == uri.partition(":")[0].lower()


def test_a_provider_is_returned_as_it_is() -> None:
    provider = FileProvider("key")
    assert open_provider(provider) is provider


@pytest.mark.parametrize(
    "uri",
    [
        "",
        ":",
        CANARY,
        "/etc/app.key",
        f": {CANARY}",
        f"{CANARY} x:y",
        f"{CANARY}\n:",
        "é:",
        "3d:",
        "a" * 33 + ":",
        f"passphrase:{CANARY}",
        f"passphrase://{CANARY}",
        f"passphrase:?{CANARY}",
        f"passphrase:?{CANARY}=x",
        f"passphrase:?env={CANARY}",
        "passphrase:?env=",
        "passphrase:?env=1A",
        "passphrase:?env=A&env=B",
        "passphrase:?env=A&fd=3",
        "passphrase:?env=A#x",
        "passphrase:?",
        "passphrase:?fd=",
        "passphrase:?fd=-1",
        "passphrase:?fd=3.0",
        "passphrase:?fd=\u0663",
        "passphrase:?fd=1234567890",
        "passphrase:?file=/etc/passwd",
        "passphrase:?ENV=A",
        "recovery:?",
        "recovery:?file=",
        f"recovery:?file=code.txt&env={CANARY}",
        f"recovery:?file=code.txt?env={CANARY}",
        f"file:/etc/app.key?env={CANARY}",
        "file:app.key?mode=0600&x=y",
        "file:///etc/app.key?x-y=",
        f"passphrase+file:app.key?pass={CANARY}",
        f"passphrase+file:app.key?pass={CANARY}?env=A",
        f"identity:web.identity?pass={CANARY}",
        f"shamir:a?k={CANARY},b",
        "recovery:?file=a\x00b",
        f"recovery:{CANARY}",
        "file:",
        "file://",
        "file://host/etc/app.key",
        "file:a\x00b",
        f"keyring:{CANARY}",
    ],
)
def test_refuses_a_uri_that_means_nothing_and_shows_nothing_of_it(uri: str) -> None:
    with pytest.raises(InvalidKeyUri) as refused:
        open_provider(uri)
    assert refused.value.hint
    assert CANARY not in f"{refused.value!r} {refused.value.hint}"
    assert "\n" not in refused.value.message


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("command:cat key", True),
        ("COMMAND:", True),
        ("pkcs11:object=x?module-path=/x.so", True),
        ("PKCS11:object=x?pin-source=env:A&module-path=/x.so", True),
        ("pkcs11:object=x?module-path", True),
        ("pkcs11:object=x?module-name=softhsm2&pin-source=file:/module-path=", False),
        ("pkcs11:object=module-path=?module-name=hsm", False),
        ("file:module-path=/x.so", False),
        ("composite:all,file:a,command:cat key", True),
        ("COMPOSITE:2,file:a,file:b,Pkcs11:object=x?module-path=/x,,y.so", True),
        ("composite:all,file:a,,command:b,file:command:", False),
        ("awskms:alias/command", False),
        ("", False),
    ],
)
def test_knows_which_uris_name_a_program_or_a_library(uri: str, *, expected: bool) -> None:
    assert names_code(uri) is expected


@pytest.mark.parametrize(
    ("name", "is_loaded"),
    [("module-path", True), ("module%2Dpath", False), ("Module-Path", False), ("module-path ", False)],
)
def test_a_library_is_loaded_under_the_one_spelling_that_is_looked_for(name: str, *, is_loaded: bool) -> None:
    uri = f"pkcs11:object=x?{name}=/x.so"
    assert names_code(uri) is is_loaded
    if not is_loaded:
        with pytest.raises(InvalidKeyUri):
            open_provider(uri)


@pytest.mark.parametrize(
    ("uri", "meant"),
    [
        ("passphrse:", "passphrase"),
        ("fil:/x", "file"),
        ("key-ring:", "keyring"),
        ("awskm:x", "awskms"),
        ("pkcs:", "pkcs11"),
    ],
)
def test_an_unknown_scheme_gets_a_suggestion(uri: str, meant: str) -> None:
    with pytest.raises(InvalidKeyUri) as refused:
        open_provider(uri)
    assert f"did you mean `{meant}:`?" in refused.value.hint


def test_a_scheme_that_is_like_no_other_gets_the_list_of_all() -> None:
    with pytest.raises(InvalidKeyUri) as refused:
        open_provider(f"{CANARY}:x")
    assert "`file:`" in refused.value.hint
    assert "`awskms:`" in refused.value.hint


def test_other_peoples_providers_are_found_by_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What pip leaves behind: a module and the metadata of the package that it came in.
    module = "from securecfg.keys import FileProvider\ndef from_uri(uri, ask):\n    return FileProvider(uri.rest)\n"
    (tmp_path / "acme_keys.py").write_text(module)
    information = tmp_path / "acme_keys-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-keys\nVersion: 1\n")
    (information / "entry_points.txt").write_text("[securecfg.key_providers]\nacme = acme_keys:from_uri\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert isinstance(open_provider("acme:somewhere"), FileProvider)
    with pytest.raises(InvalidKeyUri) as refused:
        open_provider("acm:somewhere")
    assert "`acme:`" in refused.value.hint


@given(st.text(max_size=40))
def test_any_text_is_a_uri_or_gets_a_named_error(text: str) -> None:
    try:
        uri = parse_key_uri(text)
    except InvalidKeyUri:
        return
    assert text.lower().startswith(f"{uri.scheme}:")
    assert text.endswith(uri.rest)


def test_a_parsed_uri_shows_its_scheme_only() -> None:
    assert repr(parse_key_uri(f"passphrase:{CANARY}")) == "KeyUri('passphrase', ...)"


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_tilde_is_the_home_directory(home: Path) -> None:
    generate_key_file(home / "app.key")
    for uri in ["file:~/app.key", f"file:{home}/app.key", f"file://{home}/app.key"]:
        wrapped = open_provider(uri).wrap(KEY, CONTEXT)
        assert open_provider(f"file:{home}/app.key").unwrap(wrapped, CONTEXT) == KEY


def test_a_missing_key_file_is_said_when_it_is_needed(tmp_path: Path) -> None:
    provider = open_provider(f"file:{tmp_path}/absent")
    with pytest.raises(FileMissing):
        provider.wrap(KEY, CONTEXT)
    with pytest.raises(FileMissing):
        provider.unwrap(bytes(82), CONTEXT)


# --- secrets that are asked for, or come from elsewhere ---------------------------------------------------------------


def test_asks_once_and_only_when_it_is_needed() -> None:
    prompts: list[str] = []

    def ask(prompt: str) -> str:
        prompts.append(prompt)
        return CANARY

    asked = secret("", ask)
    assert not prompts
    assert [asked.reveal(), asked.reveal()] == [CANARY, CANARY]
    assert prompts == ["passphrase"]


def test_with_nobody_to_ask_says_what_to_use_instead() -> None:
    with pytest.raises(SettingMissing) as refused:
        secret("").reveal()
    assert "passphrase:?env=NAME" in refused.value.hint
    with pytest.raises(SettingMissing):
        open_provider("passphrase:").wrap(KEY, CONTEXT)
    with pytest.raises(SettingMissing):
        open_provider("recovery:").wrap(KEY, CONTEXT)


def test_reads_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_PASSPHRASE", CANARY)
    assert secret("?env=APP_PASSPHRASE").reveal() == CANARY


def test_says_which_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("APP_PASSPHRASE", raising=False)
    with pytest.raises(SettingMissing) as refused:
        secret("?env=APP_PASSPHRASE").reveal()
    assert "`APP_PASSPHRASE`" in refused.value.message


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_reads_a_descriptor_to_its_end_once(end: str) -> None:
    reading = descriptor((CANARY + end).encode())
    try:
        read = secret(f"?fd={reading}")
        assert [read.reveal(), read.reveal()] == [CANARY, CANARY]
    finally:
        os.close(reading)


def test_spaces_and_further_lines_belong_to_the_passphrase() -> None:
    reading = descriptor(b" a \n b \n\n")
    try:
        assert secret(f"?fd={reading}").reveal() == " a \n b \n"
    finally:
        os.close(reading)


def test_says_that_a_descriptor_is_not_open() -> None:
    with pytest.raises(KeyProviderUnavailable) as refused:
        secret("?fd=987654").reveal()
    assert "987654" in refused.value.message


def test_reads_a_private_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "code"
    path.write_text(CANARY + "\n")
    path.chmod(0o600)
    assert secret(f"?file={path}").reveal() == CANARY
    path.chmod(0o644)
    with pytest.raises(KeyProviderRefused):
        secret(f"?file={path}").reveal()


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe", b"x" * 4097, b"x" * 60_000])
def test_refuses_what_is_empty_oversized_or_not_text(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "code"
    path.write_bytes(content)
    path.chmod(0o600)
    reading = descriptor(content)
    try:
        for rest in [f"?fd={reading}", f"?file={path}"]:
            with pytest.raises(KeyProviderRefused):
                secret(rest).reveal()
    finally:
        os.close(reading)


@pytest.mark.parametrize("answer", ["", "x" * 4097])
def test_refuses_an_answer_that_is_empty_or_oversized(answer: str) -> None:
    with pytest.raises(KeyProviderRefused):
        secret("", lambda _prompt: answer).reveal()


def test_refuses_a_variable_that_is_not_utf_8() -> None:
    os.environb[b"APP_PASSPHRASE"] = b"\xff"
    try:
        with pytest.raises(KeyProviderRefused):
            secret("?env=APP_PASSPHRASE").reveal()
    finally:
        del os.environb[b"APP_PASSPHRASE"]


def test_a_recovery_code_is_asked_for_and_read_too(tmp_path: Path) -> None:
    code = generate_recovery_code().reveal()
    path = tmp_path / "code"
    path.write_text(code + "\n")
    path.chmod(0o600)
    wrapped = open_provider("recovery:", ask=lambda _prompt: code.lower()).wrap(KEY, CONTEXT)
    assert open_provider(f"recovery:?file={path}").unwrap(wrapped, CONTEXT) == KEY
    assert parse_params(wrapped) == b""


def test_a_recovery_key_is_derived_as_the_format_says() -> None:
    from securecfg.crypto import expand
    from securecfg.keys.recovery import format_recovery_code
    from securecfg.secret import Secret

    code = bytes(range(20))
    wrapped = RecoveryProvider(Secret(format_recovery_code(code))).wrap(KEY, CONTEXT)
    kek = expand(code + bytes(12), "securecfg/1/recovery", CONTEXT.vault_id, 32)
    assert open_under_kek(kek, 4, wrapped, CONTEXT) == KEY
