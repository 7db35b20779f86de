"""Values of a configuration as they may be shown: secrets as references or masked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from securecfg.config.origins import locate
from securecfg.config.references import ReferringSecret
from securecfg.config.tree import Config
from securecfg.secret import Secret
from securecfg.sources.detection.rules import Surroundings, is_numeric_password, judge
from securecfg.sources.detection.scalars import Format, Scalar, Style

if TYPE_CHECKING:
    from collections.abc import Iterator

    Keys = tuple[str | int, ...]

MASK = "***"


def leaves(config: Config) -> Iterator[tuple[Keys, Any]]:
    """Yield all single values with their keys; what is empty is a value too."""
    yield from _leaves(config, ())


def mask_tree(config: Config) -> dict[str, Any]:
    """Return a configuration as plain values for JSON, with every secret masked or as its references."""
    return {key: _masked(config, (key,), value) for key, value in config.__dict__.items()}


def mask_value(config: Config, keys: Keys, value: object) -> Any:  # noqa: ANN401 - a value for JSON
    """Return a value for JSON; `keys` says where in the configuration it is."""
    return _masked(config, keys, value)


def show_value(config: Config, keys: Keys, value: object) -> str:
    """Return a single value on one line."""
    masked = _masked(config, keys, value)
    if isinstance(value, Secret) or masked == MASK:
        return str(masked)
    return json.dumps(masked, ensure_ascii=False)


def is_plain_secret(config: Config, keys: Keys, value: object) -> bool:
    """Return whether a value looks like a secret that stands in the file itself."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return False
    is_text = isinstance(value, str)
    source = locate(config, keys).name
    text = str(value)
    style = Style.PLAIN if is_text else Style.FIXED
    scalar = Scalar(keys=keys, value=text, start=0, end=len(text), style=style)
    if not is_text:
        return is_numeric_password(scalar)
    return bool(judge(scalar, Surroundings.of(source, Format.of(source) or Format.YAML)))


def _leaves(value: object, keys: Keys) -> Iterator[tuple[Keys, Any]]:
    if isinstance(value, Config) and value.__dict__:
        for key, item in value.__dict__.items():
            yield from _leaves(item, (*keys, key))
    elif isinstance(value, tuple) and any(isinstance(item, Config | tuple) for item in value):
        for index, item in enumerate(value):
            yield from _leaves(item, (*keys, index))
    else:
        yield keys, value


def _masked(config: Config, keys: Keys, value: object) -> Any:  # noqa: ANN401 - a value for JSON
    if isinstance(value, Config):
        return {key: _masked(config, (*keys, key), item) for key, item in value.__dict__.items()}
    if isinstance(value, tuple):
        return [_masked(config, (*keys, index), item) for index, item in enumerate(value)]
    if isinstance(value, ReferringSecret):
        return ", ".join(map(str, value.references))
    if isinstance(value, Secret) or is_plain_secret(config, keys, value):
        return MASK
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
