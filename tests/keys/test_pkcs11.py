"""`pkcs11:` against SoftHSM: what it wraps, which mechanism it takes, and what each thing that is missing is called."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import traceback
from typing import TYPE_CHECKING, ClassVar

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap, aes_key_unwrap_with_padding

from securecfg import Vault
from securecfg.crypto import KeyBytes
from securecfg.errors import (
    KeyMissing,
    KeyProviderRefused,
    ModuleMissing,
    PinIncorrect,
    SecurecfgError,
    SettingMissing,
    TokenMissing,
    WrongKey,
)
from securecfg.keys import WrapContext, open_provider, open_under_kek, parse_params
from securecfg.keys.providers.pkcs11 import Pkcs11Provider
from securecfg.testing.key_provider_conformance import CONTEXT, KEY, KeyProviderConformance
from securecfg.testing.key_services import ServiceFault
from securecfg.vault.keys.slots import Slots
from tests.keys.softhsm import KNOWN_VALUE, LABEL, OTHER_LABEL, PIN, TWIN_LABEL, SoftHsm, find_module, make_softhsm
from tests.vault.world import ADMIN, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from securecfg.keys import KeyProvider

AAD = CONTEXT.vault_id + CONTEXT.slot_id


@pytest.fixture(scope="module")
def hsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftHsm]:
    """The SoftHSM of this process; its configuration is read once."""
    before = os.environ.get("SOFTHSM2_CONF")
    hsm = make_softhsm(tmp_path_factory.mktemp("softhsm"), rsa=True)
    os.environ["SOFTHSM2_CONF"] = str(hsm.configuration)
    yield hsm
    os.environ.pop("SOFTHSM2_CONF")
    if before is not None:
        os.environ["SOFTHSM2_CONF"] = before


@pytest.fixture(autouse=True)
def pins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN_PIN", PIN)
    monkeypatch.setenv("WRONG_PIN", "canary-wrong")


class OnSoftHsm(KeyProviderConformance):
    KEY_NAME: ClassVar[str]
    OTHER: ClassVar[str]

    @pytest.fixture(autouse=True)
    def _token(self, hsm: SoftHsm) -> None:
        self._hsm = hsm

    def provider(self) -> KeyProvider:
        return open_provider(self._hsm.uri(self.KEY_NAME))

    def stranger(self) -> KeyProvider:
        return open_provider(self._hsm.uri(self.OTHER))

    def faulty(self, fault: ServiceFault) -> KeyProvider:
        match fault:
            case ServiceFault.UNREACHABLE:
                return open_provider(self._hsm.uri(self.KEY_NAME, token="absent"))
            case ServiceFault.DENIED:
                return open_provider(self._hsm.uri(self.KEY_NAME, pin="pin-source=env:WRONG_PIN"))
            case ServiceFault.DELETED:
                return open_provider(self._hsm.uri("object=deleted"))
        pytest.skip(f"not applicable: a token in this machine is not {fault}")

    def canaries(self) -> tuple[bytes, ...]:
        return PIN.encode(), b"canary-wrong"


class TestAes(OnSoftHsm):
    KEY_NAME = "object=aes"
    OTHER = "object=another%20aes"


class TestAesThatWraps(OnSoftHsm):
    KEY_NAME = "object=wraps"
    OTHER = "object=another%20that%20wraps"


class TestRsa(OnSoftHsm):
    KEY_NAME = "object=rsa;type=private"
    OTHER = "id=another%20rsa"


# --- mechanisms -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "mechanism", "size"),
    [
        ("object=aes", 1, 60),
        ("object=aes%20128", 1, 60),
        ("object=wraps", 2, 40),
        ("object=known", 1, 60),
        ("object=rsa", 4, 256),
        ("object=rsa%204096", 4, 512),
    ],
)
def test_takes_what_key_and_token_can_do(key: str, mechanism: int, size: int, hsm: SoftHsm) -> None:
    provider = open_provider(hsm.uri(key))
    wrapped = provider.wrap(KEY, CONTEXT)
    assert provider.unwrap(wrapped, CONTEXT) == KEY
    params = parse_params(wrapped)
    assert (params[0], len(params) - 1) == (mechanism, size)


@pytest.mark.parametrize("key", ["only%20encrypts", "rsa%201024"])
def test_refuses_a_key_that_cannot_do_what_is_needed(key: str, hsm: SoftHsm) -> None:
    with pytest.raises(KeyProviderRefused) as refused:
        open_provider(hsm.uri(f"object={key}")).wrap(KEY, CONTEXT)
    assert "2,048 bits" in refused.value.hint


WRAP = """
from securecfg.errors import SecurecfgError
from securecfg.keys import WrapContext, open_provider
import sys
context = WrapContext(bytes(range(16)), bytes(range(16, 32)))
provider = open_provider(sys.stdin.read() or {uri!r})
try:
    wrapped = provider.wrap(bytes(range(32, 64)), context)
    assert provider.unwrap(wrapped, context) == bytes(range(32, 64))
    print(wrapped.hex())
