"""Configuration: formats, layers, profiles, references to secrets, typed models. Pure: no files, no vaults.

`load`, which joins it with files, the environment and a vault, lives in `securecfg.sources`.
"""

from securecfg.config.bind import bind, get
from securecfg.config.merge import Strategy, merge
from securecfg.config.origins import origin
from securecfg.config.references import Reference, SecretResolver, parse_reference
from securecfg.config.tree import Config, Layer, Origin, as_dict

__all__ = [
    "Config",
    "Layer",
    "Origin",
    "Reference",
    "SecretResolver",
    "Strategy",
    "as_dict",
    "bind",
    "get",
    "merge",
    "origin",
    "parse_reference",
]
