"""Places that cannot hold a vault: read-only mounts, network file systems, folders of others."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Protocol

import pytest

from securecfg import Vault
from securecfg.errors import AuditUnavailable, UnsupportedFileSystem
from securecfg.keys import generate_key_file
from securecfg.store import filesystems
from tests.cli.running import ROOT
from tests.conftest import NOT_APPLICABLE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.running import Cli

SHOP = ROOT / "examples" / "shop"
USER = 12_345
# What a container has: the application, which cannot be changed, one folder that can be written, and a Python.
DATA, PYTHON = "/srv", "/opt/bin/python"
PREPARE = f"""
set -e
mount --make-rprivate /
mount --bind "$WRITABLE" {DATA}
mount --bind "$SOURCE" /media
mount --bind "$PREFIX" /opt
mount --bind "$FOLDER" /mnt
mount -o remount,bind,"$MODE" /mnt
cd /mnt
exec setpriv --reuid {USER} --regid {USER} --clear-groups --no-new-privs -- "$@"
"""


class Container(Protocol):
    def __call__(self, folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture
def container(tmp_path: Path, program: Callable[[str], str]) -> Container:
    """Return what runs Python as another user where the application's folder is mounted read-only."""
    if os.geteuid():
        pytest.skip(f"{NOT_APPLICABLE}only root can mount, and become somebody else")
    unshare, _ = program("unshare"), program("setpriv")
    if subprocess.run([unshare, "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount")
    writable = tmp_path / "data"
    writable.mkdir()
    os.chown(writable, USER, USER)

    def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "FOLDER": str(folder),
            "WRITABLE": str(writable),
            "SOURCE": str(ROOT),
            "PREFIX": sys.prefix,
            "MODE": "ro",
            "PATH": os.environ["PATH"],
            "PYTHONPATH": "/media",
            "HOME": "/nonexistent",
        }
        return subprocess.run(
            [unshare, "--mount", "bash", "-c", PREPARE, "container", PYTHON, "-B", *arguments],
            env=environment | variables,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    if run(tmp_path, "-c", "").returncode in {126, 127}:
        pytest.skip("needs a Python that other users may run")
    return run


@pytest.fixture
def shop(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example shop, its secrets in a vault, and a public key of its service in it."""
    folder = tmp_path / "shop"
    shutil.copytree(SHOP, folder)
    monkeypatch.chdir(folder)
    for arguments in (
        ("init",),
        ("import", ".env", "config/", "--yes"),
        ("policy", "apply", "roles.toml"),
        ("identity", "create", "svc:web", "--out", "web.identity", "--public", "web.pub"),
        ("role", "add", "web", "--member", "svc:web", "--identity", "web.pub"),
    ):
        outcome = cli(*arguments)
        assert outcome.code == 0, outcome.err
    return folder


def image(shop: Path, folder: Path) -> Path:
    """Copy what an image of the application holds: no vault, and the identity of its service."""
    folder.mkdir()
    for name in ("app.py", "settings.py", ".env", "web.sealed", "web.identity"):
        shutil.copy(shop / name, folder / name)
    shutil.copytree(shop / "config", folder / "config")
    os.chown(folder / "web.identity", USER, USER)
    (folder / "web.identity").chmod(0o600)
    return folder


def test_the_shop_runs_on_a_bundle_in_a_place_that_cannot_be_written(
    shop: Path, tmp_path: Path, cli: Cli, container: Container
) -> None:
    issuer = cli("vault", "publish", "--for", "web", "-o", "web.sealed", "--json").json["issuer"]
    folder = image(shop, tmp_path / "image")
    settings = {
        "SECURECFG_VAULT": "web.sealed",
        "SECURECFG_KEY": "identity:web.identity",
        "SECURECFG_AUDIT": f"file:{DATA}/reads.sink",
    }
    refused = container(folder, "app.py", **settings)
    assert refused.returncode == 8
    assert "no vault that the bundle must come from is named" in refused.stderr
    settings["SECURECFG_ISSUER"] = issuer
    done = container(folder, "app.py", **settings)
    assert done.returncode == 0, done.stderr
    assert "database   ***, 40 connections" in done.stdout
    assert f"URL of {len('postgresql://shop:proddb-canary-93@db.internal/shop')} characters" in done.stdout
    assert "proddb-canary" not in done.stdout + done.stderr
    script = "echo ${#DATABASE_URL}"
    ran = container(folder, "-m", "securecfg", "run", "--profile", "prod", "--", "sh", "-c", script, **settings)
    assert (ran.returncode, ran.stdout) == (0, "51\n"), ran.stderr
    unwritable = container(folder, "app.py", **settings | {"SECURECFG_AUDIT": "file:reads.sink"})
    assert unwritable.returncode == 9
    assert "/reads.sink`: Read-only file system" in unwritable.stderr
    merged = cli("audit", "merge", str(tmp_path / "data" / "reads.sink"), "--json").json["files"][0]
    assert merged["session_count"] == 2
    assert merged["record_count"] > 10
    assert merged["unfinished_count"] == 0
    assert "prod/database/url" in cli("audit", "show", "--principal", "svc:web").text


@pytest.mark.parametrize(
    ("mode", "code", "message"),
    [("ro", 10, "`a.vault` lies on a read-only file system"), ("rw", 9, "its folder cannot be written")],
)
def test_a_vault_that_cannot_be_written_says_what_to_do_instead(
    tmp_path: Path, container: Container, mode: str, code: int, message: str
) -> None:
    folder = tmp_path / "place"
    folder.mkdir()
    generate_key_file(folder / "key")
    with Vault.create(folder / "a.vault", key=f"file:{folder / 'key'}", admin="ana") as vault:
        vault.write("a", "b")
    for file in folder.iterdir():
        os.chown(file, USER, USER)
    given = ("--vault", "a.vault", "--key", "file:key", "--as", "user:ana")
    refused = container(folder, "-m", "securecfg", "secret", "get", "a", *given, MODE=mode)
    assert refused.returncode == code, refused.stderr
    assert message in refused.stderr
    assert "securecfg vault publish --for ROLE -o FILE" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_vault_on_a_network_file_system_says_what_to_do_instead(
    stored: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("1 0 0:1 / / rw - nfs4 server:/ rw\n")
    monkeypatch.setattr(filesystems, "MOUNTS", str(mounts))
    refused = cli("secret", "list")
    assert refused.code == 10
    assert "lies on a network file system (nfs4)" in refused.err
    assert "securecfg vault publish --for ROLE -o FILE" in refused.err
    with pytest.raises(UnsupportedFileSystem):
        Vault.open()


def test_a_vault_that_is_opened_for_reading_only_names_the_way_too(stored: Path) -> None:
    with Vault.open(read_only=True) as vault, pytest.raises(AuditUnavailable) as refused:
        vault.read("db/main")
    assert "securecfg vault publish" in refused.value.hint
