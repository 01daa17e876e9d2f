"""What Stint must know of a kind of workload that others make. Pure: objects are what the API server hands over.

To add a kind, write a file beside `job.py` and a line in `registry.py`, and run `make crds`: the watches, the rights,
both forms of the chart's gate, and how pods are told apart follow from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stint.workloads.label import HandsDown

Object = Mapping[str, Any]
Pods = Callable[[Object], Iterator[tuple[int, Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Belonging:
    """How a pod tells that it belongs to something of a kind."""

    label: str  # its value is the name
    order: tuple[str, ...]  # labels or annotations by which pods are ranked
    of_a_family: bool = False  # other kinds put the same label: the pod's owner tells which


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What a status says of the end; both empty: it goes on."""

    complete: bool = False
    failure: str = ""


def by_conditions(complete: str, failed: str) -> Callable[[Object], Ended]:
    """Told by two condition types."""

    def ended(status: Object) -> Ended:
        held = {c.get("type"): c for c in status.get("conditions") or () if c.get("status") == "True"}
        failure = held.get(failed)
        text = "" if failure is None else f"{failure.get('reason', '')}: {failure.get('message', '')}".strip(": ")
        return Ended(complete=complete in held, failure=text or ("Failed" if failure is not None else ""))

    return ended


def never(status: Object) -> Ended:
    """Its status tells of no end."""
    del status
    return Ended()


def no_pods(spec: Object) -> Iterator[tuple[int, Any]]:
    """It makes its pods by way of another kind."""
    del spec
    return iter(())


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of workload."""

    kind: str
    group: str
    version: str
    plural: str
    pods: Pods = no_pods  # of its spec: how many pods are made of which pod spec
    ended: Callable[[Object], Ended] = never
    suspend: tuple[str, ...] = ()  # the path of the field that deletes its pods and brings them back
    belonging: Belonging | None = None  # None: its pods are another kind's
    hands_down: HandsDown | None = None  # how the gate labels what its pods are made from; None: that has its labels

    def path(self, namespace: str = "", name: str = "") -> str:
        """Where the API server has it."""
        where = f"/namespaces/{namespace}" if namespace else ""
        return f"/apis/{self.group}/{self.version}{where}/{self.plural}" + (f"/{name}" if name else "")

    def suspended(self, value: bool) -> dict[str, Any]:
        """As a merge patch."""
        patch: Any = value
        for key in reversed(self.suspend):
            patch = {key: patch}
        made: dict[str, Any] = patch
        return made

    def is_suspended(self, spec: Object) -> bool:
        """Whether it is suspended, so that it has no pods."""
        return bool(self.suspend) and at({"spec": spec}, *self.suspend) is True


def at(thing: Any, *path: str) -> Any:
    """What lies there; None: nothing."""
    for key in path:
        thing = thing.get(key) if isinstance(thing, dict) else None
    return thing


def count(value: Any, default: int = 1) -> int:
    """A number of pods as people write it."""
    return value if isinstance(value, int) and not isinstance(value, bool) else default
