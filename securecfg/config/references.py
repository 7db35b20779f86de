"""References to secrets: `${secret:payments/stripe/api_key}` in a text, or `!secret path` in YAML.

A text that contains a reference is a `Secret` as a whole. It stays symbolic until it is revealed, or until a model that
needs it is bound; then a `SecretResolver` is asked, once for all references that are needed at that moment.
"""

from __future__ import annotations

import copy
import re
import unicodedata
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar, cast

from securecfg.config.tree import origin_in
from securecfg.errors import ConfigTypeError, InvalidReference, SecurecfgError, SettingMissing
from securecfg.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from securecfg.config.tree import Layer, Origin, Place

MAX_PATH_BYTES = 1024

_LABEL = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_VERSION = re.compile(r"[1-9][0-9]{0,17}")
_BODY = re.compile(
    r"(?P<path>[^#@{}*?|]*)(?:#(?P<field>[^#@{}*?|/]*))?(?:@(?P<at>[^#@{}*?|/]*))?(?:\|(?P<quote>[^#@{}*?|/]*))?"
)
# `$${` is a literal `${`. What only looks like a reference (`${Secret:`, `${ secret:`, `${secrets:`) is a mistake that
# must not pass as text; any other `${` belongs to somebody else and stays as it is.
_MARK = re.compile(r"\$\$\{|\$\{secret:|\$\{\s*secrets?\s*[:}]", re.IGNORECASE)
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})

_OPENING = "${secret:"
# RFC 3986, section 2.2: the sub-delimiters, all of which section 3.2.1 allows in user information. In a query `&`, `+`,
# `;` and `=` have a meaning of their own.
_SAFE_IN_USER_INFORMATION = "!$&'()*+,;="
_SAFE_ANYWHERE = "!$'()*,"
_AUTHORITY_ENDS = re.compile(r"[/?#@\s]")
_HINT = "write `${secret:PATH}`, with `#field`, `@3` or `@previous`, and `|url` after it where needed"


@dataclass(frozen=True, slots=True)
class Reference:
    """Which secret is meant.

    Attributes:
        path: The secret's path.
        field: The field of a secret that has fields, or None.
        at: A version number, a label such as `previous`, or None for the current version.
        quote: `url` where the value must be quoted for use inside a URL, or None. A resolver ignores it.
    """

    path: str
    field: str | None = None
    at: int | str | None = None
    quote: Literal["url"] | None = None

    def __str__(self) -> str:
        """Spell it as it is written in a configuration."""
        field = "" if self.field is None else f"#{self.field}"
        at = "" if self.at is None else f"@{self.at}"
        quote = "" if self.quote is None else f"|{self.quote}"
        return f"{_OPENING}{self.path}{field}{at}{quote}}}"


class SecretResolver(Protocol):
    """Who knows the secrets. The caller is whoever the resolver speaks for; it decides and records each access."""

    def resolve(self, references: Sequence[Reference], /) -> Sequence[Secret[str] | Secret[bytes] | SecurecfgError]:
        """Return, for each reference and in their order, its secret or the error that explains why there is none.

        All references of a call belong together: their accesses are recorded in one go. `quote` is none of the
        resolver's business. A secret that has fields needs a `field`.

        Raises:
            SecurecfgError: Nothing could be resolved, for instance because the vault is closed.
        """
        ...


def parse_reference(body: str) -> Reference:
    """Parse what stands between `${secret:` and `}`: `PATH[#FIELD][@AT][|url]`.

    Raises:
        InvalidReference: It does not follow this form.
    """
    match = _BODY.fullmatch(body)
    path, field, at, quote = match.group("path", "field", "at", "quote") if match else ("", None, None, None)
    problem = _problem_of(path, field, at, quote) if match else "does not have the form `PATH#FIELD@AT|url`"
    if problem:
        # What stands in it is not repeated: someone may have put the secret itself there.
        message = f"a reference {problem}"
        raise InvalidReference(message, hint=_HINT)
    version = int(at) if at is not None and at[0].isdecimal() else at
    return Reference(path, field, version, cast("Literal['url'] | None", quote))


