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

import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.cloud import kms_v1
from google.cloud.kms_v1.services.key_management_service.transports.rest_base import (
    _BaseKeyManagementServiceRestTransport as Rules,
)

from securecfg.keys.gcp import crc32c
from tests.keys.google_http import Code, JsonFace, Refusal, Server, caller_of, refuse, routes, verify_checksum

if TYPE_CHECKING:
    from collections.abc import Callable

SERVICE = "google.cloud.kms.v1.KeyManagementService"
AUDIENCE = "https://cloudkms.googleapis.com/"
State = kms_v1.CryptoKeyVersion.CryptoKeyVersionState


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
        verified_plaintext = verify_checksum("plaintext", plain, request.plaintext_crc32c)
        verified_aad = verify_checksum(
            "additional_authenticated_data", aad, request.additional_authenticated_data_crc32c
        )
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
        verify_checksum("ciphertext", ciphertext, request.ciphertext_crc32c)
        verify_checksum("additional_authenticated_data", aad, request.additional_authenticated_data_crc32c)
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
        caller = caller_of(authorization, self._public_key, AUDIENCE)
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


class KmsFace(JsonFace):
    """The JSON face."""

    routes = routes(Rules, kms_v1, METHODS)


if __name__ == "__main__":
    door = Door(CloudKms(), sys.argv[1])
    KmsFace.call = door.call
    server = Server(("127.0.0.1", 0), KmsFace)
    print(server.server_address[1], serve_grpc(door), flush=True)
    server.serve_forever()
