"""What a pod demands of its node and of the pods beside it, as core/v1 has it; what is not modelled is named.

All of it is hashable: jobs with equal constraints are judged once.
"""

from __future__ import annotations

from dataclasses import dataclass

Labels = tuple[tuple[str, str], ...]  # sorted by key


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One requirement of a selector; `field` is true for metadata.name, which is no label."""

    key: str
    operator: str  # In, NotIn, Exists, DoesNotExist, Gt, Lt
    values: tuple[str, ...] = ()
    field: bool = False


Term = tuple[Requirement, ...]  # all of them; an empty one matches no node
Terms = tuple[Term, ...]  # any of them


@dataclass(frozen=True, slots=True, kw_only=True)
class PodTerm:
    """Pods that are looked for beside a pod: in the same domain of `topology_key`."""

    topology_key: str
    selector: tuple[Requirement, ...]  # empty: every pod
    namespaces: tuple[str, ...] | None  # None: of every namespace


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A topology spread constraint with whenUnsatisfiable DoNotSchedule."""

    topology_key: str
    max_skew: int
    selector: tuple[Requirement, ...] | None  # None: it counts no pods
    min_domains: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPort:
    """A port of the node itself; an empty IP is every address."""

    port: int
    protocol: str = "TCP"
    ip: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """What a pod would rather have: it breaks ties between nodes of one offering."""

    weight: int
    term: Term = ()  # of the node's labels
    pods: PodTerm | None = None  # beside these, or away from them where the weight is negative


@dataclass(frozen=True, slots=True, kw_only=True)
class PodConstraints:
    """Of one worker. The node selector and the tolerations are the job's own fields."""

    namespace: str = ""
    labels: Labels = ()
    node_affinity: Terms | None = None  # required; None: none
    volumes: tuple[Terms, ...] = ()  # for each bound volume, where it can be mounted
    host_ports: tuple[HostPort, ...] = ()
    affinity: tuple[PodTerm, ...] = ()  # required
    anti_affinity: tuple[PodTerm, ...] = ()  # required
    spread: tuple[Spread, ...] = ()
    preferred: tuple[Preference, ...] = ()
    unmodelled: tuple[str, ...] = ()  # what kube-scheduler will look at and Stint does not; for people


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A pod that is bound to a node and is of no gang, as far as it matters to gangs."""

    node: str
    domains: Labels = ()  # those labels of its node that some term or spread names
    namespace: str
    labels: Labels = ()
    anti_affinity: tuple[PodTerm, ...] = ()
    host_ports: tuple[HostPort, ...] = ()


UNCONSTRAINED = PodConstraints()


def node_keys(constraints: PodConstraints) -> frozenset[str]:
    """The labels of nodes that matter to a pod."""
    terms = [*(constraints.node_affinity or ()), *(t for some in constraints.volumes for t in some)]
    terms += [p.term for p in constraints.preferred]
    keys = {r.key for term in terms for r in term if not r.field}
    keys |= {t.topology_key for t in (*constraints.affinity, *constraints.anti_affinity)}
    keys |= {s.topology_key for s in constraints.spread}
    keys |= {p.pods.topology_key for p in constraints.preferred if p.pods is not None}
    return frozenset(keys)
