"""What a page presupposes: files, a vault, and names that its code uses."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from securecfg import Vault
from securecfg.keys import RecoveryProvider, generate_key_file, generate_recovery_code, open_provider
from securecfg.policy import default_documents
from securecfg.vault.keys.slots import Slots
from tests.backends import consul_agent
from tests.backends.consul_agent import ConsulAgent
from tests.backends.etcd_cluster import etcd_server
from tests.keys import aws, gcp, transit
from tests.keys.azure import VAULT_HOST, azure
from tests.keys.softhsm import find_module

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager


@contextmanager
def nothing(_project: Path) -> Iterator[dict[str, Any]]:
    """Presuppose nothing."""
    yield {}


@contextmanager
def a_vault_of_configuration(project: Path) -> Iterator[dict[str, Any]]:
    """A vault that holds what the pages on configuration refer to."""
    with new_vault(project) as vault:
        vault.write("db/main", {"user": "shop", "password": "canary-7f3a/p@ss word"})
        vault.write("shop/overrides", "x: 1", content_type="application/yaml")
        yield {"vault": vault}


@contextmanager
def a_shop(project: Path) -> Iterator[dict[str, Any]]:
    """A vault as `securecfg init` leaves it, with some secrets of a shop."""
    with new_vault(project) as vault:
        vault.administration.apply_policy(default_documents("shop", "user:me"))
        vault.write("prod/database/url", {"password": "canary p@ss"})
        vault.write("payments/stripe/key", "canary-old")
    os.environ["NEW_KEY"] = "canary-new"
    yield {}


@contextmanager
def a_shop_that_installs_packages(project: Path) -> Iterator[dict[str, Any]]:
    """The same, where what `pip` installs goes to a folder of the page, made by what is there already."""
    site = project / "site"
    former = os.environ.get("PYTHONPATH")
    os.environ |= {
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # as the option without a value: what is said is whether it is isolated
        "PIP_NO_DEPS": "1",
        "PIP_NO_INDEX": "1",
        "PIP_TARGET": str(site),
        "PYTHONPATH": f"{site}{os.pathsep}{former}" if former else str(site),
    }
    with a_shop(project):
        yield {}


@contextmanager
def a_shop_with_openssl(project: Path) -> Iterator[dict[str, Any]]:
    """The same, on a machine with OpenSSL's program."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the program `openssl`")
    with a_shop(project):
        yield {}


@contextmanager
def a_shop_with_a_code(project: Path) -> Iterator[dict[str, Any]]:
    """The same, and its recovery code in a variable."""
    with a_shop(project):
        code = generate_recovery_code()
        with Vault.open() as vault:
            Slots(vault.authority).add(RecoveryProvider(code), label="recovery code")
        os.environ["CODE"] = code.reveal()
        yield {}


@contextmanager
def a_shop_with_services(project: Path) -> Iterator[dict[str, Any]]:
    """The same, and two services that are members of roles of their names, by identities in files."""
    with a_shop_with_a_code(project):
        for name in ("pay", "web"):
            for arguments in (
                ("identity", "create", f"svc:{name}", "--out", f"{name}.identity", "--public", f"{name}.pub"),
                ("role", "add", name, "--member", f"svc:{name}", "--identity", f"{name}.pub"),
            ):
                subprocess.run([sys.executable, "-m", "securecfg", *arguments], check=True, capture_output=True)
        yield {}


@contextmanager
def a_shop_with_shares(project: Path) -> Iterator[dict[str, Any]]:
    """The same, and a slot of which three people have the shares: ana and eve in files, ben sealed to his identity."""
    with a_shop_with_a_code(project):
        for arguments in (
            ("identity", "create", "ben", "--out", "ben.identity", "--public", "ben.pub"),
            (
                *("key", "ceremony", "add", "--threshold", "2", "--transcript", "founding.txt"),
                *(
                    "--holder",
                    "ana=ana.share",
                    "--holder",
                    "ben=ben.share,identity:ben.pub",
                    "--holder",
                    "eve=eve.share",
                ),
            ),
        ):
            subprocess.run([sys.executable, "-m", "securecfg", *arguments], check=True, capture_output=True)
        yield {}


@contextmanager
def a_shop_with_a_log(project: Path) -> Iterator[dict[str, Any]]:
    """The same with some records, and the verifier key as its owner noted it."""
    with a_shop(project), Vault.open() as vault:
        for number in range(8):
            vault.write("payments/stripe/key", f"canary-{number}")
        (project / "trusted.vkey").write_text(f"{vault.log.vkey}\n")
    yield {}


