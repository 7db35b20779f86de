"""Decide which parts of one scalar are secret, and say why."""

from __future__ import annotations

import re
from enum import Enum
from pathlib import PurePosixPath
from typing import NamedTuple

from securecfg.sources.detection import shapes
from securecfg.sources.detection.names import IDENTIFYING, Meaning, meaning_of, word_set, words_of
from securecfg.sources.detection.scalars import Format, Scalar, Style

_LOCALE_FOLDERS = word_set("locales locale i18n l10n lang langs languages translations")
_LOCALE_STEM = re.compile(r"(?:messages[._-])?(?:en|de|fr|es|pt|nl|pl|ru|ja|zh|ko)(?:[_-][A-Za-z]{2,4})?")
_LOCK_FILE = re.compile(r".*[-.]lock\.(?:json|ya?ml|toml)|.*\.lock")
_ENCRYPTED_BRANCHES = frozenset(["encryptedData", "sops"])
_WORDING_BRANCHES = word_set(
    "messages labels translations i18n placeholders descriptions scopes permissions annotations"
)
_PROSE = word_set("description documentation help help_text example examples summary")
_SCHEMA_WORDS = word_set("string text required optional password hidden input basic plain prompt reset forgot")
_ASSIGNMENT = re.compile(r"([A-Za-z_][\w.-]*)=(\S.*)")
_FLAG = re.compile(r"(?<!\S)--?([A-Za-z][\w-]+)(?:=|[ ]+)(?![-])(\S+)")
_LONE_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{1,30}://\S+")
_ADDRESS = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_VARIABLE = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+")
_MIN_PASSWORD_LENGTH = 4
_MIN_SECRET_LENGTH = 8
_MAX_NAMED_LENGTH = 16 * 1024


class Confidence(Enum):
    """How sure a finding is."""

    CERTAIN = "certain"  # the shape says it
    LIKELY = "likely"  # the name says it and the value may be one
    POSSIBLE = "possible"  # nothing but the randomness of the value


class Match(NamedTuple):
    """One secret within a scalar; `field` is empty where it is the whole value."""

    start: int
    end: int
    why: str
    confidence: Confidence
    field: str = ""
    in_url: bool = False


class Surroundings(NamedTuple):
    """What the file itself says about its values."""

    fmt: Format
    is_wording: bool  # texts for people in one language
    is_lock_file: bool

    @classmethod
    def of(cls, name: str, fmt: Format) -> Surroundings:
        """Return what a file's name says."""
        path = PurePosixPath(name)
        is_wording = bool(_LOCALE_FOLDERS.intersection(path.parent.parts)) or bool(_LOCALE_STEM.fullmatch(path.stem))
        return cls(fmt, is_wording, bool(_LOCK_FILE.fullmatch(path.name)))


def judge(scalar: Scalar, around: Surroundings) -> list[Match]:
    """Return the secrets in one scalar, in the order of the value, without overlaps."""
    value = scalar.value
    if scalar.style is Style.FIXED or not value.strip() or "${secret:" in value:
        return []
    if _ENCRYPTED_BRANCHES.intersection(key for key in scalar.keys if isinstance(key, str)):
        return []
    if any(str(key).lower() in _PROSE for key in scalar.keys[-2:]):
        return []
    kind = shapes.whole_secret(value)
    if kind:
        return [Match(0, len(value), kind, Confidence.CERTAIN)]
    matches = _by_shape(value)
    if matches:
        return matches
    return _by_name(scalar, around) or _by_randomness(scalar, around)


def is_numeric_password(scalar: Scalar) -> bool:
    """Tell whether a scalar is a number under a name that says password: not text, so it cannot become a reference."""
    return (
        scalar.style is Style.FIXED
        and len(scalar.value) >= _MIN_PASSWORD_LENGTH
        and scalar.value.isdecimal()
        and any(meaning_of(name, in_list=many) is Meaning.PASSWORD for name, many in _names(scalar))
    )


