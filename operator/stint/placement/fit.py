"""What keeps a job off an offering or a node whatever else happens: the rules kube-scheduler will apply too."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields
from datetime import timedelta

from stint.model.cluster import Node
from stint.model.constraints import Requirement, Terms
from stint.model.job import Job, Refusal, Toleration
from stint.model.market import Offering, Taint
from stint.model.plan import Reason
from stint.model.resources import Resources
from stint.model.situation import Rates

_BLOCKING = ("NoSchedule", "NoExecute")
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)
HAIR = 1e-9  # by which sums of cores and GiB may differ from what kube-scheduler counts in whole numbers
_ROUNDING = 1e-6  # 0.333333 is a third
_FAMILY = re.compile(r"([A-Z]+[0-9]+[A-Z]*)(?=-|$)")  # A100 of A100-80GB-PCIe
_MOST_NAMED = 4
FIGURES = tuple(f.name for f in fields(Offering) if "Figure" in str(f.type))


def tolerates(tolerations: Iterable[Toleration], taint: Taint) -> bool:
    """The rule of core/v1: effect, key and value match, where an empty one matches all."""
    return any(
        (not t.effect or t.effect == taint.effect)
        and (not t.key or t.key == taint.key)
        and (t.operator == "Exists" or t.value == taint.value)
        for t in tolerations
    )


def untolerated(tolerations: Iterable[Toleration], taints: Iterable[Taint]) -> Taint | None:
    """The first taint that keeps a pod away."""
    tolerations = tuple(tolerations)
    return next((t for t in taints if t.effect in _BLOCKING and not tolerates(tolerations, t)), None)


def selector_misses(selector: Mapping[str, str], labels: Mapping[str, str]) -> str | None:
    """The first requirement of a nodeSelector that the labels do not meet, as `key=value`."""
    return next((f"{k}={v}" for k, v in sorted(selector.items()) if labels.get(k) != v), None)


def meets(requirement: Requirement, value: str | None) -> bool:
    """Whether a label's value (None: there is none) meets a requirement, as apimachinery's labels.Requirement has it.

    Source: k8s.io/apimachinery/pkg/labels, `Requirement.Matches`.
    """
    operator = requirement.operator
    if operator == "In":
        return value is not None and value in requirement.values
    if operator == "NotIn":
        return value is None or value not in requirement.values
    if operator == "Exists":
        return value is not None
    if operator == "DoesNotExist":
        return value is None
    if operator in ("Gt", "Lt") and value is not None and len(requirement.values) == 1:
        try:
            have, bound = _whole_number(value), _whole_number(requirement.values[0])
        except ValueError:
            return False
        return have > bound if operator == "Gt" else have < bound
    return False


def _whole_number(text: str) -> int:
    """As Go's strconv.ParseInt reads it.

    Raises:
        ValueError: it is none, or beyond 64 bits.
    """
    if not _INTEGER.fullmatch(text):
        raise ValueError(text[:40])
    number = int(text)
    if not -(2**63) <= number < 2**63:
        raise ValueError(text[:40])
    return number


def selects(selector: Iterable[Requirement], labels: Mapping[str, str]) -> bool:
    """Whether a label selector picks what has these labels; an empty one picks everything."""
    return all(meets(r, labels.get(r.key)) for r in selector)


def any_term(terms: Terms, name: str, labels: Mapping[str, str]) -> bool:
    """Whether a node is one that the terms of a node affinity ask for. A term without a requirement asks for none."""
    return any(term and all(meets(r, name if r.field else labels.get(r.key)) for r in term) for term in terms)


def in_words(terms: Terms) -> str:
    """The terms of a node affinity, for messages."""
    return " or ".join(" and ".join(_requirement(r) for r in term) or "nothing" for term in terms[:3])[:300]


def _requirement(r: Requirement) -> str:
    key = "metadata.name" if r.field else r.key
    values = ", ".join(r.values[:4]) + (", ..." if len(r.values) > 4 else "")
    return f"{key} {r.operator} ({values})" if r.values else f"{key} {r.operator}"


def workers_per_node(worker: Resources, node: Resources) -> int:
    """How many workers fit on an empty node."""
    names = [name for name, _ in worker.extended]
    pairs = zip(worker.row(names), node.row(names), strict=True)
    ratios = [(have + HAIR) // need for need, have in pairs if need > 0]
    return int(min(ratios, default=0))


def refuses(job: Job, name: str, labels: Mapping[str, str], taints: Iterable[Taint]) -> tuple[Reason, str] | None:
    """Why a node with these labels and taints would not take the job's pods, capacity aside; None: it would.

    Filters NodeAffinity, TaintToleration, VolumeBinding and VolumeZone of kube-scheduler.
    """
    if missing := selector_misses(job.node_selector, labels):
        return Reason.NODE_SELECTOR_MISMATCH, f"lacks {missing}, which the template's nodeSelector asks for"
    c = job.constraints
    if c.node_affinity is not None and not any_term(c.node_affinity, name, labels):
        text = f"does not match the template's node affinity ({in_words(c.node_affinity)})"
        return Reason.NODE_SELECTOR_MISMATCH, text
    for terms in c.volumes:
        if not any_term(terms, name, labels):
            return Reason.VOLUME_ELSEWHERE, f"cannot mount a volume that is bound to {in_words(terms)}"
    if taint := untolerated(job.tolerations, taints):
        return Reason.TAINT_NOT_TOLERATED, f"has the taint {_taint(taint)}, which the template does not tolerate"
    return None


def _taint(taint: Taint) -> str:
    return f"{taint.key}={taint.value}:{taint.effect}" if taint.value else f"{taint.key}:{taint.effect}"


def node_refuses(job: Job, node: Node) -> tuple[Reason, str] | None:
    """The same of a node that is there or under way, with what keeps any gang off it."""
    if node.name in job.avoid:
        return Reason.NODE_BLAMED, "is avoided, as the gang did not start there"
    return refuses(job, node.name, node.labels, node.taints)


def node_admits(job: Job, node: Node) -> bool:
    """Whether the job's pods may go to this very node, capacity and neighbours aside."""
    return node_refuses(job, node) is None


