"""Walk through the shop: from passwords in plain files to a vault that notices when it is tampered with.

Run it with `make demo`. It works on a copy in a scratch directory with a home of its own, changes nothing else,
needs no network and asks nothing. Each step asserts its outcome.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import apsw
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from examples.walkthrough import Shell
from securecfg.errors import SignatureInvalid
from securecfg.sources import load
from securecfg.sources.load import NAMESPACE
from securecfg.store import Space

if TYPE_CHECKING:
    from collections.abc import Iterable

HERE = Path(__file__).resolve().parent
APPLICATION = ("app.py", "settings.py", "config", ".env", "roles.toml", "cases.toml")
STRIPE = "payments/stripe/secret_key"
SECRETS = (
    "devdb-canary-41",
    "mail-canary-8c21f7",
    "proddb-canary-93",
    "cache-canary-17",
    "search-canary-5e0b99",
    "stripe-canary-2f6d1a",
    "hook-canary-77c4e0",
    "paypal-canary-b3a8d5",
    "ware-canary-house-66",
    "stats-canary-d41c9e",
    "session-canary-e2b7a90c",
    "admin canary 12",
)
NEW_SECRET = "stripe-canary-new-90ab12"
DENIED, TAMPERED = 5, 8
PRIVATE = 0o600


class Shop(Shell):
    """A copy of the shop in a scratch directory, and whoever types commands in it."""

    def __init__(self, scratch: Path) -> None:
        """Copy the application and prepare an environment that knows nothing of this machine's user."""
        folder = scratch / "shop"
        folder.mkdir()
        for name in APPLICATION:
            copy = shutil.copytree if (HERE / name).is_dir() else shutil.copyfile
            copy(HERE / name, folder / name)
        home = scratch / "home"
        home.mkdir()
        # No keyring of a desktop takes part: `init` has to do without one, as on a server.
        own = {"HOME": str(home), "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}
        super().__init__(folder, [*SECRETS, NEW_SECRET], own)

    @property
    def vault(self) -> Path:
        """The vault file."""
        return self.folder / ".securecfg" / "shop.vault"

    def reveal(self, path: str) -> str:
        """Return a secret's value, which is not shown here."""
        command = [sys.executable, "-m", "securecfg", "secret", "get", path, "--reveal"]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    def files(self) -> Iterable[Path]:
        """Return all files of the shop, its vault included."""
        return (path for path in self.folder.rglob("*") if path.is_file())

    def secrets_in_files(self) -> set[str]:
        """Return the secrets that stand readable in some file."""
        contents = [path.read_bytes() for path in self.files()]
        return {secret for secret in SECRETS if any(secret.encode() in content for content in contents)}


def find_plaintext(shop: Shop) -> None:
    """See what is to be protected."""
    assert shop.secrets_in_files() == set(SECRETS)
    print(f"    {len(SECRETS)} secrets stand readable in .env and config/")


def create(shop: Shop) -> None:
    """Make a vault without a flag, as a newcomer does."""
    output = shop.run("securecfg", "init")
    assert "recovery code" in output
    assert shop.vault.stat().st_mode & 0o777 == PRIVATE, "others may read the vault"
    assert (shop.folder / ".securecfg" / ".gitignore").read_text() == "*\n"


def move_secrets(shop: Shop) -> None:
    """Import what was found."""
    output = shop.run("securecfg", "import", ".env", "config/", "--yes")
    assert f"{len(SECRETS)} found" in output
    assert "payments.toml:4" in output
    assert len(shop.run("securecfg", "secret", "list").splitlines()) == len(SECRETS)


def look_at_files(shop: Shop) -> None:
    """Compare the files with what they were."""
    assert shop.secrets_in_files() == set(), "a secret is still readable"
    for name in ("config/default.yaml", "config/prod.yaml", "config/payments.toml", ".env"):
        old = (HERE / name).read_text().splitlines()
        new = (shop.folder / name).read_text().splitlines()
        changed = [line for line in new if line not in old]
        assert len(old) == len(new)
        assert all("${secret:" in line for line in changed)
        print(f"    {name}: {len(new) - len(changed)} of {len(new)} lines as before, comments included")
        for line in changed:
            print(f"      {line.strip()}")


def give_roles(shop: Shop) -> None:
    """Apply the grant table after its cases passed."""
    output = shop.run("securecfg", "policy", "test", "cases.toml", "--policy", "roles.toml")
    assert "passed  7 cases" in output
    shop.run("securecfg", "policy", "apply", "roles.toml")


def load_as_web(shop: Shop) -> None:
    """Run the application on behalf of its service."""
    output = shop.run("python", "app.py", who="svc:web")
    assert "database   ***, 40 connections" in output
    length = len("postgresql://shop:proddb-canary-93@db.internal/shop")
    assert f"connecting with a URL of {length} characters" in output


def run_program(shop: Shop) -> None:
    """Run a program that knows nothing of vaults."""
    script = "import os; print('a URL of', len(os.environ['DATABASE_URL']), 'characters')"
    (shop.folder / "other.py").write_text(f"{script}\n")
    output = shop.run("securecfg", "run", "--profile", "prod", "--as", "svc:web", "--", "python", "other.py")
    assert "a URL of 51 characters" in output


def deny_intern(shop: Shop) -> None:
    """Run the application on behalf of somebody who may not."""
    output = shop.run("securecfg", "secret", "get", STRIPE, "--reveal", who="svc:intern", code=DENIED)
    assert "denied" in output or "may not" in output
    shop.run("python", "app.py", who="svc:intern", code=DENIED)
    output = shop.run("securecfg", "policy", "explain", "read", "prod/database/url", "--principal", "svc:intern")
    assert "intern-with-a-ticket" in output
    assert "a purpose like `SHOP-*`; was no purpose" in output


def refuse_edited_layer(shop: Shop) -> None:
    """Sign a file, load it, edit it, and try again."""
    layer, key = "config/features.json", str(shop.folder.parent / "signer")
    if shutil.which("ssh-keygen"):
        shop.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
        shop.run("ssh-keygen", "-q", "-Y", "sign", "-f", key, "-n", NAMESPACE, layer)
    else:
        make_signer(Path(key))
        shop.run("securecfg", "sign", layer, "--key", key)
    public = Path(f"{key}.pub").read_text().split()
    trust = shop.folder / "allowed_signers"
    trust.write_text(f"ops@example.com {public[0]} {public[1]}\n")
    file = shop.folder / layer
    load(file, require_signature=trust)
    shop.run("securecfg", "verify", layer, "--signers", trust.name)
    content = file.read_text()
    file.write_text(content.replace('"reviews": false', '"reviews": true'))
    try:
        load(file, require_signature=trust)
    except SignatureInvalid as error:
        print(f"    load: {error.message.replace(str(shop.folder), '.')}")
    else:
        message = "an edited layer was loaded"
        raise AssertionError(message)
    shop.run("securecfg", "verify", layer, "--signers", trust.name, code=TAMPERED)
    file.write_text(content)


def make_signer(path: Path) -> None:
    """Make a signing key in OpenSSH's files, on a machine without OpenSSH."""
    key = Ed25519PrivateKey.generate()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    path.with_name(f"{path.name}.pub").write_bytes(
        key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    )


def roll_back(shop: Shop) -> None:
    """Write a new version and take it back."""
    shop.run("securecfg", "secret", "put", STRIPE, given=NEW_SECRET)
    assert shop.reveal(STRIPE) == NEW_SECRET
    shop.run("securecfg", "secret", "rollback", STRIPE, "--to", "1")
    assert shop.reveal(STRIPE) == "stripe-canary-2f6d1a"
    shop.run("securecfg", "secret", "history", STRIPE)


def show_log(shop: Shop) -> None:
    """Read the log."""
    output = shop.run("securecfg", "audit", "show")
    assert "svc:web (asserted)" in output
    denials = shop.run("securecfg", "audit", "show", "--outcome", "denied").splitlines()
    assert denials
    assert all("svc:intern" in line for line in denials)


def catch_tampering(shop: Shop) -> None:
    """Change one byte of a value, then one of a record, and put each right again."""
    value = newest_row(shop.vault, Space.VALUE)
    replace_once(shop.vault, value, flipped(value))
    shop.run("securecfg", "secret", "get", STRIPE, "--reveal", code=TAMPERED)
    replace_once(shop.vault, flipped(value), value)
    record = row(shop.vault, Space.LOG, 3)
    replace_once(shop.vault, record, flipped(record))
    output = shop.run("securecfg", "audit", "verify", code=TAMPERED)
    assert "record 3" in output
    replace_once(shop.vault, flipped(record), record)


def catch_older_copy(shop: Shop) -> None:
    """Put the vault of an hour ago back, as a backup or an attacker would."""
    older = shop.vault.read_bytes()
    shop.run("securecfg", "secret", "put", STRIPE, given=NEW_SECRET)
    newer = shop.vault.read_bytes()
    shop.vault.write_bytes(older)
    output = shop.run("securecfg", "secret", "get", STRIPE, "--reveal", code=TAMPERED)
    assert "recorded on this machine" in output
    shop.vault.write_bytes(newer)


def row(vault: Path, space: Space, number: int) -> bytes:
    """Return a row of a vault, sealed as it lies there."""
    with apsw.Connection(str(vault), flags=apsw.SQLITE_OPEN_READONLY) as database:
        found: bytes = database.execute(f"SELECT b FROM s{int(space)} WHERE i = ?", (number,)).get  # noqa: S608 - a number
    return found


def newest_row(vault: Path, space: Space) -> bytes:
    """Return the row of a space that was written last."""
    with apsw.Connection(str(vault), flags=apsw.SQLITE_OPEN_READONLY) as database:
        found: bytes = database.execute(f"SELECT b FROM s{int(space)} ORDER BY i DESC LIMIT 1").get  # noqa: S608 - a number
    return found


def flipped(sealed: bytes) -> bytes:
    """Return a row with one bit of one byte changed, where its beginning lies in the file in one piece."""
    at = 100
    return sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]


