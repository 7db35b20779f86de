"""Walk through the life of keys: a passphrase, an HSM, a key service and shares; rotation, loss, recovery and removal.

Run it with `make demo-keys`. It works in a scratch directory with a home of its own, changes nothing else, needs no
network and asks nothing. The HSM is SoftHSM, the key service an emulator of AWS KMS. Each step asserts its outcome.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3

from examples.walkthrough import Shell
from securecfg import Vault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EMULATOR = Path(__file__).resolve().parents[2] / "tests" / "keys" / "moto_server.py"
MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so")
PASSPHRASE = "canary battery horse staple"
PIN = "canary-pin-4711"
REGION = "eu-west-1"
PASSPHRASE_URI = "passphrase:?env=PASS"
SECRETS = {f"shop/{name}": f"{name}-canary-77c4e0" for name in ("stripe", "database", "mail", "cache")}
WRONG_KEY = 7


class Team(Shell):
    """A scratch directory with an HSM and a key service, and whoever types commands in it."""

    def __init__(self, folder: Path, module: str, port: int) -> None:
        """Prepare the token, the service and an environment that knows nothing of this machine's user."""
        self.hsm = f"pkcs11:token=team;object=vault?module-path={module}&pin-source=env:TOKEN_PIN"
        self.aws = f"awskms:alias/team?region={REGION}"
        (folder / "tokens").mkdir()
        configuration = folder / "softhsm2.conf"
        configuration.write_text(f"directories.tokendir = {folder / 'tokens'}\nlog.level = ERROR\n", encoding="utf-8")
        own = {
            "PASS": PASSPHRASE,
            "TOKEN_PIN": PIN,
            "SOFTHSM2_CONF": str(configuration),
            "AWS_ACCESS_KEY_ID": "canary",
            "AWS_SECRET_ACCESS_KEY": "canary",
            "AWS_ENDPOINT_URL_KMS": f"http://127.0.0.1:{port}",
            "SECURECFG_VAULT": str(folder / "team.vault"),
            "SECURECFG_KEY": PASSPHRASE_URI,
            "SECURECFG_AS": "user:ana",
        }
        super().__init__(folder, [*SECRETS.values(), PASSPHRASE, PIN], own)
        token = ["softhsm2-util", "--init-token", "--free", "--label", "team", "--so-pin", "12345678", "--pin", PIN]
        subprocess.run(token, env=self.environment, check=True, capture_output=True)
        kms = boto3.client(
            "kms",
            region_name=REGION,
            endpoint_url=self.environment["AWS_ENDPOINT_URL_KMS"],
            aws_access_key_id="canary",
            aws_secret_access_key="canary",
        )
        kms.create_alias(AliasName="alias/team", TargetKeyId=kms.create_key()["KeyMetadata"]["KeyId"])

    def json(self, *arguments: str) -> dict[str, Any]:
        """Type a command and return its answer as data."""
        answer: dict[str, Any] = json.loads(self.run("securecfg", *arguments, "--json"))
        return answer

    def kinds(self) -> list[str]:
        """Return the kinds of the slots."""
        return [slot["kind"] for slot in self.json("key", "list")["slots"]]

    @contextmanager
    def traffic(self) -> Iterator[list[int]]:
        """Write and read without a pause, through a handle that was opened before; yields what was written."""
        os.environ["PASS"] = PASSPHRASE
        done: list[int] = []
        failures: list[BaseException] = []
        stop = threading.Event()

        def work() -> None:
            try:
                while not stop.is_set():
                    number = len(done) + 1
                    assert vault.write("shop/visits", str(number)) == number
                    assert vault.read("shop/visits").field("").reveal() == str(number)
                    done.append(number)
            except BaseException as error:  # noqa: BLE001 - whatever it is fails the step
                failures.append(error)

        with Vault.open(self.folder / "team.vault", key=PASSPHRASE_URI, principal="user:ana") as vault:
            thread = threading.Thread(target=work)
            thread.start()
            try:
                yield done
            finally:
                stop.set()
                thread.join()
        assert not failures, failures


def create(team: Team) -> None:
    """Create a vault with a passphrase and a key that never leaves an HSM."""
    team.run("securecfg", "vault", "create", "team.vault", "--admin", "ana")
    team.run("securecfg", "key", "add", team.hsm, "--label", "hsm")
    for path, value in SECRETS.items():
        team.run("securecfg", "secret", "put", path, given=value)
    team.run("securecfg", "vault", "open", "--key", team.hsm)
    assert team.kinds() == ["passphrase", "pkcs11"]


