"""Credentials that a program knows how to rotate, written in any language: version 1 of its protocol.

1. who it is     an absolute path; it and its folders can be changed by root and this user only; no shell
2. what it sees  no arguments; PATH, LANG, HOME and SECURECFG_VALUES and no other variable; the folder `/`
3. what it reads a JSON object without values on standard input, and one with the values from a pipe of its own
4. what it says  a JSON object on standard output, up to a bound; nothing that it writes to standard error is kept
5. how long      until the time of the call is up: it is killed then, with all of its process group

The protocol in full, for those who write such programs, is `docs/how-to/rotate-exec.md`.
"""

from __future__ import annotations

import os
import selectors
import signal
import stat
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from securecfg.errors import InvalidRotation, PrivilegeMissing, RotationFailed, SecurecfgError, TargetUnavailable
from securecfg.rotation.options import GivenOptions
from securecfg.rotation.step_protocol import (
    ForeignRotator,
    error_of,
    is_done,
    parse_answer,
    split_options,
    take_terms,
    to_json,
    told_of,
    values_of,
)

if TYPE_CHECKING:
    from securecfg.rotation.interface import Fields, Options, Run
    from securecfg.rotation.step_protocol import Terms

VALUES = "SECURECFG_VALUES"
OUTPUT_BYTES_MAX = 4 << 20
_EXITS = {75: TargetUnavailable, 77: PrivilegeMissing}  # EX_TEMPFAIL and EX_NOPERM of sysexits.h
_CHUNK_BYTES = 1 << 16
_LOOK_S = 0.1
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class _Ended(NamedTuple):
    """How a program ended.

    Attributes:
        code: What it exited with; negative for a signal, None where it was killed when the time was up.
        printed: What it wrote to standard output; longer than the bound where it was killed for that.
    """

    code: int | None
    printed: bytes


class ExecRotator(ForeignRotator):
    """Has a program do each step.

    Args:
        program: Its absolute path.
        terms: What it is told.
    """

    def __init__(self, program: str, terms: Terms) -> None:
        """Run nothing yet."""
        super().__init__(f"exec {program}", f"`{program}`", terms)
        self._program = program

    def _do(self, step: str, run: Run, value: Fields | None = None) -> dict[str, Any]:
        told, given = told_of(step, run, self._options), values_of(run, self._options, value)
        until = time.monotonic() + run.timeout_s
        return self._understand(_run(_verified(self._program), to_json(told), to_json(given), until))

    def _understand(self, ended: _Ended) -> dict[str, Any]:
        answer = parse_answer(ended.printed)
        kind: type[SecurecfgError] = RotationFailed
        if ended.code is None:
            kind, what = TargetUnavailable, "did not end in time"
        elif len(ended.printed) > OUTPUT_BYTES_MAX:
            what = "prints more than any answer"
        elif said := error_of(answer):
            kind, what = said, f"says `{said.code}`"
        elif ended.code in _EXITS:
            kind, what = _EXITS[ended.code], f"ended with {ended.code}"
        elif ended.code < 0:
            kind, what = TargetUnavailable, f"was killed by signal {-ended.code}"
        elif ended.code:
            what = f"ended with {ended.code}"
        elif is_done(answer):
            return answer
        else:
            what = "gave no answer of version 1"
        raise self._failure(kind, what)


def from_options(options: Options) -> ExecRotator:
    """Return the rotator `exec`.

    Raises:
        InvalidRotation: The options make no sense.
    """
    own, rest = split_options("exec", options)
    given = GivenOptions("exec", rest)
    program = given.text("program")
    terms = take_terms(given, "exec", own)
    given.finish()
    if not (program.startswith("/") and program.isprintable() and os.path.normpath(program) == program):
        message = "the option `program` of the rotator `exec` is an absolute path without `..`"
        raise InvalidRotation(message)
    return ExecRotator(program, terms)