def why_not(job: Job, offering: Offering) -> tuple[Reason, str] | None:
    """The first constraint that rules an offering out for a job whatever its nodes are like; None if none does."""
    o, speeds = offering, job.work.units_per_second
    if job.gpu_models and o.gpu_model not in job.gpu_models:
        text = f"{o.gpu_model} is not among spec.gpu.models {list(job.gpu_models)}"
        return Reason.MODEL_NOT_ALLOWED, text + _taken_for(job, o.gpu_model)
    if o.gpu_model not in speeds:
        text = f"spec.work.unitsPerSecond has no speed for {o.gpu_model}"
        return Reason.NO_SPEED_FOR_MODEL, text + _taken_for(job, o.gpu_model)
    if o.capacity_type not in job.capacity_types:
        allowed = [c.value for c in job.capacity_types]
        return Reason.CAPACITY_TYPE_NOT_ALLOWED, f"{o.capacity_type} is not among spec.capacityTypes {allowed}"
    if o.gpu_memory_gib < job.gpu_memory_gib:
        return Reason.GPU_MEMORY_TOO_SMALL, (
            f"{o.gpu_model} has {o.gpu_memory_gib:g} GiB, spec.gpu.memoryGiB asks for {job.gpu_memory_gib:g}"
        )
    if o.slices is not None and o.slices.fraction < (job.gpu_fraction or 0.0) - _ROUNDING:
        return Reason.SLICE_TOO_SMALL, (
            f"a part ({o.slices.name}) is {o.slices.fraction:.3g} of a GPU, spec.gpu.fraction is {job.gpu_fraction:g}"
        )
    if o.slices is not None and job.gpu_fraction is None:
        return Reason.SHARED_GPU, f"its GPUs are shared ({o.slices.name}); spec.gpu.fraction would take a part of one"
    if not job.data.may_leave_region and (job.data.provider, job.data.region) != (o.provider, o.region):
        return Reason.DATA_MUST_STAY, f"spec.data.mayLeaveRegion is false and the data lies in {_home(job)}"
    if refusal := next((r for r in job.refusals if r.offering == o.id), None):
        return Reason.NODES_REFUSED, _refused(refusal)
    return None


