"""`consul:[FOLDER]` - keys of the KV store of HashiCorp Consul, version 1.14 and later, asked over HTTP."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from securecfg.backends.consul_kv import ConsulKv
from securecfg.backends.consul_server import ConsulServer, Credential, Where
from securecfg.backends.uri import is_variable, take_folder, take_options
from securecfg.errors import InvalidBackendUri
from securecfg.http_client import is_endpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from securecfg.backends.interface import Backend, BackendUri

CREDENTIALS = ("CONSUL_HTTP_TOKEN",)
_OPTIONS = (
    "endpoint",
    "dc",
    "namespace",
    "partition",
    "cacert",
    "cert",
    "key",
    "server_name",
    "file",
    "env",
)
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,127}", re.ASCII)


def from_uri(uri: BackendUri) -> Backend:
    """Return the backend for `consul:[FOLDER]`, with options after a `?`.

    Raises:
        InvalidBackendUri: The URI says something else.
    """
    options = take_options(uri, _OPTIONS, CREDENTIALS)
    if "" in options.values():
        message = "no option of a `consul:` URI is empty"
        raise InvalidBackendUri(message)
    folder = take_folder(uri)
    file, variable = options.get("file", ""), options.get("env", "")
    if (file and variable) or (variable and not is_variable(variable)):
        message = "the token of a `consul:` URI is in a `file`, or in the variable that `env` names"
        raise InvalidBackendUri(message, hint="without either it is found as `consul` finds it")
    return ConsulKv(ConsulServer(_where(options), Credential(file, variable, uri.credentials), folder), folder)


def _where(options: Mapping[str, str]) -> Where:
    endpoint = options.get("endpoint", "")
    if endpoint and not is_endpoint(endpoint):
        # It is not shown: people put passwords into addresses all the same.
        message = "the `endpoint` of a `consul:` URI is `https://`, or `http://` to this machine, without a user"
        raise InvalidBackendUri(message, hint="for instance `endpoint=https://consul.internal:8501`")
    if "key" in options and "cert" not in options:
        message = "the `key` of a `consul:` URI is that of its `cert`"
        raise InvalidBackendUri(message)
    for name in ("dc", "namespace", "partition", "server_name"):
        if name in options and not _NAME.fullmatch(options[name]):
            message = f"the `{name}` of a `consul:` URI is a name of letters, digits, dots, dashes and underscores"
            raise InvalidBackendUri(message)
    return Where(
        endpoint,
        *(options.get(name, "") for name in ("dc", "namespace", "partition", "cacert", "cert", "key", "server_name")),
    )
