"""`python -m hack.gen_threats` writes the table of the threat model: what the rights of `edit` cause, and its tests."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from stint.estimate.calibration import MOST_KEYS, MOST_OF_A_NAMESPACE
from stint.kube.act.proxy_jobs import MOST_LEVELS, MOST_TEXT
from stint.model.limits import Limits

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "threat-model.md"
_E2E, _OWN = "tests/e2e/test_hostile.py::test_a_tenant_hurts_nobody_else", "tests/unit/kube/test_ownership.py"
_D = Limits()
_BEGIN, _END = "<!-- table -->\n", "<!-- end -->\n"


class Threat(NamedTuple):
    """One thing that a tenant may write."""

    right: str
    written: str
    effect: str  # the most that it causes elsewhere
    test: str  # file::function, or file::function[attack]


THREATS = (
    Threat(
        "create pods",
        "`stint.dev/spec` with aliases, tags, numbers as keys, or too much of anything",
        "none; that part of YAML which JSON can say is read, up to "
        f"{MOST_TEXT // 1024} KiB and {MOST_LEVELS} levels, and the pod is told",
        f"{_E2E}[pod: an alias bomb]",
    ),
    Threat(
        "create pods",
        "Stint's scheduling gate and label in a namespace that is not labelled `stint.dev/managed=true`",
        "none; the pod is told",
        f"{_E2E}[pod outside: a number as a key]",
    ),
    Threat(
        "create, delete pods",
        "a grace period, a date or a figure beyond what fits",
        "none; it is bounded",
        f"{_E2E}[pod: an endless grace period]",
    ),
    Threat(
        "create pods",
        "labels and an index as if it were a worker",
        "it has the GPUs that it is bound with, as any pod",
        f"{_E2E}[pods that look like workers]",
    ),
    Threat(
        "create jobs",
        "`stint.dev/trainingjob` and `stint.dev/plan` on a Job of his own",
        "none; only a Job that has the TrainingJob's uid as its owner counts",
        f"{_E2E}[a plan without an owner, in 9999]",
    ),
    Threat(
        "create jobs",
        "the same, with the uid of his TrainingJob as its owner",
        "none; a plan counts where the operator's key has signed it, or all of its nodes are held anyway",
        f"{_E2E}[a plan in our name, today]",
    ),
    Threat(
        "patch jobs",
        "an edit of the plan on a Job of Stint's",
        "none; his own gang is taken back",
        "tests/e2e/test_hostile.py::test_one_for_other_nodes_is_not_believed",
    ),
    Threat(
        "patch trainingjobs",
        "a plan on a TrainingJob that stands for a workload of others",
        "none",
        f"{_OWN}::test_of_a_workload_of_others_a_plan_counts_that_we_have_signed",
    ),
    Threat(
        "patch jobs",
        "negative or absurd requests, dates at the years 1 and 9999 in a plan",
        "none; it is no plan",
        f"{_OWN}::test_figures_and_dates_that_no_plan_of_ours_has_make_none",
    ),
    Threat(
        "create jobs",
        "a Job with the name of a TrainingJob",
        "none; his own TrainingJob waits and is told which Job to delete",
        f"{_OWN}::test_a_job_of_the_same_name_that_is_not_ours_is_told_and_ends_nothing",
    ),
    Threat(
        "create trainingjobs",
        "`spec.priority`, worth of time and weights",
        f"up to priority {_D.priority}, {_D.lateness_usd_per_hour:.0f} USD/h of lateness and "
        f"{_D.usd_per_hour:.0f} USD/h of time (`limits`) against others in the queue",
        "tests/unit/lifecycle/test_limits.py::test_what_is_beyond_counts_as_the_limit_and_is_told",
    ),
    Threat(
        "create trainingjobs",
        "a deadline that is missed unless gangs of another namespace leave",
        "as many requeues an hour as `moves.acrossNamespacesPerHour`: none by default",
        "tests/unit/autoscale/test_make_room.py::test_gangs_of_another_namespace_leave_only_within_a_budget_of_its_own",
    ),
    Threat(
        "create trainingjobs",
        "many of them, or large ones",
        f"{_D.training_jobs} that have not ended, {_D.spec_bytes // 1024} KiB each, {_D.total_bytes // 2**20} MiB in "
        "all (`limits`); what is beyond is not used and told",
        "tests/unit/controllers/test_room.py::test_a_namespace_has_so_many_bytes",
    ),
    Threat(
        "create trainingjobs",
        "`stint.dev/family` of his own and of others",
        f"none: figures count in his namespace only, of {MOST_KEYS} families at most {MOST_OF_A_NAMESPACE} are his",
        "tests/unit/estimate/test_calibration.py::test_a_namespace_pushes_out_no_figures_of_another",
    ),
    Threat(
        "create trainingjobs",
        "a figure or date with which deciding or handing over fails",
        "none; the job is left out and told, and deciding has a time limit in any case",
        "tests/unit/controllers/test_planner_client.py::test_a_job_that_cannot_be_handed_over_is_left_out_and_told_so",
    ),
    Threat(
        "create trainingjobs, patch",
        "a finalizer that holds a TrainingJob that is being deleted",
        "none; it gives its nodes back",
        f"{_OWN}::test_one_that_is_being_deleted_is_not_placed_and_gives_back_what_it_has",
    ),
    Threat(
        "create daemonsets",
        "one that asks for more than a node has",
        "none; it counts against new nodes only where it would run",
        "tests/unit/kube/test_new_nodes.py::test_a_daemon_set_that_fits_on_no_node_takes_nothing_of_it",
    ),
    Threat(
        "create workloads of others",
        "a spec or status of another shape than its kind has",
        "none; it is told",
        "tests/unit/kube/test_odd_objects.py::test_a_workload_of_any_shape_is_read_or_told",
    ),
    Threat(
        "any",
        "anything in any field that is read",
        "none: `hack/bench.py hostile` tries 100,000 objects, `make test` some thousands",
        "tests/property/test_hostile.py::test_nothing_that_a_tenant_writes_leaves_its_guard",
    ),
)


def text(page: str) -> str:
    """The page, with the table as it is here."""
    before, _, rest = page.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}{_table()}{_END}{after}"


def _table() -> str:
    head = "| Right | What is written | The most that it causes elsewhere | Test |\n|---|---|---|---|\n"
    return head + "".join(f"| {t.right} | {t.written} | {t.effect} | `{t.test}` |\n" for t in THREATS)


if __name__ == "__main__":
    TARGET.write_text(text(TARGET.read_text()))
