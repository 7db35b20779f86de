"""Names and passwords of databases, as secrets hold them: in fields, or in a URL."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl, quote, unquote

from securecfg.errors import InvalidRotation
from securecfg.rotation.values import text_of
from securecfg.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from securecfg.rotation.interface import Fields
    from securecfg.rotation.options import GivenOptions

USERNAME, PASSWORD, DATABASE = "username", "password", "dbname"
IDENTITY = frozenset({USERNAME, "host", "port", DATABASE})
"""Of a value with fields; a URL is compared by the rotators themselves."""

# Clients do not agree on a URL with more than one `@`, or with a `/` before it; none of these is taken.
_URL = re.compile(r"([a-z0-9]+)(\+[a-z0-9_]+)?://([^:@/?#\s]+):([^@/?#\s]*)@([^@/?#\s]*)(/[^?#\s]*)?(\?[^#\s]*)?")
# A client takes these from the query although they are said before it.
_ELSEWHERE = frozenset({"user", "username", "password", "passwd", "dbname", "database", "db", "service", "passfile"})


class Login(NamedTuple):
    """Who logs in.

    Attributes:
        username: By this name.
        password: With this.
        database: Into this one; empty where it is not said.
    """

    username: str
    password: Secret[str]
    database: str = ""

    @property
    def is_usable(self) -> bool:
        """Whether a server can be asked about the password at all."""
        password = self.password.reveal()
        return bool(password) and "\0" not in password and is_unicode(password)


def login_of(value: Fields | None, schemes: Sequence[str]) -> Login:
    """Return the login that a value holds.

    Args:
        value: With the fields `username`, `password` and perhaps `dbname`, or a URL.
        schemes: What a URL may begin with.

    Raises:
        InvalidRotation: It holds none.
    """
    if value is not None and "" in value:
        login = _login_of_url(_match(text_of(value, "").reveal(), schemes))
    else:
        database = text_of(value, DATABASE, "").reveal()
        login = Login(text_of(value, USERNAME).reveal(), text_of(value, PASSWORD), database)
    for name in (login.username, login.database):
        if "\0" in name or not is_unicode(name):
            message = "a user or a database in the secret is not text that a server takes"
            raise InvalidRotation(message)
    if not login.username:
        message = "the secret names no user"
        raise InvalidRotation(message)
    return login


def with_login(value: Fields | None, username: str, password: str, schemes: Sequence[str]) -> Secret[str] | Fields:
    """Return a value with another user and password, and all else as it is.

    Raises:
        InvalidRotation: The value is no URL, nor has it fields.
    """
    if value is None or "" not in value:
        return {**(value or {}), USERNAME: Secret(username), PASSWORD: Secret(password)}
    found = _match(text_of(value, "").reveal(), schemes)
    scheme, driver, _, _, server, database, query = (part or "" for part in found.groups())
    return Secret(f"{scheme}{driver}://{quote(username, safe='')}:{quote(password, safe='')}@{server}{database}{query}")


def is_same_url(value: Fields | None, other: Fields | None, schemes: Sequence[str]) -> bool:
    """Return whether two values are URLs that differ in user and password at most, or both are none.

    Raises:
        InvalidRotation: One of them is a text, and no such URL.
    """
    if value is None or other is None or ("" not in value and "" not in other):
        return True
    if "" not in value or "" not in other:
        return False
    parts = [_match(text_of(each, "").reveal(), schemes).group(1, 2, 5, 6, 7) for each in (value, other)]
    return parts[0] == parts[1]


def other_of(users: tuple[str, str], username: str) -> str:
    """Return whose turn it is after a user.

    Raises:
        InvalidRotation: The user is none of the two.
    """
    if username not in users:
        message = "the secret is for neither of the two users that the rotation names"
        raise InvalidRotation(message, hint="write the login of one of them first, or name others in `users`")
    return users[1 - users.index(username)]


def take_users(options: GivenOptions, length_max: int) -> tuple[str, ...]:
    """Return the two users that the option `users` names; none where it is not given.

    Raises:
        InvalidRotation: They are not two, or no names.
    """
    text = options.text("users", "")
    users = tuple(text.split(",")) if text else ()
    wanted = 2
    if users and (len(users) != wanted or len(set(users)) != wanted):
        message = "the option `users` names two users, joined by a comma"
        raise InvalidRotation(message)
    for user in users:
        verify_username(user, length_max)
    return users


def verify_username(username: str, length_max: int) -> None:
    """Verify that a server would take a name as it is, and not as the shorter name of somebody else.

    Raises:
        InvalidRotation: It would not.
    """
    if not username or "\0" in username or not is_unicode(username) or len(username.encode()) > length_max:
        message = f"the name of a user has 1 to {length_max} bytes of UTF-8, and no null character"
        raise InvalidRotation(message)


def verify_options_are_text(rotator: str, options: Mapping[str, str]) -> None:
    """Verify that a server would take some options of a rotator as they are.

    Raises:
        InvalidRotation: It would not, or one is blank.
    """
    if any(not text.strip() or "\0" in text or not is_unicode(text) for text in options.values()):
        names = " and ".join(f"`{name}`" for name in options)
        message = f"the options {names} of the rotator `{rotator}` are text that a server takes"
        raise InvalidRotation(message)


def _match(url: str, schemes: Sequence[str]) -> re.Match[str]:
    found = _URL.fullmatch(url)
    if found is None or found[1] not in schemes or _names_elsewhere(found[7] or ""):
        message = f"the secret has no fields, and is no URL such as `{schemes[0]}://USER:PASSWORD@HOST/DATABASE`"
        raise InvalidRotation(message, hint="characters with a meaning in URLs are percent-encoded")
    return found


def _names_elsewhere(query: str) -> bool:
    return any(name.lower() in _ELSEWHERE for name, _ in parse_qsl(query[1:], keep_blank_values=True))


def _login_of_url(found: re.Match[str]) -> Login:
    try:
        username, password, database = (unquote(found[part] or "", errors="strict") for part in (3, 4, 6))
    except UnicodeDecodeError:
        message = "the URL in the secret is not UTF-8"
        raise InvalidRotation(message) from None
    return Login(username, Secret(password), database.removeprefix("/"))


def is_unicode(text: str) -> bool:
    """Return whether a text can be encoded: Python can hold halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
