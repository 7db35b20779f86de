"""Put references in the place of secrets, leave every other byte of a file as it is, and take it back.

Only the spans of the scalars that hold a secret are replaced. The new text is then read again, and is refused unless it
says exactly what the old one said but for the references. Nothing here touches a file: whoever writes the new content
keeps the undo material sealed until then.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from securecfg.config.references import Reference, Template, parse_text
from securecfg.errors import ConfigError, InvalidReference, UndoUnavailable
from securecfg.secret import Secret
from securecfg.sources.detection.plan import Finding, SourceFile, read_text
from securecfg.sources.detection.scalars import QUOTES, Format, Scalar, Style, scan

if TYPE_CHECKING:
    from collections.abc import Sequence

_MARK = b"\xef\xbb\xbf"
_BLOCK_HEADER = re.compile(r"[|>][0-9+-]*([ \t]+#[^\r\n]*)?")
_UNESCAPED = re.compile(r"[\x7f-\x9f\u2028\u2029\ufeff]")
_UNDO_VERSION = 1


@dataclass(frozen=True, slots=True)
class Edit:
    """One replaced span of a text, in characters of the old one."""

    start: int
    end: int
    new: str
    old: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A file with its secrets replaced.

    Attributes:
        content: The new bytes.
        undo: What `apply_undo` needs to restore the old ones. It holds the secrets.
    """

    content: bytes
    undo: Secret[bytes]


def rewrite(source: SourceFile, findings: Sequence[Finding]) -> Rewritten:
    """Replace the secrets of one file by references.

    Args:
        source: The very bytes that the findings were made from.
        findings: Those of this file.

    Raises:
        ConfigError: The findings do not fit the bytes, or the result would not say the same; nothing is returned then.
    """
    (rewritten,) = rewrite_in_steps(source, [findings])
    return rewritten


def rewrite_in_steps(source: SourceFile, steps: Sequence[Sequence[Finding]]) -> list[Rewritten]:
    """Replace the secrets of one file by references, some in each step; each has its own undo material.

    Args:
        source: The very bytes that the findings were made from.
        steps: The findings of each step. Those of one scalar are in one step.

    Raises:
        ConfigError: As for `rewrite`, or findings of one scalar are in several steps.
    """
    fmt, text = read_text(source)
    scalars = scan(fmt, source.name, text)
    mark = _MARK if source.content.startswith(_MARK) else b""
    done: list[Edit] = []
    values: dict[int, str] = {}
    results: list[Rewritten] = []
    current, content = text, source.content
    for findings in steps:
        edits, expected = _edits(source.name, fmt, text, scalars, findings)
        if values.keys() & expected.keys():
            raise _cannot_say(source.name)
        values |= expected
        shifted = [_shifted(edit, done) for edit in edits]
        current = _apply(current, shifted)
        _check_same(source.name, scan(fmt, source.name, current), scalars, values)
        before, content = content, mark + current.encode()
        results.append(Rewritten(content, Secret(make_undo(before, content, shifted))))
        done += edits
    return results


def _shifted(edit: Edit, done: Sequence[Edit]) -> Edit:
    """Return an edit of a text as one of what is left of it after others were made."""
    by = sum(len(other.new) - (other.end - other.start) for other in done if other.start < edit.start)
    return Edit(edit.start + by, edit.end + by, edit.new, edit.old)


def _edits(
    name: str, fmt: Format, text: str, scalars: Sequence[Scalar], findings: Sequence[Finding]
) -> tuple[list[Edit], dict[int, str]]:
    """Return the edits in order, and the value that each changed scalar has afterwards."""
    by_span: dict[tuple[int, int], list[Finding]] = defaultdict(list)
    for finding in findings:
        by_span[finding.span].append(finding)
    edits: list[Edit] = []
    expected: dict[int, str] = {}
    for index, scalar in enumerate(scalars):
        own = sorted(by_span.pop((scalar.start, scalar.end), []), key=lambda finding: finding.part)
        if not own:
            continue
        new_value = _with_references(name, scalar.value, own)
        raw = text[scalar.start : scalar.end]
        edits.append(Edit(scalar.start, scalar.end, _spell(fmt, scalar, raw, own, new_value), raw))
        expected[index] = new_value
    if by_span or any(finding.file != name for finding in findings):
        message = "the file is not the one that was searched"
        raise ConfigError(message, place=name, hint="search again")
    return edits, expected


def _with_references(name: str, value: str, findings: Sequence[Finding]) -> str:
    pieces: list[str] = []
    at = 0
    for finding in findings:
        start, end = finding.part
        pieces += (value[at:start], finding.reference)
        at = end
    changed = "".join(pieces) + value[at:]
    with suppress(InvalidReference):
        parsed = parse_text(changed)
        if isinstance(parsed, Template):
            read = [str(part) for part in parsed.parts if isinstance(part, Reference)]
            if read == [finding.reference for finding in findings]:
                return changed
    raise _cannot_say(name)