@contextmanager
def a_careless_shop(project: Path) -> Iterator[dict[str, Any]]:
    """A project with two secrets in its files, and no vault."""
    # Assembled, so that nobody takes this file for one that holds a key.
    mode = "live"
    stripe = f"sk_{mode}_canary0123456789abcdef"
    (project / ".env").write_text(f"# of the web process\nLOG_LEVEL=info\nSTRIPE_API_KEY={stripe}\nCURRENCY=EUR\n")
    (project / "config").mkdir()
    (project / "config" / "default.yaml").write_text("database:\n  url: postgresql://localhost/shop\n  pool_size: 5\n")
    comments = "".join(f"# {line}\n" for line in ("Production.", *("-" for _ in range(8)), "Ask the platform team."))
    url = "postgresql://shop:canary%20p%40ss@db.internal/shop   # primary"
    (project / "config" / "prod.yaml").write_text(f"{comments}database:\n  url: {url}\n  pool_size: 40\n")
    (project / "app.py").write_text(CONNECT)
    yield {}


@contextmanager
def a_careless_shop_with_a_vault(project: Path) -> Iterator[dict[str, Any]]:
    """The same, with a vault that holds nothing yet."""
    with a_careless_shop(project), new_vault(project):
        yield {}


@contextmanager
def a_careless_shop_in_git(project: Path) -> Iterator[dict[str, Any]]:
    """A project with two secrets in its files, in a repository, and somebody who may commit."""
    if shutil.which("git") is None:
        pytest.skip("needs the program `git`")
    for who in ("AUTHOR", "COMMITTER"):
        os.environ |= {f"GIT_{who}_NAME": "Ana", f"GIT_{who}_EMAIL": "ana@example.com"}
    subprocess.run(["git", "init", "--quiet"], check=True)
    with a_careless_shop(project):
        yield {}


@contextmanager
def a_shop_with_aws(project: Path) -> Iterator[dict[str, Any]]:
    """The same, and a key of AWS KMS with the alias `alias/shop`."""
    with aws.moto() as port, a_shop(project):
        kms = aws.client("kms", port)
        kms.create_alias(AliasName="alias/shop", TargetKeyId=kms.create_key()["KeyMetadata"]["KeyId"])
        os.environ |= {
            "AWS_ACCESS_KEY_ID": aws.ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": aws.SECRET_KEY,
            "AWS_ENDPOINT_URL_KMS": f"http://127.0.0.1:{port}",
        }
        yield {}


@contextmanager
def a_shop_with_cloud_kms(project: Path) -> Iterator[dict[str, Any]]:
    """The same, and a key of Cloud KMS, which the page calls `$SHOP_KEY`."""
    account = gcp.write_account(project / "account.json", gcp.ADMIN)
    with gcp.cloud_kms() as ports, a_shop(project):
        request = {"parent": gcp.RING, "crypto_key_id": "vault", "crypto_key": {"purpose": "ENCRYPT_DECRYPT"}}
        name = gcp.client(ports.http, account).create_crypto_key(request=request).name
        os.environ |= {
            "GOOGLE_APPLICATION_CREDENTIALS": str(account),
            "SHOP_KEY": f"gcpkms:{name}?endpoint=http://127.0.0.1:{ports.http}",
        }
        yield {}


@contextmanager
def a_server_with_a_kv_engine(_project: Path) -> Iterator[dict[str, Any]]:
    """A Vault server with a KV engine at `secret`."""
    with transit.vault_server() as port:
        transit.client(port).sys.enable_secrets_engine("kv", "secret", options={"version": "2"})
        os.environ |= {"VAULT_ADDR": f"http://127.0.0.1:{port}", "VAULT_TOKEN": "root"}
        yield {}


@contextmanager
def a_shop_and_a_team_with_a_kv_engine(project: Path) -> Iterator[dict[str, Any]]:
    """A shop, and a Vault server in whose KV engine a team keeps a secret."""
    with a_server_with_a_kv_engine(project), a_shop(project):
        client = transit.client(int(os.environ["VAULT_ADDR"].rpartition(":")[2]))
        secret = {"user": "web", "password": "canary-of-the-team"}
        client.secrets.kv.v2.create_or_update_secret("team/db", secret=secret)
        yield {}


@contextmanager
def a_consul_agent(_project: Path) -> Iterator[dict[str, Any]]:
    """A Consul agent with a token for everything."""
    with ConsulAgent() as agent:
        os.environ |= {"CONSUL_HTTP_ADDR": f"127.0.0.1:{agent.port}", "CONSUL_HTTP_TOKEN": consul_agent.TOKEN}
        yield {}


