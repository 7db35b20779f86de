"""A TPM in software with a PKCS#11 token on it: swtpm, behind a resource manager on a message bus of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

PIN = "canary-1234"
LABEL = "tpm"
MODULES = (
    "/usr/lib/x86_64-linux-gnu/pkcs11/libtpm2_pkcs11.so",
    "/usr/lib/aarch64-linux-gnu/pkcs11/libtpm2_pkcs11.so",
    "/usr/lib64/pkcs11/libtpm2_pkcs11.so",
)
PROGRAMS = ("dbus-daemon", "swtpm", "swtpm_setup", "tpm2-abrmd", "tpm2_ptool")
START_S = 30.0


@contextmanager
def tpm(folder: Path, program: Callable[[str], str]) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Run a TPM; give the path of the module and the variables with which it finds the token."""
    paths = {name: program(name) for name in PROGRAMS}
    module = next((path for path in MODULES if Path(path).exists()), None)
    if module is None:
        pytest.skip("needs the module `libtpm2_pkcs11.so`")
    state, store = folder / "state", folder / "store"
    state.mkdir(parents=True)
    store.mkdir()
    port = free_pair()
    run([paths["swtpm_setup"], "--tpm2", "--tpmstate", str(state), "--createek", "--allow-signing", "--decryption"])
    with ExitStack() as running:
        swtpm = [paths["swtpm"], "socket", "--tpm2", "--tpmstate", f"dir={state}"]
        swtpm += ["--ctrl", f"type=tcp,port={port + 1},bindaddr=127.0.0.1"]
        swtpm += ["--server", f"type=tcp,port={port},bindaddr=127.0.0.1", "--flags", "not-need-init,startup-clear"]
        running.enter_context(process(swtpm))
        address = f"unix:path={folder}/bus"
        running.enter_context(
            process([paths["dbus-daemon"], "--session", "--nofork", "--nopidfile", f"--address={address}"])
        )
        variables = {
            "DBUS_SESSION_BUS_ADDRESS": address,
            "TPM2_PKCS11_STORE": str(store),
            "TPM2_PKCS11_TCTI": "tabrmd:bus_type=session",
            "TPM2TOOLS_TCTI": "tabrmd:bus_type=session",
            "TPM2_PKCS11_LOG_LEVEL": "0",
            "TSS2_LOG": "all+NONE",
            "TOKEN_PIN": PIN,
        }
        await_path(folder / "bus")
        manager = [paths["tpm2-abrmd"], "--session", f"--tcti=swtpm:host=127.0.0.1,port={port}"]
        manager += ["--allow-root"] if os.geteuid() == 0 else []
        running.enter_context(process(manager, variables))
        until = time.monotonic() + START_S
        while not run([paths["tpm2_ptool"], "init"], variables, is_required=time.monotonic() > until):
            time.sleep(0.2)
        token = ["--pid=1", f"--label={LABEL}", "--sopin=12345678", f"--userpin={PIN}"]
        run([paths["tpm2_ptool"], "addtoken", *token], variables)
        yield module, variables


@contextmanager
def process(command: list[str], variables: Mapping[str, str] | None = None) -> Iterator[None]:
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, env={**os.environ, **(variables or {})}, stdout=quiet, stderr=quiet) as started:
        try:
            yield
        finally:
            started.kill()


def run(command: list[str], variables: Mapping[str, str] | None = None, *, is_required: bool = True) -> bool:
    done = subprocess.run(
        command, env={**os.environ, **(variables or {})}, capture_output=True, text=True, timeout=60, check=False
    )
    assert not is_required or done.returncode == 0, done.stdout + done.stderr
    return done.returncode == 0


def await_path(path: Path) -> None:
    until = time.monotonic() + START_S
    while not path.exists():
        assert time.monotonic() < until, f"`{path}` does not appear"
        time.sleep(0.02)


def free_pair() -> int:
    """Return a port that is free, and so is the next one: the TPM's clients take it for granted."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port
