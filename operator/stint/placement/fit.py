"""What keeps a job off an offering or a node whatever else happens: the rules kube-scheduler will apply too."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields
from datetime import timedelta

from stint.model.cluster import Node
from stint.model.job import Job, Refusal, Toleration
from stint.model.market import Offering, Taint
from stint.model.plan import Reason
from stint.model.resources import Resources
from stint.model.situation import Rates

_BLOCKING = ("NoSchedule", "NoExecute")
_ROUNDING = 1e-6  # 0.333333 is a third
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


def workers_per_node(worker: Resources, node: Resources) -> int:
    """How many workers fit on an empty node."""
    ratios = [have // need for need, have in zip(worker.as_row(), node.as_row(), strict=True) if need > 0]
    return int(min(ratios, default=0))


def node_admits(job: Job, node: Node) -> bool:
    """Whether the job's pods may go to this very node, capacity aside."""
    return (
        node.name not in job.avoid
        and selector_misses(job.node_selector, node.labels) is None
        and untolerated(job.tolerations, node.taints) is None
    )


def why_not(job: Job, offering: Offering) -> tuple[Reason, str] | None:
    """The first constraint that rules an offering out for a job, in order of precedence; None if none does."""
    o, speeds = offering, job.work.units_per_second
    if job.gpu_models and o.gpu_model not in job.gpu_models:
        return Reason.MODEL_NOT_ALLOWED, f"{o.gpu_model} is not among spec.gpu.models {list(job.gpu_models)}"
    if o.gpu_model not in speeds:
        return Reason.NO_SPEED_FOR_MODEL, f"spec.work.unitsPerSecond has no speed for {o.gpu_model}"
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
    if workers_per_node(job.per_worker, o.per_node) == 0:
        return Reason.WORKER_EXCEEDS_NODE, _exceeds(job.per_worker, o)
    if missing := selector_misses(job.node_selector, o.labels):
        return Reason.NODE_SELECTOR_MISMATCH, f"its nodes lack {missing}, which the template's nodeSelector asks for"
    if taint := untolerated(job.tolerations, o.taints):
        return Reason.TAINT_NOT_TOLERATED, f"the template does not tolerate {taint.key}={taint.value}:{taint.effect}"
    if not job.data.may_leave_region and (job.data.provider, job.data.region) != (o.provider, o.region):
        return Reason.DATA_MUST_STAY, f"spec.data.mayLeaveRegion is false and the data lies in {_home(job)}"
    if refusal := next((r for r in job.refusals if r.offering == o.id), None):
        return Reason.NODES_REFUSED, _refused(refusal)
    return None


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


def _exceeds(worker: Resources, offering: Offering) -> str:
    names = ("GPUs", "CPU cores", "GiB of memory", "pods")
    for name, need, have in zip(names, worker.as_row(), offering.per_node.as_row(), strict=True):
        if need > have:
            return f"a worker asks for {need:g} {name}, a {offering.instance_type} has {have:g}"
    return f"a worker does not fit on a {offering.instance_type}"
