"""What a model asks for, read from its annotations: a table for each model, and what stands behind each field."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, NewType, Union, cast, get_args, get_origin, get_type_hints

from securecfg.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Extra = Literal["forbid", "ignore", "allow"]


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of a model.

    Attributes:
        annotations: For each key that the model reads, the annotation of its field.
        extra: What the model wants done with other keys.
    """

    annotations: Mapping[str, Any]
    extra: Extra


def is_dataclass_model(annotation: Any) -> bool:  # noqa: ANN401 - an annotation
    """Tell whether it is a plain dataclass."""
    return isinstance(annotation, type) and dataclasses.is_dataclass(annotation) and not is_pydantic_model(annotation)


def is_pydantic_model(annotation: Any) -> bool:  # noqa: ANN401 - an annotation
    """Tell whether it is a pydantic model or a pydantic dataclass, without importing pydantic."""
    return isinstance(annotation, type) and "__pydantic_fields__" in vars(annotation)


def members_of(annotation: Any) -> tuple[Any, ...]:  # noqa: ANN401 - an annotation
    """Return what an annotation allows: the members of a union, without `Annotated` and other names for the same."""
    annotation = plain(annotation)
    if get_origin(annotation) in {Union, UnionType}:
        return tuple(member for argument in get_args(annotation) for member in members_of(argument))
    return (annotation,)


def plain(annotation: Any) -> Any:  # noqa: ANN401 - an annotation
    """Strip `Annotated`, `NewType` and named type aliases."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif isinstance(annotation, NewType):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":  # the `type` statement of Python 3.12
            annotation = annotation.__value__
        elif annotation is None:
            return NoneType
        else:
            return annotation


@cache
def fields_of(model: type) -> Fields:
    """Return the fields of a dataclass or pydantic model.

    Raises:
        UsageError: Its annotations name something that cannot be found.
    """
    if is_pydantic_model(model):
        return _pydantic_fields(model)
    try:
        hints = get_type_hints(model, include_extras=True)
    except NameError as error:
        message = f"the annotations of `{model.__name__}` name `{error.name}`, which is not there"
        raise UsageError(message, hint="import it outside `TYPE_CHECKING`, or define the model in a module") from None
    named = {field.name: hints[field.name] for field in dataclasses.fields(cast("Any", model)) if field.init}
    return Fields(named, "forbid")


def _pydantic_fields(model: type) -> Fields:
    config = getattr(model, "model_config", None) or getattr(model, "__pydantic_config__", None) or {}
    by_name = config.get("populate_by_name") or config.get("validate_by_name")
    by_alias = config.get("validate_by_alias", True)
    annotations: dict[str, Any] = {}
    for name, info in model.__pydantic_fields__.items():  # type: ignore[attr-defined]  # asked for by the caller
        aliases = tuple(_alias_keys(info.validation_alias)) if by_alias else ()
        for key, is_field in aliases:
            # What stands at the first key of an alias path is not the field itself.
            annotations[key] = info.annotation if is_field else Any
        if by_name or not aliases:
            annotations[name] = info.annotation
    # A model that says nothing about other keys has not thought of misspelled ones.
    return Fields(annotations, config.get("extra") or "forbid")


def _alias_keys(alias: Any) -> Iterable[tuple[str, bool]]:  # noqa: ANN401 - pydantic's alias, without importing pydantic
    if isinstance(alias, str):
        yield alias, True
    elif hasattr(alias, "choices"):
        for choice in alias.choices:
            yield from _alias_keys(choice)
    elif hasattr(alias, "path"):
        yield str(alias.path[0]), len(alias.path) == 1
