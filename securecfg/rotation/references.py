"""Options that are references: resolved when the rotator is called, as the one on whose behalf that is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.config.references import Template, parse_text
from securecfg.errors import InvalidReference, InvalidRotation, SecurecfgError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from securecfg.config import Reference
    from securecfg.rotation.interface import Options
    from securecfg.secret import Secret
    from securecfg.vault.vault import Vault


def split_options(options: Mapping[str, str]) -> tuple[dict[str, str], dict[str, Reference]]:
    """Return the options that are plain text, and those that are references.

    Raises:
        InvalidRotation: A reference cannot be parsed, or there is text around it.
    """
    plain: dict[str, str] = {}
    references: dict[str, Reference] = {}
    for name, text in options.items():
        try:
            parsed = parse_text(text)
        except InvalidReference as error:
            message = f"the option `{name}` holds no reference: {error.message}"
            raise InvalidRotation(message, hint=error.hint) from None
        if not isinstance(parsed, Template):
            plain[name] = parsed
            continue
        only = parsed.parts[0]
        if len(parsed.parts) != 1 or isinstance(only, str):
            message = f"the option `{name}` is a reference with text around it"
            raise InvalidRotation(message, hint="give a reference and nothing else: `${secret:PATH#FIELD}`")
        references[name] = only
    return plain, references


def resolve_options(vault: Vault, options: Mapping[str, str]) -> Options:
    """Return the options of a rotator with what the references stand for; each is decided on and recorded.

    Raises:
        InvalidRotation: A reference cannot be parsed, or there is text around it.
        SecurecfgError: One cannot be read; the first of them.
    """
    plain, references = split_options(options)
    whole: dict[str, str | Secret[str] | Secret[bytes]] = {**plain}
    for name, secret in zip(references, vault.resolver().resolve(list(references.values())), strict=True):
        if isinstance(secret, SecurecfgError):
            raise secret
        whole[name] = secret
    return whole