def replace_once(vault: Path, old: bytes, new: bytes) -> None:
    """Write over the beginning of a row in the file itself, past everything that guards it."""
    whole = vault.read_bytes()
    assert whole.count(old[:128]) == 1
    vault.write_bytes(whole.replace(old[:128], new[:128]))


def verify(shop: Shop) -> None:
    """Verify the whole log, and all secrets."""
    assert "sound" in shop.run("securecfg", "audit", "verify", "--max-age", "1h")
    assert "sound" in shop.run("securecfg", "vault", "verify")


def report(shop: Shop) -> None:
    """Make a report, check it, alter it, and check it again."""
    shop.run("securecfg", "audit", "report", "--from", "1h", "-o", "report.html")
    assert "sound" in shop.run("securecfg", "audit", "report", "verify", "report.html")
    file = shop.folder / "report.html"
    page = file.read_text()
    assert STRIPE in page
    assert not shop.secrets_in_files()
    file.write_text(page.replace("svc:intern", "svc:nobody"))
    shop.run("securecfg", "audit", "report", "verify", "report.html", code=TAMPERED)


STEPS = (
    ("a shop with its passwords in plain sight", find_plaintext),
    ("a vault for the project", create),
    ("the secrets move into the vault", move_secrets),
    ("what the files look like now", look_at_files),
    ("each service gets a role, and the policy is tested before it counts", give_roles),
    ("svc:web loads the configuration back, as typed objects that mask themselves", load_as_web),
    ("any program gets the same as its environment", run_program),
    ("svc:intern is denied, and told why", deny_intern),
    ("a signed layer is refused after an edit", refuse_edited_layer),
    ("a new version, and back to the old one", roll_back),
    ("the log says who got what", show_log),
    ("one byte of a value is changed, then one of the log; each is caught", catch_tampering),
    ("an older copy of the whole file is caught too", catch_older_copy),
    ("the vault as it was is sound", verify),
    ("a report that an auditor checks offline", report),
)


def main() -> None:
    """Take all steps in a scratch directory."""
    with tempfile.TemporaryDirectory(prefix="securecfg-demo-") as scratch:
        shop = Shop(Path(scratch))
        for number, (title, step) in enumerate(STEPS, 1):
            print(f"step {number}: {title}", flush=True)
            step(shop)
    print("demo: all steps as expected")


if __name__ == "__main__":
    main()