def _spell(fmt: Format, scalar: Scalar, raw: str, findings: Sequence[Finding], value: str) -> str:
    """Return how the new value is written in the place of `raw`."""
    if findings[0].part == (0, len(scalar.value)):
        return _spell_whole(fmt, scalar, raw, value)
    quote = QUOTES.get(scalar.style, "")
    if raw == f"{quote}{scalar.value}{quote}" and scalar.style is not Style.FLOW:
        return f"{quote}{value}{quote}"
    if scalar.style in {Style.BLOCK, Style.LONG_DOUBLE, Style.LONG_SINGLE, Style.PLAIN}:
        # Several lines: replaced where they stand, if it is clear where that is.
        changed = raw
        parts = [(scalar.value[slice(*finding.part)], finding.reference) for finding in findings]
        if all(raw.count(part) == 1 for part, _ in parts):
            for part, reference in parts:
                changed = changed.replace(part, reference)
            return changed
    return _quoted(fmt, value)


def _spell_whole(fmt: Format, scalar: Scalar, raw: str, value: str) -> str:
    if scalar.style is Style.BLOCK:
        header = _BLOCK_HEADER.match(raw)
        return value + ((header.group(1) or "") if header is not None else "")
    if scalar.style in {Style.DOUBLE, Style.SINGLE}:
        quote = QUOTES[scalar.style]
        return f"{quote}{value}{quote}"
    return value if scalar.style is Style.PLAIN else _quoted(fmt, value)


def _quoted(fmt: Format, value: str) -> str:
    if fmt is Format.INI:
        return value
    if fmt is Format.DOTENV:
        for plain, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
            value = value.replace(plain, escaped)
        return f'"{value}"'
    # The escapes of JSON mean the same in YAML and TOML, which also want DEL and C1 escaped.
    return re.sub(
        r"[\x7f-\x9f\ufeff]", lambda found: f"\\u{ord(found.group()):04x}", json.dumps(value, ensure_ascii=False)
    )


def _apply(text: str, edits: Sequence[Edit]) -> str:
    pieces: list[str] = []
    at = 0
    for edit in edits:
        pieces += (text[at : edit.start], edit.new)
        at = edit.end
    return "".join(pieces) + text[at:]


def _check_same(name: str, after: Sequence[Scalar], before: Sequence[Scalar], expected: dict[int, str]) -> None:
    same = len(after) == len(before) and all(
        new.keys == old.keys and new.value == expected.get(index, old.value)
        for index, (new, old) in enumerate(zip(after, before, strict=True))
    )
    if not same:
        raise _cannot_say(name)


def _cannot_say(name: str) -> ConfigError:
    message = "the references cannot be written into this file without changing something else"
    return ConfigError(message, place=name, hint="move the secrets of this file by hand")


def make_undo(original: bytes, rewritten: bytes, edits: Sequence[Edit]) -> bytes:
    """Return what restores a file: the hashes of both states and, per edit, its place in the new file and the old text.

    The result holds the secrets and must be kept sealed.
    """
    places: list[list[Any]] = []
    shift = len(_MARK) if original.startswith(_MARK) else 0
    text = original[shift:].decode()
    at = 0
    for edit in edits:
        shift += len(text[at : edit.start].encode())
        new = len(edit.new.encode())
        places.append([shift, new, edit.old])
        shift += new
        at = edit.end
    document = {
        "version": _UNDO_VERSION,
        "old": hashlib.sha256(original).hexdigest(),
        "new": hashlib.sha256(rewritten).hexdigest(),
        "edits": places,
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def apply_undo(current: bytes, undo: bytes) -> bytes:
    """Return the bytes that a file had before it was rewritten; the same bytes if it has been restored already.

    Raises:
        UndoUnavailable: The file has changed since, or the undo material is not of this library.
    """
    old, new, edits = _read_undo(undo)
    digest = hashlib.sha256(current).hexdigest()
    if digest == old:
        return current
    if digest != new:
        message = "the file has changed since its secrets were moved"
        raise UndoUnavailable(message, hint="put the values back by hand: `securecfg secret get PATH --reveal`")
    pieces: list[bytes] = []
    at = 0
    for start, length, text in edits:
        pieces += (current[at:start], text.encode())
        at = start + length
    restored = b"".join(pieces) + current[at:]
    if hashlib.sha256(restored).hexdigest() != old:
        raise UndoUnavailable(_UNREADABLE)
    return restored


_UNREADABLE = "the undo material cannot be read"


def _read_undo(undo: bytes) -> tuple[str, str, list[tuple[int, int, str]]]:
    try:
        document = json.loads(undo)
        if document["version"] == _UNDO_VERSION:
            edits = [(int(start), int(length), str(text)) for start, length, text in document["edits"]]
            return str(document["old"]), str(document["new"]), edits
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise UndoUnavailable(_UNREADABLE)


def make_redo(undo: bytes, rewritten: bytes) -> bytes:
    """Return what rewrites a file again: `apply_undo` with it turns the old bytes into the new ones.

    The result holds no secrets, but hashes of both states; an interrupted rewriting goes on with it.

    Args:
        undo: What `rewrite` returned for the file.
        rewritten: The new bytes.

    Raises:
        UndoUnavailable: The undo material is not of this library.
    """
    old, new, edits = _read_undo(undo)
    places: list[list[Any]] = []
    shift = 0
    for start, length, text in edits:
        size = len(text.encode())
        places.append([start - shift, size, rewritten[start : start + length].decode()])
        shift += length - size
    document = {"version": _UNDO_VERSION, "old": new, "new": old, "edits": places}
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
