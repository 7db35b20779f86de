"""Google Cloud KMS for tests: a gRPC servicer made of the published classes, and its JSON face.

The rules are those that Google documents: the primary version encrypts; a ciphertext names its version and is bound to
the key's name and to the additional authenticated data; a version that is not enabled is `FAILED_PRECONDITION`; a
checksum that does not fit is `INVALID_ARGUMENT`, and those that fit are confirmed. Paths of the JSON face are derived
from the HTTP rules that the client itself is generated from.

Takes the public key of the service accounts as its argument, in PEM. Who asks is told by a token that such an account
has signed by itself: one whose address begins with `admin` may do everything, with `reader` only decrypt, everybody
else nothing. Prints the ports for HTTP and for gRPC.
"""

from __future__ import annotations

import json
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import parse_qsl, urlsplit

import grpc
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.api_core.exceptions import from_grpc_status
from google.auth import exceptions, jwt
from google.cloud import kms_v1
from google.cloud.kms_v1.services.key_management_service.transports.rest_base import (
    _BaseKeyManagementServiceRestTransport as Rules,
)

from securecfg.keys.providers.gcpkms import crc32c

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SERVICE = "google.cloud.kms.v1.KeyManagementService"
AUDIENCE = "https://cloudkms.googleapis.com/"
State = kms_v1.CryptoKeyVersion.CryptoKeyVersionState
Code = grpc.StatusCode


