"""Programs that a backend runs: what they see, and how long and how much they may go on."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from securecfg.backends import program as programs
from securecfg.backends.program import Deadline, Program
from securecfg.errors import BackendUnavailable, ExtraMissing

if TYPE_CHECKING:
    from securecfg.backends.program import Output

CANARY = "canary-value-4711"


class Make(Protocol):
    """Makes a program of some lines of Python."""

    def __call__(self, source: str) -> Program: ...


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def make(source: str) -> Program:
        place = tmp_path / "op"
        place.write_text(f"#!{sys.executable} -ISE\nimport os, sys, time\n{source}\n", encoding="utf-8")
        place.chmod(0o700)
        return Program("op", str(place), "install it")

    return make


def run(program: Program, seconds: float = 20.0) -> Output:
    return program.run(["--word"], {"GIVEN": "1"}, Deadline(seconds))


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_sees_its_arguments_the_given_variables_and_nothing_else(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD_OF_A_TEST", CANARY)
    monkeypatch.setenv("PATH", f".{os.pathsep}{os.environ['PATH']}{os.pathsep}bin")
    source = "import json; print(json.dumps([sys.argv[1:], dict(os.environ), os.getcwd(), sys.stdin.read()]))"
    arguments, variables, folder, given = run(make(source)).parse()
    variables.pop("LC_CTYPE", None)  # which Python itself sets
    assert (arguments, folder, given) == (["--word"], "/", "")
    assert set(variables) == {"GIVEN", "PATH"}
    assert all(part.startswith("/") for part in variables["PATH"].split(os.pathsep))


@pytest.mark.parametrize("place", ["", "/nowhere/op"])
def test_that_it_is_not_installed_says_which(place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ExtraMissing, match="op") as raised:
        run(Program("op", place, "install the CLI"))
    assert raised.value.hint == "install the CLI"


def test_is_found_on_the_path_but_not_in_the_working_directory(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make("print('[1]')")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run(Program("op", "", "")).parse() == [1]
    monkeypatch.setenv("PATH", f".{os.pathsep}{os.pathsep}{tmp_path.name}")
    for folder in (tmp_path, tmp_path.parent):
        monkeypatch.chdir(folder)
        with pytest.raises(ExtraMissing):
            run(Program("op", "", ""))


def test_what_cannot_be_started_is_unavailable(tmp_path: Path) -> None:
    place = tmp_path / "op"
    place.write_text("#!/nowhere/interpreter\n", encoding="utf-8")
    place.chmod(0o700)
    with pytest.raises(BackendUnavailable, match="cannot be started"):
        run(Program("op", str(place), ""))


def test_is_ended_with_what_it_has_started_when_the_time_is_up(make: Make, tmp_path: Path) -> None:
    source = f"""
child = os.fork()
if not child:
    time.sleep(60)
open({str(tmp_path / "pids")!r}, "w").write(f"{{os.getpid()}} {{child}}")
time.sleep(60)
"""
    program, begun = make(source), time.monotonic()
    with pytest.raises(BackendUnavailable, match="does not end within 1 s"):
        run(program, 1.0)
    assert time.monotonic() - begun < 10
    pids = [int(pid) for pid in (tmp_path / "pids").read_text(encoding="utf-8").split()]
    deadline = time.monotonic() + 10
    while any(map(is_there, pids)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(pids) == 2
    assert not any(map(is_there, pids))


def test_who_closes_its_output_and_goes_on_is_ended_too(make: Make) -> None:
    program = make("os.close(1); os.close(2); time.sleep(60)")
    with pytest.raises(BackendUnavailable):
        run(program, 0.5)


def test_the_time_is_for_all_runs_of_a_call(make: Make) -> None:
    program, deadline = make("time.sleep(0.4); print('{}')"), Deadline(0.6)
    with pytest.raises(BackendUnavailable):
        [program.run([], {}, deadline) for _ in range(2)]


def test_what_it_leaves_behind_is_not_waited_for(make: Make, tmp_path: Path) -> None:
    source = f"""
print("[1]", flush=True)
if not os.fork():
    os.setsid()
    open({str(tmp_path / "pid")!r}, "w").write(str(os.getpid()))
    time.sleep(60)
"""
    begun = time.monotonic()
    assert run(make(source)).parse() == [1]
    assert time.monotonic() - begun < 10
    deadline = time.monotonic() + 10
    while not (tmp_path / "pid").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    os.kill(int((tmp_path / "pid").read_text(encoding="utf-8")), 9)


def test_who_prints_without_end_is_ended(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "OUTPUT_BYTES_MAX", 1_000)
    begun = time.monotonic()
    with pytest.raises(BackendUnavailable, match="without end"):
        run(make("while True: print('x' * 1000)"))
    assert time.monotonic() - begun < 10


def test_complaints_are_read_to_their_end_and_kept_up_to_a_bound(make: Make) -> None:
    output = run(make("sys.stderr.write('x' * 1_000_000); sys.stderr.flush(); print('[2]'); sys.exit(3)"))
    assert output.parse() == [2]
    assert output.code == 3
    assert output.complaint == "x" * programs.COMPLAINT_BYTES_MAX


@pytest.mark.parametrize("printed", [b"", b"{", CANARY.encode(), b"[" * 100_000, b'"\xff"'])
def test_what_is_no_json_is_said_to_be_none_without_being_shown(printed: bytes) -> None:
    output = programs.Output(0, printed, "")
    with pytest.raises(ValueError, match="no JSON") as raised:
        output.parse()
    assert raised.value.__context__ is None
    assert CANARY not in repr(output)


def test_a_signal_is_a_negative_code(make: Make) -> None:
    assert run(make("os.kill(os.getpid(), 9)")).code == -9


def test_large_answers_come_whole(make: Make) -> None:
    assert run(make("""print('["' + 'x' * 3_000_000 + '"]')""")).parse() == ["x" * 3_000_000]
