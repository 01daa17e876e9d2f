"""Kubeconfigs with one cluster and one user."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


def write(path: Path, cluster: dict[str, Any], user: dict[str, str]) -> None:
    """Readable by its owner only."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "stint",
        "clusters": [{"name": "stint", "cluster": cluster}],
        "users": [{"name": "stint", "user": user}],
        "contexts": [{"name": "stint", "context": {"cluster": "stint", "user": "stint"}}],
    }
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(config))


def cluster_of(path: Path) -> dict[str, Any]:
    """The cluster of the current context, with a path that holds from anywhere."""
    config = yaml.safe_load(path.read_text())
    context = next(c["context"] for c in config["contexts"] if c["name"] == config["current-context"])
    cluster: dict[str, Any] = next(c["cluster"] for c in config["clusters"] if c["name"] == context["cluster"])
    if authority := cluster.get("certificate-authority"):
        cluster = {**cluster, "certificate-authority": str((path.parent / authority).resolve())}
    return cluster


def token_of(path: Path) -> str:
    """The token of its one user."""
    token: str = yaml.safe_load(path.read_text())["users"][0]["user"]["token"]
    return token