except SecurecfgError as error:
    print(error.code, error.message)
"""


@pytest.mark.parametrize(
    ("offered", "mechanism"),
    [
        ("CKM_AES_CBC,CKM_AES_KEY_WRAP_PAD,CKM_AES_KEY_WRAP,CKM_AES_GCM", 1),
        ("CKM_AES_CBC,CKM_AES_KEY_WRAP_PAD,CKM_AES_KEY_WRAP", 2),
        ("CKM_AES_CBC,CKM_AES_KEY_WRAP_PAD", 3),
        ("CKM_AES_CBC,CKM_RSA_PKCS_OAEP", None),
    ],
)
def test_what_a_token_does_not_offer_is_replaced_by_what_it_does(
    offered: str, mechanism: int | None, tmp_path: Path
) -> None:
    hsm = make_softhsm(tmp_path, mechanisms=offered)
    said = hsm.run(WRAP.format(uri=hsm.uri("object=known")))
    if mechanism is None:
        assert said.startswith("key-provider-refused the key of the token can neither decrypt nor unwrap")
        return
    # What the token did can be undone without it, by the format's own words.
    wrapped = bytes.fromhex(said)
    params = parse_params(wrapped)
    ciphertext = params[1:]
    assert params[0] == mechanism
    if mechanism == 1:
        kek = AESGCM(KNOWN_VALUE).decrypt(ciphertext[:12], ciphertext[12:], AAD)
    elif mechanism == 2:
        kek = aes_key_unwrap(KNOWN_VALUE, ciphertext)
    else:
        kek = aes_key_unwrap_with_padding(KNOWN_VALUE, ciphertext)
    assert open_under_kek(kek, 5, wrapped, CONTEXT) == KEY


@pytest.mark.parametrize("mechanism", [0, 2, 3, 4, 5, 6, 255])
def test_a_mechanism_that_the_key_does_not_have_is_a_wrong_key(mechanism: int, hsm: SoftHsm) -> None:
    provider = open_provider(hsm.uri("object=aes"))
    wrapped = provider.wrap(KEY, CONTEXT)
    with pytest.raises(WrongKey):
        provider.unwrap(wrapped[:2] + bytes((mechanism,)) + wrapped[3:], CONTEXT)


REPLACE = """
from pkcs11 import ObjectClass
from securecfg.keys import WrapContext, open_provider
from securecfg.keys.tokens.cryptoki import CRYPTOKI
provider = open_provider({uri!r})

def destroy(session):
    session.get_key(object_class=ObjectClass.SECRET_KEY, label="replaced").destroy()

CRYPTOKI.change(provider._uri, provider._pin, destroy)
if {again!r}:
    provider.create_missing()
    print(provider.wrap(bytes(range(32)), WrapContext(bytes(range(16)), bytes(range(16, 32)))).hex())
