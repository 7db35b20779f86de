"""The rotator `exec` with programs in Python and in sh."""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from securecfg.errors import InvalidRotation, RotationFailed, SecurecfgError, TargetUnavailable
from securecfg.rotation import Run, Strategy, open_rotator
from securecfg.rotation.rotators.exec import OUTPUT_BYTES_MAX, from_options
from securecfg.rotation.step_protocol import ERRORS
from securecfg.secret import Secret
from securecfg.testing.rotation_kill_matrix import RotationKillMatrix
from securecfg.testing.rotator_conformance import RotatorConformance, begin, plain, propose, propose_and_apply, swap

if TYPE_CHECKING:
    from securecfg.rotation import Fields, Options, Rotator

CANARY = "canary-value-4711"
# Each field of a value stands in one line of JSON without spaces, which is little enough to be taken apart in sh.
IN_SH = r"""#!/bin/sh
set -eu
told=$(cat) given=$(cat "$SECURECFG_VALUES")
field() { printf '%s\n' "$given" | sed -n "s/.*\"$1\":{\"\":\"\([^\"]*\)\".*/\1/p"; }
tokens=$(printf %s "$told" | sed -n 's/.*"folder":"\([^"]*\)".*/\1/p')/tokens
case $told in
    *'"step":"propose"'*)
        printf '{"v":1,"value":{"":"%s"}}' "$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')"
        exit ;;
esac
[ ! -e "${tokens%/*}/down" ] || exit 75
case $told in
    *'"step":"apply"'*) field pending >>"$tokens" ;;
    *'"step":"verify"'*)
        if ! grep -qxF "$(field value)" "$tokens"; then echo '{"v":1,"error":"credential-refused"}'; exit; fi ;;
    *'"step":"retire"'*) { grep -vxF "$(field previous)" "$tokens" || :; } >"$tokens.new"; mv "$tokens.new" "$tokens" ;;
esac
echo '{"v":1}'
"""


class TokenFile:
    """A file with tokens, and a program that knows how they are rotated."""

    is_remote = True

    def __init__(self, folder: Path, language: str) -> None:
        self._folder = folder
        self._field = "token" if language == "python" else ""
        text = IN_SH
        if language == "python":
            source = Path(__file__).with_name("exec_program.py").read_text(encoding="utf-8")
            text = f"#!{sys.executable} -IS\n{source}"
        program = write_program(folder, text)
        (folder / "tokens").write_text("the-current-token-4711\n", encoding="utf-8")
        self.current: Fields = {self._field: Secret("the-current-token-4711")}
        self.options: Options = {"program": program, "strategy": "overlapping", "option.folder": str(folder)}

    def accepts(self, value: Fields, /) -> bool:
        return plain(value)[self._field] in (self._folder / "tokens").read_text(encoding="utf-8").split()

    def cut_off(self) -> None:
        (self._folder / "down").touch()

    def restore(self) -> None:
        (self._folder / "down").unlink()


class TestExec(RotatorConformance):
    def make(self, options: Options) -> Rotator:
        return from_options(options)

    @pytest.fixture(params=["python", "sh"])
    def target(self, request: pytest.FixtureRequest, tmp_path: Path) -> TokenFile:
        return TokenFile(tmp_path, request.param)


def write_program(folder: Path, text: str, mode: int = 0o700) -> str:
    program = folder / "program"
    program.write_text(text, encoding="utf-8")
    program.chmod(mode)
    return str(program)


def run(timeout_s: float = 10.0, current: Fields | None = None) -> Run:
    return Run("a1" * 16, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), timeout_s, current or {"": Secret(CANARY)})


def rotator_of(folder: Path, lines: str, **options: str | Secret[str] | Secret[bytes]) -> Rotator:
    """Return a rotator whose program is some lines of sh."""
    return from_options(
        {"program": write_program(folder, f"#!/bin/sh\n{lines}\n"), "strategy": "overlapping", **options}
    )


# --- what a program is told -------------------------------------------------------------------------------------------


def test_values_are_in_the_pipe_and_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECURECFG_KEY", CANARY)
    monkeypatch.setenv("LD_PRELOAD", "")
    keep = f'cd {tmp_path}; pwd >pwd; cat >told; cat "$SECURECFG_VALUES" >given; env >env; echo "$0 $*" >arguments'
    options: Options = {"option.url": "x", "option.admin": Secret(CANARY), "option.raw": Secret(b"\xff\x00")}
    rotator = rotator_of(tmp_path, f"{keep}; echo '{{\"v\":1}}'", **options)
    value: Fields = {"user": Secret("wéb\udcff"), "key": Secret(b"\xff\xfe"), "password": Secret(CANARY)}
    rotator.verify(value, run(2.5))
    told, given = (json.loads((tmp_path / name).read_text()) for name in ("told", "given"))
    assert told == {
        "v": 1,
        "step": "verify",
        "token": "a1" * 16,
        "since": "2026-01-02T03:04:05Z",
        "timeout_s": 2.5,
        "options": {"url": "x"},
    }
    assert given == {
        "v": 1,
        "current": {"": CANARY},
        "previous": None,
        "pending": None,
        "options": {"admin": CANARY, "raw": {"base64": "/wA="}},
        "value": {"user": "wéb\udcff", "key": {"base64": "//4="}, "password": CANARY},
    }
    for name in ("told", "env", "arguments"):
        assert CANARY not in (tmp_path / name).read_text()
    names = {line.partition("=")[0] for line in (tmp_path / "env").read_text().splitlines()}
    assert names - {"PWD", "OLDPWD", "SHLVL", "_"} == {"PATH", "LANG", "HOME", "SECURECFG_VALUES"}
    assert (tmp_path / "arguments").read_text() == f"{tmp_path}/program \n"


