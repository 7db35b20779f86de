"""The trust file of SSHSIG: which keys may sign, for whom, for what and when.

The format is that of `allowed_signers` in ssh-keygen(1), section ALLOWED SIGNERS. A file with one wrong line is refused
as a whole: a typing error in an option must not widen what a key may do. Lines with `cert-authority` are refused as
unsupported, since ignoring them would hide that their holders cannot sign.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from securecfg.errors import InvalidTrustFile, Unsupported
from securecfg.octets import Cursor

MAX_FILE_BYTES = 1 << 20

# What may stand in the place of the key type; any other word there is read as options, as OpenSSH does.
_KEY_TYPE = re.compile(
    r"(ssh-(dss|ed25519|rsa)|ecdsa-sha2-[a-z0-9]+|sk-[a-z0-9-]+@openssh\.com|[a-z0-9-]+-cert-v01@.*)"
)
_OPTION = re.compile(r'([A-Za-z-]+)(?:="((?:[^"\\]|\\.)*)")?(?:,|$)')
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_TIMESTAMP_FORMATS = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}


@dataclass(frozen=True, slots=True)
class AllowedSigner:
    """One line: a key and what it may sign.

    Attributes:
        principals: The pattern list of whom the key speaks for, as written.
        key: The public key in SSH's wire form (RFC 4253 section 6.6).
        namespaces: The pattern list of namespaces that the key may sign for; None means all.
        valid_after_s: The first second at which the key is trusted, since 1970; None means always.
        valid_before_s: The last second at which the key is trusted, since 1970; None means for ever.
    """

    principals: str
    key: bytes
    namespaces: str | None = None
    valid_after_s: int | None = None
    valid_before_s: int | None = None


def parse_allowed_signers(content: bytes, *, source: str = "allowed_signers") -> tuple[AllowedSigner, ...]:
    """Parse a trust file.

    Args:
        content: The file's bytes.
        source: What to call the file in messages.

    Raises:
        InvalidTrustFile: A line is wrong; the message names file, line and column.
        Unsupported: A line trusts a certificate authority.
    """
    if len(content) > MAX_FILE_BYTES:
        message = f"{source}: larger than {MAX_FILE_BYTES} bytes"
        raise InvalidTrustFile(message)
    signers = []
    for number, raw in enumerate(content.split(b"\n"), start=1):
        place = f"{source}:{number}"
        try:
            line = raw.decode()
        except UnicodeDecodeError as error:
            raise _wrong(place, error.start, "not UTF-8") from None
        control = _CONTROL.search(line)
        if control:
            raise _wrong(place, control.start(), "a control character")
        if line.strip() and not line.lstrip().startswith("#"):
            signers.append(_parse_line(line, place))
    return tuple(signers)


def is_match(text: str, pattern_list: str) -> bool:
    """Return whether text matches a pattern list: at least one pattern, and none of those with a `!` in front.

    `*` stands for any characters and `?` for one; case counts (ssh_config(5), section PATTERNS).
    """
    matched = False
    for pattern in pattern_list.split(","):
        if pattern.startswith("!"):
            if _is_glob_match(text, pattern[1:]):
                return False
        elif _is_glob_match(text, pattern):
            matched = True
    return matched


def _is_glob_match(text: str, pattern: str) -> bool:
    # On a mismatch only the last star takes one character more: at most len(text) * len(pattern) steps.
    position = index = 0
    after_star, resume = None, 0
    while position < len(text):
        if index < len(pattern) and pattern[index] == "*":
            index += 1
            after_star, resume = index, position
        elif index < len(pattern) and pattern[index] in ("?", text[position]):
            index += 1
            position += 1
        elif after_star is not None:
            resume += 1
            index, position = after_star, resume
        else:
            return False
    return pattern[index:].strip("*") == ""


def _parse_line(line: str, place: str) -> AllowedSigner:
    start = _skip_blanks(line, 0)
    word, position = _take_word(line, start, place)
    principals = word[1:-1] if word.startswith('"') else word
    if not principals or '"' in principals:
        raise _wrong(place, start, "the principals are malformed")
    start = _skip_blanks(line, position)
    word, position = _take_word(line, start, place)
    options: dict[str, str | None] = {}
    if not _KEY_TYPE.fullmatch(word):
        options = _parse_options(word, start, place)
        start = _skip_blanks(line, position)
        word, position = _take_word(line, start, place)
    key = _parse_key(word, line, start, position, place)
    if "cert-authority" in options or "-cert-v01@" in word:
        message = f"{place}: certificate authorities are not supported"
        raise Unsupported(message, hint="list the signers' own keys, one to a line")
    after = _parse_timestamp(options, "valid-after", place)
    before = _parse_timestamp(options, "valid-before", place)
    if after is not None and before is not None and before <= after:
        raise _wrong(place, 0, "`valid-before` is not later than `valid-after`")
    return AllowedSigner(principals, key, options.get("namespaces"), after, before)


def _parse_options(text: str, offset: int, place: str) -> dict[str, str | None]:
    options: dict[str, str | None] = {}
    position = 0
    while position < len(text):
        match = _OPTION.match(text, position)
        if not match or (match.end() == len(text) and text.endswith(",")):
            raise _wrong(place, offset + position, f"an option is malformed: `{text[position:][:40]}`")
        name, value = match[1].lower(), match[2]
        if name not in {"cert-authority", "namespaces", "valid-after", "valid-before"}:
            raise _wrong(place, offset + position, f"unknown option `{name}`")
        if name in options:
            raise _wrong(place, offset + position, f"option `{name}` is given twice")
        if (value is None) != (name == "cert-authority"):
            expected = "takes no value" if name == "cert-authority" else 'needs a value in quotes, `="..."`'
            raise _wrong(place, offset + position, f"option `{name}` {expected}")
        options[name] = value.replace('\\"', '"') if value is not None else None
        position = match.end()
    return options


def _parse_timestamp(options: dict[str, str | None], name: str, place: str) -> int | None:
    """Return seconds since 1970 of `YYYYMMDD[HHMM[SS]][Z]`: with `Z` in UTC, else in the machine's own time zone."""
    text = options.get(name)
    if text is None:
        return None
    digits = text.removesuffix("Z")
    layout = _TIMESTAMP_FORMATS.get(len(digits))
    try:
        if not layout or not digits.isascii() or not digits.isdigit():
            raise ValueError
        moment = datetime.strptime(digits, layout)  # noqa: DTZ007 - the zone is set below, or is the machine's
        return int((moment.replace(tzinfo=UTC) if text.endswith("Z") else moment).timestamp())
    except (ValueError, OverflowError):
        raise _wrong(place, 0, f"`{name}` is not a time: `{text[:40]}`", "YYYYMMDD, or YYYYMMDDHHMMSSZ") from None


