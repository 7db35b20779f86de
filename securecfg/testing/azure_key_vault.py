"""Azure Key Vault and its login service on this machine, as far as keys that wrap keys and secrets need them.

Written from the published REST API, version 2025-07-01, and from what the vendor's client was seen to do. It speaks
plain HTTP and tells hosts apart by the `Host` header: a proxy that speaks TLS stands before it, so that the vendor's
client is used as it is, with the real names of hosts. A disabled key can be looked at and wraps, as in the real
service, and unwraps nothing.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, cast
from urllib.parse import parse_qsl, urlsplit

from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from securecfg.testing.azure_secrets import Refused, VaultSecrets
from securecfg.testing.quiet_http import QuietRequest, QuietServer

if TYPE_CHECKING:
    from collections.abc import Mapping

LOGIN_HOST = "login.microsoftonline.com"
TENANT = "72f988bf-86f1-41af-91ab-2d7cd011db47"
CLIENT_ID = "11111111-2222-3333-4444-555555555555"
CLIENT_SECRET = "canary~client-secret"  # noqa: S105 - nobody else's
FEDERATED_TOKEN = "canary-federated-token"  # noqa: S105 - the same
IDENTITY_HEADER = "canary-identity-header"
PERMISSIONS = frozenset({"get", "wrapKey", "unwrapKey"})

_OAEP = padding.OAEP(mgf=padding.MGF1(SHA256()), algorithm=SHA256(), label=None)
_KEY_PATH = re.compile(r"/keys/([A-Za-z0-9-]{1,127})(?:/([0-9a-f]{32})?)?(?:/(wrapkey|unwrapkey))?", re.ASCII)
_AES_256_BYTES = 32
_TOKEN_S = 3599
_OPERATIONS = {None: "get", "wrapkey": "wrapKey", "unwrapkey": "unwrapKey"}


@dataclass
class KeyVersion:
    """One version of a key.

    Attributes:
        number: 32 hexadecimal digits.
        material: An RSA key, or 32 bytes.
        kty: What the service says of its type.
        operations: What it may be used for.
        attributes: `enabled`, `exp` and `nbf`.
    """

    number: str
    material: RSAPrivateKey | bytes
    kty: str
    operations: list[str] = field(default_factory=lambda: ["wrapKey", "unwrapKey"])
    attributes: dict[str, Any] = field(default_factory=lambda: {"enabled": True})

    def to_json(self) -> dict[str, Any]:
        """Return what everybody may know of it, as a JSON Web Key."""
        known = {"kty": self.kty, "key_ops": self.operations}
        if isinstance(self.material, bytes):
            return known
        numbers = self.material.public_key().public_numbers()
        return {**known, "n": _number(numbers.n), "e": _number(numbers.e)}


class AzureKeyVault:
    """The service, which listens on a port of its own from the beginning of a `with` block to its end.

    Attributes:
        tokens: The tokens that were given out, and what each is for.
        permissions: What the only client may do with keys.
        secrets: What vaults hold besides keys.
        resource: The resource that the challenge names instead of the vault's own.
    """

    def __init__(self) -> None:
        """Hold nothing."""
        self.tokens: dict[str, str] = {}
        self.permissions = set(PERMISSIONS)
        self.secrets = VaultSecrets()
        self.resource: str | None = None
        self._keys: dict[tuple[str, str], list[KeyVersion]] = {}
        self._server = _Server(("127.0.0.1", 0), _Request)
        self._server.service = self

    def __enter__(self) -> Self:
        """Begin to listen."""
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._server.server_address[1]
        return port

    def clear(self) -> None:
        """Hold nothing any more, and allow everything."""
        self._keys.clear()
        self.secrets.clear()
        self.permissions = set(PERMISSIONS)
        self.resource = None

    def give_token(self, scope: str) -> str:
        """Return a new token."""
        token = f"canary-token-{os.urandom(16).hex()}"
        self.tokens[token] = scope
        return token

    def create_key(self, host: str, name: str, material: RSAPrivateKey | bytes | None = None) -> KeyVersion:
        """Make a key, or a new version of one.

        Args:
            host: Which vault or managed HSM.
            name: What it is called.
            material: An RSA key, or the bytes of a symmetric one. Without it an RSA key is made.
        """
        material = material or generate_private_key(65537, 2048)
        kty = "oct-HSM" if isinstance(material, bytes) else "RSA-HSM" if ".managedhsm." in host else "RSA"
        version = KeyVersion(os.urandom(16).hex(), material, kty)
        self._keys.setdefault((host, name), []).append(version)
        return version

    def delete_key(self, host: str, name: str) -> None:
        """Delete a key with all its versions."""
        del self._keys[host, name]

    def find_key(self, host: str, name: str, number: str) -> KeyVersion | None:
        """Return a version of a key, the newest where no number is given."""
        versions = self._keys.get((host, name), [])
        return next((each for each in reversed(versions) if number in {"", each.number}), None)


class _Server(QuietServer):
    service: AzureKeyVault


class _Request(QuietRequest):
    def answer(self) -> None:
        """Answer a request."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        url = urlsplit(self.path)
        answer: Mapping[str, Any] | None
        try:
            if self.headers["Host"] == LOGIN_HOST:
                answer = self._log_in(url.path, dict(parse_qsl(body.decode())))
            elif url.path == "/identity":
                answer = self._identify(dict(parse_qsl(url.query)))
            elif "api-version=" not in url.query:
                raise Refused(400, "BadParameter", "Missing api-version.")
            else:
                host = self.headers["Host"]
                self._check_token(host)
                if url.path.startswith("/keys/"):
                    answer = self._use_key(host, url.path, body)
                else:
                    answer = self._service.secrets.answer(self.command, host, url.path, url.query, body)
        except Refused as refused:
            self._send(refused.status, refused.body, refused.headers)
        else:
            self._send(204 if answer is None else 200, answer, {})

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815 - as the base class calls them

    @property
    def _service(self) -> AzureKeyVault:
        return cast("_Server", self.server).service

    def _log_in(self, path: str, form: Mapping[str, str]) -> dict[str, Any]:
        tenant = f"https://{LOGIN_HOST}/{TENANT}"
        if path == f"/{TENANT}/v2.0/.well-known/openid-configuration":
            endpoints = f"{tenant}/oauth2/v2.0"
            return {
                "issuer": f"{tenant}/v2.0",
                "authorization_endpoint": f"{endpoints}/authorize",
                "token_endpoint": f"{endpoints}/token",
            }
        if path == "/common/discovery/instance":
            return {"tenant_discovery_endpoint": f"{tenant}/v2.0/.well-known/openid-configuration", "metadata": []}
        if path != f"/{TENANT}/oauth2/v2.0/token":
            raise Refused(404, "NotFound", "There is no such page.")
        proofs = {form.get("client_secret", CLIENT_SECRET), form.get("client_assertion", CLIENT_SECRET)}
        if form.get("client_id") != CLIENT_ID or proofs - {CLIENT_SECRET, FEDERATED_TOKEN}:
            refused = Refused(401, "invalid_client", "")
            refused.body = {
                "error": "invalid_client",
                "error_description": f"AADSTS7000215: Invalid client secret of app '{form.get('client_id')}'.",
            }
            raise refused
        return {"token_type": "Bearer", "expires_in": _TOKEN_S, "access_token": self._service.give_token(form["scope"])}

    def _identify(self, query: Mapping[str, str]) -> dict[str, Any]:
        """Give a token to the managed identity of a machine, as the App Service does there."""
        if self.headers["X-IDENTITY-HEADER"] != IDENTITY_HEADER:
            raise Refused(403, "Forbidden", "No such identity.")
        token = self._service.give_token(f"{query['resource']}/.default")
        expires = str(int(time.time()) + _TOKEN_S)
        return {"token_type": "Bearer", "expires_on": expires, "access_token": token, "resource": query["resource"]}

    def _use_key(self, host: str, path: str, body: bytes) -> dict[str, Any]:
        match = _KEY_PATH.fullmatch(path)
        if not match:
            raise Refused(404, "ResourceNotFound", "There is no such operation.")
        name, number, operation = match[1], match[2] or "", _OPERATIONS[match[3]]
        if operation not in self._service.permissions:
            message = f"Caller is not authorized to perform action on resource. Action: '{operation}'"
            raise Refused(403, "Forbidden", message, "ForbiddenByRbac")
        key = self._service.find_key(host, name, number)
        if key is None:
            message = f"A key with (name/id) {name}/{number} was not found in this key vault."
            raise Refused(404, "KeyNotFound", message)
        kid = f"https://{host}/keys/{name}/{key.number}"
        if operation == "get":
            return {
                "key": {"kid": kid, **key.to_json()},
                "attributes": {**key.attributes, "recoveryLevel": "Recoverable"},
            }
        asked = json.loads(body)
        value = _crypt(key, operation, asked["alg"], _from_base64url(asked["value"]))
        return {"kid": kid, "value": _to_base64url(value)}

    def _check_token(self, host: str) -> None:
        domain = host.partition(".")[2]
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self._service.tokens.get(token) == f"https://{domain}/.default":
            return
        refused = Refused(401, "Unauthorized", "AKV10000: Request is missing a Bearer or PoP token.")
        resource = self._service.resource or f"https://{domain}"
        refused.headers["WWW-Authenticate"] = (
            f'Bearer authorization="https://{LOGIN_HOST}/{TENANT}", resource="{resource}"'
        )
        raise refused

    def _send(self, status: int, body: Mapping[str, Any] | None, headers: Mapping[str, str]) -> None:
        content = b"" if body is None else json.dumps(body).encode()
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _crypt(key: KeyVersion, operation: str, algorithm: str, value: bytes) -> bytes:
    if operation not in key.operations:
        message = f"Operation {operation} is not permitted on this key."
        raise Refused(403, "Forbidden", message, "KeyOperationForbidden")
    if operation == "unwrapKey" and not key.attributes["enabled"]:
        raise Refused(403, "Forbidden", "Operation unwrapKey is not allowed on a disabled key.", "KeyDisabled")
    try:
        match key.material, algorithm, operation:
            case RSAPrivateKey() as rsa, "RSA-OAEP-256", "wrapKey":
                return rsa.public_key().encrypt(value, _OAEP)
            case RSAPrivateKey() as rsa, "RSA-OAEP-256", "unwrapKey":
                return rsa.decrypt(value, _OAEP)
            case bytes() as secret, "A256KW", "wrapKey" if len(secret) == _AES_256_BYTES:
                return aes_key_wrap(secret, value)
            case bytes() as secret, "A256KW", "unwrapKey":
                return aes_key_unwrap(secret, value)
            case _:
                raise Refused(400, "BadParameter", f"Key and algorithm {algorithm} do not fit.")
    except (ValueError, InvalidUnwrap):
        raise Refused(400, "BadParameter", "The parameter is incorrect.") from None


def _from_base64url(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _to_base64url(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()


def _number(number: int) -> str:
    return _to_base64url(number.to_bytes((number.bit_length() + 7) // 8))
