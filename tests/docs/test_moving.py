"""The page that moves a program from the clients of stores to a vault shows the true difference, and both work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from difflib import unified_diff
from typing import TYPE_CHECKING

import pytest

from securecfg.keys.keyfile import generate_key_file
from securecfg.mounts import Mount, Mounts
from securecfg.vault import Vault
from tests.conftest import ROOT
from tests.keys.aws import ACCESS_KEY, REGION, SECRET_KEY, client, moto
from tests.keys.transit import client as vault_client
from tests.keys.transit import vault_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EXAMPLES = ROOT / "examples" / "facade"
SECRETS = {"user": "web", "password": "hunter2", "stripe": "sk_live_1"}


@pytest.fixture(scope="module")
def stores() -> Iterator[dict[str, str]]:
    """Run both stores, filled by their own clients; give the variables that lead there."""
    with vault_server() as vault_port, moto() as aws_port:
        root = vault_client(vault_port)
        root.sys.enable_secrets_engine("kv", "secret", options={"version": "2"})
        root.secrets.kv.v2.create_or_update_secret("team/database", {"user": "web", "password": "hunter2"})
        client("secretsmanager", aws_port).create_secret(Name="shop/stripe", SecretString="sk_live_1")
        yield {
            "VAULT_ADDR": f"http://127.0.0.1:{vault_port}",
            "VAULT_TOKEN": "root",
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_ENDPOINT_URL_SECRETS_MANAGER": f"http://127.0.0.1:{aws_port}",
        }


def run(name: str, code: str, environment: dict[str, str]) -> str:
    program = f"import sys; sys.path.insert(0, {str(EXAMPLES)!r}); import json, {name} as app; {code}"
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_shows_the_difference_of_the_two_programs() -> None:
    page = (ROOT / "docs" / "how-to" / "move-from-hvac-and-boto3.md").read_text(encoding="utf-8")
    shown = page.partition("```diff\n")[2].partition("```\n")[0]
    before, after = (
        (EXAMPLES / name).read_text(encoding="utf-8").splitlines(keepends=True)
        for name in ("with_sdks.py", "with_vault.py")
    )
    assert shown == "".join(unified_diff(before, after, "with_sdks.py", "with_vault.py", n=2))


def test_both_programs_read_and_change_the_same(stores: dict[str, str], tmp_path: Path) -> None:
    generate_key_file(tmp_path / "key")
    key = f"file:{tmp_path / 'key'}"
    with Vault.create(tmp_path / "a.vault", key=key, admin="ana") as vault:
        table = Mounts(vault.authority)
        table.add(Mount("hashicorp/", ("vault:secret/team",)))
        table.add(Mount("aws/", (f"awssm:shop?region={REGION}",)))
    environment = {
        **stores,
        "SECURECFG_VAULT": str(tmp_path / "a.vault"),
        "SECURECFG_KEY": key,
        "SECURECFG_AS": "user:ana",
    }
    show = "print(json.dumps(app.load_secrets()))"
    for name in ("with_sdks", "with_vault"):
        assert json.loads(run(name, show, environment)) == SECRETS
    run("with_vault", "app.change_stripe_key('sk_live_2')", environment)
    for name in ("with_sdks", "with_vault"):
        assert json.loads(run(name, show, environment)) == {**SECRETS, "stripe": "sk_live_2"}
