"""Spans of the values of a YAML text, from the event stream of libyaml."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import yaml

from securecfg.errors import ConfigSyntaxError
from securecfg.sources.detection.scalars import (
    MAX_DEPTH,
    MAX_SCALARS,
    KeyPath,
    Scalar,
    Style,
    is_encodable,
    name_values,
    syntax_error,
    too_deep,
)

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # PyYAML may be built without libyaml
_PROPERTIES = re.compile(r"(?:[&!][^\s,\[\]{}]*+\s++)*+")
_REST_OF_LINE = re.compile(r"[^\r\n]*+")
_STYLES = {'"': Style.DOUBLE, "'": Style.SINGLE, "|": Style.BLOCK, ">": Style.BLOCK}
_TEXT_TAGS = {None, "!", "tag:yaml.org,2002:str"}
# The core schema of YAML 1.2 and the words that YAML 1.1 readers also take for something else than text.
_NOT_TEXT = re.compile(
    r"~|null|true|false|yes|no|on|off|y|n|[-+]?(?:\.inf|\.nan)|[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?(?:e[-+]?[0-9]+)?"
    r"|[-+]?\.[0-9]+|0x[0-9a-f_]+|0o?[0-7_]+|0b[01_]+|\d{4}-\d\d-\d\d(?:[Tt ].*)?|[-+]?[0-9]+(?::[0-5]?[0-9])+",
    re.IGNORECASE,
)


@dataclass(slots=True)
class _Collection:
    keys: KeyPath
    is_mapping: bool
    is_flow: bool
    first: int  # its first scalar
    index: int = 0
    key: str | None = None  # the key that waits for its value
    seen: set[str] | None = None


def scan_yaml(name: str, text: str) -> list[Scalar]:
    """Return the scalars of a YAML text; those of a second document have the key 2 in front, and so on.

    Raises:
        ConfigSyntaxError: It is not YAML, or a key stands twice in one mapping.
        ConfigLimitExceeded: It is nested too deep.
    """
    builder = _Builder(name, text)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        message = "not valid YAML"
        raise ConfigSyntaxError(message, place=place) from None
    except yaml.reader.ReaderError as error:
        before = text.encode()[: error.position].decode(errors="ignore")  # libyaml counts bytes
        message = "a character that YAML does not allow"
        raise syntax_error(name, text, len(before), message) from None
    return builder.scalars


def _starts(event: yaml.Event) -> int:
    return event.start_mark.index if event.start_mark else 0


class _Builder:
    """Follows the events of a text and keeps the way from the root."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.scalars: list[Scalar] = []
        self._stack: list[_Collection] = []
        self._documents = 0
        self._anchors: dict[str, int] = {}

    def take(self, event: yaml.Event) -> None:
        """Follow one event."""
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            self._anchors.clear()
        elif isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._open(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            closed = self._stack.pop()
            if closed.is_mapping:
                name_values(self.scalars, closed.first, len(closed.keys) + 1)

    def _open(self, event: yaml.CollectionStartEvent) -> None:
        if len(self._stack) >= MAX_DEPTH:
            raise too_deep(self.name, self.text, _starts(event))
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        keys = self._place(event, "?")
        if keys is None:  # a collection as a key: its own values get a place that no one asks for
            keys = (*self._stack[-1].keys, "?")
        seen: set[str] | None = set() if is_mapping else None
        is_flow = bool(event.flow_style)
        self._stack.append(_Collection(keys, is_mapping, is_flow, len(self.scalars), seen=seen))

    def _place(self, event: yaml.Event, text: str) -> KeyPath | None:
        """Return the keys of a value, or None if what comes is a key, which is then awaited to get its value."""
        if not self._stack:
            return () if self._documents == 1 else (self._documents,)
        parent = self._stack[-1]
        if not parent.is_mapping:
            parent.index += 1
            return (*parent.keys, parent.index - 1)
        if parent.key is not None:
            key, parent.key = parent.key, None
            return (*parent.keys, key)
        parent.key = text
        if parent.seen is not None:
            if text in parent.seen and text not in {"<<", "?"}:
                message = "a key that stands twice in one mapping"
                raise syntax_error(self.name, self.text, _starts(event), message)
            parent.seen.add(text)
        return None

    def _alias(self, event: yaml.AliasEvent) -> None:
        keys = self._place(event, f"*{event.anchor}")
        index = self._anchors.get(event.anchor or "")
        if keys and index is not None and isinstance(keys[-1], str):
            scalar = self.scalars[index]
            self.scalars[index] = replace(scalar, named_by=(*scalar.named_by, keys[-1]))

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        keys = self._place(event, event.value)
        if keys is None:
            return
        if len(self.scalars) > MAX_SCALARS:
            return  # `scan` refuses the file; nothing more is kept of it
        start, end, style = self._span(event)
        if event.anchor:
            self._anchors[event.anchor] = len(self.scalars)
        self.scalars.append(Scalar(keys, event.value, start, end, style))

    def _span(self, event: yaml.ScalarEvent) -> tuple[int, int, Style]:
        start, end = _starts(event), event.end_mark.index if event.end_mark else 0
        properties = _PROPERTIES.match(self.text, start)
        if properties is not None and (event.anchor is not None or event.tag is not None):
            start = properties.end()
        style = _STYLES.get(event.style or "", Style.PLAIN)
        if event.tag not in _TEXT_TAGS or not is_encodable(event.value):
            return start, end, Style.FIXED
        if style is Style.PLAIN:
            if event.tag is None and (not event.value or _NOT_TEXT.fullmatch(event.value)):
                return start, end, Style.FIXED
            flows = bool(self._stack) and self._stack[-1].is_flow
            return start, end, Style.FLOW if flows else Style.PLAIN
        if style is Style.BLOCK:
            # The mark stands behind the line breaks that follow; they stay in the file.
            content = start + len(self.text[start:end].rstrip(" \t\r\n"))
            line = _REST_OF_LINE.match(self.text, content)
            end = line.end() if line is not None else content
        if self.text[start : start + 1] != event.style:
            return start, end, Style.FIXED  # a comment between tag and value; too odd to edit
        return start, end, style