def _by_shape(value: str) -> list[Match]:
    kept: list[Match] = []
    for part in shapes.secret_parts(value):
        if any(part.start < match.end and match.start < part.end for match in kept):
            continue
        if part.start == 0 and part.end == len(value):
            return [Match(0, len(value), part.why, Confidence.CERTAIN)]
        kept.append(Match(part.start, part.end, part.why, Confidence.CERTAIN, part.field, part.in_url))
    return sorted(kept)


def _names(scalar: Scalar) -> list[tuple[str, bool]]:
    own = [(key, False) for key in scalar.named_by]
    if scalar.keys:
        last = scalar.keys[-1]
        if isinstance(last, str):
            above = scalar.keys[-2] if len(scalar.keys) > 1 else ""
            own.append((f"{above}.{last}" if last.lower() == "key" else last, False))  # `jwt: {key: ...}`
        elif len(scalar.keys) > 1 and isinstance(scalar.keys[-2], str):
            own.append((scalar.keys[-2], True))
    return own


def _by_name(scalar: Scalar, around: Surroundings) -> list[Match]:
    value = scalar.value
    if around.is_wording or len(value) > _MAX_NAMED_LENGTH:
        return []
    if _WORDING_BRANCHES.intersection(str(key).lower() for key in scalar.keys[:-1]):
        return []
    for name, in_list in _names(scalar):
        meaning = meaning_of(name, in_list=in_list)
        if meaning is not Meaning.NOTHING and _may_be(meaning, name, value, around.fmt):
            return [Match(0, len(value), _reason(name, in_list=in_list), Confidence.LIKELY)]
    assigned = _ASSIGNMENT.fullmatch(value)
    return [
        Match(each.start(2), each.end(2), _reason(each.group(1)), Confidence.LIKELY, each.group(1))
        for each in ([assigned] if assigned is not None else _FLAG.finditer(value))
        if (meaning := meaning_of(each.group(1))) is not Meaning.NOTHING
        and _may_be(meaning, each.group(1), each.group(2), Format.DOTENV)
    ]


def _reason(name: str, *, in_list: bool = False) -> str:
    meaning = meaning_of(name, in_list=in_list)
    if meaning in {Meaning.PASSWORD, Meaning.PASSPHRASE}:
        return "name says password"
    said = "".join(words_of(name))
    return f"name says {next((word for word in ('token', 'key') if word in said), 'secret')}"


def _may_be(meaning: Meaning, name: str, value: str, fmt: Format) -> bool:
    if shapes.is_placeholder(value) or shapes.looks_like_example(value) or _is_something_else(name, value):
        return False
    is_for_machines = fmt in {Format.DOTENV, Format.INI}
    if meaning is Meaning.PASSWORD and not is_for_machines and shapes.is_sentence(value):
        return False
    if meaning in {Meaning.PASSWORD, Meaning.PASSPHRASE}:
        is_schema = not is_for_machines and len(words_of(name)) == 1 and value.lower() in _SCHEMA_WORDS
        return len(value) >= _MIN_PASSWORD_LENGTH and not is_schema
    if len(value) < _MIN_SECRET_LENGTH or any(character.isspace() for character in value) or value.isdecimal():
        return False
    return is_for_machines or meaning is Meaning.OWNED_SECRET or not shapes.is_identifier(value)


def _is_something_else(name: str, value: str) -> bool:
    if len(words_of(name)) == 1 and words_of(value) == words_of(name):
        return True  # `password: password` maps a field, or labels it
    if _VARIABLE.fullmatch(value) and meaning_of(value) is not Meaning.NOTHING:
        return True  # `password: DB_PASSWORD` says which variable holds it
    return bool(shapes.is_path(value) or _LONE_URL.fullmatch(value) or _ADDRESS.fullmatch(value))


def _by_randomness(scalar: Scalar, around: Surroundings) -> list[Match]:
    value = scalar.value
    if around.is_lock_file or around.is_wording or shapes.is_placeholder(value) or shapes.looks_like_example(value):
        return []
    if any(IDENTIFYING.intersection(words_of(str(key))) for key in scalar.keys[-2:]):
        return []
    if not shapes.is_random(value) or any(isinstance(key, int) for key in scalar.keys[-1:]):
        return []  # one of a list is data: hashes, proofs, certificates
    return [Match(0, len(value), "looks random", Confidence.POSSIBLE)]