"""


def test_what_another_program_does_to_a_key_that_was_used_before_shows(hsm: SoftHsm) -> None:
    uri = hsm.uri("object=replaced")
    provider = open_provider(uri)
    assert isinstance(provider, Pkcs11Provider)
    provider.create_missing()
    first = provider.wrap(KEY, CONTEXT)
    assert provider.unwrap(first, CONTEXT) == provider.unwrap(first, CONTEXT) == KEY
    context = WrapContext(bytes(range(16)), bytes(range(16, 32)))
    second = bytes.fromhex(hsm.run(REPLACE.format(uri=uri, again=True), TOKEN_PIN=PIN))
    assert provider.unwrap(second, context) == bytes(range(32))
    with pytest.raises(WrongKey):
        provider.unwrap(first, CONTEXT)
    hsm.run(REPLACE.format(uri=uri, again=False), TOKEN_PIN=PIN)
    with pytest.raises(KeyMissing):
        provider.unwrap(second, context)


STALE = """
from pkcs11 import Mechanism
from securecfg.errors import KeyProviderUnavailable
from securecfg.keys import open_provider
from securecfg.keys.tokens.cryptoki import CRYPTOKI
from securecfg.keys.tokens.wrapping import TokenKey, Wrapping, find_key
provider = open_provider({uri!r})

def work(session):
    key = find_key(session, provider._uri).key
    key = TokenKey(key, frozenset((Mechanism.AES_GCM,)), (Wrapping.AES_GCM,))
    key.unwrap(bytes((1,)) + bytes(60), bytes(32))

try:
    CRYPTOKI.use(provider._uri, provider._pin, work)
except KeyProviderUnavailable as error:
    print(error.message)
