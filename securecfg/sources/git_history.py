"""Look for values in the whole history of a git repository.

Values never become arguments of a process: git streams every object's content and the search happens here. Two passes
keep memory flat: one over the blobs, which remembers those that hold a value, and one over the commits, which says when
each of these appeared and under which name.
"""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import IO, TYPE_CHECKING
from urllib.parse import quote

from securecfg.errors import StoreFailed, Unsupported, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from securecfg.secret import Secret

MIN_SEARCHED_BYTES = 6
_CHUNK_BYTES = 1024 * 1024
_PROGRESS_EVERY = 1000
# Merges against each parent, paths from the root, and nothing that a configuration of git could add or take away.
_LOG = (
    "log",
    "--all",
    "--reflog",
    "--raw",
    "-z",
    "--diff-merges=separate",
    "--ignore-submodules=none",
    "--no-abbrev",
    "--no-color",
    "--no-ext-diff",
    "--no-relative",
    "--no-renames",
    "-O/dev/null",
)
_SETTINGS = ("-c", "core.fsmonitor=false", "-c", "log.showSignature=false", "-c", "log.showRoot=true")
_ENDED = "git ended before all objects were searched"


@dataclass(frozen=True, slots=True)
class Exposure:
    """The first commit that shows a value.

    Attributes:
        label: What the value was called in the search, for instance its path in the vault.
        commit: The commit's full id.
        committed: When it was committed.
        path: The file's path in that commit.
    """

    label: str
    commit: str
    committed: datetime
    path: str

    def age(self, now: datetime) -> timedelta:
        """Return for how long the value has been exposed; never negative, whatever the committer's clock said."""
        return max(now - self.committed, timedelta(0))


