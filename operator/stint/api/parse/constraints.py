"""The constraints of a pod as core/v1 writes them, from a template or from the API server.

Everything is bounded: what is more than `MOST` of something is named as not modelled, so that no pod makes the operator
work for long.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import msgspec

from stint.model.constraints import HostPort, PodConstraints, PodTerm, Preference, Requirement, Spread, Terms

MOST = 64  # terms, requirements, ports, constraints of one pod, of each
_MOST_VALUES = 1_024
_MOST_PREFERRED = 16
_INT32 = 2**31 - 1
_MOST_PORT = 65_535
_Of = TypeVar("_Of")
_OPERATORS = frozenset({"In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"})


class _Expression(msgspec.Struct):
    key: str
    operator: str
    values: list[str] | None = None


class _NodeTerm(msgspec.Struct, rename="camel"):
    match_expressions: list[_Expression] | None = None
    match_fields: list[_Expression] | None = None


class _NodeSelector(msgspec.Struct, rename="camel"):
    node_selector_terms: list[_NodeTerm] | None = None


class _PreferredNodes(msgspec.Struct):
    weight: int = 1
    preference: _NodeTerm = msgspec.field(default_factory=_NodeTerm)


class _NodeAffinity(msgspec.Struct):
    required: _NodeSelector | None = msgspec.field(default=None, name="requiredDuringSchedulingIgnoredDuringExecution")
    preferred: list[_PreferredNodes] | None = msgspec.field(
        default=None, name="preferredDuringSchedulingIgnoredDuringExecution"
    )


class _LabelSelector(msgspec.Struct, rename="camel"):
    match_labels: dict[str, str] | None = None
    match_expressions: list[_Expression] | None = None


class _PodTerm(msgspec.Struct, rename="camel"):
    topology_key: str = ""
    label_selector: _LabelSelector | None = None
    namespaces: list[str] | None = None
    namespace_selector: _LabelSelector | None = None
    match_label_keys: list[str] | None = None
    mismatch_label_keys: list[str] | None = None


class _PreferredPods(msgspec.Struct, rename="camel"):
    weight: int = 1
    pod_affinity_term: _PodTerm = msgspec.field(default_factory=_PodTerm)


class _PodAffinity(msgspec.Struct):
    required: list[_PodTerm] | None = msgspec.field(default=None, name="requiredDuringSchedulingIgnoredDuringExecution")
    preferred: list[_PreferredPods] | None = msgspec.field(
        default=None, name="preferredDuringSchedulingIgnoredDuringExecution"
    )


class _Affinity(msgspec.Struct, rename="camel"):
    node_affinity: _NodeAffinity | None = None
    pod_affinity: _PodAffinity | None = None
    pod_anti_affinity: _PodAffinity | None = None


class _Spread(msgspec.Struct, rename="camel"):
    max_skew: int = 1
    topology_key: str = ""
    when_unsatisfiable: str = "DoNotSchedule"
    label_selector: _LabelSelector | None = None
    min_domains: int | None = None
    match_label_keys: list[str] | None = None


class _Port(msgspec.Struct, rename="camel"):
    container_port: int = 0
    host_port: int | None = None
    host_ip: str | None = msgspec.field(default=None, name="hostIP")
    protocol: str | None = None


class _Container(msgspec.Struct, rename="camel"):
    ports: list[_Port] | None = None
    restart_policy: str | None = None


class _Claim(msgspec.Struct, rename="camel"):
    claim_name: str = ""


class _Volume(msgspec.Struct, rename="camel"):
    name: str = ""
    persistent_volume_claim: _Claim | None = None
    ephemeral: Any = None


class _Spec(msgspec.Struct, rename="camel"):
    affinity: _Affinity | None = None
    topology_spread_constraints: list[_Spread] | None = None
    containers: list[_Container] | None = None
    init_containers: list[_Container] | None = None
    host_network: bool | None = None
    volumes: list[_Volume] | None = None


class Written(msgspec.Struct, frozen=True):
    """What a pod's spec says, before volumes are looked up."""

    constraints: PodConstraints
    claims: tuple[str, ...] = ()  # PersistentVolumeClaims that it mounts, by name