def add_service_and_shares(team: Team) -> None:
    """Add AWS KMS, and a key of which any three of five people hold enough."""
    team.run("securecfg", "key", "add", team.aws, "--label", "aws")
    team.run("securecfg", "vault", "open", "--key", team.aws)
    team.run("securecfg", "key", "split", "--threshold", "3", "--shares", "5", "--out", "shares", "--label", "board")
    assert len(list((team.folder / "shares").iterdir())) == 5  # noqa: PLR2004 - as asked for
    assert team.kinds() == ["passphrase", "pkcs11", "awskms", "shamir"]


def rotate(team: Team) -> None:
    """Replace the root and the scope key while somebody writes and reads."""
    with team.traffic() as done:
        team.run("securecfg", "key", "rotate", "root")
        team.run("securecfg", "key", "rotate", "scope", "/")
    assert done, "nobody came to write"
    print(f"    meanwhile {len(done)} writes and reads went on")
    for key in (PASSPHRASE_URI, team.hsm, team.aws):
        team.run("securecfg", "vault", "open", "--key", key)
    team.run("securecfg", "vault", "verify")


def lose_and_recover(team: Team) -> None:
    """Lose the passphrase, and come back with three shares."""
    team.environment["PASS"] = "was it this one?"
    team.run("securecfg", "vault", "open", code=WRONG_KEY)
    shares = ",".join(f"shares/share-{number}.txt" for number in (2, 3, 5))
    team.run("securecfg", "vault", "open", "--key", f"shamir:{shares.rpartition(',')[0]}", code=WRONG_KEY)
    team.environment |= {"SECURECFG_KEY": f"shamir:{shares}"}
    team.run("securecfg", "key", "generate", "new.key")
    team.run("securecfg", "key", "add", "file:new.key", "--label", "new")
    team.environment |= {"SECURECFG_KEY": "file:new.key"}
    number = team.kinds().index("passphrase") + 1
    team.run("securecfg", "key", "remove", str(number), "--yes")
    assert "passphrase" not in team.kinds()


def remove_the_hsm(team: Team) -> None:
    """Remove the HSM's key: every key that it could reach is replaced."""
    slots = team.json("key", "list")["slots"]
    number = next(slot["slot"] for slot in slots if slot["kind"] == "pkcs11")
    team.run("securecfg", "key", "remove", str(number), "--yes")
    team.run("securecfg", "vault", "open", "--key", team.hsm, code=WRONG_KEY)
    for key in (team.aws, "file:new.key"):
        team.run("securecfg", "vault", "open", "--key", key)


def read_the_exposure(team: Team) -> None:
    """See what the removed keys could read, and change one of it."""
    exposed = team.json("audit", "exposed")["secrets"]
    assert {each["path"] for each in exposed} == {*SECRETS, "shop/visits"}
    team.run("securecfg", "secret", "put", "shop/stripe", given="another value")
    team.run("securecfg", "audit", "exposed")
    left = {each["path"] for each in team.json("audit", "exposed")["secrets"]}
    assert left == {*SECRETS, "shop/visits"} - {"shop/stripe"}
    team.run("securecfg", "audit", "verify")


STEPS: tuple[tuple[str, Callable[[Team], None]], ...] = (
    ("create with a passphrase and an HSM", create),
    ("add a key service and shares", add_service_and_shares),
    ("rotate root and scope under traffic", rotate),
    ("lose the passphrase, recover with three shares", lose_and_recover),
    ("remove the HSM", remove_the_hsm),
    ("read the exposure report", read_the_exposure),
)


@contextmanager
def emulator() -> Iterator[int]:
    """Run the emulator of AWS KMS, and give its port."""
    with subprocess.Popen(
        [sys.executable, EMULATOR], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def main() -> int:
    """Take every step, or say what is missing."""
    module = next((path for path in MODULES if Path(path).exists()), None)
    if module is None or shutil.which("softhsm2-util") is None:
        print("demo-keys: needs SoftHSM (on Debian the package softhsm2)", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="securecfg-demo-keys-") as scratch, emulator() as port:
        os.environ["XDG_STATE_HOME"] = str(Path(scratch) / ".local" / "state")
        team = Team(Path(scratch), module, port)
        for number, (title, step) in enumerate(STEPS, start=1):
            print(f"step {number}: {title}")
            step(team)
    print("demo-keys: all steps as expected")
    return 0


if __name__ == "__main__":
    sys.exit(main())
