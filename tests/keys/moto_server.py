"""moto's server, where it is known to differ from what AWS documents brought into line: `python moto_server.py`.

- The state of a key counts: a disabled one is `DisabledException`, one that waits for its deletion
  `KMSInvalidStateException`.
- What another key encrypted is `IncorrectKeyException` where the request names a key.
- The ids of multi-region keys are longer than others and are not cut off in ciphertexts.

Prints the port that it listens on. Everything else is moto: signatures, policies, aliases, encryption contexts.
"""

from __future__ import annotations

import struct
from typing import Any, NoReturn

from moto.core.exceptions import JsonRESTError
from moto.kms import models, utils
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

ID_BYTES = 40


def refuse(code: str, message: str) -> NoReturn:
    raise JsonRESTError(code, message)


def keep_long_ids() -> None:
    """Make room for `mrk-` in the header of a ciphertext."""
    utils.HEADER_LEN += ID_BYTES - utils.KEY_ID_LEN
    utils.CIPHERTEXT_HEADER_FORMAT = f">{ID_BYTES}s{utils.IV_LEN}s{utils.TAG_LEN}s"
    parse = utils._deserialize_ciphertext_blob

    def parse_unpadded(ciphertext_blob: bytes) -> utils.Ciphertext:
        ciphertext = parse(ciphertext_blob)
        return ciphertext._replace(key_id=ciphertext.key_id.rstrip("\x00"))

    utils._deserialize_ciphertext_blob = parse_unpadded


def heed_states_and_ids() -> None:
    """Refuse what AWS refuses."""
    backend = models.KmsBackend
    encrypt, decrypt = backend.encrypt, backend.decrypt

    def check(self: models.KmsBackend, key_id: str) -> None:
        key = self.keys.get(self.any_id_to_key_id(key_id))
        state = key.key_state if key else "Enabled"
        if state == "Disabled":
            refuse("DisabledException", f"{key_id} is disabled.")
        if state != "Enabled":
            refuse("KMSInvalidStateException", f"{key_id} is {state}.")

    def checked_encrypt(self: models.KmsBackend, key_id: str, **given: Any) -> Any:  # noqa: ANN401 - as moto has it
        check(self, key_id)
        return encrypt(self, key_id=key_id, **given)

    def checked_decrypt(self: models.KmsBackend, ciphertext_blob: bytes, key_id: str, **given: Any) -> Any:  # noqa: ANN401 - as moto has it
        check(self, key_id)
        try:
            made_with = utils._deserialize_ciphertext_blob(ciphertext_blob).key_id
        except (ValueError, struct.error):
            made_with = ""
        if made_with in self.keys and made_with != self.any_id_to_key_id(key_id):
            refuse("IncorrectKeyException", "The key ID in the request does not identify the key.")
        return decrypt(self, ciphertext_blob=ciphertext_blob, key_id=key_id, **given)

    backend.encrypt = checked_encrypt  # type: ignore[assignment, method-assign]  # there is no other way in
    backend.decrypt = checked_decrypt  # type: ignore[assignment, method-assign]  # the same


if __name__ == "__main__":
    keep_long_ids()
    heed_states_and_ids()
    server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
    print(server.port, flush=True)
    server.serve_forever()