"""


def test_a_token_that_does_not_do_what_it_announced_is_no_wrong_key(tmp_path: Path) -> None:
    # The list of mechanisms is from a time when the token had this one.
    hsm = make_softhsm(tmp_path, mechanisms="CKM_AES_CBC,CKM_AES_KEY_WRAP")
    said = hsm.run(STALE.format(uri=hsm.uri("object=aes")))
    assert said.startswith("the token is out of order: it neither decrypts the slot nor what it has just encrypted")


# --- what is missing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "token", "error"),
    [
        ("object=aes", "absent", TokenMissing),
        ("object=aes;serial=0000", LABEL, TokenMissing),
        ("object=aes;model=TPM", LABEL, TokenMissing),
        ("object=aes;manufacturer=nobody", LABEL, TokenMissing),
        ("object=aes;slot-id=1", LABEL, TokenMissing),
        ("object=absent", LABEL, KeyMissing),
        ("object=aes;id=%ff", LABEL, KeyMissing),
        ("object=aes;type=private", LABEL, KeyMissing),
        ("object=rsa;type=secret-key", LABEL, KeyMissing),
        ("object=aes", OTHER_LABEL, KeyMissing),
        ("object=aes", TWIN_LABEL, KeyProviderRefused),
        ("object=double", LABEL, KeyProviderRefused),
    ],
)
def test_what_is_missing_has_a_name_of_its_own(key: str, token: str, error: type[SecurecfgError], hsm: SoftHsm) -> None:
    wrapped = open_provider(hsm.uri("object=aes")).wrap(KEY, CONTEXT)
    provider = open_provider(hsm.uri(key, token=token))
    with pytest.raises(error) as wrapping:
        provider.wrap(KEY, CONTEXT)
    with pytest.raises(error) as unwrapping:
        provider.unwrap(wrapped, CONTEXT)
    for refused in (wrapping.value, unwrapping.value):
        assert type(refused) is error
        assert refused.hint


def test_attributes_that_fit_find_the_one_key(hsm: SoftHsm) -> None:
    uri = hsm.uri("object=double;id=%08;model=SoftHSM%20v2;manufacturer=SoftHSM%20project")
    provider = open_provider(uri)
    assert provider.unwrap(provider.wrap(KEY, CONTEXT), CONTEXT) == KEY


def test_a_module_that_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    module = find_module()
    text = tmp_path / "text.so"
    text.write_text("not a library")
    text.chmod(0o644)
    writable = tmp_path / "writable.so"
    shutil.copy(module, writable)
    writable.chmod(0o666)
    for path, said in [
        (tmp_path / "absent.so", "there is no PKCS#11 module"),
        (text, "cannot be loaded"),
        (writable, "others may write to it"),
        (tmp_path, "is no file"),
    ]:
        with pytest.raises(ModuleMissing) as refused:
            open_provider(f"pkcs11:object=x?module-path={path}").wrap(KEY, CONTEXT)
        assert said in refused.value.message
        assert refused.value.hint
    with pytest.raises(ModuleMissing):
        open_provider("pkcs11:object=x?module-name=nobody-has-this").wrap(KEY, CONTEXT)


def test_a_module_is_found_by_its_name(hsm: SoftHsm) -> None:
    uri = hsm.uri("object=aes").replace(f"module-path={hsm.module}", "module-name=softhsm2")
    assert "module-name" in uri
    provider = open_provider(uri)
    assert provider.unwrap(provider.wrap(KEY, CONTEXT), CONTEXT) == KEY


def test_without_the_package_says_what_to_install(hsm: SoftHsm) -> None:
    program = "import sys\nsys.modules['pkcs11'] = None\n" + WRAP.format(uri=hsm.uri("object=aes"))
    assert hsm.run(program) == "extra-missing `pkcs11:` keys need the package `python-pkcs11`"


# --- the PIN ----------------------------------------------------------------------------------------------------------


def test_the_pin_comes_from_where_the_uri_says(hsm: SoftHsm, tmp_path: Path) -> None:
    file = tmp_path / "pin"
    file.touch(mode=0o600)
    file.write_text(f"{PIN}\n")
    read, write = os.pipe()
    os.write(write, PIN.encode())
    os.close(write)
    asked: list[str] = []

    def ask(what: str) -> str:
        asked.append(what)
        return PIN

    for source in (
        "pin-source=env:TOKEN_PIN",
        f"pin-source=fd:{read}",
        f"pin-source=file:{file}",
        f"pin-source=file://{file}",
        "",
    ):
        provider = open_provider(hsm.uri("object=aes", pin=source), ask=ask)
        assert provider.unwrap(provider.wrap(KEY, CONTEXT), CONTEXT) == KEY
    assert asked == [f"PIN of the token `{LABEL}`"]
    os.close(read)


def test_without_anybody_to_ask_says_how_to_name_a_source(hsm: SoftHsm) -> None:
    with pytest.raises(SettingMissing) as refused:
        open_provider(hsm.uri("object=aes", pin="")).wrap(KEY, CONTEXT)
    assert "pin-source=env:NAME" in refused.value.hint


def test_a_wrong_pin_is_refused_also_where_the_process_is_logged_in(hsm: SoftHsm) -> None:
    open_provider(hsm.uri("object=aes")).wrap(KEY, CONTEXT)
    with pytest.raises(PinIncorrect):
        open_provider(hsm.uri("object=aes", pin="pin-source=env:WRONG_PIN")).wrap(KEY, CONTEXT)
    open_provider(hsm.uri("object=aes")).wrap(KEY, CONTEXT)


def test_a_traceback_with_locals_shows_no_pin_and_no_key(hsm: SoftHsm) -> None:
    wrapped = open_provider(hsm.uri("object=aes")).wrap(KeyBytes(KEY), CONTEXT)
    altered = wrapped[:20] + bytes((wrapped[20] ^ 1,)) + wrapped[21:]
    failures: list[tuple[str, bytes]] = [
        (hsm.uri("object=aes", pin="pin-source=env:WRONG_PIN"), wrapped),
        (hsm.uri("object=aes"), altered),
        (hsm.uri("object=aes"), wrapped[:-1] + b"x"),
        (hsm.uri("object=absent"), wrapped),
        (hsm.uri("object=aes", token="absent"), wrapped),
    ]
    for uri, given in failures:
        provider = open_provider(uri)
        with pytest.raises(SecurecfgError) as unwrapping:
            provider.unwrap(given, CONTEXT)
        errors = [unwrapping.value]
        if given is wrapped:
            with pytest.raises(SecurecfgError) as wrapping:
                provider.wrap(KeyBytes(KEY), CONTEXT)
            errors.append(wrapping.value)
        for error in errors:
            frames = traceback.TracebackException.from_exception(error, capture_locals=True).stack
            shown = "".join(repr(frame.locals) for frame in frames if "/securecfg/" in frame.filename)
            assert shown
            assert not [canary for canary in (PIN, "canary-wrong", repr(KEY)[2:-1], KEY.hex()) if canary in shown]


GUESS = """
import subprocess, sys
from securecfg.errors import PinIncorrect
from securecfg.keys import WrapContext, open_provider
for last in (False, True):
    try:
        open_provider({uri!r}).wrap(bytes(32), WrapContext(bytes(16), bytes(16)))
    except PinIncorrect as error:
        print(error.code)
    if not last:
        subprocess.run([sys.executable, "-c", {between!r}], check=True)
