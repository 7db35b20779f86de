"""Section 4.12 of the format: keys that a program prints."""

from __future__ import annotations

import base64
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from securecfg.errors import InvalidKeyUri, KeyProviderRefused, KeyProviderUnavailable, WrongKey
from securecfg.keys import CommandProvider, FileProvider, WrapContext, open_provider, open_under_kek
from securecfg.keys.keyfile import format_key
from securecfg.testing.key_provider_conformance import CONTEXT, KEY, KeyProviderConformance
from securecfg.testing.key_services import ServiceFault

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PRINTED = b"canary-key-0123456789abcdefghijk"
ENCODED = base64.b64encode(PRINTED).decode()
HINT = "run the command by itself"


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], CommandProvider]:
    """Makes a provider that runs a shell script."""

    def make(text: str, timeout_s: float = 20) -> CommandProvider:
        path = tmp_path / "script"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o700)
        return CommandProvider([str(path)], timeout_s=timeout_s)

    return make


class TestCommand(KeyProviderConformance):
    def provider(self) -> CommandProvider:
        return CommandProvider(["printf", "%s\n", ENCODED])

    def stranger(self) -> CommandProvider:
        return CommandProvider(["printf", "%s\n", base64.b64encode(bytes(32)).decode()])

    def faulty(self, fault: ServiceFault) -> CommandProvider:
        commands = {
            ServiceFault.UNREACHABLE: ["no-such-program-of-ours"],
            ServiceFault.RESET: ["sh", "-c", "kill -9 $$"],
            ServiceFault.SILENT: ["sleep", "30"],
            ServiceFault.BROKEN: ["sh", "-c", "exit 69"],
            ServiceFault.THROTTLED: ["sh", "-c", "exit 75"],
        }
        if fault not in commands:
            pytest.skip(f"not applicable: a program does not tell that its key is {fault}")
        return CommandProvider(commands[fault], timeout_s=0.5)

    def canaries(self) -> tuple[bytes, ...]:
        return PRINTED, ENCODED.encode()


# --- what a program prints --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
@pytest.mark.parametrize("text", [ENCODED, format_key(PRINTED)], ids=["base64", "key file"])
def test_takes_a_key_in_base64_and_the_text_of_a_key_file(text: str, end: str) -> None:
    wrapped = CommandProvider(["printf", "%s", f"{text}{end}"]).wrap(KEY, CONTEXT)
    assert open_under_kek(PRINTED, 12, wrapped, CONTEXT) == KEY


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        ENCODED[:-1],
        ENCODED.rstrip("="),
        f"{ENCODED}\n\n",
        f" {ENCODED}",
        f"{ENCODED} ",
        ENCODED.replace("=", "A"),
        ENCODED[:-2] + "j=",  # a second spelling of the same bytes
        base64.urlsafe_b64encode(b"\xff" * 32).decode(),
        base64.b64encode(bytes(31)).decode(),
        base64.b64encode(bytes(33)).decode(),
        PRINTED.hex(),
        PRINTED.decode(),
        format_key(PRINTED)[:-1],
        format_key(PRINTED).lower(),
        "\u00e9" * 44,
        "x" * 4_096,
    ],
)
def test_refuses_every_other_output(text: str) -> None:
    with pytest.raises(KeyProviderRefused) as refused:
        CommandProvider(["printf", "%s", text]).wrap(KEY, CONTEXT)
    assert refused.value.message == "`printf` printed something else than a key"
    assert HINT in refused.value.hint


def test_output_without_end_is_refused_at_once() -> None:
    start = time.monotonic()
    with pytest.raises(KeyProviderRefused, match="more than 4096 bytes"):
        CommandProvider(["cat", "/dev/zero"]).wrap(KEY, CONTEXT)
    assert time.monotonic() - start < 15


# --- how a program ends -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [1, 2, 64, 127, 255])
def test_a_program_that_fails_refuses_even_if_it_printed_a_key(
    code: int, script: Callable[[str], CommandProvider]
) -> None:
    with pytest.raises(KeyProviderRefused, match=f"exit code {code}"):
        script(f"echo {ENCODED}; exit {code}").wrap(KEY, CONTEXT)


@pytest.mark.parametrize(
    ("end", "said"), [("exit 69", "exit code 69"), ("exit 75", "exit code 75"), ("kill -9 $$", "signal 9")]
)
def test_a_program_that_may_work_later_is_unavailable(
    end: str, said: str, script: Callable[[str], CommandProvider]
) -> None:
    with pytest.raises(KeyProviderUnavailable, match=said):
        script(f"echo {ENCODED}; {end}").wrap(KEY, CONTEXT)


@pytest.mark.parametrize("work", ["exec sleep 60", f"echo {ENCODED}; exec >&-; exec sleep 60", "sleep 60 & wait"])
def test_a_program_has_its_time_and_no_more(work: str, script: Callable[..., CommandProvider]) -> None:
    start = time.monotonic()
    with pytest.raises(KeyProviderUnavailable, match=r"within 0\.5 seconds"):
        script(work, timeout_s=0.5).wrap(KEY, CONTEXT)
    assert time.monotonic() - start < 15


def test_a_program_that_is_not_there_or_cannot_run_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("x")
    for name in ("no-such-program-of-ours", str(tmp_path / "data"), str(tmp_path)):
        with pytest.raises(KeyProviderUnavailable, match="cannot start"):
            CommandProvider([name]).wrap(KEY, CONTEXT)


