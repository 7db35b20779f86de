"""A Vault server for tests: its published HTTP API as far as keys of the transit engine and KV engines need it.

Rules and error messages are those that Vault documents, and those of `path_encrypt.go`, `path_decrypt.go` and
`policy.go` of its transit engine: `encrypt` of a key that is not there makes it where the policy lets one `create`; a
derived key needs a context, another one takes no notice of it; associated data is bound by the types that are AEADs; a
version below `min_decryption_version` is refused. Policies, logins, namespaces, tokens that end, and the seal count.

`python -m tests.keys.vault_server [--openbao] [CERTIFICATE-AND-KEY [AUTHORITY]]` prints its port. The first token is
`root`. With `--openbao` a token that has ended is refused without saying so, as there and in Vault before 1.17. With an
authority it asks for clients' certificates.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import ssl
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from fnmatch import fnmatchcase
from typing import NamedTuple, TypeAlias
from urllib.parse import parse_qsl, unquote

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from securecfg.testing.quiet_http import QuietRequest, QuietServer
from tests.keys.vault_answers import Answer, Given, Refusal, refuse
from tests.keys.vault_kv import Plain, Versioned, seconds

AEADS = frozenset({"aes128-gcm96", "aes256-gcm96", "chacha20-poly1305"})
RIGHTS = {"GET": "read", "DELETE": "delete", "LIST": "list"}
DEFAULT = {"auth/token/lookup-self": ["read"], "auth/token/renew-self": ["update"]}
NO_CONTEXT = (
    "missing 'context' for key derivation; the key was created using a derived key, which means additional, "
    "per-request information must be included in order to perform operations with the key"
)


class Asker(NamedTuple):
    """Who asks, and how."""

    token: str
    namespace: str
    certificate: bool


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
class Token:
    """A token, and until when it is one."""

    policies: list[str]
    seconds: int = 0
    seconds_max: int = 0
    is_renewable: bool = True
    begun: float = field(default_factory=time.monotonic)
    renewed: float = field(default_factory=time.monotonic)

    @property
    def has_ended(self) -> bool:
        ends = self.renewed + self.seconds
        if self.seconds_max:
            ends = min(ends, self.begun + self.seconds_max)
        return bool(self.seconds) and time.monotonic() >= ends

    def told(self, token: str) -> Answer:
        left = self.seconds
        if self.seconds_max:
            left = min(left, int(self.begun + self.seconds_max - time.monotonic()))
        auth = {
            "client_token": token,
            "policies": self.policies,
            "renewable": self.is_renewable,
            "lease_duration": left,
        }
        return {"auth": auth}


@dataclass
class Namespace:
    """What one namespace holds."""

    keys: dict[str, Key] = field(default_factory=dict)
    policies: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    roles: dict[str, Given] = field(default_factory=dict)
    secret_ids: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=dict)
    users: dict[str, Given] = field(default_factory=dict)
    engines: dict[str, Plain | Versioned] = field(default_factory=dict)

    def may(self, token: str, right: str, path: str) -> bool:
        return any(right in rights and fnmatchcase(path, pattern) for pattern, rights in self.rules_of(token))

    def rules_of(self, token: str) -> list[tuple[str, list[str]]]:
        known = self.tokens.get(token)
        if known is None or known.has_ended:
            return []
        policies = [self.policies.get(policy, {}) for policy in known.policies]
        return [rule for rules in [DEFAULT, *policies] for rule in rules.items()]

    # --- engines ------------------------------------------------------------------------------------------------------

    def mount(self, path: str, given: Given) -> Answer:
        options = given.get("options") or {}
        version = "2" if given["type"] == "kv-v2" else str(options.get("version", "1"))
        if path in self.engines:
            refuse(400, f"path is already in use at {path}/")
        self.engines[path] = Versioned() if version == "2" else Plain()
        return {}

    def unmount(self, path: str, _given: Given) -> Answer:
        self.engines.pop(path, None)
        return {}

    def list_mounts(self, _path: str, _given: Given) -> Answer:
        return {"data": {f"{path}/": self._told(path) for path in self.engines}}

    def engine_at(self, path: str) -> tuple[str, Plain | Versioned] | None:
        return next(((mount, each) for mount, each in self.engines.items() if f"{path}/".startswith(f"{mount}/")), None)

    def tell_mount(self, path: str, token: str) -> Answer:
        found = self.engine_at(path)
        rules = [pattern.rstrip("*") for pattern, _ in self.rules_of(token)]
        if not found or not (token == "root" or any(_overlap(rule, f"{found[0]}/") for rule in rules)):
            refuse(
                403,
                f'preflight capability check returned 403, please ensure client\'s policies grant access to "{path}/"',
            )
        return {"data": {"path": f"{found[0]}/", **self._told(found[0])}}

    def _told(self, path: str) -> Given:
        return {"type": "kv", "options": {"version": self.engines[path].version}, "accessor": f"kv_{len(path)}"}

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

    def issue(self, given: Given) -> Answer:
        token = f"hvs.canary{secrets.token_hex(12)}"
        policies = _list(given.get("token_policies") or given.get("policies") or [])
        lives, at_most = (seconds(given.get(name) or 0) for name in ("token_ttl", "token_max_ttl"))
        self.tokens[token] = Token(policies, lives, at_most, given.get("token_type") != "batch")
        return self.tokens[token].told(token)

    def make_token(self, _name: str, given: Given) -> Answer:
        return self.issue(given)

    def revoke(self, _name: str, given: Given) -> Answer:
        self.tokens.pop(given["token"], None)
        return {}

    def revoke_all(self, _name: str, _given: Given) -> Answer:
        self.tokens.clear()
        return {}

    def look_up(self, token: str) -> Answer:
        return {"data": {"policies": self.tokens[token].policies}}

    def renew(self, token: str) -> Answer:
        known = self.tokens[token]
        if not known.is_renewable:
            refuse(400, "lease is not renewable")
        known.renewed = time.monotonic()
        return known.told(token)

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
        return self.issue(self.roles[name])

    def log_in_by_kubernetes(self, _name: str, given: Given) -> Answer:
        role = self.roles.get(given["role"])
        if not role:
            refuse(400, f'invalid role name "{given["role"]}"')
        claims = _claims(given["jwt"])
        kind, space, name = claims["sub"].rsplit(":", 2)
        is_bound = name in _list(role["bound_service_account_names"])
        is_bound = is_bound and space in _list(role["bound_service_account_namespaces"])
        if kind != "system:serviceaccount" or not is_bound:
            refuse(403, "service account name not authorized")
        return self.issue(role)

    def set_user(self, name: str, given: Given) -> Answer:
        self.users[name] = given
        return {}

    def log_in_by_password(self, name: str, given: Given) -> Answer:
        user = self.users.get(name)
        if not user or user["password"] != given["password"]:
            refuse(400, "invalid username or password")
        return self.issue(user)

    def log_in_by_jwt(self, _name: str, given: Given) -> Answer:
        role = self.roles.get(given["role"])
        if not role:
            refuse(400, f'role "{given["role"]}" could not be found')
        if _claims(given["jwt"]).get("sub") != role["bound_subject"]:
            refuse(400, "error validating token: invalid subject (sub) claim")
        return self.issue(role)

    def log_in_by_certificate(self, _name: str, given: Given) -> Answer:
        if not given.pop("certificate"):
            refuse(400, "client certificate must be supplied")
        roles = [given["name"]] if "name" in given else list(self.roles)
        found = next((self.roles[role] for role in roles if role in self.roles), None)
        return self.issue(found) if found else refuse(400, "no certificate matched by client certificate")


def _overlap(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def _claims(token: str) -> Given:
    found: Given = json.loads(base64.urlsafe_b64decode(token.split(".")[1]))
    return found


def _list(given: str | list[str]) -> list[str]:
    return given.split(",") if isinstance(given, str) else given  # Vault takes both, and hvac sends both


def _decode(text: str, complaint: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        refuse(400, complaint)


Handle: TypeAlias = Callable[[Namespace, str, Given], Answer]
OPEN: dict[str, Handle] = {  # without a token
    r"auth/approle/login()": Namespace.log_in_by_approle,
    r"auth/kubernetes/login()": Namespace.log_in_by_kubernetes,
    r"auth/userpass/login/([^/]+)": Namespace.log_in_by_password,
    r"auth/(?:team/)?jwt/login()": Namespace.log_in_by_jwt,
    r"auth/cert/login()": Namespace.log_in_by_certificate,
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
    ("PUT", r"auth/token/revoke()"): Namespace.revoke,
    ("PUT", r"sys/leases/revoke-force/auth()"): Namespace.revoke_all,
    ("PUT", r"auth/(?:(?:approle|kubernetes|jwt)/role|cert/certs)/([^/]+)"): Namespace.set_role,
    ("PUT", r"auth/userpass/users/([^/]+)"): Namespace.set_user,
    ("GET", r"sys/mounts()"): Namespace.list_mounts,
    ("PUT", r"sys/mounts/(.+)"): Namespace.mount,
    ("DELETE", r"sys/mounts/(.+)"): Namespace.unmount,
    ("GET", r"auth/approle/role/([^/]+)/role-id"): Namespace.role_id,
    ("PUT", r"auth/approle/role/([^/]+)/secret-id"): Namespace.make_secret_id,
}


OF_TOKENS: dict[tuple[str, str], Callable[[Namespace, str], Answer]] = {
    ("GET", "auth/token/lookup-self"): Namespace.look_up,
    ("PUT", "auth/token/renew-self"): Namespace.renew,
}


class Vault:
    """The server: its namespaces and its seal."""

    def __init__(self, *, is_silent_of_ends: bool = False) -> None:
        self._namespaces: dict[str, Namespace] = {}
        self._sealed = False
        self._is_silent_of_ends = is_silent_of_ends
        self._lock = threading.RLock()

    def handle(self, method: str, path: str, given: Given, params: Given, asker: Asker) -> Answer:
        """Return the answer to a request.

        Raises:
            Refusal: As Vault has it.
        """
        with self._lock:
            return self._handle(method, path, given, params, asker)

    def _handle(  # noqa: PLR0911 - one for each kind of path
        self, method: str, path: str, given: Given, params: Given, asker: Asker
    ) -> Answer:
        token = asker.token
        if path in {"sys/seal", "sys/unseal"} and token == "root":
            self._sealed = path == "sys/seal"
            return {}
        if self._sealed:
            refuse(503, "Vault is sealed")
        here = self._namespaces.setdefault(asker.namespace.strip("/"), Namespace())
        for pattern, log_in in OPEN.items():
            if match := re.fullmatch(pattern, path):
                certificate = {"certificate": asker.certificate} if path.startswith("auth/cert/") else {}
                return log_in(here, match[1], given | certificate)
        if path.startswith("sys/internal/ui/mounts/"):  # which tells nobody whether his token is one
            return here.tell_mount(path.removeprefix("sys/internal/ui/mounts/"), token)
        self._check_token(here, token)
        if (method, path) in OF_TOKENS:
            return OF_TOKENS[method, path](here, token)
        if path.endswith("/") and method == "PUT":
            refuse(400, "cannot write to a path ending in '/'")
        if found := here.engine_at(path):
            return self._ask_engine(here, found, (method, path), given, params, token)
        for (verb, pattern), handle in ROUTES.items():
            match = re.fullmatch(pattern, path)
            if match and verb == method:
                self._check(here, method, path, token)
                return handle(here, match[1], given)
        return refuse(404, f'no handler for route "{path}". route entry not found.')

    def _check_token(self, here: Namespace, token: str) -> None:
        known = here.tokens.get(token)
        if token == "root" or (known and not known.has_ended):
            return
        if self._is_silent_of_ends:
            refuse(403, "permission denied")
        refuse(403, "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n")

    @staticmethod
    def _ask_engine(
        here: Namespace,
        found: tuple[str, Plain | Versioned],
        asked: tuple[str, str],
        given: Given,
        params: Given,
        token: str,
    ) -> Answer:
        (mount, engine), (method, path) = found, asked
        name = path.removeprefix(mount).removeprefix("/")
        right = RIGHTS.get(method) or ("update" if engine.has(name) else "create")
        if token != "root" and not here.may(token, right, f"{path}/" if method == "LIST" else path):
            refuse(403, "1 error occurred:\n\t* permission denied\n\n")
        return engine.handle(method, name, given, params)

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


class Connection(QuietRequest):
    """Answers over HTTP."""

    vault: Vault

    def handle_request(self) -> None:
        """Answer one request."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path, _, query = self.path.partition("?")
        params = dict(parse_qsl(query))
        method = "PUT" if self.command == "POST" else self.command
        if method == "GET" and params.pop("list", "") == "true":
            method = "LIST"
        given = json.loads(body or b"{}")
        certificate = isinstance(self.connection, ssl.SSLSocket) and bool(self.connection.getpeercert())
        asker = Asker(self.headers.get("X-Vault-Token", ""), self.headers.get("X-Vault-Namespace", ""), certificate)
        try:
            answer = self.vault.handle(method, unquote(path.removeprefix("/v1/")), given, params, asker)
            status = 200 if answer else 204
        except Refusal as refusal:
            status, answer = refusal.status, refusal.body
        if status == 200:
            answer = {"request_id": str(uuid.uuid4()), **answer}
        sent = json.dumps(answer).encode() if answer else b""
        self.send_response_only(status)
        self.send_header("Date", formatdate(usegmt=True))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    do_GET = do_POST = do_PUT = do_DELETE = do_LIST = handle_request  # noqa: N815 - as the base class calls them


class Server(QuietServer):
    """Serves it."""


if __name__ == "__main__":
    files = [each for each in sys.argv[1:] if not each.startswith("--")]
    Connection.vault = Vault(is_silent_of_ends="--openbao" in sys.argv)
    server = Server(("127.0.0.1", 0), Connection)
    if files:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(files[0])
        if len(files) > 1:
            tls.load_verify_locations(files[1])
            tls.verify_mode = ssl.CERT_OPTIONAL
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    print(server.server_address[1], flush=True)
    server.serve_forever()
