"""Clients of a Vault or OpenBao server: where it is, and how to get a token of it. Shared by keys and backends."""

from __future__ import annotations

import os
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from securecfg.addresses import is_safe_address
from securecfg.errors import SettingMissing
from securecfg.keys.credentials import CredentialMissing, find_credential

if TYPE_CHECKING:
    from collections.abc import Mapping

    from securecfg.secret import Secret

ANSWER_S = 10.0
SERVICE_ACCOUNT_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"  # noqa: S105 - where it lies, not what it is

_CONNECTIONS = 32


class Login(NamedTuple):
    """How to get a token.

    Attributes:
        method: `token`, `approle`, `userpass`, `jwt`, `kubernetes` or `cert`.
        role: The role's id for `approle`, the user for `userpass`, else the role's name; empty where there is none.
        mount: Where the method is mounted on the server, where not under its own name.
        file: Of the token, secret id, password or certificate; empty where it is found elsewhere.
        variable: The environment variable that holds it instead.
        key_file: Of the certificate's private key.
        given: What stands before variables of the environment, by their names.
    """

    method: str = "token"
    role: str = ""
    mount: str = ""
    file: str = ""
    variable: str = ""
    key_file: str = ""
    given: Mapping[str, Secret[str]] = MappingProxyType({})


class Where(NamedTuple):
    """Where a server is; what is empty is found as Vault's own program finds it.

    Attributes:
        address: Else that of `VAULT_ADDR`.
        namespace: Else that of `VAULT_NAMESPACE`.
        authority: The file of the authority that its certificate is checked with, else what `VAULT_CACERT` or
            `VAULT_CAPATH` names, else those that are trusted anyway.
    """

    address: str = ""
    namespace: str = ""
    authority: str = ""


def connect(where: Where, login: Login) -> Any:  # noqa: ANN401 - the package has no types
    """Return a client of `hvac` without a token; nothing is asked yet.

    Raises:
        ImportError: The package is not installed.
        SettingMissing: The address is not known, or would show everything to the network.
        CredentialMissing: The certificate to log in with is not there.
    """
    from hvac import Client
    from requests import Session
    from requests.adapters import HTTPAdapter

    address = server_address(where)
    session = Session()
    # What is plain goes to this machine itself: a proxy that the environment names would see all of it.
    session.trust_env = address.startswith("https://")
    session.mount("https://", HTTPAdapter(pool_maxsize=_CONNECTIONS))
    session.mount("http://", HTTPAdapter(pool_maxsize=_CONNECTIONS))
    session.verify = where.authority or os.environ.get("VAULT_CACERT") or os.environ.get("VAULT_CAPATH") or True
    if login.method == "cert":
        session.cert = _certificate(login)
    return Client(
        url=address,
        token="",
        session=session,
        timeout=ANSWER_S,
        allow_redirects=False,
        namespace=where.namespace or os.environ.get("VAULT_NAMESPACE") or None,
    )


def find_token(login: Login) -> str:
    """Return the token that somebody else got: in a file or a variable, or where Vault's own program keeps it.

    Raises:
        CredentialMissing: There is none.
    """
    if login.file or login.variable:
        return find_credential(login.file, login.variable, given=login.given)
    return find_credential("", "VAULT_TOKEN", "~/.vault-token", given=login.given)


def login_request(login: Login) -> tuple[str, Mapping[str, str]]:
    """Return the path and the body of the request that gets a token.

    Raises:
        CredentialMissing: There is nothing to log in with.
    """
    method, role, mount, file, variable = login[:5]
    path = f"/v1/auth/{mount or method}/login"
    match method:
        case "approle":
            secret_id = find_credential(file, variable or "VAULT_SECRET_ID", given=login.given)
            return path, {"role_id": role, "secret_id": secret_id}
        case "userpass":
            return f"{path}/{role}", {"password": find_credential(file, variable, given=login.given)}
        case "cert":
            return path, {"name": role} if role else {}
        case "kubernetes":
            token = find_credential(file or ("" if variable else SERVICE_ACCOUNT_TOKEN), variable, given=login.given)
            return path, {"role": role, "jwt": token}
        case _:
            return path, {"role": role, "jwt": find_credential(file, variable, given=login.given)}


def server_address(where: Where = Where()) -> str:  # noqa: B008 - it cannot be changed
    """Return where a server is.

    Raises:
        SettingMissing: It is not said, or what is asked would cross the network in the clear.
    """
    address = where.address or os.environ.get("VAULT_ADDR", "")
    if not is_safe_address(address):
        message = "the address of the Vault server is not known, or neither `https://` nor this machine"
        raise SettingMissing(message, hint="set VAULT_ADDR, for instance to `https://vault.internal:8200`")
    parts = urlsplit(address)
    # Who is named before an `@` may have a password there, and is not asked for by Vault.
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _certificate(login: Login) -> tuple[str, str]:
    certificate = login.file or os.environ.get("VAULT_CLIENT_CERT", "")
    key = login.key_file or os.environ.get("VAULT_CLIENT_KEY", "")
    if not (os.path.isfile(certificate) and os.path.isfile(key)):  # noqa: PTH113 - as below
        places = f"{login.file or 'VAULT_CLIENT_CERT'} and {login.key_file or 'VAULT_CLIENT_KEY'}, which name files"
        raise CredentialMissing(places)
    return certificate, key
