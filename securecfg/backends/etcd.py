"""`etcd:[FOLDER]` - keys of an etcd cluster, version 3.4 and later, asked over its HTTP gateway."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from securecfg.backends.etcd_keys import EtcdHistory, EtcdKeys
from securecfg.backends.etcd_server import EtcdServer, Login, Where
from securecfg.backends.uri import is_variable, take_folder, take_options
from securecfg.errors import InvalidBackendUri
from securecfg.http_client import is_endpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from securecfg.backends.interface import Backend, BackendUri

_OPTIONS = ("endpoint", "cacert", "cert", "key", "user", "file", "env", "history")
CREDENTIALS = ("ETCDCTL_PASSWORD",)
_USER = re.compile(r"[\x21-\x39\x3b-\x7e]{1,256}", re.ASCII)


def from_uri(uri: BackendUri) -> Backend:
    """Return the backend for `etcd:[FOLDER]`, with options after a `?`.

    Raises:
        InvalidBackendUri: The URI says something else.
    """
    options = take_options(uri, _OPTIONS, CREDENTIALS)
    if "" in options.values() or options.get("history", "yes") != "yes":
        message = "in an `etcd:` URI `history` is `yes`, and no option is empty"
        raise InvalidBackendUri(message)
    root = "/" if uri.rest.startswith("/") else ""  # as many keys of etcd begin
    folder = root + take_folder(uri._replace(rest=uri.rest.removeprefix("/")))
    server = EtcdServer(_where(options), _login(options)._replace(given=uri.credentials))
    return EtcdHistory(server, folder) if "history" in options else EtcdKeys(server, folder)


def _where(options: Mapping[str, str]) -> Where:
    endpoints = tuple(filter(None, options.get("endpoint", "").split(",")))
    if not all(map(is_endpoint, endpoints)):
        # They are not shown: people put passwords into addresses all the same.
        message = "an `endpoint` of an `etcd:` URI is `https://`, or `http://` to this machine, without a user"
        raise InvalidBackendUri(message, hint="for instance `endpoint=https://etcd.internal:2379`")
    if "key" in options and "cert" not in options:
        message = "the `key` of an `etcd:` URI is that of its `cert`"
        raise InvalidBackendUri(message)
    return Where(endpoints, options.get("cacert", ""), options.get("cert", ""), options.get("key", ""))


def _login(options: Mapping[str, str]) -> Login:
    user, file, variable = (options.get(name, "") for name in ("user", "file", "env"))
    wrong = (
        (user and not _USER.fullmatch(user))
        or (file and variable)
        or ((file or variable) and not user)
        or (variable and not is_variable(variable))
    )
    if wrong:
        message = "what an `etcd:` URI says about logging in does not fit together"
        raise InvalidBackendUri(message, hint="`user`, with `file` or `env` where the password is; see the page")
    return Login(user, file, variable)
