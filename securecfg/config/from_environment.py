"""Environment variables with a prefix: `PRE_A__B` is `a.b`, every value a text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.config.flat import Nest, split_name
from securecfg.errors import ConfigSyntaxError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from securecfg.config.tree import Config, Layer


def parse_environment(variables: Mapping[str, str], prefix: str, layer: Layer) -> Config:
    """Take the variables that begin with `prefix` and an underscore; names are lower-cased.

    Args:
        variables: All variables.
        prefix: `PRE` or `PRE_`.
        layer: What to call the source.

    Raises:
        UsageError: The prefix is empty, which would take the whole environment.
        ConfigSyntaxError: Two variables contradict each other, or one is not UTF-8.
        ConfigLimitExceeded: A name nests too deep.
        InvalidReference: A secret reference in a value is malformed.
    """
    start = prefix.rstrip("_") + "_"
    if start == "_":
        message = "the prefix for environment variables is empty"
        raise UsageError(message, hint="choose one for your program, such as `SHOP_`")
    nest = Nest(layer)
    # In order of names: the environment has no order that means anything.
    for name in sorted(name for name in variables if name.startswith(start) and name != start):
        rest = name.removeprefix(start)
        if not _is_text(name) or not _is_text(variables[name]):
            message = f"`{name}` is not UTF-8" if _is_text(name) else "a variable's name is not UTF-8"
            raise ConfigSyntaxError(message, place=layer.path)
        nest.add(split_name(rest.lower()), variables[name], name)
    return nest.freeze()


def _is_text(text: str) -> bool:
    # Python keeps bytes that are not UTF-8 as lone surrogates.
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)
