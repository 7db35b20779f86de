"""Which cluster of Kubernetes is meant, and as whom it is asked: as a URI, a kubeconfig or a pod's account say."""

from __future__ import annotations

import os
import time
from base64 import b64encode
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from securecfg.addresses import is_safe_address
from securecfg.backends.k8s_given import AUTHORITY, CERTIFICATE, KEY, TOKEN
from securecfg.backends.k8s_objects import text_of
from securecfg.errors import BackendLoginRefused, SettingMissing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from securecfg.secret import Secret

DEFAULT_KUBECONFIG = "~/.kube/config"
REREAD_S = 60.0
"""How often the file of a token is read anew, as the kubelet replaces it in mid-run."""

_CONNECTIONS = 32
_RENEW_AFTER = 2 / 3
_RENEW_S_MIN = 1.0
_IMPERSONATION = ("as", "as-uid", "as-groups", "as-user-extra")


class Access(NamedTuple):
    """What a URI says of it; what is empty is found as `kubectl` finds it.

    Attributes:
        kubeconfig: A file.
        context: One of it.
        endpoint: The API server, for which no kubeconfig is asked then.
        cacert: The file of who vouches for that.
        given: Credentials that were verified, which are used then, and no others.
    """

    kubeconfig: str = ""
    context: str = ""
    endpoint: str = ""
    cacert: str = ""
    given: Mapping[str, Secret[str]] = MappingProxyType({})


class Login(NamedTuple):
    """A cluster, and as whom it is asked.

    Attributes:
        configuration: Of the client.
        renewed_at: When to look anew, by the monotonic clock.
        is_given: Whether the credentials were given.
    """

    configuration: Any
    renewed_at: float
    is_given: bool = False

    @property
    def identity(self) -> tuple[object, ...]:
        """What is another one where somebody else would be asked, or as somebody else."""
        mine = self.configuration
        return mine.host, tuple(mine.api_key.items()), mine.cert_file, mine.key_file, mine.ssl_ca_cert

    @property
    def is_anonymous(self) -> bool:
        """Whether nothing is shown to the cluster."""
        return not self.configuration.api_key and not self.configuration.cert_file


def log_in(access: Access) -> Login:
    """Find the cluster and the credentials, and get these where a program gives them. The cluster is not asked yet.

    Raises:
        ImportError: The package `kubernetes` is not installed.
        SettingMissing: It is not said which cluster is meant, or what is said cannot be used.
        BackendLoginRefused: The credentials cannot be had.
    """
    if access.endpoint:
        return _from_uri(access)
    files = access.kubeconfig or os.environ.get("KUBECONFIG", "")
    is_named = bool(files or access.context)
    files = files or DEFAULT_KUBECONFIG
    if is_named or os.path.exists(os.path.expanduser(files)):  # noqa: PTH110, PTH111 - several, joined by `:`
        return _from_kubeconfig(files, access)
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return _from_pod(access)
    message = "it is not said which cluster of Kubernetes is meant"
    raise SettingMissing(message, hint=f"looked for in KUBECONFIG, {DEFAULT_KUBECONFIG}, and what a pod is given")


def _from_uri(access: Access) -> Login:
    configuration = _new_configuration()
    configuration.host = access.endpoint.rstrip("/")
    with _readable("what the URI says of the cluster", "`cacert` names a file"):
        if access.cacert:
            configuration.ssl_ca_cert = _as_file({"file": os.path.abspath(os.path.expanduser(access.cacert))})  # noqa: PTH100, PTH111 - the client's
        elif AUTHORITY in access.given:
            configuration.ssl_ca_cert = _as_file({"data": access.given[AUTHORITY].reveal()})
    return _logged_in(configuration, float("inf"), access)


def _from_pod(access: Access) -> Login:
    from kubernetes.config import load_incluster_config

    configuration = _new_configuration()
    with _readable("what a pod is given to log in to its cluster", "is a service account's token mounted?"):
        load_incluster_config(client_configuration=configuration, try_refresh_token=False)
    return _logged_in(configuration, time.monotonic() + REREAD_S, access)


def _from_kubeconfig(files: str, access: Access) -> Login:
    from kubernetes.config.kube_config import KubeConfigLoader, KubeConfigMerger

    configuration, renewed_at = _new_configuration(), float("inf")
    with _readable("the kubeconfig", "`kubectl config view` says what is in it; `context` in the URI names one of it"):
        merged = KubeConfigMerger(files).config
        loader = KubeConfigLoader(merged, active_context=access.context or None, config_base_path=None)
        active = merged["contexts"].get_with_name(loader.current_context["name"])["context"]
        cluster = merged["clusters"].get_with_name(active["cluster"])["cluster"]
        if cluster.safe_get("insecure-skip-tls-verify"):
            message = "the kubeconfig says that the certificate of the cluster is not verified"
            raise SettingMissing(message, hint="say `certificate-authority` there instead")
        user = _user(merged, active)
        if user is not None and access.given:
            user.value.clear()  # nothing of whom it names is looked at, and no program is run
        elif user is not None:
            _check_user(user.value)
            if "tokenFile" in user:
                renewed_at = time.monotonic() + REREAD_S
            elif "exec" in user and "token" not in user:
                renewed_at = _run_program(user, cluster)
        loader.load_and_set(configuration)
    configuration.refresh_api_key_hook = None  # what it does is done here, for all threads together
    return _logged_in(configuration, renewed_at, access)