"""
TOKEN = """
import pkcs11
token = pkcs11.lib({module!r}).get_token(token_label={label!r})
"""


def test_no_wrong_pin_is_sent_twice(tmp_path: Path) -> None:
    hsm = make_softhsm(tmp_path)
    token = TOKEN.format(module=hsm.module, label=LABEL)
    # The token remembers whether a PIN was wrong since the last one that was right.
    counted = f"{token}print(bool(token.flags & pkcs11.TokenFlag.USER_PIN_COUNT_LOW))"
    reset = f"{token}token.open(user_pin={PIN!r}).close()"
    guess = GUESS.format(uri=hsm.uri("object=aes", pin="pin-source=env:WRONG_PIN"), between=reset)
    assert hsm.run(counted) == "False"
    assert hsm.run(guess).split() == ["pin-incorrect"] * 2
    assert hsm.run(counted) == "False"
    # Another process does not know what this one has learnt.
    hsm.run(guess.replace("not last", "False"))
    assert hsm.run(counted) == "True"


# --- keys that are made -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "described"),
    [
        ("object=new%20aes", "AES-256, cannot be exported"),
        ("object=new%20too;id=%01%fe;type=secret-key", "AES-256, cannot be exported"),
        ("object=new%20rsa;type=private", "RSA-3072, cannot be exported"),
    ],
)
def test_makes_a_missing_key_that_never_leaves_the_token(key: str, described: str, hsm: SoftHsm) -> None:
    provider = open_provider(hsm.uri(key))
    assert isinstance(provider, Pkcs11Provider)
    with pytest.raises(KeyMissing):
        provider.wrap(KEY, CONTEXT)
    assert provider.create_missing() is True
    wrapped = provider.wrap(KEY, CONTEXT)
    assert provider.create_missing() is False
    assert open_provider(hsm.uri(key)).unwrap(wrapped, CONTEXT) == KEY
    assert provider.describe() == {"token": f"{LABEL}, SoftHSM project SoftHSM v2", "key": described}
    # It is kept: another process finds it.
    assert parse_params(bytes.fromhex(hsm.run(WRAP.format(uri=hsm.uri(key)))))


def test_makes_no_key_without_a_label_and_none_where_there_are_several(hsm: SoftHsm) -> None:
    for key, said in [("id=%77", "needs a label"), ("object=double", "2 keys")]:
        provider = open_provider(hsm.uri(key))
        assert isinstance(provider, Pkcs11Provider)
        with pytest.raises(SecurecfgError) as refused:
            provider.create_missing()
        assert said in refused.value.message


def test_a_key_that_can_leave_its_token_is_described_so(hsm: SoftHsm) -> None:
    provider = open_provider(hsm.uri("object=known"))
    assert isinstance(provider, Pkcs11Provider)
    provider.wrap(KEY, CONTEXT)
    assert provider.describe()["key"] == "AES-256, can be exported"


# --- one process, many users ------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the library ends a dead search as well
def test_a_session_that_ended_is_opened_anew(hsm: SoftHsm) -> None:
    import pkcs11

    provider = open_provider(hsm.uri("object=aes"))
    wrapped = provider.wrap(KEY, CONTEXT)
    pkcs11.lib(hsm.module).reinitialize()
    assert provider.unwrap(wrapped, CONTEXT) == KEY


SHARED = """
import pkcs11
from securecfg.keys import WrapContext, open_provider
context = WrapContext(bytes(16), bytes(16))
token = pkcs11.lib({module!r}).get_token(token_label={label!r})
with token.open(user_pin={pin!r}) as session:
    provider = open_provider({uri!r})
    assert provider.unwrap(provider.wrap(bytes(32), context), context) == bytes(32)
    print(len(list(session.get_objects())) > 5)
