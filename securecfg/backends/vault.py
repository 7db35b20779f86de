"""`vault:MOUNT/PATH` - secrets of a KV engine, version 1 or 2, of a HashiCorp Vault or OpenBao server."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from securecfg.addresses import is_safe_address
from securecfg.backends.uri import is_variable, take_options
from securecfg.backends.vault_kv import PlainKv, VersionedKv, is_path
from securecfg.backends.vault_server import VaultServer
from securecfg.errors import InvalidBackendUri
from securecfg.keys.vault_login import Login, Where

if TYPE_CHECKING:
    from collections.abc import Mapping

    from securecfg.backends.interface import Backend, BackendUri

_OPTIONS = ("kv", "address", "namespace", "cacert", "login", "role", "login_mount", "file", "env", "key_file")
CREDENTIALS = ("VAULT_TOKEN", "VAULT_SECRET_ID", "VAULT_PASSWORD", "VAULT_JWT")
_LOGINS = {
    # method: whether it needs a role, and whether a file or variable with what it shows
    "token": (False, False),
    "approle": (True, False),
    "userpass": (True, True),
    "jwt": (True, True),
    "kubernetes": (True, False),
    "cert": (False, False),
}
_NAME = re.compile(r"[\w.@-]{1,128}", re.ASCII)
_NAMESPACE = re.compile(r"[\w-][\w./-]{0,255}", re.ASCII)


def from_uri(uri: BackendUri) -> Backend:
    """Return the backend for `vault:MOUNT[/PATH]`, with options after a `?`.

    Raises:
        InvalidBackendUri: The URI says something else.
    """
    options = take_options(uri, _OPTIONS, CREDENTIALS)
    mount, slash, path = uri.rest.partition("/")
    mount, path = unquote(mount), unquote(path)
    if not is_path(mount) or (slash and not is_path(path)):
        message = "a `vault:` URI names where a KV engine is mounted, and perhaps a folder in it"
        raise InvalidBackendUri(message, hint="for instance `vault:secret/shop`")
    kv = options.get("kv", "2")
    if kv not in {"1", "2"} or "" in options.values():
        message = "`kv` in a `vault:` URI is 1 or 2, and no option is empty"
        raise InvalidBackendUri(message)
    server = VaultServer(_where(options), _login(options)._replace(given=uri.credentials), mount, kv)
    folder = f"{path}/" if path else ""
    return PlainKv(server, folder) if kv == "1" else VersionedKv(server, folder)


def _where(options: Mapping[str, str]) -> Where:
    address, namespace = options.get("address", ""), options.get("namespace", "")
    if address and (not is_safe_address(address) or "@" in address or "?" in address or "#" in address):
        # It is not shown: people put passwords into addresses all the same.
        message = "the `address` of a `vault:` URI is `https://`, or `http://` to this machine, without a user"
        raise InvalidBackendUri(message, hint="for instance `address=https://vault.internal:8200`")
    if namespace and (not _NAMESPACE.fullmatch(namespace) or ".." in namespace):
        message = "the `namespace` of a `vault:` URI is not one"
        raise InvalidBackendUri(message, hint="names with `/` between them")
    return Where(address, namespace, options.get("cacert", ""))


def _login(options: Mapping[str, str]) -> Login:
    method = options.get("login", "token")
    role, mount, file, variable, key_file = (
        options.get(name, "") for name in ("role", "login_mount", "file", "env", "key_file")
    )
    needs_role, needs_secret = _LOGINS.get(method, (False, False))
    wrong = (
        method not in _LOGINS
        or (needs_role and not role)
        or (method == "token" and (role or mount))
        or (file and variable)
        or (needs_secret and not (file or variable))
        or (method == "cert" and (variable or bool(file) != bool(key_file)))
        or (method != "cert" and key_file)
        or (role and not _NAME.fullmatch(role))
        or (mount and not _NAMESPACE.fullmatch(mount))
        or ".." in role + mount  # they become parts of a path
        or (variable and not is_variable(variable))
    )
    if wrong:
        message = "what a `vault:` URI says about logging in does not fit together"
        hint = "`login`, with `role`, `login_mount`, and `file` or `env` where the secret is; see the backend's page"
        raise InvalidBackendUri(message, hint=hint)
    return Login(method, role, mount, file, variable, key_file)