def constraints_of(spec: Mapping[str, Any], *, labels: Mapping[str, str], namespace: str) -> Written:
    """Of a pod's spec as JSON has it.

    Raises:
        ValueError: it has the wrong shape; the message names the field.
    """
    try:
        read = msgspec.convert(spec, _Spec, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
    return _written(read, labels, namespace)


def constraints_from(
    *,
    affinity: bytes,
    spread: bytes,
    volumes: bytes,
    ports: Iterable[HostPort],
    labels: Mapping[str, str],
    namespace: str,
) -> Written:
    """The same, of the parts that were kept of what the API server sent, each as JSON.

    Raises:
        ValueError: it has the wrong shape.
    """
    try:
        read = _Spec(
            affinity=msgspec.json.decode(affinity, type=_Affinity | None),
            topology_spread_constraints=msgspec.json.decode(spread, type=list[_Spread] | None),
            volumes=msgspec.json.decode(volumes, type=list[_Volume] | None),
        )
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise ValueError(str(error)) from None
    written = _written(read, labels, namespace)
    return Written(replace(written.constraints, host_ports=tuple(ports)[:MOST]), written.claims)


def _written(spec: _Spec, labels: Mapping[str, str], namespace: str) -> Written:
    unmodelled: list[str] = []
    affinity = spec.affinity or _Affinity()
    nodes = affinity.node_affinity or _NodeAffinity()
    near, away = affinity.pod_affinity or _PodAffinity(), affinity.pod_anti_affinity or _PodAffinity()
    spreads = spec.topology_spread_constraints or []
    own = dict(labels)

    def pods(some: Sequence[_PodTerm] | None) -> tuple[PodTerm, ...]:
        return tuple(_pod_term(t, own, namespace, unmodelled) for t in _few(some, "pod affinity terms", unmodelled))

    preferred = [
        Preference(weight=_weight(p.weight), term=_node_term(p.preference))
        for p in _few(nodes.preferred, "preferred node terms", unmodelled)
    ]
    for sign, some in ((1, near.preferred), (-1, away.preferred)):
        preferred += [
            Preference(weight=sign * _weight(p.weight), pods=_pod_term(p.pod_affinity_term, own, namespace, []))
            for p in _few(some, "preferred pod terms", unmodelled)[:_MOST_PREFERRED]
        ]
    preferred += [
        Preference(
            weight=-1,
            pods=PodTerm(
                topology_key=s.topology_key,
                selector=_selector(s.label_selector, s.match_label_keys, own) or (),
                namespaces=(namespace,),
            ),
        )
        for s in spreads[:MOST]
        if s.when_unsatisfiable != "DoNotSchedule" and s.label_selector is not None
    ]
    ephemeral = [v.name for v in spec.volumes or [] if v.ephemeral]
    if ephemeral:
        unmodelled.append(f"volumes that are made with the pod ({', '.join(ephemeral[:3])})")
    constraints = PodConstraints(
        namespace=namespace,
        labels=tuple(sorted(own.items())),
        node_affinity=None if nodes.required is None else _node_terms(nodes.required, unmodelled),
        host_ports=_host_ports(spec)[:MOST],
        affinity=pods(near.required),
        anti_affinity=pods(away.required),
        spread=tuple(
            Spread(
                topology_key=s.topology_key,
                max_skew=min(max(1, s.max_skew), _INT32),
                selector=_selector(s.label_selector, s.match_label_keys, own),
                min_domains=min(max(1, s.min_domains or 1), _INT32),
            )
            for s in _few(spreads, "topology spread constraints", unmodelled)
            if s.when_unsatisfiable == "DoNotSchedule"
        ),
        preferred=tuple(preferred[:MOST]),
        unmodelled=tuple(dict.fromkeys(unmodelled)),
    )
    claims = [v.persistent_volume_claim.claim_name for v in spec.volumes or [] if v.persistent_volume_claim]
    return Written(constraints, tuple(dict.fromkeys(c for c in claims if c))[:MOST])


def _few(some: Sequence[_Of] | None, what: str, unmodelled: list[str]) -> Sequence[_Of]:
    some = some or []
    if len(some) > MOST:
        unmodelled.append(f"more than {MOST} {what}")
    return some[:MOST]


def _requirements(expressions: Iterable[_Expression], *, field: bool = False) -> tuple[Requirement, ...]:
    return tuple(
        Requirement(key=e.key, operator=e.operator, values=tuple(e.values or ())[:_MOST_VALUES], field=field)
        for e in expressions
    )


def _node_term(term: _NodeTerm) -> tuple[Requirement, ...]:
    fields = _requirements((term.match_fields or [])[:MOST], field=True)
    return (*_requirements((term.match_expressions or [])[:MOST]), *fields)


def _node_terms(selector: _NodeSelector, unmodelled: list[str]) -> Terms:
    terms = tuple(_node_term(t) for t in _few(selector.node_selector_terms, "node selector terms", unmodelled))
    strange = sorted({r.operator for t in terms for r in t} - _OPERATORS)
    if strange:
        unmodelled.append(f"the operator {strange[0][:40]} of a node affinity")
    return terms


def _selector(
    selector: _LabelSelector | None, keys: Sequence[str] | None, own: Mapping[str, str]
) -> tuple[Requirement, ...] | None:
    """None selects no pod, an empty one every pod. `keys` are taken with the values that the pod itself has."""
    if selector is None:
        return None
    same = [Requirement(key=k, operator="In", values=(own[k],)) for k in keys or () if k in own]
    exact = [Requirement(key=k, operator="In", values=(v,)) for k, v in sorted((selector.match_labels or {}).items())]
    return (*exact, *_requirements((selector.match_expressions or [])[:MOST]), *same)


def _pod_term(term: _PodTerm, own: Mapping[str, str], namespace: str, unmodelled: list[str]) -> PodTerm:
    selector = _selector(term.label_selector, term.match_label_keys, own)
    for key in term.mismatch_label_keys or ():
        if key in own and selector is not None:
            selector = (*selector, Requirement(key=key, operator="NotIn", values=(own[key],)))
    namespaces: tuple[str, ...] | None = tuple(term.namespaces or ()) or (namespace,)
    if (chosen := term.namespace_selector) is not None:
        if chosen.match_labels or chosen.match_expressions:
            unmodelled.append("the namespaceSelector of a pod affinity term")
            namespaces = tuple(term.namespaces or ())
        else:
            namespaces = None
    nothing = (Requirement(key="", operator="In"),)
    return PodTerm(
        topology_key=term.topology_key, selector=nothing if selector is None else selector, namespaces=namespaces
    )


def _host_ports(spec: _Spec) -> tuple[HostPort, ...]:
    found = []
    sidecars = [c for c in spec.init_containers or () if c.restart_policy == "Always"]
    for container in (*(spec.containers or ()), *sidecars):
        for port in container.ports or ():
            number = port.host_port or (port.container_port if spec.host_network else 0)
            if 0 < number <= _MOST_PORT:
                found.append(HostPort(port=number, protocol=port.protocol or "TCP", ip=_ip(port.host_ip)))
    return tuple(dict.fromkeys(found))


def _weight(weight: int) -> int:
    """As the API server allows; a raw template may say anything."""
    return min(max(1, weight), 100)


def _ip(text: str | None) -> str:
    return "" if text in (None, "0.0.0.0", "::") else str(text)


def with_volumes(constraints: PodConstraints, volumes: Sequence[Terms]) -> PodConstraints:
    """The same, where its bound volumes can be mounted."""
    return replace(constraints, volumes=tuple(volumes))