"""


def test_a_program_that_is_logged_in_itself_is_not_disturbed(tmp_path: Path) -> None:
    hsm = make_softhsm(tmp_path)
    assert hsm.run(SHARED.format(module=hsm.module, label=LABEL, pin=PIN, uri=hsm.uri("object=aes"))) == "True"


FORK = """
import os, threading
from securecfg.keys import WrapContext, open_provider
context = WrapContext(bytes(16), bytes(16))
provider = open_provider({uri!r})
wrapped = provider.wrap(bytes(32), context)
children = []
for _ in range(3):
    child = os.fork()
    if not child:
        threading.Timer(30, os._exit, (3,)).start()
        fresh = open_provider({uri!r})
        whole = all(one.unwrap(wrapped, context) == bytes(32) for one in (provider, fresh))
        grandchild = os.fork()
        if not grandchild:
            os._exit(0 if provider.unwrap(wrapped, context) == bytes(32) else 1)
        os._exit(0 if whole and os.waitpid(grandchild, 0)[1] == 0 else 1)
    children.append(child)
assert provider.unwrap(wrapped, context) == bytes(32)
print([os.waitpid(child, 0)[1] for child in children])
"""


@pytest.mark.parametrize("reset_on_fork", [False, True])
def test_children_and_their_children_start_the_module_anew(reset_on_fork: bool, tmp_path: Path) -> None:
    hsm = make_softhsm(tmp_path, reset_on_fork=reset_on_fork)
    assert hsm.run(FORK.format(uri=hsm.uri("object=aes"))) == "[0, 0, 0]"


CROWD = """
from concurrent.futures import ThreadPoolExecutor
from securecfg.keys import WrapContext, open_provider
uris = {uris!r}

def work(number):
    provider = open_provider(uris[number % len(uris)])
    context = WrapContext(bytes(16), number.to_bytes(16))
    return all(provider.unwrap(provider.wrap(bytes(32), context), context) == bytes(32) for _ in range(20))

with ThreadPoolExecutor({threads}) as pool:
    print(all(pool.map(work, range({threads}))))
"""


def test_threads_that_each_make_their_own_do_not_crash_the_module(hsm: SoftHsm) -> None:
    # In a process of its own: a module that is called by two threads at once takes its process with it.
    uris = [hsm.uri(key) for key in ("object=aes", "object=rsa", "object=wraps")]
    assert hsm.run(CROWD.format(uris=uris, threads=32)) == "True"


WORKER = """
import sys, time
from securecfg.keys import WrapContext, open_provider
context = WrapContext(bytes(16), bytes(16))
provider = open_provider({uri!r})
print("ready", flush=True)
sys.stdin.readline()
assert provider.unwrap(provider.wrap(bytes(32), context), context) == bytes(32)
"""


def test_workers_that_log_in_at_the_same_moment_do_not_disturb_each_other(tmp_path: Path) -> None:
    hsm = make_softhsm(tmp_path)
    environment = {**os.environ, "SOFTHSM2_CONF": str(hsm.configuration)}
    command = [sys.executable, "-c", WORKER.format(uri=hsm.uri("object=aes"))]
    workers = [
        subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        worker.communicate("go\n", timeout=60)
    assert [worker.returncode for worker in workers] == [0] * 8


# --- in a vault -------------------------------------------------------------------------------------------------------


def test_a_vault_opens_with_the_token_and_without_it(hsm: SoftHsm, tmp_path: Path) -> None:
    path = tmp_path / "a.vault"
    with Vault.create(path, key=hsm.uri("object=aes"), admin=ADMIN) as vault:
        vault.write("app/a", "canary")
        assert Slots(vault.authority).add(open_provider(hsm.uri("object=rsa%204096"))) == 2
    for key in ("object=aes", "object=rsa%204096"):
        with Vault.open(path, key=hsm.uri(key), principal=ADMIN) as vault:
            assert text_of(vault, "app/a") == "canary"
            sizes = [len(row) for _, row in sorted(vault.opened.replica.slots.items())]
            assert sizes[:2] == [256, 768]
    with pytest.raises(WrongKey):
        Vault.open(path, key=hsm.uri("object=another%20aes"), principal=ADMIN)
