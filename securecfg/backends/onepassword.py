"""`1password:VAULT` - the items of a vault of 1Password, read through its program `op`, version 2.

1. op item list   which items there are; which one has the title
2. op item get    that one, by its id

A title is not handed to `op`: it would take it for an id, a domain or a link as well, and compares it in its own way.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote

from securecfg.backends.interface import Capabilities, Kind
from securecfg.backends.password_items import (
    NOTES,
    PASSWORD,
    PATH_BYTES_MAX,
    USERNAME,
    VALUE_BYTES_MAX,
    Field,
    found,
    not_found,
    titles,
    verify_is_one,
)
from securecfg.backends.program import SURROUNDINGS, Deadline, Program, parse_place, parse_shown, variables
from securecfg.backends.uri import take_options
from securecfg.errors import (
    BackendDenied,
    BackendLoginRefused,
    BackendNotReached,
    BackendRefused,
    BackendUnavailable,
    InvalidBackendUri,
    SecurecfgError,
)
from securecfg.keys.credentials import CredentialMissing, find_credential

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from securecfg.backends.interface import BackendUri, Found
    from securecfg.backends.program import Output
    from securecfg.secret import Secret

TOKEN_VARIABLE = "OP_SERVICE_ACCOUNT_TOKEN"  # noqa: S105 - where it is, not what it is
CREDENTIALS = (TOKEN_VARIABLE,)
_VARIABLES = frozenset(
    {*SURROUNDINGS, TOKEN_VARIABLE, "OP_CONNECT_HOST", "OP_CONNECT_TOKEN", "OP_ACCOUNT", "OP_BIOMETRIC_UNLOCK_ENABLED"}
)
_SESSIONS = re.compile(r"OP_SESSION_\w+", re.ASCII)
_NAMES = {"USERNAME": USERNAME, "PASSWORD": PASSWORD, "NOTES": NOTES}
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)
_KEPT_BACK = re.compile(r"\[use 'op item get .* --reveal' to reveal\]")

# What `op` says where it fails, in this order, without what it quotes. It has one exit code for all of it.
_QUOTED = re.compile(r'"[^"]*"')
_TOO_OFTEN = re.compile(r"\(429\)|too many requests", re.IGNORECASE)
_RETRY = re.compile(r"retry in (\d{1,5}) (second|minute|hour)", re.IGNORECASE)
_SECONDS = {"second": 1, "minute": 60, "hour": 3_600}
_PROMPT = re.compile(r"authorization", re.IGNORECASE)
_DISTURBED = re.compile(
    r"\(5\d\d\)|dial tcp|no such host|connection re(?:fused|set)|timeout|timed out|deadline exceeded|unreachable"
    r"|desktop app",
    re.IGNORECASE,
)
_NOT_SIGNED_IN = re.compile(
    r"\(401\)|not (?:currently |yet )?(?:signed in|authenticated)|session expired|no accounts? (?:found|configured)"
    r"|service account (?:deleted|token)|authentication|unauthorized",
    re.IGNORECASE,
)
_DENIED = re.compile(r"\(403\)|forbidden|permission", re.IGNORECASE)
_NO_ITEM = re.compile(r"isn't an item")
_NO_VAULT = re.compile(r"isn't a vault")


class Login(NamedTuple):
    """Whose vaults are read; where nothing is said, those that `op` reads by itself.

    Attributes:
        account: An account that `op` knows.
        file: With the token of a service account.
        variable: The variable that holds it instead.
        given: The token itself, under the name of its own variable; it stands before all else.
    """

    account: str
    file: str
    variable: str
    given: Mapping[str, Secret[str]] = MappingProxyType({})


class OnePassword:
    """Reads the items of one vault.

    Args:
        program: The command line of 1Password.
        vault: Its name or id.
        login: Whose it is.
    """

    scheme: Final = "1password"
    capabilities: Final = Capabilities(frozenset({Kind.TEXT, Kind.FIELDS}), VALUE_BYTES_MAX, PATH_BYTES_MAX)

    def __init__(self, program: Program, vault: str, login: Login) -> None:
        """Run nothing yet."""
        self._program, self._vault, self._login = program, vault, login
        self.name = f"vault `{vault}`"
        self._title = f"the vault `{vault}` of 1Password"

    def __repr__(self) -> str:
        """Show which vault."""
        return f"OnePassword({self._vault!r})"

    def read(self, path: str, _version: str | None) -> Found:
        """Return an item: the numbers are those of the module.

        Raises:
            SecretNotFound: There is none with this title, or it has no field with a text.
            BackendRefused: Several have it, two fields have one name, or there is no such vault.
            SecurecfgError: See section 7 of the contract.
        """
        deadline = Deadline()
        # 1
        ids = [id_ for id_, title in self._list(deadline) if title == path]
        verify_is_one(path, len(ids), self._title)
        # 2
        output = self._run(["item", "get", ids[0]], deadline, path)
        try:
            item = output.parse()
            if item["id"] != ids[0] or type(item["version"]) is not int:
                raise _senseless()
            return found(path, _fields(item), str(item["version"]), item.get("updated_at"))
        except (LookupError, TypeError, AttributeError, ValueError):
            failure = _senseless()
        raise failure  # here, so that it drags along nothing that quotes the item

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the titles that one item each has."""
        yield from titles([title for _, title in self._list(Deadline())], prefix)

    def _list(self, deadline: Deadline) -> Sequence[tuple[str, str]]:
        """Return the ids and titles of the items that are not archived."""
        output = self._run(["item", "list"], deadline, "")
        try:
            items = [(item["id"], item["title"]) for item in output.parse()]
        except (LookupError, TypeError, ValueError):
            raise _senseless() from None
        for id_, title in items:
            # An id becomes an argument.
            if not isinstance(title, str) or not isinstance(id_, str) or not _ID.fullmatch(id_):
                raise _senseless()
        return items

    def _run(self, what: Sequence[str], deadline: Deadline, path: str) -> Output:
        arguments = [*what, f"--vault={self._vault}", "--format=json", "--cache=false", "--no-color"]
        if self._login.account:
            arguments.append(f"--account={self._login.account}")
        output = self._program.run(arguments, self._variables(), deadline)
        if output.code:
            raise self._failure(output, path)
        return output

    def _variables(self) -> dict[str, str]:
        _, file, variable, given = self._login
        if given:
            file, variable = "", TOKEN_VARIABLE
        elif not (file or variable):
            return variables(_VARIABLES, _SESSIONS)
        try:
            token = find_credential(file, variable, given=given)
        except CredentialMissing as error:
            message = "there is no token of a service account of 1Password"
            raise BackendLoginRefused(message, hint=f"looked for in {error.places}") from None
        # Nothing else that could log in: a Connect server would go before the token.
        return {**variables(SURROUNDINGS), TOKEN_VARIABLE: token}

    def _failure(self, output: Output, path: str) -> SecurecfgError:  # noqa: PLR0911 - one for each thing it may say
        """Return the error for a run that failed; nothing of what the program says is shown."""
        said = _QUOTED.sub("", output.complaint)
        if "[ERROR]" not in said:
            how = f"exit code {output.code}" if output.code > 0 else f"signal {-output.code}"
            return BackendUnavailable(f"`op` broke down ({how})", hint="try again later")
        if _TOO_OFTEN.search(said):
            failure = BackendNotReached("1Password has been asked too often", hint="`op service-account ratelimit`")
            if retry := _RETRY.search(said):
                failure.retry_after_s = float(int(retry[1]) * _SECONDS[retry[2].lower()])
            return failure
        if not _PROMPT.search(said) and _DISTURBED.search(said):
            return BackendUnavailable("1Password cannot be reached, or is disturbed", hint="try again later")
        if _PROMPT.search(said) or _NOT_SIGNED_IN.search(said):
            message = "1Password takes nobody for signed in, or the token of the service account for none"
            return BackendLoginRefused(message, hint=f"`op whoami`; {TOKEN_VARIABLE}, or unlock the app")
        if _DENIED.search(said):
            message = f"1Password does not let this account read {self._title}"
            return BackendDenied(message, hint="a service account needs `read_items` in the vault")
        if _NO_ITEM.search(said):
            return not_found(path, self._title)
        if _NO_VAULT.search(said):
            message = f"there is no vault `{self._vault}` that this account of 1Password may read"
            return BackendRefused(message, hint="`op vault list` shows those that there are")
        message = f"`op` refuses what was asked (exit code {output.code})"
        return BackendRefused(message, hint="run `op item list --vault VAULT` by itself to see what it says")


