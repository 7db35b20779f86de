"""The HTML page of a report: one file, no scripts, nothing loaded, every value escaped."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from securecfg.audit.events import Category, Event
from securecfg.audit.note import encode_base64
from securecfg.audit.record import format_time, served_of
from securecfg.errors import CommitUnknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from securecfg.audit.record import Record
    from securecfg.audit.report import Report, Row


_NAMES = {
    Category.READ: "reads",
    Category.CHANGE: "changes",
    Category.REFUSAL: "refusals",
    Category.ADMINISTRATION: "administration",
}
# Shown elsewhere in the row, or of use to programs only.
_SHOWN_APART = frozenset(
    {"action", "path", "ver", "version", "served", "age_s", "items", "parts", "old_sig", "new_sig"}
)
_SHOWN_IN_REFUSALS = _SHOWN_APART | {"reason"}
_TITLES = {"rev": "revision", "source_rev": "from revision", "source_ver": "from version", "vkey": "verifier key"}
_WIDE = frozenset({"Secret", "Asked for", "Details", "Outcome and reason"})
_LONG_TEXT_CHARS = 16


def render_page(report: Report) -> tuple[bytes, bytes]:
    """Return the page before and after the place of its attestation."""
    origin = report.newer.origin
    by_category: dict[Category, list[Row]] = defaultdict(list)
    for row in report.rows:
        by_category[row.record.category].append(row)
    style = files("securecfg.audit").joinpath("page.css").read_text("utf-8")
    opening = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none';style-src 'unsafe-inline'\">\n"
        f"<title>Audit report {_day(report.start_ns)} to {_day(report.end_ns - 1)}</title>\n"
        f"<style>\n{style}</style>\n</head>\n<body>\n"
    )
    parts = [
        _header(report, by_category),
        _break_glass([row for row in report.rows if row.record.event is Event.BREAKGLASS_OPENED]),
        _principals(report.rows),
        _secrets(report.rows),
        _reads(by_category[Category.READ]),
        _changes(by_category[Category.CHANGE]),
        _refusals(by_category[Category.REFUSAL]),
        _administration(by_category[Category.ADMINISTRATION]),
        _integrity(report),
        f"<footer>Made at {_moment(report.made_ns)} UTC from the log <code>{_text(origin)}</code>.</footer>\n",
    ]
    return "".join([opening, *parts]).encode(), b"\n</body>\n</html>\n"


def _header(report: Report, by_category: Mapping[Category, Sequence[Row]]) -> str:
    older, newer = report.older, report.newer
    facts = {
        "Period": f"{_moment(report.start_ns)} to {_moment(report.end_ns)} UTC",
        "Log": f"<code>{_text(newer.origin)}</code>",
        "Records": f"{len(report.rows):,} shown, of {newer.size - older.size:,} between the checkpoints at "
        f"{older.size:,} and {newer.size:,}",
        "Principals": f"{len({row.record.subject.id for row in report.rows}):,}",
    }
    figures = "".join(
        f"<div{' class=bad' if category is Category.REFUSAL and by_category[category] else ''}>"
        f"<b>{sum(_weight(row.record) for row in by_category[category]):,}</b><span>{name}</span></div>"
        for category, name in _NAMES.items()
    )
    links = {
        "principals": "By principal",
        "secrets": "By secret",
        "reads": "Reads",
        "changes": "Changes",
        "refusals": "Refusals",
        "administration": "Administration",
        "integrity": "Integrity",
    }
    return (
        "<header>\n<h1>Audit report</h1>\n<p>Who read and changed which secrets, what was refused and why.</p>\n<dl>"
        + "".join(f"<dt>{name}</dt><dd>{fact}</dd>" for name, fact in facts.items())
        + f'</dl>\n</header>\n<div class="figures">{figures}</div>\n<nav>'
        + "".join(f'<a href="#{name}">{title}</a>' for name, title in links.items())
        + "</nav>\n"
    )


def _break_glass(rows: Sequence[Row]) -> str:
    """Return what stands above everything else where break-glass was used; nothing where it was not."""
    if not rows:
        return ""
    lines = [
        [
            _moment(row.record.time_ns),
            _who(row.record),
            f'<span class="m">{_text(row.record.obj["path"])}</span>',
            f'<span class="bad">{_text(row.record.obj["reason"])}</span>',
            _circumstances(row.record),
            _number(row.index),
        ]
        for row in rows
    ]
    head = ["Time (UTC)", "Principal", "Scope", "Details", "From", "#Record"]
    about = "Scopes that were opened by people who hold a key together, for an emergency. What they read follows below."
    return _section("break-glass", "Break-glass", about, head, lines, style="refused")


def _principals(rows: Iterable[Row]) -> str:
    counts: dict[str, Counter[Category]] = defaultdict(Counter)
    seen: dict[str, int] = {}
    how: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        record = row.record
        counts[record.subject.id][record.category] += _weight(record)
        seen[record.subject.id] = max(seen.get(record.subject.id, 0), record.time_ns)
        how[record.subject.id].add(_proof(record))
    lines = [
        [
            _text(name),
            f'<span class="s">{", ".join(sorted(how[name]))}</span>',
            *(_number(count[category]) for category in _NAMES),
            _moment(seen[name]),
        ]
        for name, count in sorted(counts.items())
    ]
    return _section(
        "principals",
        "By principal",
        "Proved by a key, or asserted by the program that opened the vault.",
        ["Principal", "Identity", *(f"#{name.capitalize()}" for name in _NAMES.values()), "Last seen (UTC)"],
        lines,
    )


def _secrets(rows: Iterable[Row]) -> str:
    reads: Counter[str] = Counter()
    changes: Counter[str] = Counter()
    readers: dict[str, set[str]] = defaultdict(set)
    writers: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        record = row.record
        for path in _paths(row):
            if record.category is Category.READ:
                reads[path] += record.count or 1
                readers[path].add(record.subject.id)
            elif record.category is Category.CHANGE and _is_made(record):
                changes[path] += 1
                writers[path].add(record.subject.id)
    lines = [
        [
            f'<span class="m">{_text(path)}</span>',
            _number(reads[path]),
            ", ".join(map(_text, sorted(readers[path]))),
            _number(changes[path]),
            ", ".join(map(_text, sorted(writers[path]))),
        ]
        for path in sorted(reads.keys() | changes.keys())
    ]
    head = ["Secret", "#Reads", "Read by", "#Changes", "Changed by"]
    return _section("secrets", "By secret", "Every secret that was read or changed in the period.", head, lines)


def _reads(rows: Iterable[Row]) -> str:
    lines = [
        [
            _moment(row.record.time_ns),
            _who(row.record),
            _what(row),
            _number(row.record.count or 1),
            _rules(row.record),
            _circumstances(row.record),
            _number(row.index),
        ]
        for row in rows
    ]
    head = ["Time (UTC)", "Principal", "Secret", "#Times", "Allowed by", "From", "#Record"]
    about = "The first read of a version by a process is recorded before the value is handed out; repeats are counted."
    return _section("reads", "Reads", about, head, lines)


def _changes(rows: Iterable[Row]) -> str:
    lines = [
        [
            _moment(row.record.time_ns),
            _who(row.record),
            " ".join(filter(None, [_event(row.record.event), _text(row.record.obj.get("action", ""))])),
            _what(row),
            _rules(row.record),
            _circumstances(row.record),
            _number(row.index),
        ]
        for row in rows
    ]
    head = ["Time (UTC)", "Principal", "Change", "Secret", "Allowed by", "From", "#Record"]
    about = (
        "Recorded in the same transaction as the change itself. Of what is mounted: before its store is asked, and "
        "again when the change is made or has failed; where the second record is missing, nobody saw the outcome."
    )
    return _section("changes", "Changes", about, head, lines)


def _refusals(rows: Iterable[Row]) -> str:
    lines = [
        [
            _moment(row.record.time_ns),
            _who(row.record),
            f"{_text(row.record.obj.get('action', ''))} {_what(row)}",
            f'<span class="bad">{_outcome(row.record)}</span>',
            _number(row.record.count or 1),
            _circumstances(row.record),
            _number(row.index),
        ]
        for row in rows
    ]
    head = ["Time (UTC)", "Principal", "Asked for", "Outcome and reason", "#Times", "From", "#Record"]
    about = "What policy refused, and what could not be decided, which refuses as well."
    return _section("refusals", "Refusals", about, head, lines, style="refused")


def _administration(rows: Iterable[Row]) -> str:
    lines = [
        [
            _moment(row.record.time_ns),
            _who(row.record),
            _event(row.record.event),
            _what(row),
            _circumstances(row.record),
            _number(row.index),
        ]
        for row in rows
    ]
    head = ["Time (UTC)", "Principal", "Event", "Details", "From", "#Record"]
    about = "Policies, roles, keys, access to this log, imports, and what the log notes about itself."
    return _section("administration", "Administration", about, head, lines)


def _integrity(report: Report) -> str:
    older, newer = report.older, report.newer
    between = f"{older.size:,} to {newer.size - 1:,}" if newer.size > older.size else "none"
    return (
        '<h2 id="integrity">Integrity</h2>\n<p>This file carries a signed attestation, which one command checks '
        "offline with the log's verifier key.</p>\n"
        f"<pre>securecfg audit report verify FILE --vkey '{_text(newer.origin)}+...'</pre>\n"
        "<dl>"
        f"<dt>Records between the checkpoints</dt><dd>{between}</dd>"
        f"<dt>Older checkpoint</dt><dd>{_records(older.size)}, root <code>{encode_base64(older.root)}</code></dd>"
        f"<dt>Newer checkpoint</dt><dd>{_records(newer.size)}, root <code>{encode_base64(newer.root)}</code></dd>"
        "</dl>\n"
        "<h3>What the check proves</h3>\n<ul>"
        "<li>Nothing on this page was altered since the holder of the log's key made it.</li>"
        "<li>Between the two checkpoints the log only grew: no earlier record was altered, removed or moved.</li>"
        "<li>The attestation lists the hash of every record between them, in order, so none can be left out or added "
        "unseen. Records outside the period are counted above and not shown.</li></ul>\n"
        "<h3>What it does not prove</h3>\n<ul>"
        "<li>That the text of a row is what its sealed record says: for that the maker of the report vouches. Any "
        "row can be checked alone with <code>securecfg audit prove RECORD --open</code>.</li>"
        "<li>That the log was not rewritten as a whole before the older checkpoint was known elsewhere. Compare it "
        "with the newer checkpoint of the report before.</li>"
        "<li>That clocks were right: times are as the writing machines had them, the order is the log's.</li></ul>\n"
    )


def _section(
    name: str, title: str, about: str, head: Sequence[str], lines: Sequence[Sequence[str]], *, style: str = ""
) -> str:
    """Return a heading and a table; a column whose title starts with `#` holds numbers."""
    opening = f'<h2 id="{name}">{title}</h2>\n<p>{about}</p>\n'
    if not lines:
        return opening + '<p class="none">Nothing in this period.</p>\n'
    classes = [_column_class(title) for title in head]
    cells = "".join(
        f"<th{_class(kind)}>{title.removeprefix('#')}</th>" for title, kind in zip(head, classes, strict=True)
    )
    body = "".join(
        f"<tr{_class(style)}>"
        + "".join(f"<td{_class(kind)}>{cell}</td>" for cell, kind in zip(line, classes, strict=True))
        + "</tr>\n"
        for line in lines
    )
    table = f"<table>\n<thead><tr>{cells}</tr></thead>\n<tbody>\n{body}</tbody></table>"
    return f'{opening}<div class="scroll">{table}</div>\n'


def _column_class(title: str) -> str:
    if title.startswith("#"):
        return "n"
    if title.endswith("(UTC)"):
        return "t"
    return "w" if title in _WIDE else ""


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def _who(record: Record) -> str:
    via = f' <span class="s">via {_text(record.subject.via)}</span>' if record.subject.via else ""
    return f'{_text(record.subject.id)} <span class="s">{_proof(record)}</span>{via}'


def _proof(record: Record) -> str:
    return "proved" if record.subject.is_proved else "asserted"


def _what(row: Row) -> str:
    """Return the object: its path and version, then whatever else the event says."""
    record, obj = row.record, row.record.obj
    apart = _SHOWN_IN_REFUSALS if record.category is Category.REFUSAL else _SHOWN_APART
    path = ""
    if "path" in obj:
        version = obj.get("ver", obj.get("version"))
        path = f'<span class="m">{_text(obj["path"])}</span>' if version is None else _version(obj["path"], version)
        path += " "
    served = served_of(obj)
    rest = [_value(served)] if served else []
    rest += [
        f'<span class="s">{_TITLES.get(name, name.replace("_", " "))}</span> {_value(value)}'
        for name, value in obj.items()
        if name not in apart and value not in ("", (), [])
    ]
    versions = ", ".join(_version(*each) for each in row.versions)
    return path + " &middot; ".join([*rest, versions] if versions else rest)


def _version(path: str, version: int | str) -> str:
    return f'<span class="m">{_text(path)}<span class="s">@{_text(str(version))}</span></span>'


def _value(value: Any) -> str:  # noqa: ANN401 - any field of an object
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    if isinstance(value, int):
        return f"{value:,}"
    text = _text(value)
    return f'<span class="m">{text}</span>' if len(value) > _LONG_TEXT_CHARS else text


def _rules(record: Record) -> str:
    return ", ".join(map(_text, record.why))


def _outcome(record: Record) -> str:
    if record.event is Event.ACCESS_ERROR:
        outcome = "could not be decided"
    elif record.event is Event.CONFIG_SIGNATURE_BAD:
        outcome = "signature refused"
    else:
        outcome = "denied"
    if record.why:
        outcome += f" by {_rules(record)}"
    return f"{outcome}: {_text(record.obj['reason'])}" if "reason" in record.obj else outcome


def _circumstances(record: Record) -> str:
    source = record.source
    place = " ".join(filter(None, [_text(source.program), f"pid {source.pid}", _text(source.host)]))
    context = ", ".join(f"{_text(name)}={_text(_plain(value))}" for name, value in sorted(record.context.items()))
    note = f"&ldquo;{_text(record.note)}&rdquo;" if record.note else ""
    return f'<span class="s">{" &middot; ".join(filter(None, [place, context, note]))}</span>'


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " ".join(map(_plain, value))
    return str(value)


def _weight(record: Record) -> int:
    """Return how many accesses or changes a record stands for."""
    if record.event is Event.BATCH_WRITTEN:
        return int(record.obj["count"])
    if not _is_made(record):
        return 0
    return record.count or 1


def _is_made(record: Record) -> bool:
    """Return whether what was asked for was done, or may have been: a change of a store has two records."""
    if record.event is Event.MOUNT_FAILED:
        return bool(record.obj["reason"] == CommitUnknown.code)
    return record.event is not Event.MOUNT_CHANGING


def _paths(row: Row) -> list[str]:
    obj = row.record.obj
    return [path for path, _ in row.versions] or [obj[name] for name in ("path", "to") if name in obj]


def _event(event: Event) -> str:
    return event.name.lower().replace("_", " ").removeprefix("secret ")


def _number(number: int) -> str:
    return f"{number:,}"


def _records(size: int) -> str:
    return f"{size:,} record{'' if size == 1 else 's'}"


def _moment(time_ns: int) -> str:
    return format_time(time_ns)[:19].replace("T", " ")


def _day(time_ns: int) -> str:
    return format_time(time_ns)[:10]


def _text(text: str) -> str:
    """Escape for HTML, and make visible what would change how the line is read."""
    return escape("".join(_visible(character) for character in text))


def _visible(character: str) -> str:
    if character.isascii() and character.isprintable():
        return character
    return f"\\u{ord(character):04x}" if unicodedata.category(character) in {"Cc", "Cf", "Zl", "Zp"} else character