def test_a_program_need_not_read_what_it_is_told(tmp_path: Path) -> None:
    large: Fields = {"": Secret("x" * 1_000_000)}
    rotator_of(tmp_path, "echo '{\"v\":1}'").verify(large, run(current=large))


def test_a_program_reads_values_of_any_size_before_or_after_it_prints(tmp_path: Path) -> None:
    large = "x" * 1_000_000
    lines = 'printf \'{"v":1,"value":{"":"\'; tr -cd x <"$SECURECFG_VALUES"; printf \'"}}\'; cat >/dev/null'
    value = rotator_of(tmp_path, lines).propose(run(current={"": Secret(large)})).value
    assert isinstance(value, Secret)
    assert value.reveal() == large


# --- what a program says ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", sorted(ERRORS))
@pytest.mark.parametrize("exit_code", [0, 1])
def test_an_error_is_named_by_its_code(code: str, exit_code: int, tmp_path: Path) -> None:
    rotator = rotator_of(tmp_path, f'echo \'{{"v":1,"error":"{code}"}}\'; echo {CANARY} >&2; exit {exit_code}')
    with pytest.raises(SecurecfgError) as failed:
        rotator.apply(run())
    assert failed.value.code == code
    assert CANARY not in str(failed.value) + failed.value.hint


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ("exit 75", "target-unavailable"),
        ("exit 77", "privilege-missing"),
        ("exit 1", "rotation-failed"),
        ("echo '{\"v\":1}'; exit 1", "rotation-failed"),
        ("kill -9 $$", "target-unavailable"),
        ("exit 0", "rotation-failed"),
        ("echo canary", "rotation-failed"),
        ("echo '[1]'", "rotation-failed"),
        ("echo '{}'", "rotation-failed"),
        ("echo '{\"v\":2}'", "rotation-failed"),
        ("echo '{\"v\":true}'", "rotation-failed"),
        ('echo \'{"v":1,"canary":1}\'', "rotation-failed"),
        ('echo \'{"v":1,"error":"canary"}\'', "rotation-failed"),
        ('echo \'{"v":1,"error":null}\'', "rotation-failed"),
        ('echo \'{"v":1}{"v":1}\'', "rotation-failed"),
        ('printf \'{"v":1,"value":"\\377"}\'', "rotation-failed"),
        ("head -c 200000 /dev/zero | tr '\\0' '['", "rotation-failed"),
        (f"head -c {OUTPUT_BYTES_MAX + 1} /dev/zero", "rotation-failed"),
    ],
)
def test_nothing_else_is_taken_for_done(lines: str, code: str, tmp_path: Path) -> None:
    gc.collect()  # what earlier tests have left would be closed where no stack is left
    with pytest.raises(SecurecfgError) as failed:
        rotator_of(tmp_path, lines).apply(run())
    assert failed.value.code == code
    assert "canary" not in str(failed.value) + failed.value.hint


@pytest.mark.parametrize(
    "more",
    [
        "",
        ',"value":null',
        ',"value":"canary"',
        ',"value":{}',
        ',"value":{"":1}',
        ',"value":{"a":null}',
        ',"value":{"":"canary","a":"b"}',
        ',"value":{"a":{"base64":"?"}}',
        ',"value":{"a":{"base64":"YQ==","b":1}}',
        ',"value":{"a":"\\\\ud800"}',
        ',"value":{"a":"b"},"ends":"tomorrow"',
        ',"value":{"a":"b"},"ends":"2030-01-01T00:00:00"',
        ',"value":{"a":"b"},"ends":null',
        ',"value":{"a":"b"},"ends":"0001-01-01T00:00:00+14:00"',
        ',"value":{"a":"b"},"ends":"9999-12-31T23:59:59-12:00"',
    ],
)
def test_what_is_no_value_is_no_candidate(more: str, tmp_path: Path) -> None:
    with pytest.raises(RotationFailed) as failed:
        rotator_of(tmp_path, f"printf '%b' '{{\"v\":1{more}}}'").propose(run())
    assert "canary" not in str(failed.value)


def test_a_candidate_may_hold_bytes_and_end(tmp_path: Path) -> None:
    answer = '{"v":1,"value":{"key":{"base64":"/wA="},"user":"web"},"ends":"2030-01-01T01:00:00+01:00"}'
    found = rotator_of(tmp_path, f"echo '{answer}'").propose(run())
    assert not isinstance(found.value, Secret)
    assert plain(found.value) == {"key": b"\xff\x00", "user": "web"}
    assert found.ends == datetime(2030, 1, 1, tzinfo=UTC)


