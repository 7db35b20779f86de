"""moto's server, where it is known to differ from what AWS documents brought into line: `python moto_server.py`.

- The state of a key counts: a disabled one is `DisabledException`, one that waits for its deletion
  `KMSInvalidStateException`.
- What another key encrypted is `IncorrectKeyException` where the request names a key.
- The ids of multi-region keys are longer than others and are not cut off in ciphertexts.
- A change of a secret is made as a whole before the next one; so is one of a parameter.
- A secret that waits for its deletion takes no change, and its name is not free.
- A staging label is moved only from the version that the request names, and where the new version is there. What is
  read is the version that AWSCURRENT was moved to; other labels stay where they are then. None is moved in a replica.
- An access key that is inactive is not taken.
- Versions have the time at which they were made, to the millisecond; those without labels are listed only if wanted.

Prints the port that it listens on. Everything else is moto: signatures, policies, aliases, encryption contexts.
"""

from __future__ import annotations

import json
import struct
import threading
import time
from typing import TYPE_CHECKING, Any, NoReturn

from moto.core.exceptions import JsonRESTError
from moto.iam import access_control
from moto.kms import models, utils
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.secretsmanager import models as secrets
from moto.ssm import models as ssm
from werkzeug.serving import make_server

if TYPE_CHECKING:
    from collections.abc import Callable

ID_BYTES = 40
LOCK = threading.RLock()


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


def change_one_after_the_other(backend: type, *methods: str) -> None:
    """Let no request see what another one has half done."""

    def alone(method: Callable[..., Any]) -> Callable[..., Any]:
        def locked(*given: Any, **named: Any) -> Any:  # noqa: ANN401 - as moto has it
            with LOCK:
                return method(*given, **named)

        return locked

    for name in methods:
        setattr(backend, name, alone(getattr(backend, name)))


def heed_deletions() -> None:
    """Refuse changes of a secret that waits for its deletion."""
    backend = secrets.SecretsManagerBackend

    def unless_deleted(method: Callable[..., Any], named: str) -> Callable[..., Any]:
        def checked(self: secrets.SecretsManagerBackend, *given: Any, **more: Any) -> Any:  # noqa: ANN401 - as moto has it
            secret = self.secrets.get(given[0] if given else more[named])
            if secret is not None and secret.is_deleted():
                refuse("InvalidRequestException", "The secret was marked for deletion.")
            return method(self, *given, **more)

        return checked

    named = {"create_secret": "name", "tag_resource": "arn", "untag_resource": "arn"}
    for name in ("create_secret", "put_secret_value", "update_secret_version_stage", "tag_resource", "untag_resource"):
        setattr(backend, name, unless_deleted(getattr(backend, name), named.get(name, "secret_id")))


def move_labels_as_aws_does() -> None:
    """Compare where a label is, and read what AWSCURRENT was moved to."""
    move = secrets.SecretsManagerBackend.update_secret_version_stage

    def checked(
        self: secrets.SecretsManagerBackend,
        secret_id: str,
        version_stage: str,
        remove_from_version_id: str,
        move_to_version_id: str,
    ) -> tuple[str, str]:
        secret = self.secrets.get(secret_id)
        if isinstance(secret, secrets.ReplicaSecret):
            refuse("InvalidParameterException", "Operation not permitted on a replica secret.")
        if secret is not None:
            versions = secret.versions
            at = next((one for one, version in versions.items() if version_stage in version["version_stages"]), None)
            if at not in {None, move_to_version_id} and at != remove_from_version_id:
                refuse("InvalidParameterException", "The staging label is attached to another version.")
            if move_to_version_id and move_to_version_id not in versions:
                refuse("ResourceNotFoundException", "There is no such version.")
        moved = move(self, secret_id, version_stage, remove_from_version_id, move_to_version_id)
        if version_stage == "AWSCURRENT" and move_to_version_id:
            self.secrets[secret_id].set_default_version_id(move_to_version_id)  # type: ignore[union-attr]  # no replica
        return moved

    secrets.SecretsManagerBackend.update_secret_version_stage = checked  # type: ignore[method-assign]  # there is no other way in

    def replace(self: secrets.FakeSecret, secret_version: dict[str, Any], version_id: str) -> None:
        for version in self.versions.values():
            version["version_stages"] = [one for one in version["version_stages"] if one != "AWSPREVIOUS"]
        if self.default_version_id:
            stages = self.versions[self.default_version_id]["version_stages"]
            stages[:] = [*(one for one in stages if one != "AWSCURRENT"), "AWSPREVIOUS"]
        self.versions[version_id] = secret_version
        self.default_version_id = version_id

    secrets.FakeSecret.reset_default_version = replace  # type: ignore[method-assign]  # the same


def tell_times_of_versions() -> None:
    """Keep when a version was made, and leave out versions without labels unless they are wanted."""
    add = secrets.SecretsManagerBackend._add_secret

    def timed(self: secrets.SecretsManagerBackend, *given: Any, **named: Any) -> Any:  # noqa: ANN401 - as moto has it
        secret, new_version = add(self, *given, **named)
        version = secret.versions.get(str(named.get("version_id")))
        if version is not None:
            version["createdate"] = round(time.time(), 3)
        return secret, new_version

    secrets.SecretsManagerBackend._add_secret = timed  # type: ignore[method-assign]  # the same

    def listed(self: Any) -> str:  # noqa: ANN401 - as moto has it
        secret = self.backend.describe_secret(self._get_param("SecretId"))
        wants_all = self._get_param("IncludeDeprecated", if_none=False)
        shown = [
            {"VersionId": one, "VersionStages": version["version_stages"], "CreatedDate": version["createdate"]}
            for one, version in secret.versions.items()
            if version["version_stages"] or wants_all
        ]
        start, size = int(self._get_param("NextToken") or 0), int(self._get_param("MaxResults") or 100)
        more = {"NextToken": str(start + size)} if start + size < len(shown) else {}
        return json.dumps({"ARN": secret.arn, "Name": secret.name, "Versions": shown[start : start + size], **more})

    from moto.secretsmanager.responses import SecretsManagerResponse

    SecretsManagerResponse.list_secret_version_ids = listed  # type: ignore[method-assign]  # the same


def refuse_inactive_access_keys() -> None:
    """Take no access key that IAM has deactivated."""
    key_class = access_control.IAMUserAccessKey
    begin = key_class.__init__

    def checked(self: access_control.IAMUserAccessKey, **given: Any) -> None:  # noqa: ANN401 - as moto has it
        begin(self, **given)
        user = self.backend.get_user(self._owner_user_name)
        if user.get_access_key_by_id(self._access_key_id).status != "Active":
            raise access_control.CreateAccessKeyFailure(reason="InvalidId")

    key_class.__init__ = checked  # type: ignore[assignment, method-assign]  # there is no other way in


if __name__ == "__main__":
    refuse_inactive_access_keys()
    keep_long_ids()
    heed_states_and_ids()
    tell_times_of_versions()
    move_labels_as_aws_does()
    heed_deletions()
    change_one_after_the_other(
        secrets.SecretsManagerBackend, "create_secret", "put_secret_value", "update_secret_version_stage"
    )
    change_one_after_the_other(ssm.SimpleSystemManagerBackend, "put_parameter", "label_parameter_version")
    server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
    print(server.port, flush=True)
    server.serve_forever()