def _parse_key(word: str, line: str, start: int, position: int, place: str) -> bytes:
    if not _KEY_TYPE.fullmatch(word):
        raise _wrong(place, start, "no key type", "a line is: principals, options, key type, key")
    begin = _skip_blanks(line, position)
    encoded = line[begin:].replace("\t", " ").split(" ", 1)[0]
    try:
        key = base64.b64decode(encoded, validate=True)
        named = Cursor(key).var32()
    except ValueError:
        raise _wrong(place, begin, "the key is not valid base64 of a public key") from None
    if named != word.encode():
        raise _wrong(place, begin, f"the key is not of type `{word}`")
    return key


def _take_word(line: str, start: int, place: str) -> tuple[str, int]:
    """Return the word that begins at `start` and where it ends; blanks inside double quotes belong to it."""
    quoted = False
    position = start
    while position < len(line) and (quoted or line[position] not in " \t"):
        if line[position] == "\\" and line[position + 1 : position + 2] == '"':
            position += 1
        elif line[position] == '"':
            quoted = not quoted
        position += 1
    if quoted:
        raise _wrong(place, start, "a quotation mark is not closed")
    return line[start:position], position


def _skip_blanks(line: str, position: int) -> int:
    return len(line) - len(line[position:].lstrip(" \t"))


def _wrong(place: str, offset: int, problem: str, hint: str = "") -> InvalidTrustFile:
    return InvalidTrustFile(f"{place}:{offset + 1}: {problem}", hint=hint)