def _verified(program: str) -> str:
    """Return where a program really is, which is nowhere that somebody else may change.

    Raises:
        InvalidRotation: It is not there, or cannot be run, or somebody else may change it.
    """
    place = os.path.realpath(program)
    trusted = {0, os.geteuid()}
    problem = ""
    try:
        about = os.stat(place)  # noqa: PTH116 - as below
        if not stat.S_ISREG(about.st_mode) or not os.access(place, os.X_OK):
            problem = "is no program that can be run"
        elif about.st_uid not in trusted or about.st_mode & _OTHERS_WRITE:
            problem = "can be changed by somebody else"
        folder = place
        while folder != "/" and not problem:
            folder = os.path.dirname(folder)  # noqa: PTH120 - `pathlib` is not loaded for it
            about = os.stat(folder)  # noqa: PTH116 - as above
            # In a sticky folder, such as /tmp, nobody replaces what belongs to somebody else.
            if about.st_uid not in trusted or (about.st_mode & _OTHERS_WRITE and not about.st_mode & stat.S_ISVTX):
                problem = "lies in a folder that somebody else can change"
    except OSError:
        problem = "is not there"
    if not problem:
        return place
    message = f"`{program}` {problem}"
    raise InvalidRotation(
        message, hint="it and its folders belong to root or to who runs this, and others may not write"
    )


def _run(program: str, told: bytes, given: bytes, until: float) -> _Ended:
    """Return how a program ended that was told something, and given something else through a pipe of its own.

    Raises:
        TargetUnavailable: It cannot be started now.
        InvalidRotation: It cannot be started at all.
    """
    values, filling = os.pipe()
    try:
        try:
            process = subprocess.Popen(
                [program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # it may quote values
                pass_fds=(values,),
                env={
                    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                    "LANG": "C.UTF-8",
                    "HOME": os.environ.get("HOME", "/"),
                    VALUES: f"/dev/fd/{values}",
                },
                cwd="/",
                process_group=0,
                bufsize=0,
            )
        finally:
            os.close(values)
    except BlockingIOError:
        process = None
        failure: SecurecfgError = TargetUnavailable(f"`{program}` cannot be started now", hint="try again later")
    except OSError as error:
        process = None
        hint = "a script begins with `#!` and the path of its interpreter"
        failure = InvalidRotation(f"`{program}` cannot be started: {error.strerror}", hint=hint)
    if process is None:
        os.close(filling)
        raise failure
    with process:
        try:
            return _exchange(process, told, filling, given, until)
        finally:
            if process.returncode is None:  # until it is waited for, its number is nobody else's
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


def _exchange(process: subprocess.Popen[bytes], told: bytes, filling: int, given: bytes, until: float) -> _Ended:
    """Fill two pipes and empty a third one, in whatever order the program does its part."""
    printed = bytearray()
    assert process.stdin is not None  # noqa: S101 - for the type checker
    assert process.stdout is not None  # noqa: S101 - the same
    pipes = {process.stdin.fileno(): memoryview(told), filling: memoryview(given)}
    with selectors.DefaultSelector() as selector:
        try:
            selector.register(process.stdout, selectors.EVENT_READ)
            for pipe in pipes:
                os.set_blocking(pipe, False)
                selector.register(pipe, selectors.EVENT_WRITE)
            reads = True
            while reads:
                left_s = until - time.monotonic()
                if left_s <= 0:
                    return _Ended(None, b"")
                has_ended = process.poll() is not None  # before it is looked whether there is more
                ready = selector.select(0 if has_ended else min(_LOOK_S, left_s))
                for key, _ in ready:
                    if key.fd in pipes:
                        if not (rest := _write(key.fd, pipes[key.fd])):
                            selector.unregister(key.fileobj)
                            _close(process, key.fd, filling)
                            del pipes[key.fd]
                            continue
                        pipes[key.fd] = rest
                    else:
                        chunk = os.read(key.fd, _CHUNK_BYTES)
                        printed += chunk
                        reads = bool(chunk)
                if len(printed) > OUTPUT_BYTES_MAX:
                    return _Ended(0, bytes(printed))
                # What it left behind may hold its output open for a day.
                reads = reads and not (has_ended and not any(key.fd not in pipes for key, _ in ready))
        finally:
            if filling in pipes:
                os.close(filling)
    try:
        code = process.wait(max(until - time.monotonic(), 0))
    except subprocess.TimeoutExpired:
        return _Ended(None, b"")
    return _Ended(code, bytes(printed))


def _write(pipe: int, rest: memoryview) -> memoryview:
    """Return what is still to be written; nothing where nobody reads."""
    try:
        return rest[os.write(pipe, rest[:_CHUNK_BYTES]) :]
    except BlockingIOError:
        return rest
    except BrokenPipeError:
        return rest[:0]


def _close(process: subprocess.Popen[bytes], pipe: int, filling: int) -> None:
    if pipe == filling:
        os.close(filling)
    elif process.stdin is not None:
        process.stdin.close()