def test_what_fails_is_tried_again(tmp_path: Path, script: Callable[[str], CommandProvider]) -> None:
    provider = script(f"test -e {tmp_path}/ready || exit 75; echo {ENCODED}")
    with pytest.raises(KeyProviderUnavailable):
        provider.wrap(KEY, CONTEXT)
    (tmp_path / "ready").touch()
    provider.wrap(KEY, CONTEXT)


# --- how it is started ------------------------------------------------------------------------------------------------


def test_it_runs_once_for_each_vault_however_many_slots_and_threads(
    tmp_path: Path, script: Callable[[str], CommandProvider]
) -> None:
    provider = script(f"echo run >> {tmp_path}/runs; echo {ENCODED}")
    wrapped = provider.wrap(KEY, CONTEXT)
    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(lambda _: provider.unwrap(wrapped, CONTEXT), range(16))) == {KEY}
    assert (tmp_path / "runs").read_text() == "run\n"
    provider.wrap(KEY, WrapContext(bytes(16), CONTEXT.slot_id))
    assert (tmp_path / "runs").read_text() == "run\n" * 2


def test_it_is_told_which_vault_and_gets_the_environment_and_no_input(
    tmp_path: Path, script: Callable[[str], CommandProvider], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_USER", "kept")
    script(f'printf %s "$SECURECFG_VAULT_ID $OF_THE_USER $(wc -c)" > {tmp_path}/told; echo {ENCODED}').wrap(
        KEY, CONTEXT
    )
    assert (tmp_path / "told").read_text().split() == [CONTEXT.vault_id.hex(), "kept", "0"]


def test_one_program_may_hold_the_keys_of_many_vaults(script: Callable[[str], CommandProvider]) -> None:
    provider = script("printf '%s%s' $SECURECFG_VAULT_ID $SECURECFG_VAULT_ID | cut -c1-32 | tr -d '\\n' | base64")
    wrapped = provider.wrap(KEY, CONTEXT)
    assert open_under_kek(CONTEXT.vault_id.hex().encode(), 12, wrapped, CONTEXT) == KEY


def test_what_it_says_on_standard_error_is_shown_nowhere(
    script: Callable[[str], CommandProvider], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KeyProviderRefused) as refused:
        script("echo canary-complaint >&2; exit 1").wrap(KEY, CONTEXT)
    assert "canary" not in "".join([refused.value.message, refused.value.hint, *capfd.readouterr()])


def test_arguments_are_not_shown(tmp_path: Path) -> None:
    with pytest.raises(KeyProviderRefused) as refused:
        CommandProvider(["false", "canary"]).wrap(KEY, CONTEXT)
    assert "canary" not in f"{refused.value!r}{refused.value.hint}"


def test_a_program_that_asks_for_its_own_key_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECURECFG_VAULT_ID", CONTEXT.vault_id.hex())
    with pytest.raises(KeyProviderRefused, match="the very key"):
        CommandProvider(["printf", "%s", ENCODED]).wrap(KEY, CONTEXT)
    other = WrapContext(bytes(16), CONTEXT.slot_id)
    assert CommandProvider(["printf", "%s", ENCODED]).wrap(KEY, other)


@pytest.mark.parametrize("arguments", [[], [""]])
def test_a_command_names_a_program(arguments: list[str]) -> None:
    with pytest.raises(ValueError, match="program"):
        CommandProvider(arguments)


# --- URIs -------------------------------------------------------------------------------------------------------------


def test_words_are_split_as_a_shell_does_and_nothing_else_is_done_as_a_shell_does(tmp_path: Path) -> None:
    uri = f"command:printf '%s%s' {ENCODED[:20]} \"{ENCODED[20:]}\""
    wrapped = open_provider(uri).wrap(KEY, CONTEXT)
    assert open_under_kek(PRINTED, 12, wrapped, CONTEXT) == KEY
    for text in (f"touch {tmp_path}/owned", f"$(touch {tmp_path}/owned)", f"x; touch {tmp_path}/owned", "> /dev/null"):
        with pytest.raises(KeyProviderRefused):
            open_provider(f"command:printf %s {text}").wrap(KEY, CONTEXT)
    assert not (tmp_path / "owned").exists()


def test_a_tilde_is_the_home_directory_for_the_program(home: Path) -> None:
    path = home / "key"
    path.write_text(f"#!/bin/sh\necho {ENCODED}\n")
    path.chmod(0o700)
    assert open_provider("command:~/key").wrap(KEY, CONTEXT)


@pytest.mark.parametrize("rest", ["", " ", "''", "cat 'open", "cat \\", "cat a\x00b", "'' x"])
def test_refuses_uris_that_name_no_program(rest: str) -> None:
    with pytest.raises(InvalidKeyUri):
        open_provider(f"command:{rest}")


def test_nothing_runs_before_a_key_is_needed(tmp_path: Path) -> None:
    open_provider(f"command:touch {tmp_path}/ran")
    assert not (tmp_path / "ran").exists()


def test_a_key_file_does_not_open_what_a_program_does(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_text(f"{format_key(PRINTED)}\n")
    wrapped = open_provider(f"command:cat {path}").wrap(KEY, CONTEXT)
    with pytest.raises(WrongKey):
        FileProvider(path).unwrap(wrapped, CONTEXT)


def test_no_program_is_left_behind(tmp_path: Path, script: Callable[..., CommandProvider]) -> None:
    with pytest.raises(KeyProviderUnavailable):
        script(f"echo $$ > {tmp_path}/pid; exec sleep 60", timeout_s=1).wrap(KEY, CONTEXT)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
