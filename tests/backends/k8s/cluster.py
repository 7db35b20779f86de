"""A cluster for tests: the double of its API, a proxy before it, and a kubeconfig that leads there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from securecfg.backends.k8s import from_uri
from securecfg.backends.uri import parse_backend_uri
from securecfg.testing.faulty_proxy import Answer
from securecfg.testing.kubernetes_api import status

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from securecfg.backends.k8s import KubernetesObjects

VARIABLES = ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT")


def backend(uri: str = "k8s:team") -> KubernetesObjects:
    """Return the backend that a URI names."""
    found: KubernetesObjects = from_uri(parse_backend_uri(uri))  # type: ignore[assignment]  # a backend
    return found


def refusal(code: int, reason: str = "", headers: dict[str, str] | None = None, **details: object) -> Answer:
    """Return the answer with which an API server refuses."""
    body = status(code, "canary-words of the server", reason, **details)
    return Answer(code, json.dumps(body).encode(), {"Content-Type": "application/json"} | (headers or {}))


def write_kubeconfig(file: Path, server: str, user: object, **cluster: object) -> Path:
    """Write a kubeconfig with one context."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "local", "user": "me"}}],
        "clusters": [{"name": "local", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "me", "user": user}],
    }
    file.write_text(json.dumps(config))  # which is YAML too
    return file


def point_at(monkeypatch: pytest.MonkeyPatch, kubeconfig: Path) -> None:
    """Let the environment lead to a kubeconfig, and nowhere else."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