class Refusal(Exception):
    """What the service answers instead."""

    def __init__(self, code: grpc.StatusCode, message: str, violation: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.violation = violation

    def to_json(self) -> bytes:
        """Return the body of the answer over HTTP."""
        http = http_status(self.code)
        error: dict[str, Any] = {"code": http, "message": self.message, "status": self.code.name}
        if self.violation:
            kind = "type.googleapis.com/google.rpc.PreconditionFailure"
            error["details"] = [{"@type": kind, "violations": [{"type": self.violation}]}]
        return json.dumps({"error": error}).encode()


def http_status(code: grpc.StatusCode) -> int:
    return from_grpc_status(code, "").code or 500  # type: ignore[no-untyped-call]  # published without types


def refuse(code: grpc.StatusCode, message: str, violation: str = "") -> NoReturn:
    raise Refusal(code, message, violation)


class CloudKms:
    """Keys, their versions, and what is done with them."""

    def __init__(self) -> None:
        self._keys: dict[str, kms_v1.CryptoKey] = {}
        self._versions: dict[str, kms_v1.CryptoKeyVersion] = {}
        self._material: dict[str, AESGCM] = {}

    def create_crypto_key(self, request: kms_v1.CreateCryptoKeyRequest) -> kms_v1.CryptoKey:
        name = f"{request.parent}/cryptoKeys/{request.crypto_key_id}"
        if name in self._keys:
            refuse(Code.ALREADY_EXISTS, f"CryptoKey {name} already exists.")
        self._keys[name] = kms_v1.CryptoKey(name=name, purpose=request.crypto_key.purpose)
        self._keys[name].primary = self._new_version(name)
        return self._keys[name]

    def create_crypto_key_version(self, request: kms_v1.CreateCryptoKeyVersionRequest) -> kms_v1.CryptoKeyVersion:
        return self._new_version(self._key(request.parent).name)

    def update_crypto_key_primary_version(
        self, request: kms_v1.UpdateCryptoKeyPrimaryVersionRequest
    ) -> kms_v1.CryptoKey:
        key = self._key(request.name)
        key.primary = self._version(f"{key.name}/cryptoKeyVersions/{request.crypto_key_version_id}")
        return key

    def update_crypto_key_version(self, request: kms_v1.UpdateCryptoKeyVersionRequest) -> kms_v1.CryptoKeyVersion:
        version = self._version(request.crypto_key_version.name)
        version.state = State(request.crypto_key_version.state)
        return version

    def destroy_crypto_key_version(self, request: kms_v1.DestroyCryptoKeyVersionRequest) -> kms_v1.CryptoKeyVersion:
        version = self._version(request.name)
        version.state = State(State.DESTROYED)
        del self._material[version.name]
        return version

    def encrypt(self, request: kms_v1.EncryptRequest) -> kms_v1.EncryptResponse:
        key = self._key(request.name)
        if key.purpose != kms_v1.CryptoKey.CryptoKeyPurpose.ENCRYPT_DECRYPT:
            refuse(Code.INVALID_ARGUMENT, f"{key.name} is not for ENCRYPT_DECRYPT.")
        version = self._enabled(key.primary.name)
        plain, aad = request.plaintext, request.additional_authenticated_data
        verified_plaintext = _verify("plaintext", plain, request.plaintext_crc32c)
        verified_aad = _verify("additional_authenticated_data", aad, request.additional_authenticated_data_crc32c)
        nonce = os.urandom(12)
        number = version.name.rpartition("/")[2].encode()
        sealed = self._material[version.name].encrypt(nonce, plain, key.name.encode() + b"\x00" + aad)
        ciphertext = bytes((len(number),)) + number + nonce + sealed
        return kms_v1.EncryptResponse(
            name=version.name,
            ciphertext=ciphertext,
            ciphertext_crc32c=crc32c(ciphertext),
            verified_plaintext_crc32c=verified_plaintext,
            verified_additional_authenticated_data_crc32c=verified_aad,
        )

    def decrypt(self, request: kms_v1.DecryptRequest) -> kms_v1.DecryptResponse:
        key = self._key(request.name)
        ciphertext, aad = request.ciphertext, request.additional_authenticated_data
        _verify("ciphertext", ciphertext, request.ciphertext_crc32c)
        _verify("additional_authenticated_data", aad, request.additional_authenticated_data_crc32c)
        size = ciphertext[0] if ciphertext else 0
        number = ciphertext[1 : 1 + size].decode(errors="replace")
        name = f"{key.name}/cryptoKeyVersions/{number}"
        if name not in self._versions:
            refuse(Code.INVALID_ARGUMENT, "Decryption failed: verify that 'name' refers to the correct CryptoKey.")
        version = self._enabled(name)
        nonce, sealed = ciphertext[1 + size : 13 + size], ciphertext[13 + size :]
        try:
            plain = self._material[name].decrypt(nonce, sealed, key.name.encode() + b"\x00" + aad)
        except (InvalidTag, ValueError):
            refuse(Code.INVALID_ARGUMENT, "Decryption failed: the ciphertext is invalid.")
        return kms_v1.DecryptResponse(
            plaintext=plain, plaintext_crc32c=crc32c(plain), used_primary=version.name == key.primary.name
        )

    def _key(self, name: str) -> kms_v1.CryptoKey:
        return self._keys.get(name) or refuse(Code.NOT_FOUND, f"CryptoKey {name} not found.")

    def _version(self, name: str) -> kms_v1.CryptoKeyVersion:
        return self._versions.get(name) or refuse(Code.NOT_FOUND, f"CryptoKeyVersion {name} not found.")

    def _enabled(self, name: str) -> kms_v1.CryptoKeyVersion:
        version = self._version(name)
        if version.state != State.ENABLED:
            state = State(version.state).name
            message = f"{name} is not enabled, current state is: {state}."
            refuse(Code.FAILED_PRECONDITION, message, f"KEY_{state}")
        return version

    def _new_version(self, key: str) -> kms_v1.CryptoKeyVersion:
        number = sum(name.startswith(f"{key}/") for name in self._versions) + 1
        version = kms_v1.CryptoKeyVersion(name=f"{key}/cryptoKeyVersions/{number}", state=State.ENABLED)
        self._versions[version.name] = version
        self._material[version.name] = AESGCM(os.urandom(32))
        return version


def _verify(field: str, data: bytes, checksum: int | None) -> bool:
    if checksum is not None and checksum != crc32c(data):
        message = f"The checksum in field {field}_crc32c did not match the data in field {field}."
        refuse(Code.INVALID_ARGUMENT, message)
    return checksum is not None


# --- who asks, and what for -------------------------------------------------------------------------------------------

METHODS = (
    "CreateCryptoKey",
    "CreateCryptoKeyVersion",
    "Decrypt",
    "DestroyCryptoKeyVersion",
    "Encrypt",
    "UpdateCryptoKeyPrimaryVersion",
    "UpdateCryptoKeyVersion",
)


class Door:
    """Lets those in who may do what they ask for."""

    def __init__(self, service: CloudKms, public_key: str) -> None:
        self._service = service
        self._public_key = public_key

    def call(self, method: str, request: Any, authorization: str) -> Any:  # noqa: ANN401 - one type for each method
        """Return the answer to a request.

        Raises:
            Refusal: As the service has it.
        """
        try:
            token = authorization.removeprefix("Bearer ")
            caller = jwt.decode(token, self._public_key, audience=AUDIENCE)["sub"]  # type: ignore[no-untyped-call]  # the same
        except (exceptions.GoogleAuthError, ValueError):
            refuse(Code.UNAUTHENTICATED, "Request had invalid authentication credentials.")
        if not caller.startswith("admin") and (not caller.startswith("reader") or method != "Decrypt"):
            permission = f"cloudkms.cryptoKeyVersions.useTo{method}"
            message = f"Permission '{permission}' denied on resource '{request.name}' (or it may not exist)."
            refuse(Code.PERMISSION_DENIED, message)
        handle: Callable[[Any], Any] = getattr(self._service, re.sub("(?<=.)([A-Z])", r"_\1", method).lower())
        return handle(request)


def serve_grpc(door: Door) -> int:
    """Serve the published service and return the port."""

    def handler(method: str) -> grpc.RpcMethodHandler:
        def handle(request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ANN401 - one type for each method
            authorization = dict(context.invocation_metadata()).get("authorization", "")
            try:
                return door.call(method, request, authorization)
            except Refusal as refusal:
                context.abort(refusal.code, refusal.message)

        asked = getattr(kms_v1, f"{method}Request")
        return grpc.unary_unary_rpc_method_handler(
            handle,
            request_deserializer=asked.deserialize,
            response_serializer=lambda answer: type(answer).serialize(answer),
        )

    server = grpc.server(ThreadPoolExecutor(4))
    handlers = {method: handler(method) for method in METHODS}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port: int = server.add_insecure_port("127.0.0.1:0")
    server.start()
    door.grpc_server = server  # type: ignore[attr-defined]  # it stops when nobody holds it
    return port


class Route:
    """A method of the service as HTTP has it."""

    def __init__(self, method: str, rule: Mapping[str, str]) -> None:
        self.method = method
        self.verb = rule["method"].upper()
        self._body = rule.get("body", "")
        field, template = re.findall(r"\{(.+?)=(.+?)\}", rule["uri"])[0]
        self._field: list[str] = field.split(".")
        before, _, after = rule["uri"].partition(f"{{{field}={template}}}")
        resource = re.escape(template).replace(r"\*\*", ".+").replace(r"\*", "[^/]+")
        self._path = re.compile(f"{re.escape(before)}({resource}){re.escape(after)}")

    def parse(self, url: str, body: bytes) -> Any:  # noqa: ANN401 - one type for each method
        """Return the request, or None where it is for another method."""
        parts = urlsplit(url)
        path = self._path.fullmatch(parts.path)
        if not path:
            return None
        fields: dict[str, Any] = {name: value for name, value in parse_qsl(parts.query) if not name.startswith("$")}
        given = json.loads(body) if body else {}
        fields |= given if self._body == "*" else {self._body: given}
        inner: Any = fields
        for name in self._field[:-1]:
            inner = inner[name]
        inner[self._field[-1]] = path[1]
        return getattr(kms_v1, f"{self.method}Request").from_json(json.dumps(fields))


ROUTES = [Route(method, getattr(Rules, f"_Base{method}")._get_http_options()[0]) for method in METHODS]


class JsonFace(BaseHTTPRequestHandler):
    """Answers over HTTP."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    door: Door

    def log_message(self, _format: str, *_args: object) -> None:
        """Say nothing."""

    def handle_request(self) -> None:
        """Answer one request."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            status, answer = 200, self._ask(body)
        except Refusal as refusal:
            status, answer = http_status(refusal.code), refusal.to_json()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_PATCH = handle_request  # noqa: N815 - as the base class calls them

    def _ask(self, body: bytes) -> bytes:
        for route in ROUTES:
            request = route.parse(self.path, body) if route.verb == self.command else None
            if request is not None:
                answer = self.door.call(route.method, request, self.headers.get("Authorization", ""))
                return str(type(answer).to_json(answer)).encode()
        refuse(Code.NOT_FOUND, "The requested URL was not found on this server.")


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    JsonFace.door = Door(CloudKms(), sys.argv[1])
    server = Server(("127.0.0.1", 0), JsonFace)
    print(server.server_address[1], serve_grpc(JsonFace.door), flush=True)
    server.serve_forever()
