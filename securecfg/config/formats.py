"""Which parser reads what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.errors import ConfigSyntaxError

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.config.tree import Config, Layer

SUFFIXES = {
    ".env": "application/x-dotenv",
    ".ini": "application/x-ini",
    ".json": "application/json",
    ".toml": "application/toml",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}
"""Content types by the end of a file's name."""


def parse_document(content: bytes, content_type: str, layer: Layer) -> Config:
    """Parse a document by its content type.

    Raises:
        ConfigSyntaxError: No parser reads this content type, or the document does not follow its format.
        ConfigLimitExceeded: It exceeds a limit.
        InvalidReference: A secret reference in it is malformed.
    """
    return _parser(content_type, layer)(content, layer)


def _parser(content_type: str, layer: Layer) -> Callable[[bytes, Layer], Config]:
    # Imported when the format occurs: most programs use one or two.
    match content_type.partition(";")[0].strip().lower():
        case "application/yaml" | "application/x-yaml" | "text/yaml":
            from securecfg.config.from_yaml import parse_yaml

            return parse_yaml
        case "application/json":
            from securecfg.config.from_json import parse_json

            return parse_json
        case "application/toml":
            from securecfg.config.from_toml import parse_toml

            return parse_toml
        case "application/x-ini":
            from securecfg.config.from_ini import parse_ini

            return parse_ini
        case "application/x-dotenv":
            from securecfg.config.from_dotenv import parse_dotenv

            return parse_dotenv
        case _:
            message = "the content is of a type that is no configuration format"
            raise ConfigSyntaxError(message, place=layer.path, hint="use YAML, JSON, TOML, INI or `.env`")
