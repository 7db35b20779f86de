"""Opening a vault with each kind of key, beside the call that nobody can do without: that of the key's holder alone.

What a service takes is that of its double or emulator on this machine. Clients are at hand on both sides, as in a
program that opens a vault again; what a person types is there. A kind whose service or program is missing is left out,
and said.

What takes many times as long as all the rest, and fluctuates by more than that, is timed inside the very openings that
it is taken from, where the provider calls it; the row says so. What else the provider does around it counts as ours.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import pytest

from benchmarks.rows import beyond_floor, interleave, repeated
from benchmarks.vaults import ADMIN, create
from securecfg import Vault
from securecfg.crypto import generate_key, interpolate, open_sealed, seal_to
from securecfg.keys import (
    KeyringProvider,
    WrapContext,
    format_share,
    generate_key_file,
    generate_shares,
    open_provider,
    stretching,
)
from securecfg.keys.identity import (
    UNPROTECTED,
    IdentityFile,
    PrivateHalf,
    format_identity_file,
    generate_identity,
    opening_key_of,
)
from securecfg.vault.keys.slots import Slots
from tests.docs.keyring_session import unlocked_keyring
from tests.keys import aws, gcp, softhsm, transit
from tests.keys.azure import VAULT_HOST, azure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from benchmarks.rows import Bench, Contender, Row
    from securecfg.keys import KeyProvider

SECRETS = 100
GOAL_S = 2e-3
PASSPHRASE = "moss lantern quarry plum oboe"
REPEATS = 50
REPEATS_SLOW = 5


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a key, and what asking him takes at least.

    Attributes:
        provider: Returns the provider for one opening.
        least: What cannot be spared: a call that is made beside the openings; or where the provider makes it, an object
            and the name of what it calls there, and then it is timed inside of them.
        said: What that is.
        repeats: How often each is done in a round.
        variables: What the environment holds meanwhile.
    """

    provider: Callable[[], KeyProvider]
    least: Callable[[], object] | tuple[Any, str]
    said: str
    repeats: int = REPEATS
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def subtracted(self) -> str:
        return f"{self.said}, inside the same openings" if isinstance(self.least, tuple) else self.said


def rows(bench: Bench) -> Iterator[Row]:
    place = create(bench.folder / "providers", SECRETS)
    with ExitStack() as stack:
        holders: dict[str, Holder] = {}
        for scheme, prepare in HOLDERS.items():
            folder = bench.folder / f"of-{scheme}"
            folder.mkdir()
            try:
                holders[scheme] = stack.enter_context(prepare(folder))
            except pytest.skip.Exception as missing:
                print(f"`{scheme}:` is left out: {missing}", flush=True)
        with Vault.open(place.vault, key=place.key, principal=ADMIN) as vault:
            for holder in holders.values():
                with _variables(holder.variables):
                    Slots(vault.authority).add(holder.provider())
        contenders: dict[str, Contender] = {}
        for scheme, holder in holders.items():
            opening = _Opening(bench, place.vault, holder)
            contenders[f"open {scheme}"] = opening.whole
            least = holder.least
            beside = None if isinstance(least, tuple) else _calling(bench, holder, least)
            contenders[f"call {scheme}"] = beside or opening.inside
        found = interleave(contenders, bench.rounds)
        for scheme, holder in holders.items():
            name = f"open, `{scheme}:`, {SECRETS} secrets"
            yield beyond_floor(name, found[f"open {scheme}"], (holder.subtracted, found[f"call {scheme}"]), GOAL_S)


