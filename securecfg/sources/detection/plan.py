"""Find the secrets in configuration files and plan where each goes.

Nothing here reads or writes a file: bytes come in and a plan goes out.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import unquote

from securecfg.config.references import Reference
from securecfg.errors import ConfigError, ConfigLimitExceeded, ConfigSyntaxError
from securecfg.secret import Secret
from securecfg.sources.detection.rules import Confidence, Match, Surroundings, is_numeric_password, judge
from securecfg.sources.detection.scalars import Format, KeyPath, Scalar, position, scan
from securecfg.sources.detection.targets import check_prefix, folders_of, path_of, segment_of

if TYPE_CHECKING:
    from collections.abc import Sequence

BYTE_ORDER_MARK = "\ufeff"
MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_RANDOM_VALUES = 3


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file as it was read.

    Attributes:
        name: Its path as it is shown, with `/`.
        content: All its bytes.
        mode: The permission bits that a rewritten file keeps.
        place: Its path from the folder of the project that it lies in, with `/`; empty where it lies in none.
    """

    name: str
    content: bytes = field(repr=False)
    mode: int = 0o600
    place: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """A secret in a file and where it goes.

    Attributes:
        file: The file's name.
        line: Its line, from 1.
        column: Its column in characters, from 1.
        key: The key path as people write it.
        why: What gave it away, such as `stripe key`, `password in URL`, `name says password`.
        confidence: How sure that is.
        path: The path in the vault.
        field: The field under that path, or an empty string where the whole value goes there.
        value: What goes into the vault; of a password in a URL the decoded one.
        span: Where the scalar it is in begins and ends in the text, in characters behind a byte order mark.
        part: Which part of the scalar's value it is.
        in_url: The reference has to quote the value for a URL.
    """

    file: str
    line: int
    column: int
    key: str
    why: str
    confidence: Confidence
    path: str
    field: str
    value: Secret[str]
    span: tuple[int, int]
    part: tuple[int, int]
    in_url: bool

    @property
    def target(self) -> str:
        """Where it goes, as `path` or `path#field`."""
        return f"{self.path}#{self.field}" if self.field else self.path

    @property
    def reference(self) -> str:
        """What stands in the file afterwards."""
        return str(Reference(self.path, self.field or None, None, "url" if self.in_url else None))


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that was left alone and that a person may want to look at."""

    file: str
    line: int
    key: str
    text: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What an import would do.

    Attributes:
        findings: The secrets, by file in the order given, then by place.
        untouched: How many other values the files hold.
        notices: What was left alone although it may be secret.
        problems: The files that could not be read as what they are; the others are planned all the same.
    """

    findings: tuple[Finding, ...]
    untouched: int
    notices: tuple[Notice, ...]
    problems: tuple[ConfigError, ...]

    def of_file(self, name: str) -> tuple[Finding, ...]:
        """Return the findings in one file."""
        return tuple(finding for finding in self.findings if finding.file == name)

    def of_path(self) -> dict[str, Secret[str] | dict[str, Secret[str]]]:
        """Return what to write into the vault: for each path its value, or its fields."""
        values: dict[str, Secret[str] | dict[str, Secret[str]]] = {}
        for finding in self.findings:
            if not finding.field:
                values[finding.path] = finding.value
                continue
            fields = values.setdefault(finding.path, {})
            if isinstance(fields, dict):
                fields[finding.field] = finding.value
        return values


def find_secrets(files: Sequence[SourceFile], *, prefix: str = "") -> Plan:
    """Find the secrets in some files and choose a path for each.

    Args:
        files: The files, each name once; the format is told by the name.
        prefix: What every path begins with.

    Raises:
        InvalidPath: The prefix is no path.
    """
    prefix = check_prefix(prefix)
    problems: list[ConfigError] = []
    notices: list[Notice] = []
    scanned: list[_Scanned] = []
    for file in files:
        try:
            scanned.append(_scan(file))
        except (ConfigSyntaxError, ConfigLimitExceeded) as error:
            problems.append(error)
    for each in scanned:
        for scalar in each.scalars:
            each.found.extend((scalar, match) for match in judge(scalar, each.around))
            if is_numeric_password(scalar):
                line, _ = position(each.text, scalar.start)
                text = "a number under a name that says password: quote it in the file to have it moved"
                notices.append(Notice(each.name, line, key_text(scalar.keys), text))
        notices.extend(_leave_data(each))
    folders = folders_of({each.name: each.place for each in scanned if each.found})
    findings = [
        _finding(each, scalar, match, path_of(prefix, folders[each.name], scalar.keys))
        for each in scanned
        for scalar, match in each.found
    ]
    values = sum(len(each.scalars) for each in scanned)
    untouched = values - len({(finding.file, finding.span) for finding in findings})
    return Plan(tuple(_without_collisions(findings)), untouched, tuple(notices), tuple(problems))


