"""A PKCS#11 module that does not answer: SoftHSM below a library of C that waits in the middle of a call."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from securecfg.errors import KeyProviderUnavailable
from securecfg.keys.tokens.turns import Turns
from tests.keys.softhsm import SoftHsm, find_module, make_softhsm

find_module()  # or skip all

_FRONT = """
import os, pathlib, threading, time
from securecfg.errors import SecurecfgError
from securecfg.keys import WrapContext, open_provider
from securecfg.keys.providers.pkcs11 import Pkcs11Provider
context = WrapContext(bytes(range(16)), bytes(range(16, 32)))
hang = pathlib.Path(os.environ["HANG"])
silent, other = {silent!r}, {other!r}
def provider(uri, timeout_s=0.5):
    made = open_provider(uri)
    return Pkcs11Provider(made._uri, made._pin, timeout_s=timeout_s)
def attempt(uri, timeout_s=0.5):
    begun = time.monotonic()
    try:
        result = provider(uri, timeout_s).wrap(bytes(range(32, 64)), context)
        said = "opens" if provider(uri, timeout_s).unwrap(result, context) == bytes(range(32, 64)) else "differs"
    except SecurecfgError as error:
        said = f"{{error.code}} {{error.exit_code}} {{error.message.rpartition('` ')[2]}}"
    print(said, "slow" if time.monotonic() - begun > 5 else "in time", sep=": ", flush=True)
"""


class Silent:
    """SoftHSM twice: as it is, and below the module that may hang."""

    def __init__(self, hsm: SoftHsm, shim: Path, folder: Path) -> None:
        self._hsm = hsm
        self._folder = folder
        self._shim = SoftHsm(str(shim), hsm.configuration)

    def run(self, program: str, key: str = "object=aes") -> list[str]:
        """Run a program in a process of its own and return the lines that it prints."""
        # The other module is a file of its own, and so a library of its own in the process.
        copy = self._folder / "softhsm-copy.so"
        shutil.copy(self._hsm.module, copy)
        other = SoftHsm(str(copy), self._hsm.configuration)
        front = _FRONT.format(silent=self._shim.uri(key), other=other.uri(key))
        variables = {"REAL": self._hsm.module, "HANG": str(self._folder / "hang")}
        return self._hsm.run(front + program, **variables).splitlines()


@pytest.fixture
def silent(tmp_path: Path) -> Silent:
    """A token whose module hangs while a file is there."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler, `cc`")
    shim = tmp_path / "silent.so"
    source = Path(__file__).with_name("silent_module.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", shim, source, "-ldl"], check=True)
    (tmp_path / "tokens").mkdir()
    return Silent(make_softhsm(tmp_path / "tokens"), shim, tmp_path)


SILENCE = "key-provider-unavailable 9 gave no answer within 0.5 s: in time"
STILL = "key-provider-unavailable 9 has not answered an earlier call yet: in time"


def test_a_module_that_hangs_is_left_behind_and_not_asked_again(silent: Silent) -> None:
    assert silent.run("""
attempt(silent)
hang.touch()
attempt(silent)
attempt(silent)
attempt(silent)
hang.unlink()
time.sleep(0.5)
attempt(silent)
""") == ["opens: in time", SILENCE, STILL, STILL, "opens: in time"]


def test_one_that_hangs_at_the_login_holds_up_no_other_module(silent: Silent) -> None:
    assert (
        silent.run("""
hang.touch()
threads = [threading.Thread(target=attempt, args=(uri, 3)) for uri in (silent, other, other)]
for thread in threads[1:] + threads[:1]:
    thread.start()
for thread in threads:
    thread.join()
attempt(other)
""")[-1]
        == "opens: in time"
    )


def test_the_process_ends_though_a_module_still_hangs(silent: Silent) -> None:
    assert silent.run("hang.touch()\nattempt(silent)\n") == [SILENCE]


def test_a_child_of_a_process_whose_module_hangs_is_told_so(silent: Silent) -> None:
    lines = silent.run("""
attempt(silent)
hang.touch()
attempt(silent)
child = os.fork()
if child:
    os.waitpid(child, 0)
attempt(silent)
attempt(other)
if not child:
    os._exit(0)
""")
    assert lines[:2] == ["opens: in time", SILENCE]
    lost = "key-provider-unavailable 9 was at work: in time"
    assert lines[2:] == [lost, "opens: in time", STILL, "opens: in time"]


def test_an_interrupt_ends_the_wait(silent: Silent) -> None:
    assert silent.run("""
import signal
hang.touch()
signal.setitimer(signal.ITIMER_REAL, 0.3)
signal.signal(signal.SIGALRM, signal.default_int_handler)
try:
    attempt(silent, 30)
except KeyboardInterrupt:
    print("interrupted")
attempt(silent, 30)
""") == ["interrupted", STILL]


def test_who_waits_for_his_turn_does_not_take_it_when_he_has_gone() -> None:
    turns = Turns(lambda _path: None)
    called: list[int] = []
    begun, go_on = threading.Event(), threading.Event()

    def long() -> str:
        begun.set()
        go_on.wait(10)
        return "done"

    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(turns.call("a", long, 10)))
    thread.start()
    assert begun.wait(10)
    with pytest.raises(KeyProviderUnavailable):
        turns.call("a", lambda: called.append(1), 0.1)
    go_on.set()
    thread.join()
    assert answers == ["done"]
    assert turns.call("a", lambda: "again", 10) == "again"
    assert called == []


def test_a_fork_waits_for_the_end_of_a_thread_that_made_a_call() -> None:
    """What a library does when a thread ends, here to sleep, is not over when Python says that the thread is."""
    turns, libc, key = Turns(lambda _path: None), ctypes.CDLL(None), ctypes.c_uint()
    assert libc.pthread_key_create(ctypes.byref(key), ctypes.cast(libc.usleep, ctypes.c_void_p)) == 0

    def work() -> int:
        assert libc.pthread_setspecific(key, ctypes.c_void_p(200_000)) == 0
        return threading.get_native_id()

    thread = Path(f"/proc/self/task/{turns.call('module', work, 5)}")
    assert thread.exists()
    turns.hold(5)
    assert not thread.exists()
    turns.release()
    libc.pthread_key_delete(key)