class _Opening:
    """Opens a vault, and times what of that is the call of the key's holder."""

    def __init__(self, bench: Bench, vault: Path, holder: Holder) -> None:
        self._count = bench.repeats(holder.repeats)
        self._vault, self._holder = vault, holder
        self._spent = 0.0

    def whole(self) -> float:
        """Open the vault some times; return the seconds that one took."""
        seconds = self._spent = 0.0
        with _variables(self._holder.variables), self._timed():
            for _ in range(self._count):
                provider = self._holder.provider()
                started = time.perf_counter()
                opened = Vault.open(self._vault, key=provider, principal=ADMIN)
                seconds += time.perf_counter() - started
                opened.close()
        return seconds / self._count

    def inside(self) -> float:
        """Return the seconds of the last openings, one with the other, that passed in the call of the key's holder."""
        return self._spent / self._count

    @contextmanager
    def _timed(self) -> Iterator[None]:
        if not isinstance(self._holder.least, tuple):
            yield
            return
        place, name = self._holder.least
        call = getattr(place, name)

        def timed(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - whatever is called
            started = time.perf_counter()
            try:
                return call(*arguments, **named)
            finally:
                self._spent += time.perf_counter() - started

        setattr(place, name, timed)
        try:
            yield
        finally:
            setattr(place, name, call)


def _calling(bench: Bench, holder: Holder, least: Callable[[], object]) -> Contender:
    run = repeated(least, bench.repeats(holder.repeats))

    def call() -> float:
        with _variables(holder.variables):
            return run()

    return call


@contextmanager
def _variables(wanted: Mapping[str, str]) -> Iterator[None]:
    """Set variables for a while: the proxy of one service is not for the others."""
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


# --- keys that are here -----------------------------------------------------------------------------------------------


@contextmanager
def passphrase(_folder: Path) -> Iterator[Holder]:
    yield Holder(
        lambda: open_provider("passphrase:", ask=lambda _: PASSPHRASE),
        (stretching, "stretch"),
        "Argon2id",
        REPEATS_SLOW,
    )


@contextmanager
def file(folder: Path) -> Iterator[Holder]:
    path = folder / "key"
    generate_key_file(path)
    yield Holder(lambda: open_provider(f"file:{path}"), path.read_bytes, "reading the file")


@contextmanager
def command(folder: Path) -> Iterator[Holder]:
    path = folder / "key"
    generate_key_file(path)

    def call() -> bytes:
        return subprocess.run(["cat", path], check=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL).stdout

    yield Holder(lambda: open_provider(f"command:cat '{path}'"), call, "running `cat`")


@contextmanager
def shamir(folder: Path) -> Iterator[Holder]:
    shares = generate_shares(3, 5)[:3]
    paths = [folder / str(share.number) for share in shares]
    for path, share in zip(paths, shares, strict=True):
        path.touch(mode=0o600)
        path.write_text(f"{format_share(share)}\n")
    raw = [share.raw for share in shares]
    uri = "shamir:" + ",".join(map(str, paths))
    yield Holder(lambda: open_provider(uri), lambda: interpolate(raw), "putting 3 shares together")


@contextmanager
def identity(folder: Path) -> Iterator[Holder]:
    made, seed = generate_identity(ADMIN)
    path = folder / "own"
    path.touch(mode=0o600)
    path.write_text(format_identity_file(IdentityFile(made, PrivateHalf(UNPROTECTED, seed))))
    private, sealed = opening_key_of(seed), seal_to(made.recipient, generate_key(), b"bench")
    yield Holder(
        lambda: open_provider(f"identity:{path}"), lambda: open_sealed(private, sealed, b"bench"), "HPKE alone"
    )


@contextmanager
def keyring(folder: Path) -> Iterator[Holder]:
    def program(name: str) -> str:
        return shutil.which(name) or pytest.skip(f"needs the program `{name}`")

    with unlocked_keyring(program, folder) as variables:
        backend: Any
        with _variables(variables):
            from keyring.backends import SecretService

            backend = cast("Any", SecretService).Keyring()
        least = (backend, "get_password")
        yield Holder(lambda: KeyringProvider(backend), least, "the keyring's answer", variables=variables)


@contextmanager
def pkcs11(folder: Path) -> Iterator[Holder]:
    hsm = softhsm.make_softhsm(folder / "hsm")
    variables = {"SOFTHSM2_CONF": str(hsm.configuration), "TOKEN_PIN": softhsm.PIN}
    with _variables(variables):
        import pkcs11 as cryptoki
        from pkcs11 import GCMParams, Mechanism, ObjectClass

        provider = open_provider(hsm.uri("object=aes"))
        # The token is logged in to once in a process, and the provider does that.
        context = WrapContext(bytes(16), bytes(16))
        provider.wrap(generate_key(), context)
        session = cryptoki.lib(hsm.module).get_token(token_label=softhsm.LABEL).open()
        key: Any = session.get_key(object_class=ObjectClass.SECRET_KEY, label="aes")
        params = GCMParams(os.urandom(12), b"bench")
        sealed = key.encrypt(generate_key(), mechanism=Mechanism.AES_GCM, mechanism_param=params)
    yield Holder(
        lambda: provider,
        lambda: key.decrypt(sealed, mechanism=Mechanism.AES_GCM, mechanism_param=params),
        "SoftHSM's decryption alone",
        variables=variables,
    )


# --- services ---------------------------------------------------------------------------------------------------------


@contextmanager
def awskms(_folder: Path) -> Iterator[Holder]:
    with aws.moto() as port:
        name = aws.client("kms", port).create_key()["KeyMetadata"]["KeyId"]
        variables = {
            "AWS_ACCESS_KEY_ID": aws.ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": aws.SECRET_KEY,
            "AWS_ENDPOINT_URL_KMS": f"http://127.0.0.1:{port}",
        }
        provider = open_provider(f"awskms:{name}?region={aws.REGION}")
        from botocore.client import BaseClient

        least = (BaseClient, "_make_api_call")  # what every method of every client comes to
        yield Holder(lambda: provider, least, "boto3 `decrypt`, moto", variables=variables)


@contextmanager
def gcpkms(folder: Path) -> Iterator[Holder]:
    account = gcp.write_account(folder / "account.json", gcp.ADMIN)
    with gcp.cloud_kms() as ports:
        client = gcp.client(ports.http, account)
        request = {"parent": gcp.RING, "crypto_key_id": "vault", "crypto_key": {"purpose": "ENCRYPT_DECRYPT"}}
        name = client.create_crypto_key(request=request).name
        provider = open_provider(f"gcpkms:{name}?endpoint=http://127.0.0.1:{ports.http}")
        variables = {"GOOGLE_APPLICATION_CREDENTIALS": str(account)}
        least = (type(client), "decrypt")
        yield Holder(lambda: provider, least, "Google's client `decrypt`, a double", variables=variables)


@contextmanager
def azurekeyvault(folder: Path) -> Iterator[Holder]:
    with azure(folder) as (service, _proxy, variables):
        service.create_key(VAULT_HOST, "app")
        provider = open_provider(f"azurekeyvault:https://{VAULT_HOST}/keys/app")
        from azure.keyvault.keys import KeyClient

        least = (KeyClient, "send_request")
        yield Holder(lambda: provider, least, "Azure's client `send_request`, a double", variables=variables)


@contextmanager
def vaulttransit(_folder: Path) -> Iterator[Holder]:
    with transit.vault_server() as port:
        root = transit.client(port)
        root.secrets.transit.create_key("shop", derived=True)
        variables = {
            "VAULT_ADDR": f"http://127.0.0.1:{port}",
            "VAULT_TOKEN": transit.allow(root, "app", encrypt=["update"], decrypt=["update"]),
        }
        provider = open_provider("vaulttransit:transit/shop")
        least = (type(root.secrets.transit), "decrypt_data")
        yield Holder(lambda: provider, least, "hvac `decrypt_data`, a double", variables=variables)


HOLDERS: Mapping[str, Callable[[Path], AbstractContextManager[Holder]]] = {
    "passphrase": passphrase,
    "file": file,
    "keyring": keyring,
    "command": command,
    "shamir": shamir,
    "identity": identity,
    "pkcs11": pkcs11,
    "awskms": awskms,
    "gcpkms": gcpkms,
    "azurekeyvault": azurekeyvault,
    "vaulttransit": vaulttransit,
}