def new_refuses(job: Job, offering: Offering) -> tuple[Reason, str] | None:
    """Why a node of an offering that is bought now would not take one of the job's pods; None: it would."""
    if no := refuses(job, "", offering.labels, offering.taints):
        return no[0], f"a new node {no[1]}"
    if workers_per_node(job.per_worker, offering.new_node) == 0:
        return Reason.WORKER_EXCEEDS_NODE, exceeds(job.per_worker, offering.new_node, offering.instance_type)
    return None


def _taken_for(job: Job, model: str) -> str:
    """What a name was understood as that may have been meant for this model: one of the same family."""
    family = _FAMILY.match(model)
    if family is None:
        return ""
    alike = (name for name, taken in job.read_as.items() if _family(name) == family.group(1) and taken != model)
    name = next(alike, None)
    return f"; {name} is read as {job.read_as[name]}; did you mean {model}?" if name else ""


def _family(name: str) -> str:
    found = _FAMILY.match(name.upper())
    return found.group(1) if found else ""


def unusable(offering: Offering) -> str:
    """The first of its figures that nothing can be reckoned with, such as one that is not a number; empty: none."""
    figures = {name: getattr(offering, name) for name in FIGURES}
    return next((f"{name} is {f.value:g}" for name, f in figures.items() if f is not None and not f.usable), "")


def unusable_rate(rates: Rates) -> str:
    """The same for what every job pays; rates that not everybody pays are taken for unknown."""
    figures = {name: getattr(rates, name) for name in ("labour_usd_per_job_hour", "carbon_usd_per_tonne")}
    return next((f"{name} is {f.value:g}" for name, f in figures.items() if f is not None and not f.usable), "")


def missing_price(
    job: Job, offering: Offering, *, egress_known: bool, licences: Collection[str], wrong: str = ""
) -> tuple[Reason, str] | None:
    """Which figure a price cannot be made without, and how to give it.

    Args:
        licences: those that have a price.
        wrong: what is wrong with the rates or with the offering's own figures; empty: nothing.
    """
    o = offering
    if wrong:
        return Reason.NO_PRICE, f"{wrong}, which is not a usable figure; correct it in a PriceBook"
    if o.usd_per_node_hour is None:
        what = f"the {o.capacity_type} price of {o.instance_type} in {o.zone or o.region or 'its zone'} is not known"
        return Reason.NO_PRICE, f"{what}; add it to a PriceBook under spec.prices"
    if not egress_known:
        move = f"moving {job.data.gib:g} GiB from {_home(job)} to {o.provider}/{o.region}"
        return Reason.NO_PRICE, f"{move} has no price; add it to a PriceBook under spec.egress"
    if unpriced := [name for name in job.licences if name not in licences]:
        what = f"licence {', '.join(unpriced)}"
        return Reason.NO_PRICE, f"{what} has no price; add it to a PriceBook under spec.licences"
    if job.data.scratch_gib and o.usd_per_storage_gb_month is None:
        return Reason.NO_PRICE, f"storage in {o.provider}/{o.region} has no price; add it under spec.storage"
    return None


def checkpoint_hours(every: timedelta | None) -> float:
    """Hours between checkpoints; inf for a job that never makes one."""
    return float("inf") if every is None else every.total_seconds() / 3600.0


def _home(job: Job) -> str:
    return f"{job.data.provider}/{job.data.region}"


def _refused(refusal: Refusal) -> str:
    names = ", ".join(refusal.nodes[:_MOST_NAMED])
    more = len(refusal.nodes) - _MOST_NAMED
    others = f" and {more} more" if more > 0 else ""
    why = f" ({refusal.said})" if refusal.said else ""
    return (
        f"every node of it that the job could use has refused its workers{why}: {names}{others}; "
        f"it is tried again after {refusal.until:%H:%M:%S} UTC, or once the spec is edited"
    )


def exceeds(worker: Resources, node: Resources, what: str) -> str:
    """Which resource a worker asks more of than an empty node has.

    Args:
        what: the node's name, or its instance type.
    """
    names = [name for name, _ in worker.extended]
    words = ("GPUs", "CPU cores", "GiB of memory", "pods", *names)
    for word, need, have in zip(words, worker.row(names), node.row(names), strict=True):
        if need > have + HAIR:
            return f"a worker asks for {_amount(need)} {word}, a {what} has {_amount(have)}"
    return f"a worker does not fit on a {what}"


def _amount(figure: float) -> str:
    return f"{figure:.10g}"