# --- time -------------------------------------------------------------------------------------------------------------


def test_a_program_that_does_not_end_is_killed_with_what_it_has_started(tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(TargetUnavailable):
        rotator_of(tmp_path, f"sleep 60 & echo $! >{tmp_path}/child; wait").apply(run(0.5))
    assert time.monotonic() - begun < 1.5
    child = int((tmp_path / "child").read_text())
    while _runs(child):
        assert time.monotonic() - begun < 5
        time.sleep(0.01)


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_what_a_program_leaves_behind_is_not_waited_for(tmp_path: Path) -> None:
    begun = time.monotonic()
    rotator_of(tmp_path, f"echo '{{\"v\":1}}'; sleep 60 & echo $! >{tmp_path}/child").apply(run())
    assert time.monotonic() - begun < 5
    os.kill(int((tmp_path / "child").read_text()), 9)


def test_a_program_that_closes_its_output_and_goes_on_is_killed(tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(TargetUnavailable):
        rotator_of(tmp_path, "echo '{\"v\":1}'; exec >&-; sleep 60").apply(run(0.3))
    assert time.monotonic() - begun < 1.3


# --- who may change it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_program_that_others_can_change_is_not_run(mode: int, tmp_path: Path) -> None:
    rotator = rotator_of(tmp_path, f"touch {tmp_path}/was-run; echo '{{\"v\":1}}'")
    (tmp_path / "program").chmod(mode)
    with pytest.raises(InvalidRotation):
        rotator.apply(run())
    (tmp_path / "program").chmod(0o700)
    assert not (tmp_path / "was-run").exists()
    rotator.apply(run())
    assert (tmp_path / "was-run").exists()


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_program_in_a_folder_that_others_can_change_is_not_run(mode: int, tmp_path: Path) -> None:
    folder = tmp_path / "open" / "own"
    folder.mkdir(parents=True)
    rotator = rotator_of(folder, f"touch {tmp_path}/was-run; echo '{{\"v\":1}}'")
    (tmp_path / "open").chmod(mode)
    (tmp_path / "link").symlink_to(folder / "program")
    linked = from_options({"program": str(tmp_path / "link"), "strategy": "overlapping"})
    for each in (rotator, linked):
        with pytest.raises(InvalidRotation):
            each.apply(run())
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize("kind", ["absent", "folder", "not executable", "no interpreter"])
def test_what_is_no_program_is_not_run(kind: str, tmp_path: Path) -> None:
    program = tmp_path / "program"
    match kind:
        case "folder":
            program.mkdir()
        case "not executable":
            write_program(tmp_path, "#!/bin/sh\n", 0o600)
        case "no interpreter":
            write_program(tmp_path, "#!/nonexistent\n")
    with pytest.raises(InvalidRotation):
        from_options({"program": str(program), "strategy": "overlapping"}).apply(run())


# --- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"program": "/bin/true"},
        {"program": "true", "strategy": "overlapping"},
        {"program": "./true", "strategy": "overlapping"},
        {"program": "/usr/../bin/true", "strategy": "overlapping"},
        {"program": "/bin/true\n", "strategy": "overlapping"},
        {"program": Secret("/bin/true"), "strategy": "overlapping"},
        {"program": "/bin/true", "strategy": "sometimes"},
        {"program": "/bin/true", "strategy": "overlapping", "identity": "a b"},
        {"program": "/bin/true", "strategy": "overlapping", "folder": "x"},
        {"program": "/bin/true", "strategy": "overlapping", "option.": "x"},
        {"program": "/bin/true", "strategy": "overlapping", "option.a b": "x"},
        {"program": "/bin/true", "strategy": "overlapping", "option.canary\n": "x"},
    ],
)
def test_refuses_options_that_make_no_sense(options: Options) -> None:
    with pytest.raises(InvalidRotation) as refused:
        from_options(options)
    assert "canary" not in str(refused.value)


def test_is_found_by_its_name_and_does_what_it_is_told_of_itself() -> None:
    rotator = open_rotator("exec", {"program": "/bin/true", "strategy": "single-slot", "identity": "user,host"})
    assert rotator.target == "exec /bin/true"
    assert rotator.strategy is Strategy.SINGLE_SLOT
    assert rotator.identity == {"user", "host"}


def test_a_program_goes_through_a_whole_run(tmp_path: Path) -> None:
    target = TokenFile(tmp_path, "sh")
    rotator = from_options(target.options)
    after = swap(propose_and_apply(rotator, target))
    rotator.retire(after)
    assert propose(rotator, begin(target)).pending is not None
    assert (tmp_path / "tokens").read_text().split() == list(plain(after.current).values())


class TestExecCutOff(RotationKillMatrix):
    sample = 1

    def make(self, options: Options) -> Rotator:
        return from_options(options)

    @pytest.fixture
    def target(self, tmp_path: Path) -> TokenFile:
        (folder := tmp_path / "target").mkdir()
        return TokenFile(folder, "sh")
