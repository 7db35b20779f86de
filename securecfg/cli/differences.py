"""What differs between two versions of a secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from securecfg.cli.output import shown_size, shown_time, timestamp
from securecfg.cli.values import revealed
from securecfg.secret import Secret

if TYPE_CHECKING:
    from securecfg.vault import SecretVersion

    Part = Secret[str] | Secret[bytes]

Row = tuple[str, str, str, str]


def compare(old: SecretVersion, new: SecretVersion, *, reveal: bool) -> tuple[dict[str, Any], list[Row]]:
    """Return what differs, as an object for JSON and as rows: what, how, before, after.

    Args:
        old: One version.
        new: The other one.
        reveal: Whether to show values instead of their sizes.
    """
    changes: list[dict[str, Any]] = []
    rows: list[Row] = []
    before, after = _parts(old), _parts(new)
    for name in sorted({*before, *after}):
        change = _change(before.get(name), after.get(name))
        if change == "same":
            continue
        item: dict[str, Any] = {"field": name, "change": change}
        shown = []
        for key, part in (("old", before.get(name)), ("new", after.get(name))):
            content = None if part is None else part.reveal()
            item[f"{key}_size_bytes"] = None if content is None else _size(content)
            if reveal and content is not None:
                item[key] = revealed(content)
            shown.append("" if content is None else _show(content, reveal=reveal))
        changes.append(item)
        rows.append((f"field {name}" if name else "value", change, shown[0], shown[1]))
    metadata = _metadata_changes(old, new)
    rows += [(f"metadata {name}", "changed", was or "", now or "") for name, (was, now) in metadata.items()]
    if old.expires != new.expires:
        rows.append(("expires", "changed", shown_time(old.expires), shown_time(new.expires)))
    if old.content_type != new.content_type:
        rows.append(("type", "changed", old.content_type, new.content_type))
    result = {
        "path": new.path,
        "old": _described(old),
        "new": _described(new),
        "changes": changes,
        "metadata_changed": sorted(metadata),
    }
    return result, rows


def _parts(version: SecretVersion) -> dict[str, Part]:
    return {"": version.value} if isinstance(version.value, Secret) else dict(version.value)


def _change(before: Part | None, after: Part | None) -> str:
    if before is None:
        return "added"
    if after is None:
        return "removed"
    return "same" if before == after else "changed"


def _size(content: str | bytes) -> int:
    return len(content.encode() if isinstance(content, str) else content)


def _show(content: str | bytes, *, reveal: bool) -> str:
    if not reveal:
        return f"***  {shown_size(_size(content))}"
    return content if isinstance(content, str) else f"base64 {revealed(content)['base64']}"  # type: ignore[index]  # bytes come back as a mapping


def _metadata_changes(old: SecretVersion, new: SecretVersion) -> dict[str, tuple[str | None, str | None]]:
    names = sorted({*old.metadata, *new.metadata})
    pairs = {name: (old.metadata.get(name), new.metadata.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _described(version: SecretVersion) -> dict[str, Any]:
    return {
        "version": version.version,
        "created": timestamp(version.created),
        "expires": timestamp(version.expires),
        "author": version.author,
        "content_type": version.content_type,
        "metadata": dict(version.metadata),
    }