def find_in_history(
    repository: str | os.PathLike[str],
    values: Mapping[str, Secret[str]],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[Exposure]:
    """Find the first commit of any branch, tag, stash or reflog that holds each value.

    Values are looked for as they are, percent-encoded and escaped as in JSON; of a value of several lines the longest
    one is looked for. Those of fewer than 6 bytes are not: they stand everywhere.

    Args:
        repository: A folder in the work tree, or a bare repository.
        values: What to look for, by label.
        progress: Called now and then with the number of objects searched and of all objects.

    Returns:
        For each value that was found one exposure, by label.

    Raises:
        UsageError: There is no git repository.
        Unsupported: git is not installed.
        StoreFailed: git failed.
    """
    needles = {label: found for label, value in values.items() if (found := _needles(value.reveal()))}
    _check_repository(repository)
    if not needles:
        return []
    holders = _blobs_with(repository, needles, progress)
    first: dict[str, Exposure] = {}
    for commit, committed, path, blob in _changes(repository) if holders else ():
        for label in holders.get(blob, ()):
            known = first.get(label)
            if known is None or committed <= known.committed:
                first[label] = Exposure(label, commit, committed, path)
    return [first[label] for label in sorted(first)]


def _needles(value: str) -> tuple[bytes, ...]:
    line = max(value.splitlines(), key=len, default="").strip()
    if len(line.encode()) < MIN_SEARCHED_BYTES:
        return ()
    # As a URL may spell it: with all that may be encoded, or with only what must be.
    encoded = (quote(line, safe=""), quote(line, safe="!$&'()*+,;="))
    forms = (line, *encoded, json.dumps(line, ensure_ascii=False)[1:-1], json.dumps(line)[1:-1])
    return tuple(form.encode() for form in dict.fromkeys(forms))


def _blobs_with(
    repository: str | os.PathLike[str],
    needles: Mapping[str, tuple[bytes, ...]],
    progress: Callable[[int, int], None] | None,
) -> dict[str, list[str]]:
    """Return the labels whose value stands in a blob, by blob."""
    blobs: list[str] = []
    arguments = ["cat-file", "--batch-all-objects", "--unordered", "--batch-check=%(objecttype) %(objectname)"]
    with _git(repository, arguments) as output:
        blobs.extend(line[5:-1].decode() for line in output if line.startswith(b"blob "))
    holders: dict[str, list[str]] = {}
    overlap = max(len(form) for forms in needles.values() for form in forms) - 1
    with _conversation(repository, ["cat-file", "--batch"]) as (requests, answers):
        for number, blob in enumerate(blobs, 1):
            requests.write(f"{blob}\n".encode())
            requests.flush()
            header = answers.readline().split()
            if not header:
                raise StoreFailed(_ENDED)
            if header[1] != b"blob":
                continue  # the object went away meanwhile
            labels = _labels_in(answers, int(header[2]), needles, overlap)
            if labels:
                holders[blob] = labels
            if progress is not None and (number % _PROGRESS_EVERY == 0 or number == len(blobs)):
                progress(number, len(blobs))
    return holders


def _labels_in(answers: IO[bytes], size: int, needles: Mapping[str, tuple[bytes, ...]], overlap: int) -> list[str]:
    found: set[str] = set()
    tail = b""
    remaining = size
    while remaining:
        chunk = answers.read(min(remaining, _CHUNK_BYTES))
        if not chunk:
            raise StoreFailed(_ENDED)
        remaining -= len(chunk)
        window = tail + chunk
        for label, forms in needles.items():
            if label not in found and any(form in window for form in forms):
                found.add(label)
        tail = window[-overlap:] if overlap else b""
    answers.read(1)  # the line break behind the content
    return sorted(found)


def _changes(repository: str | os.PathLike[str]) -> Iterator[tuple[str, datetime, str, str]]:
    """Yield commit, time, path and new blob of every change in every commit, merges against each parent."""
    arguments = [*_LOG]
    with _git(repository, [*arguments, "--format=format:%x01%H %ct"]) as output:
        commit, committed, blob = "", datetime.fromtimestamp(0, UTC), ""
        for field in _fields(output):
            text = field.lstrip(b"\n")
            if text.startswith(b"\x01"):
                # The first change may follow its commit's line without a NUL between them.
                head, _, text = text[1:].partition(b"\n")
                name, _, seconds = head.decode().partition(" ")
                commit, committed, blob = name, datetime.fromtimestamp(int(seconds), UTC), ""
            if text.startswith(b":") and not blob:
                blob = text.split(b" ")[3].decode()
            elif blob:
                yield commit, committed, text.decode(errors="replace"), blob
                blob = ""


def _fields(output: IO[bytes]) -> Iterator[bytes]:
    rest = b""
    while chunk := output.read(_CHUNK_BYTES):
        *fields, rest = (rest + chunk).split(b"\0")
        yield from fields
    if rest:
        yield rest


def _check_repository(repository: str | os.PathLike[str]) -> None:
    try:
        with _git(repository, ["rev-parse", "--git-dir"]) as output:
            output.read()
    except StoreFailed:
        message = f"`{os.fspath(repository)}` is not in a git repository"
        raise UsageError(message, hint="--history looks through git history") from None


def _environment() -> dict[str, str]:
    # No lazy fetch from a partial clone's remote, no translated messages, no repository that the caller's shell names.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return {**kept, "GIT_NO_LAZY_FETCH": "1", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}


def _start(repository: str | os.PathLike[str], arguments: list[str], stdin: int) -> subprocess.Popen[bytes]:
    command = ["git", "--no-pager", "-C", os.fspath(repository), *_SETTINGS, *arguments]
    try:
        return subprocess.Popen(
            command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_environment()
        )
    except FileNotFoundError:
        message = "git is not installed"
        raise Unsupported(message, hint="install git to search its history") from None
    except OSError as error:
        message = f"cannot start git: {error.strerror}"
        raise StoreFailed(message) from None


@contextmanager
def _git(repository: str | os.PathLike[str], arguments: list[str]) -> Iterator[IO[bytes]]:
    with _start(repository, arguments, subprocess.DEVNULL) as process:
        if process.stdout is not None:
            try:
                yield process.stdout
            except BaseException:
                # Who reads no further would wait for ever until git has written the rest.
                process.kill()
                raise
        code = process.wait()
    if code != 0:
        message = f"`git {arguments[0]}` failed with exit code {code}"
        raise StoreFailed(message)


@contextmanager
def _conversation(repository: str | os.PathLike[str], arguments: list[str]) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    with _start(repository, arguments, subprocess.PIPE) as process:
        if process.stdin is not None and process.stdout is not None:
            try:
                yield process.stdin, process.stdout
            except BrokenPipeError:
                process.kill()
                raise StoreFailed(_ENDED) from None
            except BaseException:
                # Git would wait for the next question, and this process for git.
                process.kill()
                raise
            process.stdin.close()
        code = process.wait()
    if code != 0:
        message = f"`git {arguments[0]}` failed with exit code {code}"
        raise StoreFailed(message)
