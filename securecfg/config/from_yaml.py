"""YAML, built from libyaml's events.

Events are several times cheaper than PyYAML's nodes and carry the place of each value. The scalars are those of the
YAML 1.2 core schema (`no` is a text, `0o17` is a number), keys are texts as written, duplicate keys are errors, and the
only tag is `!secret`. Aliases share what they refer to; how much they repeat is limited all the same, because whoever
walks the tree later meets each repetition.
"""

from __future__ import annotations

import re
from sys import intern
from typing import TYPE_CHECKING, Any, NoReturn

import yaml
from yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceStartEvent,
    StreamStartEvent,
)

from securecfg.config.references import ReferringSecret, Template, located, parse_reference, read_text
from securecfg.config.text import MAX_ALIASED_NODES, MAX_DEPTH, Lines, decode
from securecfg.config.tree import Config, Place, Written, create_config, origin_in, pack, source_of
from securecfg.errors import ConfigLimitExceeded, ConfigSyntaxError, InvalidReference

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.config.tree import Layer

_NOT_ALLOWED = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_NUMBER = re.compile(
    r"(?P<integer>[-+]?[0-9]+)|(?P<based>0o[0-7]+|0x[0-9a-fA-F]+)"
    r"|(?P<float>[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?)"
)
_CONSTANTS: dict[str, bool | float | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((f"{sign}.{name}" for sign in ("", "+") for name in ("inf", "Inf", "INF")), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_BEGINS_NUMBER = frozenset("0123456789+-.")


def parse_yaml(content: bytes, layer: Layer) -> Config:
    """Parse one YAML document whose root is a mapping; an empty document is an empty mapping.

    Raises:
        ConfigSyntaxError: It is not such a document.
        ConfigLimitExceeded: It is too large, too deep or repeats too much through aliases.
        InvalidReference: A secret reference in it is malformed.
    """
    text = decode(content, layer.path)
    try:
        return _Builder(layer).build(_events(text))
    except yaml.reader.ReaderError:
        # The reader counts bytes or characters, depending on who reads.
        character = _NOT_ALLOWED.search(text)
        place = f"{layer.path}:{Lines(text).spell(character.start())}" if character else layer.path
        message = "contains a character that YAML does not allow"
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{layer.path}:{mark.line + 1}:{mark.column + 1}" if mark else layer.path
        message = error.problem or error.context or "is not YAML"
    raise ConfigSyntaxError(message, place=place)


def _events(text: str) -> Callable[[], Any]:
    if yaml.__with_libyaml__:
        from yaml._yaml import CParser

        get_event: Callable[[], Any] = CParser(text).get_event
        return get_event
    return yaml.SafeLoader(text).get_event


class _Builder:
    """One pass over the events of a document."""

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self.anchors: dict[str, tuple[Any, Place]] = {}
        self.weights: dict[str, tuple[int, int]] = {}
        self.aliased = 0

    def build(self, next_event: Callable[[], Any]) -> Config:
        """Return the document's tree."""
        event = next_event()
        while type(event) is StreamStartEvent:
            event = next_event()
        if type(event) is not DocumentStartEvent:
            return create_config({}, Written(self.layer, {}))
        event = next_event()
        if type(event) is ScalarEvent and event.value == "" and event.implicit[0] and event.anchor is None:
            root = create_config({}, Written(self.layer, {}))
        elif type(event) is MappingStartEvent:
            root = self.mapping(event, next_event)
        else:
            self.fail("the root is not a mapping", event, hint="write `key: value` at the top level")
        while type(event) is not DocumentEndEvent:
            event = next_event()
        event = next_event()
        if type(event) is DocumentStartEvent:
            self.fail("a second document begins", event, hint="keep one document in a file")
        return root

    def mapping(self, event: Any, next_event: Callable[[], Any]) -> Config:  # noqa: ANN401, C901, PLR0912, PLR0915 - the hot loop: one function, and no call for a plain text
        """Build a mapping, whose start was read, and all that it contains."""
        layer, anchors = self.layer, self.anchors
        self.begin(event, 1)
        # The container that is being filled: a mapping (`values` and `places` are dictionaries, `key` waits for its
        # value, and is None for a merge key) or a list (`values` is None). Those around it wait on the stack.
        values: dict[str, Any] | None = {}
        items: list[Any] = []
        places: Any = {}
        key: str | None = None
        merges: list[tuple[Any, Any]] = []
        key_event = opening = event
        stack: list[Any] = []
        while True:
            event = next_event()
            kind = type(event)
            if values is not None and kind is not MappingEndEvent:
                if kind is not ScalarEvent:
                    self.fail("a key is not a plain text", event)
                key_event = event
                key = intern(event.value)
                if key in values:
                    self.fail(f"the key `{key}` is there twice" if key.isprintable() else "a key is there twice", event)
                if event.anchor is not None:
                    self.fail("a key has an anchor", event)
                if event.implicit[0]:
                    if key == "<<":
                        key = None
                elif event.tag is not None:
                    self.refuse_tag(event)
                event = next_event()
                kind = type(event)
            if kind is ScalarEvent:
                value: Any = event.value
                mark = event.start_mark
                place: Any = mark.line << 32 | mark.column  # as `pack` does, without its call
                if event.implicit[0]:
                    if value in _CONSTANTS:
                        value = _CONSTANTS[value]
                    elif value[0] in _BEGINS_NUMBER:
                        value = self.number_or_text(value, place, event)
                    elif "${" in value:
                        value = read_text(value, layer, place)
                elif event.tag is not None:
                    value = self.tagged(event, place)
                elif "${" in value:
                    value = read_text(value, layer, place)
                if event.anchor is not None:
                    anchors[event.anchor] = (value, place)
            elif kind is MappingStartEvent or kind is SequenceStartEvent:
                # A section is where its key is.
                start = event if values is None or key is None else key_event
                stack.append((values, items, places, key, merges, opening, key_event))
                self.begin(event, len(stack) + 1)
                opening = (event.anchor, start.start_mark)
                merges = []
                if kind is MappingStartEvent:
                    values, places = {}, {}
                else:
                    values, items, places = None, [], []
                continue
            elif kind is AliasEvent:
                value, place = self.alias(event, len(stack) + 1)
            else:  # the end of the container
                if values is None:
                    value, place = tuple(items), tuple(places)
                else:
                    if merges:
                        values, places = self.merged(values, places, merges)
                    value = create_config(values, Written(layer, places))
                if not stack:
                    return value  # type: ignore[no-any-return]  # the first container is a mapping
                anchor, mark = opening
                position = mark.line << 32 | mark.column
                place = position if values is not None else (position, place)
                if anchor is not None:
                    anchors[anchor] = (value, place)
                values, items, places, key, merges, opening, key_event = stack.pop()
            if values is None:
                items.append(value)
                places.append(place)
            elif key is None:
                merges.append((value, key_event))
            else:
                values[key] = value
                places[key] = place

    def begin(self, event: Any, depth: int) -> None:  # noqa: ANN401 - libyaml's event
        """Check what opens a container."""
        if event.tag is not None:
            self.refuse_tag(event)
        if depth > MAX_DEPTH:
            self.exceed(f"is nested more than {MAX_DEPTH} levels deep", event)
        if event.anchor is not None:
            self.anchors.pop(event.anchor, None)  # until it is complete an alias to it would be a cycle
            self.weights.pop(event.anchor, None)

    def number_or_text(self, text: str, place: int, event: Any) -> Any:  # noqa: ANN401 - libyaml's event, any scalar
        """Return a plain scalar that begins as a number by the rules of the YAML 1.2 core schema."""
        number = _NUMBER.fullmatch(text)
        if number is None:
            return read_text(text, self.layer, place) if "${" in text else text
        try:
            return float(text) if number.lastgroup == "float" else int(text, 0 if number.lastgroup == "based" else 10)
        except ValueError:
            self.exceed("a number has too many digits", event)

    def tagged(self, event: Any, place: Place) -> ReferringSecret:  # noqa: ANN401 - libyaml's event
        """Return a scalar that has a tag, of which there is only `!secret`."""
        if event.tag != "!secret":
            self.refuse_tag(event)
        origin = origin_in(self.layer, place)
        try:
            reference = parse_reference(event.value)
        except InvalidReference as error:
            raise located(error, origin) from None
        return ReferringSecret.create(Template((reference,)), origin, self.layer.resolver)

    def alias(self, event: Any, depth: int) -> tuple[Any, Place]:  # noqa: ANN401 - libyaml's event, any value
        """Return what an alias stands for, and count how much it repeats."""
        name = event.anchor
        if name not in self.anchors:
            self.fail(f"the alias `*{name}` refers to no anchor before it", event)
        value, _ = self.anchors[name]
        if name not in self.weights:
            self.weights[name] = _weigh(value, MAX_ALIASED_NODES)
        nodes, levels = self.weights[name]
        self.aliased += nodes
        if self.aliased > MAX_ALIASED_NODES:
            self.exceed(f"repeats more than {MAX_ALIASED_NODES} values through aliases", event)
        if depth + levels > MAX_DEPTH:
            self.exceed(f"is nested more than {MAX_DEPTH} levels deep through aliases", event)
        position = pack(event.start_mark.line + 1, event.start_mark.column + 1)
        target = self.anchors[name][1]
        return value, (position, target[1]) if isinstance(target, tuple) else position

    def merged(
        self, values: dict[str, Any], places: dict[str, Place], merges: list[tuple[Any, Any]]
    ) -> tuple[dict[str, Any], dict[str, Place]]:
        """Return a mapping's own keys over those of its merge keys, of which earlier ones win."""
        all_values: dict[str, Any] = {}
        all_places: dict[str, Place] = {}
        for merge, event in reversed(merges):
            for part in reversed(merge if isinstance(merge, tuple) else (merge,)):
                if not isinstance(part, Config):
                    self.fail("a merge key `<<` has something else than mappings", event)
                all_values |= part.__dict__
                source = source_of(part)
                if isinstance(source, Written):
                    all_places |= source.places
        return all_values | values, all_places | places

    def refuse_tag(self, event: Any) -> NoReturn:  # noqa: ANN401 - libyaml's event
        """Refuse a tag."""
        shown = f" `{event.tag}`" if event.tag.isascii() and event.tag.isprintable() else ""
        self.fail(f"the tag{shown} is not allowed here", event, hint="the only tag is `!secret`, before a path")

    def fail(self, message: str, event: Any, *, hint: str = "") -> NoReturn:  # noqa: ANN401 - libyaml's event
        """Refuse the document at an event."""
        raise ConfigSyntaxError(message, place=self.spell(event), hint=hint)

    def exceed(self, message: str, event: Any) -> NoReturn:  # noqa: ANN401 - libyaml's event
        """Refuse a document that exceeds a limit."""
        raise ConfigLimitExceeded(message, place=self.spell(event))

    def spell(self, event: Any) -> str:  # noqa: ANN401 - libyaml's event
        """Return the place of an event for a message."""
        return f"{self.layer.path}:{event.start_mark.line + 1}:{event.start_mark.column + 1}"


def _weigh(value: Any, limit: int) -> tuple[int, int]:  # noqa: ANN401 - any value of the tree
    """Return how many values a value holds, itself included and counted up to a limit, and how many levels."""
    nodes, levels = 0, 0
    waiting = [(value, 0)]
    while waiting and nodes <= limit:
        node, level = waiting.pop()
        nodes += 1
        if isinstance(node, Config | tuple):
            level += 1
            levels = max(levels, level)
            children = node.__dict__.values() if isinstance(node, Config) else node
            waiting.extend((child, level) for child in children)
    return nodes, levels
