"""`load`: sources in, a configuration or a typed model out."""

from __future__ import annotations

import os
import re
import weakref
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload, runtime_checkable

from securecfg import files
from securecfg.clock import SystemClock
from securecfg.config.formats import SUFFIXES, parse_document
from securecfg.config.from_environment import parse_environment
from securecfg.config.merge import Strategy, merge
from securecfg.config.profiles import DEFAULT, Parent, check_profile_name, linearize, split_extends
from securecfg.config.text import MAX_BYTES
from securecfg.config.tree import Config, Layer
from securecfg.errors import (
    ConfigLimitExceeded,
    ConfigSyntaxError,
    FileMissing,
    SecurecfgError,
    SettingMissing,
    SignatureInvalid,
    Unavailable,
    UsageError,
    ValueTooLarge,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from importlib.metadata import EntryPoint, EntryPoints

    from securecfg.config.references import SecretResolver

NAMESPACE = "securecfg-config@v1"
"""The namespace of signatures over configuration files (`ssh-keygen -Y sign -n`)."""

USUAL_BYTES = 64 * 1024
"""The size that most files stay below."""

MAX_SIGNATURE_BYTES = 64 * 1024
"""The largest detached signature that is read."""

GROUP = "securecfg.sources"
"""The entry points that add sources."""

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):(.*)", re.DOTALL)

_M = TypeVar("_M")


@dataclass(frozen=True, slots=True)
class Document:
    """What a source hands over.

    Attributes:
        content: The bytes of the document.
        content_type: What they are, such as `application/yaml`.
    """

    content: bytes
    content_type: str


class Source(Protocol):
    """A kind of source that an entry point of the group `securecfg.sources` adds; its name is the scheme.

    The entry point is a callable without arguments that makes one. The caller limits the size, parses the document and
    wraps what goes wrong.
    """

    def read(self, location: str, /) -> Document:
        """Return the document at a location, which is what follows `scheme:`."""
        ...


@runtime_checkable
class DocumentVault(Protocol):
    """A vault, as far as loading needs it: documents as layers, and someone who resolves references."""

    def read_document(self, path: str, /) -> tuple[bytes, str]:
        """Return a document and its content type."""
        ...

    def resolver(self) -> SecretResolver:
        """Return who resolves the references in a configuration."""
        ...


@overload
def load(
    *sources: str | os.PathLike[str],
    model: type[_M],
    profile: str | None = None,
    vault: DocumentVault | SecretResolver | str | os.PathLike[str] | None = None,
    env_prefix: str | None = None,
    require_signature: str | os.PathLike[str] | None = None,
    strategies: Mapping[str, Strategy] | None = None,
) -> _M: ...


@overload
def load(
    *sources: str | os.PathLike[str],
    model: None = None,
    profile: str | None = None,
    vault: DocumentVault | SecretResolver | str | os.PathLike[str] | None = None,
    env_prefix: str | None = None,
    require_signature: str | os.PathLike[str] | None = None,
    strategies: Mapping[str, Strategy] | None = None,
) -> Config: ...


def load(
    *sources: str | os.PathLike[str],
    model: type[Any] | None = None,
    profile: str | None = None,
    vault: DocumentVault | SecretResolver | str | os.PathLike[str] | None = None,
    env_prefix: str | None = None,
    require_signature: str | os.PathLike[str] | None = None,
    strategies: Mapping[str, Strategy] | None = None,
) -> Any:
    """Load a configuration; later sources win, and the environment wins over all of them.

    Args:
        sources: Files, directories (`default.*`, then what `profile` names, then `.env`), documents of the vault
            (`vault:PATH`), or what an installed source reads (`SCHEME:LOCATION`). A path object is always a file or a
            directory.
        model: A dataclass or pydantic model to bind the whole to; the secrets that it needs are resolved at once.
        profile: The profile that directories are read with.
        vault: The vault that holds the secrets and documents, or only someone who resolves secrets. The path of a vault
            or of a bundle is opened as `Vault.open` does: with a model until all that it needs is read, else as long as
            something refers to the configuration.
        env_prefix: Read the environment variables that begin so: with `SHOP`, `SHOP_A__B` is `a.b`.
        require_signature: A file of allowed signers (see `ssh-keygen`). Every file must then have a valid signature
            beside it (`FILE.sig`) over the very bytes that are parsed. Which files there are, and under which names,
            is not signed; the environment is not signed either, and documents of a vault are vouched for by the vault.
        strategies: For dotted paths, how their values merge where not as usual.

    Returns:
        The configuration, or the model.

    Raises:
        ConfigSyntaxError: A source does not follow its format, or profiles extend each other in a circle.
        ConfigLimitExceeded: A source is too large, too deep or too much expanded.
        ConfigTypeError: A value does not fit the model or its strategy.
        SecretInPlainField: A field of the model would show a secret.
        ConfigErrors: Several such problems.
        InvalidReference: A reference to a secret is malformed.
        UnknownProfile: No directory has the profile, or one that it extends.
        FileMissing: A source does not exist, or a directory holds nothing to load.
        SignatureInvalid: A signature is required, and is missing or wrong.
        InvalidTrustFile: The file of allowed signers is wrong.
        Unsupported: The file of allowed signers names a certificate authority.
        SettingMissing: A vault is needed and none was given.
        UsageError: There are no sources, or an argument makes no sense.
        Unavailable: A source cannot be read.
        SecurecfgError: What the vault answers for a document, or for a secret that the model needs.
    """
    if not sources and env_prefix is None:
        message = "there is nothing to load"
        raise UsageError(message, hint='name a file or a directory, such as `load("config/")`')
    if profile is not None:
        check_profile_name(profile)
    with ExitStack() as stack:
        if isinstance(vault, str | os.PathLike):
            from securecfg.vault import Vault

            vault = opened = stack.enter_context(Vault.open(vault))
        else:
            opened = None
        reader = _Reader.create(vault, require_signature)
        layers = _layers(sources, reader, profile)
        if env_prefix is not None:
            layer = Layer("environment", "environment", reader.resolver)
            layers.append(parse_environment(os.environ, env_prefix, layer))
        config = merge(layers, strategies)
        if model is None:
            if opened is not None:
                stack.pop_all()
                # References are resolved when they are revealed, so the vault stays open for as long as there are any.
                weakref.finalize(reader.resolver, opened.close)
            return config
        from securecfg.config.bind import bind

        return bind(config, model)