@contextmanager
def an_etcd_server(_project: Path) -> Iterator[dict[str, Any]]:
    """An etcd server without users."""
    with etcd_server(is_guarded=False) as etcd:
        os.environ["ETCDCTL_ENDPOINTS"] = f"127.0.0.1:{etcd.port}"
        yield {}


@contextmanager
def a_shop_with_a_transit_engine(project: Path) -> Iterator[dict[str, Any]]:
    """The same, and a key of a transit engine called `shop`."""
    with transit.vault_server() as port, a_shop(project):
        root = transit.client(port)
        root.secrets.transit.create_key("shop", derived=True)
        token = transit.allow(root, "app", encrypt=["update"], decrypt=["update"])
        os.environ |= {"VAULT_ADDR": f"http://127.0.0.1:{port}", "VAULT_TOKEN": token}
        yield {}


@contextmanager
def a_shop_whose_service_is_gone(project: Path) -> Iterator[dict[str, Any]]:
    """A shop with a key of AWS KMS for its web process, and nobody who answers for AWS KMS."""
    with a_shop_with_aws(project), Vault.open() as vault:
        provider = open_provider("awskms:alias/shop?region=eu-west-1")
        Slots(vault.authority).add(provider, label="AWS KMS", principals=["svc:shop"])
    yield {}


@contextmanager
def a_shop_with_azure(project: Path) -> Iterator[dict[str, Any]]:
    """The same, and the key `app` of an Azure Key Vault called `shop`."""
    (project / "azure").mkdir()
    with azure(project / "azure") as (service, _proxy, variables), a_shop(project):
        service.create_key(VAULT_HOST, "app")
        os.environ |= variables
        yield {}


@contextmanager
def an_azure_vault(project: Path) -> Iterator[dict[str, Any]]:
    """An Azure Key Vault called `shop`."""
    with azure(project, "azure.keyvault.secrets") as (_service, _proxy, variables):
        os.environ |= variables
        yield {}


@contextmanager
def a_shop_with_an_hsm(project: Path) -> Iterator[dict[str, Any]]:
    """The same, and a SoftHSM with an empty token."""
    find_module()
    with a_shop(project):
        (project / "tokens").mkdir()
        configuration = project / "softhsm2.conf"
        configuration.write_text(f"directories.tokendir = {project / 'tokens'}\nobjectstore.backend = file\n")
        os.environ |= {"SOFTHSM2_CONF": str(configuration), "HSM_PIN": "4711"}
        yield {}


CONNECT = """\
import os

assert os.environ["DATABASE_URL"] == "postgresql://shop:canary%20p%40ss@db.internal/shop"
assert os.environ["STRIPE_API_KEY"].endswith("cdef")
print("connected")
"""


@contextmanager
def a_signer(project: Path) -> Iterator[dict[str, Any]]:
    """A person with a key of OpenSSH, and a trust file that names it."""
    if shutil.which("ssh-keygen") is None:
        pytest.skip("needs the program `ssh-keygen`")
    key = Path.home() / ".ssh" / "id_ed25519"
    key.parent.mkdir()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    public = key.with_suffix(".pub").read_text().split()
    (project / "allowed_signers").write_text(f"ops@example.com {public[0]} {public[1]}\n")
    (project / "config").mkdir()
    (project / "config" / "default.yaml").write_text("city: Lisbon\n")
    yield {}


@dataclass(frozen=True, slots=True)
class Scene:
    """What a page presupposes.

    Attributes:
        project: The name of the folder in which its commands run.
        prepare: Makes the rest, and yields the names that its code may use.
        stand_ins: For texts that differ on each machine, the pattern of what may be there.
        places: For paths of a system, where they are in the test.
    """

    project: str = "project"
    prepare: Callable[[Path], AbstractContextManager[dict[str, Any]]] = nothing
    stand_ins: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)


def new_vault(project: Path) -> Vault:
    """Create a vault with a key file beside it and settings that name both, as `securecfg init` would."""
    generate_key_file(project / "demo.key")
    (project / "securecfg.toml").write_text('vault = "demo.vault"\nservice = "svc:shop"\n')
    (project / ".securecfg").mkdir()
    (project / ".securecfg" / "local.toml").write_text('key = "file:demo.key"\nas = "user:me"\n')
    return Vault.create(project / "demo.vault", key=f"file:{project / 'demo.key'}", admin="me")


# What differs on each machine; where the pages show an operating system's keyring the tests have none.
MADE_BY_INIT = {
    "operating system keyring": r"~/\.config/securecfg/keys/[\w.-]+\.key \(mode 0600; [^\n]*?\)",
    "7K4M-...": "[0-9A-Z-]{44}",
}

