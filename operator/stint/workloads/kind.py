"""What Stint must know of a kind of workload that others make. Pure: objects are what the API server hands over.

To add a kind, write a file beside `job.py` and a line in `registry.py`, and run `make crds`: the watches, the rights,
both forms of the chart's gate, and how pods are told apart follow from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from stint.workloads.label import HandsDown

Object = Mapping[str, Any]
Pods = Callable[[Object], Iterator[tuple[int, Any]]]
AsksForGpus = Callable[[Any], bool]  # of a pod spec
POD_NAME_LABEL = "statefulset.kubernetes.io/pod-name"
_MOST_NAMED = 64  # pods in one selector


class Maker(NamedTuple):
    """What made a pod, as its owner reference says."""

    kind: str
    name: str
    uid: str = ""
    api_version: str = ""  # empty: not told

    @property
    def group(self) -> str:
        """Of its API; empty: not told."""
        return self.api_version.rpartition("/")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Belonging:
    """How a pod tells that it belongs to something of a kind."""

    label: str = ""  # its value is the name; empty: what made the pod has the name
    order: tuple[str, ...] = ()  # labels or annotations by which pods are ranked
    of_a_family: bool = False  # other kinds put the same label: the pod's owner tells which
    makers: tuple[tuple[str, str], ...] = ()  # group and kind of what makes such pods; none: whatever made them
    part: str = ""  # a label that tells several groups of one object apart, each of which is a gang: NAME-PART
    size: str = ""  # an annotation with how many pods a group has, whether they ask for GPUs or not
    role: str = ""  # a label that tells unlike pods of one gang apart
    suffix: str = ""  # a label whose value the name of the pod's maker ends with, behind that of the object

    def fits(self, labels: Mapping[str, str], maker: Maker | None) -> bool:
        """Whether a pod belongs to such a thing."""
        if self.label and not labels.get(self.label):
            return False
        made = maker is not None and any(
            maker.kind == kind and maker.group in ("", group) for group, kind in self.makers
        )
        return made if self.makers else bool(self.label)

    def group(self, labels: Mapping[str, str], maker: Maker | None) -> str:
        """The name of the group that a pod is one of, where it fits."""
        name = labels[self.label] if self.label else maker.name if maker else ""
        if self.suffix:
            name = name.removesuffix(f"-{labels.get(self.suffix, '')}")
        return f"{name}-{labels.get(self.part) or '0'}" if self.part else name

    def object_of(self, group: str) -> str:
        """The name of the object that a group's pods belong to."""
        return group.rpartition("-")[0] if self.part else group

    def selector(self, group: str, size: int) -> str:
        """By which the pods of a group are found."""
        if not self.label:
            return f"{POD_NAME_LABEL} in ({','.join(f'{group}-{i}' for i in range(min(size, _MOST_NAMED)))})"
        part = f",{self.part}={group.rpartition('-')[2]}" if self.part else ""
        return f"{self.label}={self.object_of(group)}{part}"


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


def one_group(spec: Object) -> int:
    """All its pods are one gang."""
    del spec
    return 1


def nothing(spec: Object, asks: AsksForGpus) -> str:
    """It makes all its pods at once."""
    del spec, asks
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of workload."""

    kind: str  # how Stint calls it; no two are called alike
    group: str
    version: str
    plural: str
    pods: Pods = no_pods  # of its spec: how many pods are made of which pod spec
    ended: Callable[[Object], Ended] = never
    suspend: tuple[str, ...] = ()  # the path of the field that deletes its pods and brings them back
    belonging: Belonging | None = None  # None: its pods are another kind's
    hands_down: HandsDown | None = None  # how the gate labels what its pods are made from; None: that has its labels
    groups: Callable[[Object], int] = one_group  # of its spec: into how many gangs its pods fall, numbered from 0
    called: str = ""  # what its API calls it, where another group's kind has that name, too
    one_by_one: Callable[[Object, AsksForGpus], str] = nothing  # of its spec: why some pods wait for others, what helps
    refused: str = ""  # why Stint does not place it, and what to do; its pods are never held back

    @property
    def api_kind(self) -> str:
        """As objects and owner references have it."""
        return self.called or self.kind

    @property
    def slug(self) -> str:
        """For names of objects and watches, where a plural may be another group's, too."""
        return f"{self.kind.lower()}s"

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