@dataclass(frozen=True, slots=True)
class _Trust:
    """Who may sign, and the check that a file is signed by one of them."""

    name: str
    signers: bytes

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> _Trust:
        return cls(os.fspath(path), files.read_bounded(path, MAX_BYTES))

    def verify_file(self, path: Path, content: bytes) -> None:
        signature_path = f"{path}.sig"
        try:
            signature = files.read_bounded(signature_path, MAX_SIGNATURE_BYTES)
        except FileMissing:
            message = f"`{path}` has no signature"
            hint = f"sign it: `ssh-keygen -Y sign -f KEY -n {NAMESPACE} {path}`"
            raise SignatureInvalid(message, hint=hint) from None
        except ValueTooLarge:
            message = f"`{signature_path}` is too large for a signature"
            raise SignatureInvalid(message) from None
        from securecfg.crypto.sshsig import verify_signature

        now_ns = SystemClock().now_ns()
        try:
            verify_signature(
                content, signature, allowed_signers=self.signers, namespace=NAMESPACE, now_ns=now_ns, source=self.name
            )
        except SignatureInvalid as error:
            message = f"`{path}`: {error.message}"
            raise SignatureInvalid(message, hint=error.hint) from None


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads one source after the other: bytes, then their signature, then their tree."""

    resolver: SecretResolver | None
    documents: DocumentVault | None
    trust: _Trust | None

    @classmethod
    def create(
        cls, vault: DocumentVault | SecretResolver | None, require_signature: str | os.PathLike[str] | None
    ) -> _Reader:
        trust = None if require_signature is None else _Trust.read(require_signature)
        if vault is not None and isinstance(vault, DocumentVault):
            return cls(vault.resolver(), vault, trust)
        if vault is not None and not hasattr(vault, "resolve"):
            message = "`vault` is neither an open vault nor a resolver of secrets"
            raise UsageError(message, hint="pass what `Vault.open` returns")
        return cls(vault, None, trust)

    def file(self, path: Path, *, foreign: bool) -> Config:
        content_type = _content_type(path.name)
        if content_type is None:
            message = "its name does not end in a known format"
            raise ConfigSyntaxError(message, place=str(path), hint=f"use one of {', '.join(SUFFIXES)}")
        content = _read(path)
        if self.trust is not None:
            self.trust.verify_file(path, content)
        return parse_document(content, content_type, Layer(path.name, str(path), self.resolver, foreign=foreign))

    def document(self, source: str, location: str) -> Config:
        if self.documents is None:
            message = f"`{source}` is a document of a vault, and no vault was given"
            raise SettingMissing(message, hint="pass `vault=` to `load`")
        content, content_type = self.documents.read_document(location)
        return parse_document(content, content_type, Layer(source, source, self.resolver))

    def plugin(self, source: str, location: str, entry: EntryPoint) -> Config:
        if self.trust is not None:
            message = f"`{source}` cannot have the signature that is required"
            raise SignatureInvalid(message, hint="load it without `require_signature`, apart from what is signed")
        try:
            create: Callable[[], Source] = entry.load()
            document = create().read(location)
        except SecurecfgError:
            raise
        except Exception as error:  # a plug-in may raise anything; its text may hold anything, so it is only chained
            message = f"`{source}` cannot be read"
            raise Unavailable(message, hint="the cause is chained to this error") from error
        return parse_document(document.content, document.content_type, Layer(source, source, self.resolver))


@dataclass(slots=True)
class _Directory:
    """What a directory has to load: files by stem, parsed when they are needed."""

    path: Path
    names: dict[str, list[str]]
    has_dotenv: bool
    parsed: dict[str, list[Config]] = field(default_factory=dict)

    @classmethod
    def scan(cls, path: Path) -> _Directory:
        try:
            found = sorted(os.listdir(path))  # noqa: PTH208 - names are wanted, not paths, and this is the hot part
        except OSError as error:
            message = f"cannot read `{path}`: {error.strerror}"
            raise Unavailable(message) from None
        names: dict[str, list[str]] = {}
        for name in found:
            stem, dot, ending = name.rpartition(".")
            if stem and f"{dot}{ending}" in SUFFIXES and ending != "env":
                names.setdefault(stem, []).append(name)
        return cls(path, names, ".env" in found)

    def read(self, stem: str, reader: _Reader) -> list[Config]:
        if stem not in self.parsed:
            self.parsed[stem] = [reader.file(self.path / name, foreign=False) for name in self.names.get(stem, ())]
        return self.parsed[stem]


def _layers(sources: tuple[str | os.PathLike[str], ...], reader: _Reader, profile: str | None) -> list[Config]:
    opened = [_open(source, reader) for source in sources]
    directories = [source for source in opened if isinstance(source, _Directory)]
    own: dict[str, dict[Path, list[Config]]] = {}

    def parents_of(name: str) -> tuple[Parent, ...] | None:
        parents: list[Parent] = []
        for directory in directories:
            split = [split_extends(config) for config in directory.read(name, reader)]
            own.setdefault(name, {})[directory.path] = [config for config, _ in split]
            parents.extend(parent for _, named in split for parent in named)
        return tuple(parents) if any(own.get(name, {}).values()) else None

    chain: tuple[str, ...] = ()
    if profile is not None:
        available = {stem for directory in directories for stem in directory.names if stem != DEFAULT}
        chain = linearize(profile, parents_of, available)
    layers: list[Config] = []
    for source in opened:
        if isinstance(source, Config):
            layers.append(source)
            continue
        found = list(source.read(DEFAULT, reader))
        for name in chain:
            found += own[name][source.path]
        if source.has_dotenv:
            found.append(reader.file(source.path / ".env", foreign=True))
        if not found:
            message = f"`{source.path}` holds neither `default.*` nor a file of the profile nor `.env`"
            raise FileMissing(message, hint=_profiles_hint(source, profile))
        layers += found
    return layers


def _profiles_hint(directory: _Directory, profile: str | None) -> str:
    names = sorted(stem for stem in directory.names if stem != DEFAULT)
    if profile is None and names:
        return f"pass `profile=`; there are: {', '.join(f'`{name}`' for name in names)}"
    return "begin with `default.yaml`"


def _open(source: str | os.PathLike[str], reader: _Reader) -> Config | _Directory:
    hint = ""
    if isinstance(source, str) and (match := _SCHEME.fullmatch(source)):
        scheme, location = match[1], match[2]
        if scheme == "vault":
            return reader.document(source, location)
        entry = next(iter(_entry_points(scheme)), None)
        if entry is not None:
            return reader.plugin(source, location, entry)
        hint = f"no source named `{scheme}` is installed"
    path = Path(source)
    if path.is_dir():
        return _Directory.scan(path)
    try:
        return reader.file(path, foreign=_content_type(path.name) == SUFFIXES[".env"])
    except FileMissing as error:
        error.hint = hint or "name a file or a directory that exists"
        raise


def _entry_points(scheme: str) -> EntryPoints:
    from importlib.metadata import entry_points  # costs more than a small load, and few sources have a scheme

    return entry_points(group=GROUP, name=scheme)


def _read(path: Path) -> bytes:
    # A buffer of the largest size that is allowed costs more than reading the usual file.
    try:
        return files.read_bounded(path, USUAL_BYTES)
    except ValueTooLarge:
        pass
    try:
        return files.read_bounded(path, MAX_BYTES)
    except ValueTooLarge:
        message = f"is larger than {MAX_BYTES} bytes"
        raise ConfigLimitExceeded(message, place=str(path)) from None


def _content_type(name: str) -> str | None:
    if name == ".env" or name.startswith(".env."):
        return SUFFIXES[".env"]
    stem, dot, ending = name.rpartition(".")
    return SUFFIXES.get(f"{dot}{ending}") if stem else None