def _logged_in(configuration: Any, renewed_at: float, access: Access) -> Login:  # noqa: ANN401 - of the client
    """Return the login, as whom what is given says in place of what was found."""
    if not access.given:
        return Login(_checked(configuration), renewed_at)
    configuration.api_key.clear()
    configuration.cert_file = configuration.key_file = None
    if TOKEN in access.given:
        configuration.api_key["BearerToken"] = f"Bearer {access.given[TOKEN].reveal()}"
    elif configuration.host.startswith("http://"):
        message = "a certificate logs in over TLS only, and the address of the cluster begins with `http://`"
        raise SettingMissing(message, hint="whoever else logs in there, as `kubectl proxy` does, is not who was given")
    else:
        with _readable("the certificate that was given", "the client copies it into a file below TMPDIR"):
            configuration.cert_file = _as_file({"data": access.given[CERTIFICATE].reveal()})
            configuration.key_file = _as_file({"data": access.given[KEY].reveal()})
    return Login(_checked(configuration), renewed_at, is_given=True)


def _as_file(source: Mapping[str, str]) -> str:
    """Return a file that the client reads; what is data is copied into one that only its owner reads."""
    from kubernetes.config.kube_config import FileOrData

    return str(FileOrData(source, "file", "data", base64_file_content=False).as_file())


def _user(merged: Any, context: Any) -> Any:  # noqa: ANN401 - nodes of the client's own
    name = context.safe_get("user")
    found = merged["users"].get_with_name(name, safe=True) if name and merged.safe_get("users") else None
    return found["user"] if found is not None and found.safe_get("user") else None


def _check_user(user: Mapping[str, Any]) -> None:
    """Refuse what the client would pass over, or do without verifying certificates."""
    if "auth-provider" in user:
        message = "the kubeconfig names an `auth-provider`, which is not used"
        raise SettingMissing(message, hint="log in by a program (`exec`), as `kubectl` does since version 1.26")
    if any(user.get(name) for name in _IMPERSONATION):
        message = "the kubeconfig asks for impersonation, which the client does not know"
        raise SettingMissing(message, hint="it would be asked with the rights of who impersonates")


def _run_program(user: Any, cluster: Any) -> float:  # noqa: ANN401 - nodes of the client's own
    """Put what a program gives into the place of the program, and return when to ask it anew.

    The client would log what the program says where it fails, and ask the cluster as nobody.
    """
    from kubernetes.config import ConfigException
    from kubernetes.config.exec_provider import ExecProvider

    folder = os.path.dirname(os.path.abspath(user.path)) if user.path else ""  # noqa: PTH100, PTH120 - the client's
    try:
        status = ExecProvider(user["exec"], folder, cluster).run()
        given = _given(status)
        lasts = _lasts_s(status.get("expirationTimestamp"))
    except (ConfigException, OSError, LookupError, TypeError, ValueError, AttributeError):
        given = {}
    if not given:
        message = "the program that the kubeconfig names gives nothing to log in with"
        raise BackendLoginRefused(message, hint="`kubectl auth whoami` runs it too, and shows what it says")
    for name in ("exec", *given, *(name.removesuffix("-data") for name in given)):
        user.value.pop(name, None)
    user.value.update(given)
    return time.monotonic() + max(lasts * _RENEW_AFTER, _RENEW_S_MIN)


def _given(status: Mapping[str, str]) -> dict[str, str]:
    """Return what a program gives, as a kubeconfig would have it."""
    given = {"token": text_of(status["token"])} if status.get("token") else {}
    if "clientCertificateData" in status:
        given["client-certificate-data"] = b64encode(status["clientCertificateData"].encode()).decode()
        given["client-key-data"] = b64encode(status["clientKeyData"].encode()).decode()
    return given


def _lasts_s(until: str | None) -> float:
    if not until:
        return float("inf")
    return (datetime.fromisoformat(until).astimezone(UTC) - datetime.now(UTC)) / timedelta(seconds=1)


def _new_configuration() -> Any:  # noqa: ANN401 - of the client, whose types differ between its versions
    from kubernetes.client import Configuration

    # Not by a call, which may give what the application has set for itself: a proxy, or that nothing is verified.
    configuration = type.__call__(Configuration)
    configuration.retries = False  # which includes redirects: they are not followed
    configuration.connection_pool_maxsize = _CONNECTIONS
    return configuration


def _checked(configuration: Any) -> Any:  # noqa: ANN401 - the same
    if not is_safe_address(configuration.host) or "@" in configuration.host:
        message = "the address of the cluster is neither `https://` nor `http://` to this machine, or has a user in it"
        raise SettingMissing(message, hint="look at `server` in the kubeconfig")
    if configuration.host.startswith("http://"):
        # What is plain goes to this machine itself: a proxy that the environment names would see all of it.
        configuration.proxy = None
    for name, token in configuration.api_key.items():
        configuration.api_key[name] = token.strip()
        if not configuration.api_key[name].isprintable() or not token.isascii():
            message = "what there is to log in to the cluster with can be no token"
            raise BackendLoginRefused(message, hint="it has characters that no header of HTTP carries")
    return configuration


@contextmanager
def _readable(what: str, hint: str) -> Iterator[None]:
    """Let out no text of the client, which quotes the files."""
    from kubernetes.config import ConfigException
    from yaml import YAMLError

    try:
        yield
    except (ConfigException, YAMLError, OSError, LookupError, TypeError, ValueError, AttributeError):
        pass
    else:
        return
    message = f"{what} cannot be read, or says too little"
    raise SettingMissing(message, hint=hint)
