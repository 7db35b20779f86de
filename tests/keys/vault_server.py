"""A Vault server for tests: its published HTTP API as far as keys of the transit engine need it.

Rules and error messages are those that Vault documents, and those of `path_encrypt.go`, `path_decrypt.go` and
`policy.go` of its transit engine: `encrypt` of a key that is not there makes it where the policy lets one `create`; a
derived key needs a context, another one takes no notice of it; associated data is bound by the types that are AEADs; a
version below `min_decryption_version` is refused. Policies, AppRole, Kubernetes logins, namespaces and the seal count.

`python vault_server.py [CERTIFICATE-AND-KEY]` prints its port. The first token is `root`.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NoReturn, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

AEADS = frozenset({"aes128-gcm96", "aes256-gcm96", "chacha20-poly1305"})
RIGHTS = {"GET": "read", "DELETE": "delete"}
NO_CONTEXT = (
    "missing 'context' for key derivation; the key was created using a derived key, which means additional, "
    "per-request information must be included in order to perform operations with the key"
)

Given = dict[str, Any]
Answer = dict[str, Any]


class Refusal(Exception):
    """What the server answers instead."""

    def __init__(self, status: int, *errors: str) -> None:
        super().__init__(status)
        self.status = status
        self.body = {"errors": list(errors)}


def refuse(status: int, *errors: str) -> NoReturn:
    raise Refusal(status, *errors)


@dataclass
class Key:
    """A key of the transit engine."""

    kind: str
    derived: bool
    versions: list[bytes] = field(default_factory=lambda: [os.urandom(32)])
    least: int = 1
    deletable: bool = False

    def cipher(self, version: int, context: bytes) -> AESGCM:
        material = self.versions[version - 1]
        if self.derived:
            if not context:
                refuse(400, NO_CONTEXT)
            material = HKDF(SHA256(), 32, None, context).derive(material)
        return AESGCM(material)


@dataclass
class Namespace:
    """What one namespace holds."""

    keys: dict[str, Key] = field(default_factory=dict)
    policies: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    roles: dict[str, Given] = field(default_factory=dict)
    secret_ids: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, list[str]] = field(default_factory=dict)

    def may(self, token: str, right: str, path: str) -> bool:
        return any(
            right in rights and fnmatchcase(path, pattern)
            for policy in self.tokens.get(token, ())
            for pattern, rights in self.policies.get(policy, {}).items()
        )

    # --- the transit engine -------------------------------------------------------------------------------------------

    def make_key(self, name: str, given: Given) -> Answer:
        self.keys.setdefault(name, Key(given.get("type", "aes256-gcm96"), bool(given.get("derived"))))
        return {}

    def rotate(self, name: str, _given: Given) -> Answer:
        self._key(name).versions.append(os.urandom(32))
        return {}

    def configure(self, name: str, given: Given) -> Answer:
        key = self._key(name)
        key.least = given.get("min_decryption_version", key.least)
        key.deletable = given.get("deletion_allowed", key.deletable)
        return {}

    def delete(self, name: str, _given: Given) -> Answer:
        if not self._key(name).deletable:
            refuse(400, f"error deleting policy {name}: deletion is not allowed for this policy")
        del self.keys[name]
        return {}

    def encrypt(self, name: str, given: Given) -> Answer:
        key = self._key(name)
        plain, context, bound = self._texts(key, given, "plaintext")
        version, nonce = len(key.versions), os.urandom(12)
        sealed = nonce + key.cipher(version, context).encrypt(nonce, plain, bound)
        return {"data": {"ciphertext": f"vault:v{version}:{base64.b64encode(sealed).decode()}", "key_version": version}}

    def decrypt(self, name: str, given: Given) -> Answer:
        key = self._key(name)
        _, context, bound = self._texts(key, given, "")
        parts = re.fullmatch(r"vault:v([0-9]+):(.*)", str(given["ciphertext"]), re.DOTALL)
        if not parts:
            refuse(400, "invalid ciphertext: no prefix")
        version = int(parts[1]) or 1
        if version > len(key.versions):
            refuse(400, "invalid ciphertext: version is too new")
        if version < key.least:
            refuse(400, "ciphertext or signature version is disallowed by policy (too old)")
        sealed = _decode(parts[2], "invalid ciphertext: could not decode base64")
        try:
            plain = key.cipher(version, context).decrypt(sealed[:12], sealed[12:], bound)
        except (InvalidTag, ValueError):
            refuse(400, "cipher: message authentication failed")
        return {"data": {"plaintext": base64.b64encode(plain).decode()}}

    def _key(self, name: str) -> Key:
        return self.keys.get(name) or refuse(400, "encryption key not found")

    @staticmethod
    def _texts(key: Key, given: Given, wanted: str) -> tuple[bytes, bytes, bytes]:
        plain, context, bound = (
            _decode(given.get(name, ""), "illegal base64 data") for name in (wanted, "context", "associated_data")
        )
        if bound and key.kind not in AEADS:
            refuse(400, f"'[0].associated_data' provided for non-AEAD cipher suite {key.kind}")
        return plain, context, bound

    # --- who asks -----------------------------------------------------------------------------------------------------

    def set_policy(self, name: str, given: Given) -> Answer:
        paths: dict[str, Given] = json.loads(given["policy"])["path"]
        self.policies[name] = {path: rule["capabilities"] for path, rule in paths.items()}
        return {}

    def issue(self, policies: list[str]) -> Answer:
        token = f"hvs.canary{secrets.token_hex(12)}"
        self.tokens[token] = policies
        return {"auth": {"client_token": token, "policies": policies}}

    def make_token(self, _name: str, given: Given) -> Answer:
        return self.issue(given["policies"])

    def set_role(self, name: str, given: Given) -> Answer:
        self.roles[name] = given
        return {}

    def role_id(self, name: str, _given: Given) -> Answer:
        return {"data": {"role_id": f"id-of-{name}"}}

    def make_secret_id(self, name: str, _given: Given) -> Answer:
        secret_id = f"canary-{secrets.token_hex(12)}"
        self.secret_ids[secret_id] = name
        return {"data": {"secret_id": secret_id}}

    def log_in_by_approle(self, _name: str, given: Given) -> Answer:
        name = self.secret_ids.get(given["secret_id"], "")
        if not name or given["role_id"] != f"id-of-{name}":
            refuse(400, "invalid role or secret ID")
        return self.issue(_list(self.roles[name]["token_policies"]))

    def log_in_by_kubernetes(self, _name: str, given: Given) -> Answer:
        role = self.roles.get(given["role"])
        if not role:
            refuse(400, f'invalid role name "{given["role"]}"')
        claims = json.loads(base64.urlsafe_b64decode(given["jwt"].split(".")[1]))
        kind, space, name = claims["sub"].rsplit(":", 2)
        is_bound = name in _list(role["bound_service_account_names"])
        is_bound = is_bound and space in _list(role["bound_service_account_namespaces"])
        if kind != "system:serviceaccount" or not is_bound:
            refuse(403, "service account name not authorized")
        return self.issue(_list(role["policies"]))


def _list(given: str | list[str]) -> list[str]:
    return given.split(",") if isinstance(given, str) else given  # Vault takes both, and hvac sends both


def _decode(text: str, complaint: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        refuse(400, complaint)


Handle: TypeAlias = Callable[[Namespace, str, Given], Answer]
OPEN: dict[str, Handle] = {  # without a token
    "auth/approle/login": Namespace.log_in_by_approle,
    "auth/kubernetes/login": Namespace.log_in_by_kubernetes,
}
ROUTES: dict[tuple[str, str], Handle] = {
    ("PUT", r"transit/encrypt/([^/]+)"): Namespace.encrypt,
    ("PUT", r"transit/decrypt/([^/]+)"): Namespace.decrypt,
    ("PUT", r"transit/keys/([^/]+)"): Namespace.make_key,
    ("PUT", r"transit/keys/([^/]+)/rotate"): Namespace.rotate,
    ("PUT", r"transit/keys/([^/]+)/config"): Namespace.configure,
    ("DELETE", r"transit/keys/([^/]+)"): Namespace.delete,
    ("PUT", r"sys/policies/acl/([^/]+)"): Namespace.set_policy,
    ("PUT", r"auth/token/create()"): Namespace.make_token,
    ("PUT", r"auth/(?:approle|kubernetes)/role/([^/]+)"): Namespace.set_role,
    ("GET", r"auth/approle/role/([^/]+)/role-id"): Namespace.role_id,
    ("PUT", r"auth/approle/role/([^/]+)/secret-id"): Namespace.make_secret_id,
}


class Vault:
    """The server: its namespaces and its seal."""

    def __init__(self) -> None:
        self._namespaces: dict[str, Namespace] = {}
        self._sealed = False

    def handle(self, method: str, path: str, given: Given, token: str, namespace: str) -> Answer:
        """Return the answer to a request.

        Raises:
            Refusal: As Vault has it.
        """
        if path in {"sys/seal", "sys/unseal"} and token == "root":
            self._sealed = path == "sys/seal"
            return {}
        if self._sealed:
            refuse(503, "Vault is sealed")
        here = self._namespaces.setdefault(namespace.strip("/"), Namespace())
        if path in OPEN:
            return OPEN[path](here, "", given)
        for (verb, pattern), handle in ROUTES.items():
            match = re.fullmatch(pattern, path)
            if match and verb == method:
                self._check(here, method, path, token)
                return handle(here, match[1], given)
        refuse(404, f'no handler for route "{path}". route entry not found.')

    @staticmethod
    def _check(here: Namespace, method: str, path: str, token: str) -> None:
        engine, _, name = path.rpartition("/")
        is_new = engine == "transit/encrypt" and name not in here.keys
        if token == "root":
            may_create = may = True
        else:
            may_create = here.may(token, "create", path)
            may = here.may(token, RIGHTS.get(method, "update"), path)
        if not may:
            refuse(403, "permission denied")
        if is_new and may_create:
            here.make_key(name, {"derived": True})


class Connection(BaseHTTPRequestHandler):
    """Answers over HTTP."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    vault: Vault

    def log_message(self, _format: str, *_args: object) -> None:
        """Say nothing."""

    def handle_request(self) -> None:
        """Answer one request."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        method = "PUT" if self.command == "POST" else self.command
        asked = (method, self.path.removeprefix("/v1/"), json.loads(body or b"{}"))
        who = (self.headers.get("X-Vault-Token", ""), self.headers.get("X-Vault-Namespace", ""))
        try:
            answer = self.vault.handle(*asked, *who)
            status = 200 if answer else 204
        except Refusal as refusal:
            status, answer = refusal.status, refusal.body
        sent = json.dumps(answer).encode() if answer else b""
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    do_GET = do_POST = do_PUT = do_DELETE = handle_request  # noqa: N815 - as the base class calls them


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    Connection.vault = Vault()
    server = Server(("127.0.0.1", 0), Connection)
    if len(sys.argv) > 1:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(sys.argv[1])
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    print(server.server_address[1], flush=True)
    server.serve_forever()
