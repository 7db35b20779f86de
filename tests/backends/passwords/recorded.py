"""What the real programs print, in their words and shapes, with values of our own.

`op`: version 2, as the test data of pyonepassword hold it, which were recorded from the real program
(github.com/zcutlip/pyonepassword at 26501a5, tests/config/mock-op: `item-list-vault-test-data`,
`item-get-example-login-1-vault-test-data`, `item-get-login-section-collision`, and every `error_output`; and
tests/data/test-input-data/valid-data: `example-api-credential`, `example-ssh-key`, `login-item-field-totp`). That there
are too many requests: its issue 137. The desktop app: twpayne/chezmoi issue 2687.

`bw`: version 2026.6.0 of the package @bitwarden/cli, run by hand: without an account, and with one at a server on this
machine that answers `login --apikey`, `unlock` and `sync`, holds these items, and fails in each of these ways. Versions
before leave nothing out, as src/vault/models/cipher.response.ts has it: there is a null where nothing is
(`bw_with_nulls`), and `No Folder` has no id. A crash: bitwarden/clients issue 4587.
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

# --- op ---------------------------------------------------------------------------------------------------------------

OP_AT = "[ERROR] 2026/03/01 09:30:00 "
OP_ERRORS = {
    "usage": OP_AT + 'unknown command "nosuch" for "op"\nUsage:  op [command] [flags]\n',
    "not signed in": OP_AT + "You are not currently signed in. Please run `op signin --help` for instructions\n",
    "no vault": OP_AT + '"%s" isn\'t a vault in this account. Specify the vault with its ID or name.\n',
    "no item": OP_AT + '"%s" isn\'t an item in the "%s" vault. Specify the item with its UUID, name, or domain.\n',
}
OP_ACCOUNT_NOT_SIGNED_IN = OP_AT + "account is not signed in\n"
OP_NO_ACCOUNT = OP_AT + "no account found for filter 5GHHPJK5HZC5BAT7WDUXW57G44\n"
OP_TOKEN_NOT_TAKEN = OP_AT + "service account token set, but not authenticated yet\n"
OP_TOKEN_DELETED = (
    OP_AT + "error initializing client: Authentication: (failed to auth.LookupAuth), Network: (failed to "
    "request.DoUnencrypted), Server: (403) (Forbidden (Service Account Deleted)), The Service Account used in this "
    "integration has been deleted.\n"
)
OP_FORBIDDEN = OP_AT + "(403) Forbidden: You don't have the right permissions to execute this command.\n"
OP_BAD_REQUEST = OP_AT + "(400) Bad Request: The structure of request was invalid.\n"
OP_TOO_MANY = (
    OP_AT + "(429) Too Many Requests: You've reached the maximum number of this type of requests this service account "
    "is allowed to make. Please retry in 58 minutes or try other requests.\n"
)
OP_TOO_MANY_NOW = OP_AT + "(429) Too Many Requests: You've reached the maximum number of this type of requests.\n"
OP_NO_APP = (
    OP_AT + "connecting to desktop app: read: connection reset, make sure the CLI is correctly installed and Connect "
    "with 1Password CLI is enabled in the 1Password app\n"
)
OP_NO_LEAVE = OP_AT + "authorization prompt dismissed, please try again\n"
OP_LATE_LEAVE = OP_AT + "authorization timeout\n"
OP_NO_HOST = OP_AT + 'Get "https://my.1password.com/api/v2/auth": dial tcp: lookup my.1password.com: no such host\n'
OP_SERVER_ERROR = OP_AT + "(500) Internal Server Error: Something went wrong, please try again later.\n"
OP_PANIC = (
    "panic: runtime error: invalid memory address or nil pointer dereference\ngoroutine 1 [running]:\nmain.main()\n"
)

OP_VAULT, OP_VAULT_ID = "Test Data", "gshlsjsajnawtnjynzgwmiebge"


def op_item(id_: str, title: str, fields: list[Json], category: str = "LOGIN", **besides: Any) -> Json:  # noqa: ANN401 - JSON
    """Return an item as `op item get` prints it; without fields and sections, `op item list` does."""
    return {
        "id": id_,
        "title": title,
        "version": 1,
        "vault": {"id": OP_VAULT_ID, "name": OP_VAULT},
        "category": category,
        "last_edited_by": "5GHHPJK5HZC5BAT7WDUXW57G44",
        "created_at": "2020-12-04T00:50:48Z",
        "updated_at": "2022-06-27T01:52:11Z",
        **besides,
        "fields": fields,
    }


OP_EMPTY_NOTE = {
    "id": "notesPlain",
    "type": "STRING",
    "purpose": "NOTES",
    "label": "notesPlain",
    "reference": "op://Test Data/Example Login 1/notesPlain",
}
OP_LOGIN = op_item(
    "nnotgv5xwrhjbdj6bt3rugrijy",
    "Example Login 1",
    [
        {
            "id": "username",
            "type": "STRING",
            "purpose": "USERNAME",
            "label": "username",
            "value": "johndoe",
            "reference": "op://Test Data/Example Login 1/username",
        },
        {
            "id": "password",
            "type": "CONCEALED",
            "purpose": "PASSWORD",
            "label": "password",
            "value": "hunter2-login",
            "entropy": 94.353515625,
            "reference": "op://Test Data/Example Login 1/password",
            "password_details": {"entropy": 94, "generated": True, "strength": "FANTASTIC"},
        },
        OP_EMPTY_NOTE,
        {
            "id": "601BBCABD1734482857A3367E46CC2E6",
            "section": {"id": "Section_967FEBAC931841BCBD2DD7CFE0B8DC82", "label": "Example Section"},
            "type": "STRING",
            "label": "Example Field 1 Label",
            "value": "Example Field 1 Text",
            "reference": "op://Test Data/Example Login 1/Example Section/Example Field 1 Label",
        },
        {
            "id": "5B084397D60C450CAD5BB0B13866ED3B",
            "section": {"id": "Section_967FEBAC931841BCBD2DD7CFE0B8DC82", "label": "Example Section"},
            "type": "URL",
            "label": "Example Field 2 Label",
            "value": "https://example-field-2.url",
            "reference": "op://Test Data/Example Login 1/Example Section/Example Field 2 Label",
        },
        {
            "id": "TOTP_fsgftgqr6da6dl2civ4ktd7dze",
            "section": {"id": "add more"},
            "type": "OTP",
            "label": "one-time password",
            "value": "otpauth://totp/johndoe?secret=AAAAY3DPEHPK3PXP",
            "totp": "649914",
            "reference": "op://Test Data/Example Login 1/add more/one-time password",
        },
    ],
    favorite=True,
    version=6,
    additional_information="johndoe",
    urls=[{"label": "website", "primary": True, "href": "https://example.cheeseburger/login.php"}],
    sections=[{"id": "Section_967FEBAC931841BCBD2DD7CFE0B8DC82", "label": "Example Section"}, {"id": "add more"}],
)
OP_API_CREDENTIAL = op_item(
    "jgou2ypa4ceurm4fetya3kptau",
    "Example API Credential",
    [
        OP_EMPTY_NOTE,
        {"id": "username", "type": "STRING", "label": "username", "value": "__token__"},
        {"id": "credential", "type": "CONCEALED", "label": "credential", "value": "hunter2-credential"},
        {"id": "type", "type": "MENU", "label": "type", "value": "other"},
        {"id": "filename", "type": "STRING", "label": "filename"},
        {"id": "validFrom", "type": "DATE", "label": "valid from", "value": "1641038460"},
        {"id": "expires", "type": "DATE", "label": "expires", "value": "1656590460"},
        {"id": "hostname", "type": "STRING", "label": "hostname", "value": "api.example.com"},
    ],
    "API_CREDENTIAL",
    version=3,
)
OP_SSH_KEY = op_item(
    "k7t4uzbuf3fn7d7wrajh5xb3gi",
    "Example SSH Key",
    [
        OP_EMPTY_NOTE,
        {"id": "public_key", "type": "STRING", "label": "public key", "value": "ssh-ed25519 AAAAC3Nz"},
        {"id": "fingerprint", "type": "STRING", "label": "fingerprint", "value": "SHA256:O+ehRdAh"},
        {"id": "private_key", "type": "SSHKEY", "label": "private key", "value": "-----BEGIN PRIVATE KEY-----\nMFMC\n"},
        {"id": "key_type", "type": "STRING", "label": "key type", "value": "ed25519"},
    ],
    "SSH_KEY",
)
OP_PASSWORD = op_item(
    "2dvgl7kk5yjrq3gxwqimp5awve",
    "Example Password",
    [
        {
            "id": "password",
            "type": "CONCEALED",
            "purpose": "PASSWORD",
            "label": "password",
            "value": "hunter2-password",
            "password_details": {"strength": "FANTASTIC"},
        },
        OP_EMPTY_NOTE,
    ],
    "PASSWORD",
)
OP_NOTE = op_item(
    "zjc6s5ri3rhcxploofa67jamze",
    "Example Secure Note",
    [{**OP_EMPTY_NOTE, "value": "Note text here. **Markdown** supported.\n\nWhat does it look like?"}],
    "SECURE_NOTE",
)
OP_DOCUMENT = op_item("bqxsuvqlswjtlwlsdpe3ueyltm", "Example Document", [OP_EMPTY_NOTE], "DOCUMENT")
OP_CODE = {
    "id": "399BE6B606F64D04AEF7516C8CB286BA",
    "section": {"id": "Section_453C35FE21C643AEAFAFA53BA89D7CF5", "label": "Security Code"},
    "type": "CONCEALED",
    "value": "8294",
    "reference": "op://Test Data/Login Item Section Collisions/Security Code/399BE6B606F64D04AEF7516C8CB286BA",
}
OP_COLLISION = op_item("so3nncwr2l35gcpemjbqqcl5fa", "Login Item Section Collisions", [OP_CODE, OP_CODE])

# --- bw ---------------------------------------------------------------------------------------------------------------

BW_ERRORS = {
    "locked": "Vault is locked.",
    "unknown": 'Unknown object "nosuch". Allowed objects are: items, folders, collections, org-collections, '
    "org-members, organizations.",
}
BW_LOGGED_OUT = "You are not logged in."
BW_NOT_REACHED = (
    "Syncing failed: FetchError: request to https://localhost:18443/api/accounts/revision-date failed, reason: connect "
    "ECONNREFUSED 127.0.0.1:18443"
)
BW_TOO_MANY = "Syncing failed: Rate limit exceeded. Try again later."
BW_SERVER_ERROR = "Syncing failed: An error has occurred."  # what follows is the server's own word
BW_NO_JSON = 'Syncing failed: {"response":null,"statusCode":200}'
BW_CRASH = (
    "/usr/local/lib/node_modules/@bitwarden/cli/build/bw.js:33990\n"
    "TypeError: Cannot read properties of null (reading 'toString')\n    at SyncCommand.<anonymous>\n"
)


def bw_item(id_: str, name: str, kind: int = 2, **parts: Any) -> Json:  # noqa: ANN401 - JSON
    """Return an item as `bw list items` prints it."""
    return {
        "type": kind,
        "name": name,
        "favorite": False,
        "reprompt": 0,
        "id": id_,
        "collectionIds": [],
        "object": "item",
        "fields": [],
        "passwordHistory": [],
        "creationDate": "2025-12-24T18:00:00.000Z",
        "revisionDate": "2026-01-15T08:09:10.123Z",
        "attachments": [],
        **parts,
    }


def bw_field(name: str | None, value: str | None, kind: int = 0, linked: int | None = None) -> Json:
    """Return a field that somebody added: 0 text, 1 hidden, 2 a truth value, 3 linked to another."""
    field = {"type": kind, "name": name, "value": value, "linkedId": linked}
    return {name: part for name, part in field.items() if part is not None}


def bw_with_nulls(item: Json) -> Json:
    """Return an item as versions before 2026 print it, with nulls."""
    missing = dict.fromkeys(("organizationId", "folderId", "notes", "deletedDate", "fields", "passwordHistory"))
    fields = [{"name": None, "value": None, "linkedId": None, **field} for field in item["fields"]]
    login = item.get("login") and {"totp": None, "username": None, **item["login"]}
    return {**missing, **item, "fields": fields or None} | ({"login": login} if login else {})


BW_FOLDER = {"name": "shop/prod", "object": "folder", "id": "00000000-0000-4000-8000-00000000f001"}
BW_COLLECTION = {
    "object": "collection",
    "id": "00000000-0000-4000-8000-00000000c001",
    "organizationId": "00000000-0000-4000-8000-00000000e001",
    "name": "payments",
    "externalId": None,
}
BW_NO_FOLDER = {"name": "No Folder", "object": "folder", "id": ""}
BW_LOGIN = bw_item(
    "1b0d1f0a-0000-4000-8000-000000000001",
    "Example Login",
    1,
    login={
        "uris": [{"uri": "https://example.com"}],
        "username": "johndoe",
        "password": "hunter2-login",
        "totp": "otpauth://totp/johndoe?secret=AAAAY3DPEHPK3PXP",
        "fido2Credentials": [],
        "passwordRevisionDate": "2026-01-15T08:09:10.123Z",
    },
    folderId=BW_FOLDER["id"],
    passwordHistory=[{"lastUsedDate": "2026-01-15T08:09:10.123Z", "password": "hunter1"}],
    notes="ask payments",
    fields=[
        bw_field("pin", "1234", 1),
        bw_field("active", "true", 2),
        bw_field("same as the user", None, 3, 100),
        bw_field("unset", None),
        bw_field(None, "nameless"),
    ],
)
BW_NOTE = bw_item("1b0d1f0a-0000-4000-8000-000000000002", "Example Note", notes="one\ntwo", secureNote={"type": 0})
BW_CARD = bw_item(
    "1b0d1f0a-0000-4000-8000-000000000003",
    "Example Card",
    3,
    card={
        "cardholderName": "John Doe",
        "brand": "visa",
        "number": "4242424242424242",
        "expMonth": "04",
        "expYear": "2031",
    },
)
BW_SSH_KEY = bw_item(
    "1b0d1f0a-0000-4000-8000-000000000004",
    "Example SSH Key",
    5,
    sshKey={
        "privateKey": "-----BEGIN OPENSSH PRIVATE KEY-----\n",
        "publicKey": "ssh-ed25519 AAAA",
        "keyFingerprint": "S",
    },
)
BW_IDENTITY = bw_item(
    "1b0d1f0a-0000-4000-8000-000000000005",
    "Example Identity",
    4,
    identity={"firstName": "John", "lastName": "Doe", "ssn": "123-45-6789"},
)
