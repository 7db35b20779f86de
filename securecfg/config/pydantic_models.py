"""Mappings to pydantic models. Imported only where a model is one, so pydantic is loaded already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from securecfg.config.convert import FAILED, secret_in_plain_field
from securecfg.config.tree import Config
from securecfg.errors import SecurecfgError
from securecfg.secret import Secret

if TYPE_CHECKING:
    from securecfg.config.convert import Converter
    from securecfg.config.problems import KeyPath


def validate(converter: Converter, value: Any, model: Any, path: KeyPath) -> Any:  # noqa: ANN401 - any value, any model
    """Return a section as a pydantic model, or `FAILED` after reporting what pydantic found."""
    if not isinstance(value, Config):
        return converter.fail(path, "must be a section")
    plain = converter.released.plain(value, path)
    try:
        if hasattr(model, "model_validate"):
            return model.model_validate(plain)
        return TypeAdapter(model).validate_python(plain)
    except SecurecfgError:
        if not converter.problems:
            raise
        return FAILED  # a validator wanted a secret of which it is reported why there is none
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False, include_context=False)
    # Outside the handler: a validation error holds every input, and would travel as the context of what is raised.
    for one in found:
        _report(converter, one["type"], one["msg"], _path_in(value, one["loc"], one["type"]), path)
    return FAILED


def _report(converter: Converter, kind: str, message: str, below: KeyPath, path: KeyPath) -> None:
    here = (*path, *below)
    if kind == "missing":
        converter.fail(here, "is missing")
    elif kind in {"extra_forbidden", "unexpected_keyword_argument"} and converter.problems.has_at(here):
        return
    elif isinstance(_value_at(converter.root, here), Secret):
        if kind in {"value_error", "assertion_error"}:
            converter.fail(here, "is refused by its validator")
        else:
            converter.problems.add(here, secret_in_plain_field(converter.root, here))
    else:
        converter.refuse(here, message.removeprefix("Value error, ").removeprefix("Assertion failed, "))


def _path_in(value: Any, location: tuple[str | int, ...], kind: str) -> KeyPath:  # noqa: ANN401 - any value
    """Return what a location of pydantic means in the tree: it also names members of unions and validators."""
    path: list[str | int] = []
    for index, key in enumerate(location):
        if isinstance(value, Config) and key in value.__dict__:
            value = value.__dict__[str(key)]
        elif isinstance(value, tuple) and isinstance(key, int) and key < len(value):
            value = value[key]
        elif kind != "missing" or index < len(location) - 1:
            continue
        path.append(key)
    return tuple(path)


def _value_at(root: Config, path: KeyPath) -> Any:  # noqa: ANN401 - any value
    value: Any = root
    for key in path:
        if isinstance(value, Config) and key in value.__dict__:
            value = value.__dict__[str(key)]
        elif isinstance(value, tuple) and str(key).isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return value