@dataclass(frozen=True, slots=True)
class Template:
    """A text with references in it.

    Attributes:
        parts: Literal text and references, in order; no two literals beside each other.
    """

    parts: tuple[str | Reference, ...]

    @property
    def references(self) -> tuple[Reference, ...]:
        """The references to resolve, each once, without their quoting."""
        return unquoted(part for part in self.parts if isinstance(part, Reference))

    def render(self, secrets: Mapping[Reference, Secret[str] | Secret[bytes]]) -> Secret[str] | Secret[bytes]:
        """Return the text with each reference replaced, as one secret.

        A reference that stands alone is handed over as it is, bytes included.

        Raises:
            ConfigTypeError: A secret of bytes that are not UTF-8 stands inside a text.
        """
        if len(self.parts) == 1 and isinstance(self.parts[0], Reference) and self.parts[0].quote is None:
            return secrets[self.parts[0]]
        text = "".join(
            part if isinstance(part, str) else _quoted(part, secrets, self._safe_at(number))
            for number, part in enumerate(self.parts)
        )
        return Secret(text, label=", ".join(reference.path for reference in self.references))

    def _safe_at(self, number: int) -> str:
        """Return what a URL may hold as it is at the place of a part, beside letters, digits and `-._~`."""
        before = "".join(part for part in self.parts[:number] if isinstance(part, str))
        _, scheme_ends, authority = before.rpartition("://")
        return _SAFE_ANYWHERE if not scheme_ends or _AUTHORITY_ENDS.search(authority) else _SAFE_IN_USER_INFORMATION


class ReferringSecret(Secret[str]):
    """A secret that is written as references and resolved at each `reveal()`."""

    __slots__ = ("_origin", "_resolver", "_template")

    _origin: Origin
    _resolver: SecretResolver | None
    _template: Template

    @classmethod
    def create(cls, template: Template, origin: Origin, resolver: SecretResolver | None) -> ReferringSecret:
        """Make one that asks `resolver` and names `origin` where it fails."""
        label = ", ".join(reference.path for reference in template.references)

        def load() -> str:
            resolved = resolve_all(template.references, resolver, origin)
            for outcome in resolved.values():
                if isinstance(outcome, SecurecfgError):
                    raise located(outcome, origin)
            # Bytes for a secret of bytes that stands alone: the type of a reference is not known before it is resolved.
            return cast(
                "str", secret.render(cast("Mapping[Reference, Secret[str] | Secret[bytes]]", resolved)).reveal()
            )

        secret = cls.deferred(load, label=label)
        object.__setattr__(secret, "_template", template)
        object.__setattr__(secret, "_origin", origin)
        object.__setattr__(secret, "_resolver", resolver)
        return secret

    @property
    def references(self) -> tuple[Reference, ...]:
        """What it refers to, each secret once, without quoting."""
        return self._template.references

    @property
    def origin(self) -> Origin:
        """Where it is written."""
        return self._origin

    @property
    def resolver(self) -> SecretResolver | None:
        """Who is asked at `reveal()`."""
        return self._resolver

    def render(self, secrets: Mapping[Reference, Secret[str] | Secret[bytes]]) -> Secret[str] | Secret[bytes]:
        """Return the secret that it stands for.

        Raises:
            ConfigTypeError: A secret of bytes that are not UTF-8 stands inside a text.
        """
        try:
            return self._template.render(secrets)
        except ConfigTypeError as error:
            raise located(error, self._origin) from None