@dataclass(slots=True)
class _Scanned:
    name: str
    place: str
    text: str = field(repr=False)
    scalars: list[Scalar]
    around: Surroundings
    found: list[tuple[Scalar, Match]]


def _scan(file: SourceFile) -> _Scanned:
    fmt, text = read_text(file)
    return _Scanned(file.name, file.place, text, scan(fmt, file.name, text), Surroundings.of(file.name, fmt), [])


def _leave_data(each: _Scanned) -> list[Notice]:
    """Drop what only looks random in a file that is full of it."""
    random = [(scalar, match) for scalar, match in each.found if match.confidence is Confidence.POSSIBLE]
    if len(random) <= MAX_RANDOM_VALUES:
        return []
    each.found = [pair for pair in each.found if pair[1].confidence is not Confidence.POSSIBLE]
    line, _ = position(each.text, random[0][0].start)
    text = f"{len(random)} values look random, which is data rather than secrets: left alone"
    return [Notice(each.name, line, key_text(random[0][0].keys), text)]


def read_text(file: SourceFile) -> tuple[Format, str]:
    """Return a file's format and its text without a byte order mark.

    Raises:
        ConfigSyntaxError: The name announces no format, or the bytes are not UTF-8.
        ConfigLimitExceeded: The file is too large.
    """
    fmt = Format.of(file.name)
    if fmt is None:
        message = "not a JSON, YAML, TOML, INI or .env file by its name"
        raise ConfigSyntaxError(message, place=file.name)
    if len(file.content) > MAX_FILE_BYTES:
        message = f"larger than {MAX_FILE_BYTES} bytes"
        raise ConfigLimitExceeded(message, place=file.name)
    try:
        text = file.content.decode()
    except UnicodeDecodeError as error:
        start = error.start
        before = file.content[:start]
        line, column = before.count(b"\n") + 1, start - before.rfind(b"\n")
        place = f"{file.name}:{line}:{column}"
    else:
        return fmt, text.removeprefix(BYTE_ORDER_MARK)
    message = "not UTF-8"  # outside the handler, so that the bytes do not travel with the error
    raise ConfigSyntaxError(message, place=place, hint="convert the file to UTF-8 first")


def key_text(keys: KeyPath) -> str:
    """Return a key path as people write it: `services.db.environment[0]`."""
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text


def _finding(each: _Scanned, scalar: Scalar, match: Match, path: str) -> Finding:
    line, column = position(each.text, scalar.start)
    value, in_url = _stored(scalar.value[match.start : match.end], in_url=match.in_url)
    name = segment_of(match.field) if match.field else ""
    return Finding(
        file=each.name,
        line=line,
        column=column,
        key=key_text(scalar.keys),
        why=match.why,
        confidence=match.confidence,
        path=path,
        field=name,
        value=Secret(value, label=f"{path}#{name}" if name else path),
        span=(scalar.start, scalar.end),
        part=(match.start, match.end),
        in_url=in_url,
    )


def _stored(text: str, *, in_url: bool) -> tuple[str, bool]:
    """Return what is stored for a part, and whether its reference quotes it."""
    if not in_url:
        return text, False
    try:
        return unquote(text, errors="strict"), True
    except UnicodeDecodeError:
        return text, False  # percent-encoded bytes that are no text: kept as they are written


def _without_collisions(findings: list[Finding]) -> list[Finding]:
    """Number the paths, or the fields within one scalar, that would otherwise be the same."""
    owners: dict[str, tuple[str, tuple[int, int]]] = {}
    fields: Counter[str] = Counter()
    chosen: list[Finding] = []
    for finding in findings:
        owner = (finding.file, finding.span)
        path, number = finding.path, 1
        while owners.setdefault(path, owner) != owner:
            number += 1
            path = f"{finding.path}-{number}"
        fields[f"{path}#{finding.field}"] += 1
        times = fields[f"{path}#{finding.field}"]
        name = finding.field if times == 1 else f"{finding.field}_{times}"
        label = f"{path}#{name}" if name else path
        chosen.append(replace(finding, path=path, field=name, value=Secret(finding.value.reveal(), label=label)))
    return chosen
