"""URIs of backends: `SCHEME:REST?NAME=VALUE&...` names a store, and holds no secret."""

from __future__ import annotations

import re
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote

from securecfg.backends.handle import OpenBackend
from securecfg.backends.interface import BackendUri
from securecfg.errors import InvalidBackendUri, InvalidPath
from securecfg.vault.paths import path_to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from securecfg.backends.interface import Backend, BackendFactory
    from securecfg.patience import Patience
    from securecfg.secret import Secret

ENTRY_POINT_GROUP = "securecfg.backends"
BUILT_IN = {
    scheme: f"securecfg.backends.{scheme}"
    for scheme in ("awssm", "awsssm", "azurekeyvault", "bitwarden", "consul", "etcd", "gcpsm", "k8s", "vault")
} | {
    "1password": "securecfg.backends.onepassword"  # no name of a module
}
"""The module of each scheme of this package, so that they work from a source checkout and cost no scan."""

_SCHEME = re.compile(r"[a-z0-9][a-z0-9+.-]{0,31}", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_]\w{0,127}", re.ASCII)
_TEXT = re.compile(r"[\x21-\x7e]{0,1024}")


def open_backend(
    backend: str | Backend,
    *,
    credentials: Mapping[str, Secret[str]] | None = None,
    patience: Patience | None = None,
) -> OpenBackend:
    """Return a handle of the store that a URI names. Nothing is called yet.

    Args:
        backend: A URI such as `awssm:?region=eu-west-1`, or a backend.
        credentials: What to log in with instead of what the platform has, by the names of the variables that would hold
            it, such as `VAULT_TOKEN`; `known_credentials` says which there are.
        patience: How long to wait, and how often to ask again; 30 s, and four further attempts, by default.

    Raises:
        InvalidBackendUri: The URI cannot be parsed, its scheme is unknown, or it means nothing to its backend, which
            may know no such credentials either.
    """
    if isinstance(backend, str):
        uri = parse_backend_uri(backend)._replace(credentials=MappingProxyType(dict(credentials or {})))
        backend = _find_factory(uri.scheme)(uri)
    return OpenBackend(backend) if patience is None else OpenBackend(backend, patience)


def parse_backend_uri(text: str) -> BackendUri:
    """Return scheme, rest and options of a URI of a backend.

    Raises:
        InvalidBackendUri: It is none, or an option is there twice.
    """
    scheme, colon, rest = text.partition(":")
    scheme = scheme.lower()
    # What was given is not shown: people put tokens into URIs all the same.
    if not colon or not _SCHEME.fullmatch(scheme) or not _TEXT.fullmatch(rest):
        message = "a backend is given as a URI with a scheme, in printable ASCII"
        raise InvalidBackendUri(message, hint="for instance `awssm:?region=eu-west-1`")
    rest, mark, query = rest.partition("?")
    parts = query.split("&") if mark else []
    options = {name: unquote(value) for name, equals, value in (part.partition("=") for part in parts) if equals}
    if len(options) != len(parts):
        message = f"the options of a `{scheme}:` URI are `NAME=VALUE`, joined by `&`, each name once"
        raise InvalidBackendUri(message)
    return BackendUri(scheme, rest, options)


def known_credentials(text: str) -> frozenset[str]:
    """Return the names of the credentials that the backend of a URI takes: its module's `CREDENTIALS`.

    Raises:
        InvalidBackendUri: The URI cannot be parsed, or its scheme is unknown.
    """
    module = import_module(_find_factory(parse_backend_uri(text).scheme).__module__)
    return frozenset(getattr(module, "CREDENTIALS", ()))


def take_options(uri: BackendUri, known: Iterable[str], credentials: Iterable[str] = ()) -> dict[str, str]:
    """Return the options of a URI, all of which its backend knows, as it knows all credentials that it is given.

    Raises:
        InvalidBackendUri: There is another one.
    """
    if not uri.credentials.keys() <= set(credentials):
        message = f"`{uri.scheme}:` takes " + (", ".join(f"`{name}`" for name in credentials) or "no credentials")
        raise InvalidBackendUri(message, hint="as credentials that are given with the URI")
    names = tuple(known)
    if not uri.options.keys() <= set(names):
        message = f"a `{uri.scheme}:` URI has the options " + ", ".join(f"`{name}`" for name in names)
        raise InvalidBackendUri(message, hint="credentials do not belong there; see the backend's page")
    return dict(uri.options)


def is_wanted(scheme: str, options: Mapping[str, str], name: str) -> bool:
    """Return whether an option says `yes`.

    Raises:
        InvalidBackendUri: It says neither `yes` nor `no`.
    """
    said = options.get(name, "no")
    if said not in {"yes", "no"}:
        message = f"`{name}` of a `{scheme}:` URI is `yes` or `no`"
        raise InvalidBackendUri(message)
    return said == "yes"


def take_folder(uri: BackendUri) -> str:
    """Return the folder that a URI names, with `/` at its end; an empty text where it names none.

    Raises:
        InvalidBackendUri: It can be no folder.
    """
    if not uri.rest:
        return ""
    folder = unquote(uri.rest).removesuffix("/")
    try:
        path_to_bytes(folder)
        return f"{folder}/"
    except InvalidPath:
        message = f"a `{uri.scheme}:` URI names a folder, or nothing"
    raise InvalidBackendUri(message, hint=f"for instance `{uri.scheme}:shop`")


def is_variable(name: str) -> bool:
    """Return whether an environment variable can have a name."""
    return bool(_VARIABLE.fullmatch(name))


def _find_factory(scheme: str) -> BackendFactory:
    if scheme in BUILT_IN:
        return cast("BackendFactory", import_module(BUILT_IN[scheme]).from_uri)
    from importlib.metadata import entry_points

    found = entry_points(group=ENTRY_POINT_GROUP)
    for entry in found:
        if entry.name == scheme:
            return cast("BackendFactory", entry.load())
    from difflib import get_close_matches

    known = sorted({*BUILT_IN, *(entry.name for entry in found)})
    close = get_close_matches(scheme, known, n=1)
    message = "no backend has the scheme that the URI begins with"
    hint = f"did you mean `{close[0]}:`?" if close else "known are " + ", ".join(f"`{name}:`" for name in known)
    raise InvalidBackendUri(message, hint=hint)