def parse_text(text: str) -> str | Template:
    """Return a text with its escapes undone, or a template if it contains references.

    Raises:
        InvalidReference: A reference in it is malformed.
    """
    parts: list[str | Reference] = []
    literal = ""
    position = 0
    for match in _MARK.finditer(text):
        if match.start() < position:
            continue
        literal += text[position : match.start()]
        if match[0] == "$${":
            literal += "${"
            position = match.end()
            continue
        if match[0] != _OPENING:
            message = "something that looks like a reference is not spelled `${secret:...}`"
            raise InvalidReference(message, hint=f"{_HINT}; to mean the text itself write `$${{`")
        end = text.find("}", match.end())
        if end < 0:
            message = "a reference is not closed by `}`"
            raise InvalidReference(message, hint=_HINT)
        if literal:
            parts.append(literal)
            literal = ""
        parts.append(parse_reference(text[match.end() : end]))
        position = end + 1
    literal += text[position:]
    if not parts:
        return literal
    if literal:
        parts.append(literal)
    return Template(tuple(parts))


def read_text(text: str, layer: Layer, place: Place) -> str | ReferringSecret:
    """Return a text of a layer as a value of the tree: a secret if it contains references.

    Raises:
        InvalidReference: A reference in it is malformed.
    """
    try:
        parsed = parse_text(text)
    except InvalidReference as error:
        raise located(error, origin_in(layer, place)) from None
    if isinstance(parsed, str):
        return parsed
    return ReferringSecret.create(parsed, origin_in(layer, place), layer.resolver)


def unquoted(references: Iterable[Reference]) -> tuple[Reference, ...]:
    """Return references without their quoting, each once, in order."""
    return tuple(dict.fromkeys(replace(reference, quote=None) for reference in references))


def resolve_all(
    references: Sequence[Reference], resolver: SecretResolver | None, origin: Origin
) -> dict[Reference, Secret[str] | Secret[bytes] | SecurecfgError]:
    """Resolve references in one call.

    Raises:
        SettingMissing: There is nobody to ask.
        SecurecfgError: What the resolver raises, with the origin.
    """
    if resolver is None:
        message = f"{origin.place}: a secret is referred to, and no vault was given to resolve it"
        raise SettingMissing(message, hint="pass `vault=` to `load`")
    try:
        outcomes = resolver.resolve(references)
    except SecurecfgError as error:
        raise located(error, origin) from error
    return dict(zip(references, outcomes, strict=True))


_E = TypeVar("_E", bound=SecurecfgError)


def located(error: _E, origin: Origin) -> _E:
    """Return a copy of an error that names an origin; the original may be shared by several."""
    copied = copy.copy(error)
    copied.message = f"{origin.place}: {error.message}"
    copied.args = (copied.message,)
    return copied


def _quoted(reference: Reference, secrets: Mapping[Reference, Secret[str] | Secret[bytes]], safe: str) -> str:
    value = _as_text(secrets[replace(reference, quote=None)].reveal())
    if value is None:
        message = f"the secret `{reference.path}` is bytes and cannot be part of a text"
        raise ConfigTypeError(message, hint="let the reference stand alone")
    if reference.quote is None:
        return value
    from urllib.parse import quote

    return quote(value, safe=safe)


def _as_text(value: str | bytes) -> str | None:
    if isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None  # the caller raises, so that the bytes do not travel with the error


def _problem_of(path: str, field: str | None, at: str | None, quote: str | None) -> str:
    if len(path.encode(errors="surrogatepass")) > MAX_PATH_BYTES:
        return f"has a path of more than {MAX_PATH_BYTES} bytes"
    if not _is_visible(path) or not unicodedata.is_normalized("NFC", path):
        return "has a path with invisible or unnormalised characters"
    if any(segment in {"", ".", ".."} for segment in path.split("/")):
        return "has a path with an empty, `.` or `..` segment"
    if field is not None and (not field or not _is_visible(field)):
        return "names an invalid field after `#`"
    if at is not None and not (_VERSION.fullmatch(at) or _LABEL.fullmatch(at)):
        return "names neither a version number nor a label after `@`"
    return "has an unknown way of quoting after `|`" if quote not in {None, "url"} else ""


def _is_visible(text: str) -> bool:
    return all(unicodedata.category(character) not in _UNSAFE_CATEGORIES for character in text)
