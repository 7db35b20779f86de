"""What a backend of Kubernetes is given to log in with: a token, or a client certificate and its key.

It says who asks. Where the API server is, and who vouches for it, the URI says, or the kubeconfig or the pod. Only
where the URI names the server can its authority be given as well.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from securecfg.addresses import is_safe_address
from securecfg.errors import InvalidBackendUri

if TYPE_CHECKING:
    from collections.abc import Mapping

    from securecfg.secret import Secret

TOKEN, CERTIFICATE, KEY = "KUBE_TOKEN", "KUBE_CLIENT_CERT_DATA", "KUBE_CLIENT_KEY_DATA"
AUTHORITY = "KUBE_CLUSTER_CA_CERT_DATA"
CREDENTIALS = (TOKEN, CERTIFICATE, KEY, AUTHORITY)
"""As Terraform calls them; `kubectl` knows no variable that holds credentials."""

_LOGINS = (frozenset({TOKEN}), frozenset({CERTIFICATE, KEY}))
_TOKEN = re.compile(r"[\x21-\x7e]+")
_ADDRESS = re.compile(r"[\x21-\x7e]{1,1024}")


def verify_given(given: Mapping[str, Secret[str]]) -> None:
    """Check what is given to log in with.

    Raises:
        InvalidBackendUri: It is too much or too little, or cannot be what it is called.
    """
    if given and given.keys() - {AUTHORITY} not in _LOGINS:
        message = f"of the credentials of `k8s:` there is `{TOKEN}`, or `{CERTIFICATE}` and `{KEY}`, or none"
        raise InvalidBackendUri(message, hint=f"`{AUTHORITY}` goes with either")
    if TOKEN in given and not _TOKEN.fullmatch(given[TOKEN].reveal()):
        message = f"`{TOKEN}` of `k8s:` can be no token"
        raise InvalidBackendUri(message, hint="it has characters that no header of HTTP carries")
    if AUTHORITY in given and not _is_certificate(given[AUTHORITY].reveal()):
        message = f"`{AUTHORITY}` of `k8s:` is no certificate"
        raise InvalidBackendUri(message, hint="it is text in the form PEM, as base64 decodes what a kubeconfig has")
    if KEY in given and not _are_pair(given[CERTIFICATE].reveal(), given[KEY].reveal()):
        message = f"`{CERTIFICATE}` and `{KEY}` of `k8s:` are no certificate and its key"
        hint = "each is text in the form PEM, as base64 decodes what a kubeconfig has; a key has no passphrase"
        raise InvalidBackendUri(message, hint=hint)


def is_endpoint(address: str) -> bool:
    """Return whether an address can be that of an API server: `https://`, or this machine, without a user in it."""
    return bool(_ADDRESS.fullmatch(address)) and not set(address) & set("@?#\\") and is_safe_address(address)


def _is_certificate(text: str) -> bool:
    from cryptography.x509 import load_pem_x509_certificates

    try:
        return bool(load_pem_x509_certificates(text.encode()))
    except ValueError:
        return False


def _are_pair(certificate: str, key: str) -> bool:
    """Return whether a key is that of a certificate, and open: for one that is not, OpenSSL would ask a person."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from cryptography.x509 import load_pem_x509_certificates

    try:
        shown = load_pem_x509_certificates(certificate.encode())[0].public_key()
        return shown == load_pem_private_key(key.encode(), None).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False
