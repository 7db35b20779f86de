"""Opening a vault with each kind of key, beside the call that nobody can do without: that of the key's holder alone.

What a service takes is that of its double or emulator on this machine. Clients are at hand on both sides, as in a
program that opens a vault again; what a person types is there. A kind whose service or program is missing is left out,
and said.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from base64 import b64decode, b64encode
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import pytest
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from benchmarks.rows import beyond_floor, interleave, repeated
from benchmarks.vaults import ADMIN, create
from securecfg import Vault
from securecfg.crypto import DEFAULT_COSTS, generate_key, interpolate, open_sealed, seal_to
from securecfg.keys import KeyringProvider, WrapContext, format_share, generate_key_file, generate_shares, open_provider
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
        call: Does what cannot be spared.
        said: What that is.
        repeats: How often each is done in a round.
        variables: What the environment holds meanwhile.
    """

    provider: Callable[[], KeyProvider]
    call: Callable[[], object]
    said: str
    repeats: int = REPEATS
    variables: Mapping[str, str] = field(default_factory=dict)


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
            contenders[f"open {scheme}"] = _opening(bench, place.vault, holder)
            contenders[f"call {scheme}"] = _calling(bench, holder)
        found = interleave(contenders, bench.rounds)
        for scheme, holder in holders.items():
            name = f"open, `{scheme}:`, {SECRETS} secrets"
            yield beyond_floor(name, found[f"open {scheme}"], (holder.said, found[f"call {scheme}"]), GOAL_S)


def _opening(bench: Bench, vault: Path, holder: Holder) -> Contender:
    count = bench.repeats(holder.repeats)

    def run() -> float:
        seconds = 0.0
        with _variables(holder.variables):
            for _ in range(count):
                provider = holder.provider()
                started = time.perf_counter()
                opened = Vault.open(vault, key=provider, principal=ADMIN)
                seconds += time.perf_counter() - started
                opened.close()
        return seconds / count

    return run


def _calling(bench: Bench, holder: Holder) -> Contender:
    run = repeated(holder.call, bench.repeats(holder.repeats))

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
    salt, costs = os.urandom(16), DEFAULT_COSTS

    def call() -> bytes:
        kdf = Argon2id(salt=salt, length=32, iterations=costs.passes, lanes=costs.lanes, memory_cost=costs.memory_kib)
        return kdf.derive(PASSPHRASE.encode())

    yield Holder(lambda: open_provider("passphrase:", ask=lambda _: PASSPHRASE), call, "Argon2id alone", REPEATS_SLOW)


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
            backend.set_password("bench", "bench", "x" * 68)
        yield Holder(
            lambda: KeyringProvider(backend),
            lambda: backend.get_password("bench", "bench"),
            "the keyring's answer alone",
            variables=variables,
        )


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
        client = aws.client("kms", port)
        name = client.create_key()["KeyMetadata"]["KeyId"]
        context = {"securecfg:vault": "0" * 32, "securecfg:slot": "0" * 32}
        sealed = client.encrypt(KeyId=name, Plaintext=generate_key(), EncryptionContext=context)["CiphertextBlob"]
        variables = {
            "AWS_ACCESS_KEY_ID": aws.ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": aws.SECRET_KEY,
            "AWS_ENDPOINT_URL_KMS": f"http://127.0.0.1:{port}",
        }
        provider = open_provider(f"awskms:{name}?region={aws.REGION}")
        yield Holder(
            lambda: provider,
            lambda: client.decrypt(KeyId=name, CiphertextBlob=sealed, EncryptionContext=context),
            "boto3 `decrypt`, moto",
            variables=variables,
        )


@contextmanager
def gcpkms(folder: Path) -> Iterator[Holder]:
    account = gcp.write_account(folder / "account.json", gcp.ADMIN)
    with gcp.cloud_kms() as ports:
        client = gcp.client(ports.http, account)
        request = {"parent": gcp.RING, "crypto_key_id": "vault", "crypto_key": {"purpose": "ENCRYPT_DECRYPT"}}
        name = client.create_crypto_key(request=request).name
        aad = bytes(32)
        sealed = client.encrypt(
            request={"name": name, "plaintext": generate_key(), "additional_authenticated_data": aad}
        ).ciphertext
        wanted = {"name": name, "ciphertext": sealed, "additional_authenticated_data": aad}
        provider = open_provider(f"gcpkms:{name}?endpoint=http://127.0.0.1:{ports.http}")
        yield Holder(
            lambda: provider,
            lambda: client.decrypt(request=wanted),
            "Google's client `decrypt`, a double",
            variables={"GOOGLE_APPLICATION_CREDENTIALS": str(account)},
        )


@contextmanager
def azurekeyvault(folder: Path) -> Iterator[Holder]:
    with azure(folder) as (service, _proxy, variables):
        service.create_key(VAULT_HOST, "app")
        url = f"https://{VAULT_HOST}"
        with _variables(variables):
            from azure.identity import DefaultAzureCredential
            from azure.keyvault.keys import KeyClient
            from azure.keyvault.keys.crypto import KeyWrapAlgorithm

            crypto = KeyClient(url, DefaultAzureCredential()).get_cryptography_client("app")
            sealed = crypto.wrap_key(KeyWrapAlgorithm.rsa_oaep_256, generate_key()).encrypted_key
        provider = open_provider(f"azurekeyvault:{url}/keys/app")
        yield Holder(
            lambda: provider,
            lambda: crypto.unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, sealed),
            "Azure's client `unwrap_key`, a double",
            variables=variables,
        )


@contextmanager
def vaulttransit(_folder: Path) -> Iterator[Holder]:
    with transit.vault_server() as port:
        root = transit.client(port)
        root.secrets.transit.create_key("shop", derived=True)
        token = transit.allow(root, "app", encrypt=["update"], decrypt=["update"])
        context = b64encode(bytes(32)).decode()
        plain = b64encode(generate_key()).decode()
        sealed = root.secrets.transit.encrypt_data("shop", plain, context=context)["data"]["ciphertext"]
        provider = open_provider("vaulttransit:transit/shop")

        def call() -> bytes:
            answer = root.secrets.transit.decrypt_data("shop", sealed, context=context)
            return b64decode(answer["data"]["plaintext"])

        variables = {"VAULT_ADDR": f"http://127.0.0.1:{port}", "VAULT_TOKEN": token}
        yield Holder(lambda: provider, call, "hvac `decrypt_data`, a double", variables=variables)


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