SCENES = {
    "README.md": Scene("shop", a_careless_shop, MADE_BY_INIT),
    "docs/how-to/back-out.md": Scene("shop", a_careless_shop, MADE_BY_INIT),
    "docs/how-to/import-secrets.md": Scene("shop", a_careless_shop_with_a_vault, MADE_BY_INIT),
    "docs/tutorial/from-plaintext-to-roles.md": Scene("weather", stand_ins=MADE_BY_INIT),
    "docs/how-to/share-with-a-team.md": Scene(
        "shop", a_careless_shop_in_git, MADE_BY_INIT | {'"keyring:"': r'"file:~/\.config/securecfg/keys/[\w.-]+\.key"'}
    ),
    "docs/how-to/backend-azurekeyvault.md": Scene(prepare=an_azure_vault),
    "docs/how-to/backend-consul.md": Scene(prepare=a_consul_agent),
    "docs/how-to/backend-etcd.md": Scene(prepare=an_etcd_server),
    "docs/how-to/backend-vault.md": Scene(prepare=a_server_with_a_kv_engine),
    "docs/how-to/asyncio.md": Scene(prepare=a_shop_and_a_team_with_a_kv_engine),
    "docs/how-to/mount-a-store.md": Scene(prepare=a_shop_and_a_team_with_a_kv_engine),
    "docs/how-to/backup-and-restore.md": Scene(prepare=a_shop),
    "docs/how-to/export.md": Scene(prepare=a_shop),
    "docs/how-to/change-and-take-back.md": Scene(prepare=a_shop),
    "docs/how-to/give-a-service-a-role.md": Scene(prepare=a_shop),
    "docs/how-to/identities.md": Scene(prepare=a_shop_with_a_code),
    "docs/how-to/administrators.md": Scene(prepare=a_shop_with_services),
    "docs/how-to/drop-box.md": Scene(prepare=a_shop_with_a_code),
    "docs/how-to/seal-a-scope.md": Scene(prepare=a_shop_with_a_code),
    "docs/how-to/break-glass.md": Scene(prepare=a_shop_with_a_code),
    "docs/how-to/introduce-a-member.md": Scene(prepare=a_shop_with_a_code),
    "docs/how-to/key-compromise.md": Scene(prepare=a_shop),
    "docs/how-to/key-ceremony.md": Scene(prepare=a_shop_with_a_code),
    "docs/how-to/keys.md": Scene(prepare=a_shop_with_a_code),
    "docs/how-to/keys-awskms.md": Scene(prepare=a_shop_with_aws),
    "docs/how-to/keys-gcpkms.md": Scene(prepare=a_shop_with_cloud_kms),
    "docs/how-to/keys-vaulttransit.md": Scene(prepare=a_shop_with_a_transit_engine),
    "docs/how-to/keys-azurekeyvault.md": Scene(prepare=a_shop_with_azure),
    "docs/how-to/leave-a-key-service.md": Scene(prepare=a_shop_whose_service_is_gone),
    "docs/how-to/keys-pkcs11.md": Scene(prepare=a_shop_with_an_hsm),
    "docs/how-to/rotate-webhook.md": Scene(prepare=a_shop),
    "docs/how-to/other-keys.md": Scene(prepare=a_shop_with_a_code),
    "docs/how-to/publish-a-bundle.md": Scene(prepare=a_shop),
    "docs/how-to/rotate-own-keys.md": Scene(prepare=a_shop),
    "docs/how-to/rotate-a-secret.md": Scene(prepare=a_shop),
    "docs/how-to/when-a-rotation-failed.md": Scene(prepare=a_shop),
    "docs/how-to/recover.md": Scene(prepare=a_shop_with_shares),
    "docs/how-to/rotate-signing-key.md": Scene(prepare=a_shop),
    "docs/how-to/rotate-tls.md": Scene(prepare=a_shop_with_openssl),
    "docs/how-to/rotate-ssh.md": Scene(prepare=a_shop),
    "docs/how-to/run-a-program.md": Scene(prepare=a_shop),
    "docs/how-to/several-keys.md": Scene(prepare=a_shop_with_a_code),
    "docs/how-to/shares.md": Scene(prepare=a_shop_with_a_code),
    "docs/how-to/sign-configuration.md": Scene(
        prepare=a_signer, places={"/etc/shop/allowed_signers": "allowed_signers"}
    ),
    "docs/how-to/write-a-rotator.md": Scene(prepare=a_shop_that_installs_packages),
    "docs/how-to/verify-the-log.md": Scene(prepare=a_shop_with_a_log),
    "docs/how-to/load-configuration.md": Scene(prepare=a_vault_of_configuration),
    "docs/how-to/follow-a-rotation.md": Scene(prepare=a_vault_of_configuration),
}
