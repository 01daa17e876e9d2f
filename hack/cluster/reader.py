"""`kubectl get ... -o json` without starting kubectl: over one connection, in a few milliseconds instead of 300.

Tests and benchmarks look until something has happened; starting a program for each look took a whole core from what
they look at. What is asked in any other form, and every error, is left to kubectl itself.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import yaml

_FLAGS = {"-n": "namespace", "--namespace": "namespace", "-l": "selector", "--selector": "selector", "-o": "output"}
_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class _Kind:
    """One kind of resource, as discovery tells it."""

    group_version: str
    plural: str
    kind: str
    namespaced: bool

    def path(self, namespace: str | None, name: str) -> str:
        """Of one object, or of all of them."""
        root = f"/apis/{self.group_version}" if "/" in self.group_version else f"/api/{self.group_version}"
        inside = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return f"{root}{inside}/{self.plural}" + (f"/{name}" if name else "")


@dataclass(frozen=True)
class _Question:
    """What is asked, in the one form that is understood here."""

    resource: str
    name: str
    namespace: str | None  # None: all of them
    selector: str
    absent_is_fine: bool


def understood(arguments: Sequence[str]) -> _Question | None:
    """`[-n NAMESPACE | -A] get RESOURCE [NAME] [-l SELECTOR] [--ignore-not-found] -o json`; None: something else."""
    words: list[str] = []
    flags = {"namespace": "default", "selector": "", "output": ""}
    everywhere = absent_is_fine = False
    rest = iter(arguments)
    for argument in rest:
        if argument in _FLAGS:
            flags[_FLAGS[argument]] = next(rest, "")
        elif argument in ("-A", "--all-namespaces"):
            everywhere = True
        elif argument == "--ignore-not-found":
            absent_is_fine = True
        elif argument.startswith("-"):
            return None
        else:
            words.append(argument)
    if len(words) not in (2, 3) or words[0] != "get" or flags["output"] != "json":
        return None
    if any("," in w or "/" in w for w in words):
        return None
    namespace = None if everywhere else flags["namespace"]
    return _Question(words[1], words[2] if len(words) == 3 else "", namespace, flags["selector"], absent_is_fine)


class Reader:
    """Answers for one cluster, with the rights of its kubeconfig's user. Safe to share between threads."""

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig
        self._lock = threading.Lock()
        self._open: tuple[http.client.HTTPSConnection, dict[str, str]] | None = None
        self._kinds: dict[str, _Kind] = {}

    def close(self) -> None:
        """The next question opens a new connection."""
        if self._open is not None:
            self._open[0].close()
            self._open = None

    def answer(self, arguments: Sequence[str]) -> str | None:
        """What kubectl would print; None: ask kubectl."""
        question = understood(arguments)
        if question is None:
            return None
        with self._lock:
            try:
                return self._answer(question)
            except (OSError, http.client.HTTPException, ValueError, KeyError, StopIteration):
                self.close()  # the server was restarted, or its kubeconfig written anew
                return None

    def _answer(self, question: _Question) -> str | None:
        kind = self._kind(question.resource)
        if kind is None:
            return None
        query = f"?{urlencode({'labelSelector': question.selector})}" if question.selector else ""
        status, found = self._get(kind.path(question.namespace, question.name) + query)
        if status == 404 and question.name and question.absent_is_fine:
            return ""
        if status != 200:
            return None
        if question.name:
            return json.dumps(found)
        items = [{"apiVersion": kind.group_version, "kind": kind.kind, **item} for item in found["items"]]
        return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})

    def _kind(self, resource: str) -> _Kind | None:
        """By plural, plural.group, singular or short name. CRDs come later, so what is not known is looked for anew."""
        if resource not in self._kinds:
            self._kinds = self._discover()
        return self._kinds.get(resource)

    def _discover(self) -> dict[str, _Kind]:
        _, core = self._get("/api/v1")
        _, groups = self._get("/apis")
        lists = [core] + [
            self._get(f"/apis/{group['preferredVersion']['groupVersion']}")[1] for group in groups["groups"]
        ]
        found: dict[str, _Kind] = {}
        for each in lists:
            version = each.get("groupVersion", "")
            for r in each.get("resources", ()):
                if "/" in r["name"]:
                    continue
                kind = _Kind(version, r["name"], r["kind"], r["namespaced"])
                group = version.rpartition("/")[0]
                names = [r["name"], r.get("singularName") or r["kind"].lower(), *r.get("shortNames", ())]
                for name in names:
                    found.setdefault(name, kind)
                    found.setdefault(f"{name}.{group}", kind)
        return found

    def _get(self, path: str) -> tuple[int, Any]:
        fresh = self._open is None
        connection, headers = self._open = self._open or _connect(self._kubeconfig)
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        except (OSError, http.client.HTTPException):
            self.close()
            if fresh:
                raise
            return self._get(path)  # it was idle for too long, and the server closed it


def _connect(kubeconfig: Path) -> tuple[http.client.HTTPSConnection, dict[str, str]]:
    config = yaml.safe_load(kubeconfig.read_text())
    context = next(c["context"] for c in config["contexts"] if c["name"] == config["current-context"])
    cluster = next(c["cluster"] for c in config["clusters"] if c["name"] == context["cluster"])
    user = next(u["user"] for u in config["users"] if u["name"] == context["user"])
    trust = ssl.create_default_context(cadata=_text(cluster, "certificate-authority", kubeconfig.parent))
    if "client-certificate" in user or "client-certificate-data" in user:
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as pair:  # ssl reads keys from files only
            pair.write(_text(user, "client-certificate", kubeconfig.parent))
            pair.write(_text(user, "client-key", kubeconfig.parent))
            pair.flush()
            trust.load_cert_chain(pair.name)
    headers = {"Accept": "application/json"}
    if token := user.get("token"):
        headers["Authorization"] = f"Bearer {token}"
    server = urlsplit(cluster["server"])
    return http.client.HTTPSConnection(server.hostname or "", server.port, context=trust, timeout=_TIMEOUT_S), headers


def _text(some: Mapping[str, str], key: str, folder: Path) -> str:
    if data := some.get(f"{key}-data"):
        return base64.b64decode(data).decode()
    return (folder / some[key]).read_text()
