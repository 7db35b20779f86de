"""What a model needs of a configuration, seen before anything is converted: its secrets, and keys it does not know."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args, get_origin

from securecfg.config.annotations import Fields, fields_of, is_dataclass_model, is_pydantic_model, members_of
from securecfg.config.keys import key_path, suggestion
from securecfg.config.origins import locate
from securecfg.config.references import ReferringSecret
from securecfg.config.tree import Config, Written, parts_of, source_of
from securecfg.errors import ConfigTypeError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from securecfg.config.problems import KeyPath, Problems

_WALKED = (Config, tuple, ReferringSecret)
_MAPPINGS = frozenset({dict, Mapping, MutableMapping})


@dataclass(frozen=True, slots=True)
class Need:
    """A secret that a model takes, and for which field."""

    path: KeyPath
    secret: ReferringSecret


class Survey:
    """One walk over a configuration beside the annotations of its model.

    Attributes:
        needed: The secrets that the model takes; those under keys that it ignores are nobody's business.
        skipped: Keys that the model does not know and that need not be for it.
    """

    def __init__(self, root: Config, problems: Problems) -> None:
        """Start with nothing seen."""
        self.needed: list[Need] = []
        self.skipped: set[KeyPath] = set()
        self._root = root
        self._problems = problems

    def walk(self, value: object, annotations: Iterable[Any], path: KeyPath) -> None:
        """Survey a value for which there is a choice of annotations."""
        if isinstance(value, ReferringSecret):
            self.needed.append(Need(path, value))
            return
        members = [member for annotation in annotations for member in members_of(annotation)]
        if isinstance(value, Config):
            models = [fields_of(one) for one in members if is_dataclass_model(one) or is_pydantic_model(one)]
            if models:
                self._section(value, models, path)
                return
            items = [get_args(one)[1] for one in members if get_origin(one) in _MAPPINGS]
            for key, item in value.__dict__.items():
                self.walk(item, items, (*path, key))
        elif isinstance(value, tuple):
            items = [item for one in members if get_origin(one) not in _MAPPINGS for item in get_args(one)]
            for index, element in enumerate(value):
                self.walk(element, [item for item in items if item is not ...], (*path, index))

    def _section(self, section: Config, models: list[Fields], path: KeyPath) -> None:
        allowed = any(fields.extra == "allow" for fields in models)
        forbidden = all(fields.extra == "forbid" for fields in models)
        known = {key for fields in models for key in fields.annotations}
        for key, value in section.__dict__.items():
            if allowed or key in known:
                if isinstance(value, _WALKED):
                    wanted = [fields.annotations[key] for fields in models if key in fields.annotations]
                    self.walk(value, wanted, (*path, key))
            elif forbidden and _is_foreign(section, key):
                self.skipped.add((*path, key))
            elif forbidden:
                self._report(section, models, (*path, key))

    def _report(self, section: Config, models: list[Fields], path: KeyPath) -> None:
        known = [name for fields in models for name in fields.annotations if name not in section.__dict__]
        message = f"`{key_path(path)}` is unknown"
        hint = suggestion(str(path[-1]), known) or "remove it, or add it to the model"
        self._problems.add(path, ConfigTypeError(message, place=locate(self._root, path).place, hint=hint))


def _is_foreign(section: Config, key: str) -> bool:
    sources = [source_of(part) for part in parts_of(section) if key in part.__dict__]
    return all(isinstance(source, Written) and source.layer.foreign for source in sources)