def _fields(item: Mapping[str, Any]) -> list[Field]:
    """Return the filled fields of an item.

    Raises:
        LookupError, TypeError, AttributeError: It is none.
        BackendRefused: A value is kept back.
    """
    fields = []
    for field in item.get("fields") or ():
        text = field.get("value")
        if text is None or text == "":
            continue
        if not isinstance(text, str):
            raise TypeError
        if _KEPT_BACK.fullmatch(text):
            message = "`op` shows a stand-in instead of a concealed field"
            raise BackendRefused(message, hint="another version of `op` may show it")
        fields.append(Field(_name(field), text))
    return fields


def _name(field: Mapping[str, Any]) -> str:
    """Return `SECTION/LABEL`, as a secret reference has it; the label alone where the section has none."""
    built_in = _NAMES.get(field.get("purpose") or "")
    if built_in:
        return built_in
    section = (field.get("section") or {}).get("label") or ""
    label = field.get("label") or field["id"]
    return f"{section}/{label}" if section else str(label)


def _senseless() -> BackendUnavailable:
    return BackendUnavailable("what `op` prints makes no sense", hint="is it version 2 of the 1Password CLI?")


def from_uri(uri: BackendUri) -> OnePassword:
    """Return the backend for `1password:VAULT`, with options after a `?`.

    Raises:
        InvalidBackendUri: The URI says something else.
    """
    options = take_options(uri, ("account", "env", "file", "program"), CREDENTIALS)
    vault = unquote(uri.rest)
    if not vault or not vault.isprintable():
        message = "a `1password:` URI names a vault, by its name or its id"
        raise InvalidBackendUri(message, hint="for instance `1password:Production`")
    account, (file, variable) = options.get("account", ""), parse_shown(uri.scheme, options)
    if not account.isprintable() or ("account" in options and (not account or file or variable or uri.credentials)):
        message = "the `account` of a `1password:` URI is one that `op` knows, and goes with no token"
        raise InvalidBackendUri(message, hint="`op account list` shows those that there are")
    login = Login(account, file, variable, uri.credentials)
    program = Program("op", parse_place(uri.scheme, options), "install the 1Password CLI, version 2")
    return OnePassword(program, vault, login)
