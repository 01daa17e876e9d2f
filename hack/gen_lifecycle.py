"""`python -m hack.gen_lifecycle` writes docs/lifecycle.md from the tables that the operator itself goes by."""

from __future__ import annotations

from pathlib import Path

from stint.lifecycle.blame import NODE_FAULTS
from stint.lifecycle.phases import TRANSITIONS
from stint.lifecycle.requeue import REASONS
from stint.lifecycle.retries import BACKOFF_S, BLAME_LASTS, MOST_BACKOFF_S
from stint.model.job import ENDED, Phase

_BLAME = f"{BLAME_LASTS.total_seconds() / 60:.0f}"
TARGET = Path(__file__).resolve().parent.parent / "docs" / "lifecycle.md"


def text() -> str:
    """The page."""
    return f"""# The life of a TrainingJob

`status.phase` is for people; machines read the conditions. The phase follows from what the cluster shows (Job, pods,
nodes) and from what the last plan says. A job that is edited, suspended or requeued changes its phase as drawn here and
in no other way.

```mermaid
stateDiagram-v2
{_diagram()}
```

| From | To | Because |
|---|---|---|
{_rows()}

`{"` and `".join(sorted(ENDED))}` are ends: a job that has ended does not run again.

## Why a gang is requeued

A gang runs whole or not at all. When one of these reasons applies, Stint first writes to the status what survives of
the work, then lets go of all the nodes of the gang; the job waits again and goes on from its last checkpoint. The
reasons are asked in this order, and the first that applies is reported, as `status.reason` and as an event.

| Reason | When |
|---|---|
{_reasons()}

After `DidNotStart` and `NodeRejected` the next try comes {BACKOFF_S:.0f} s later, then after twice as long each time,
at most {MOST_BACKOFF_S / 60:.0f} min. The nodes that refused a worker are avoided for {_BLAME} min after that try. Each
further refusal renews the blame of those before it: `status.blamed` lists them. Once every node of an offering that the
job could use has refused it, the offering is left out for that time, with reason `NodesRefused`. An edit of the spec
clears all blame. `WorkerFailed` uses one of `spec.retries`; the other reasons use none.

A node that jobs of two namespaces blame within an hour is *suspect*; where its kubelet names a fault of the node itself
(`{"`, `".join(sorted(NODE_FAULTS))}`), any two jobs are enough. Nothing is placed on a suspect node until that hour is
over. An event on the node says so, and the metric `stint_node_suspect`.

Each requeue is part of the plan, so a stored decision (`stint run --record-dir`) shows it, and `stint replay` makes it
again.
"""


def _diagram() -> str:
    lines = ["    [*] --> Queued"]
    for old, steps in TRANSITIONS.items():
        lines += [f"    {old.value} --> {new.value}" for new in steps]
    return "\n".join([*lines, *(f"    {end.value} --> [*]" for end in Phase if end in ENDED)])


def _rows() -> str:
    return "\n".join(
        f"| {old.value} | {new.value} | {why} |" for old, steps in TRANSITIONS.items() for new, why in steps.items()
    )


def _reasons() -> str:
    return "\n".join(f"| `{reason.value}` | {when} |" for reason, when in REASONS.items())


if __name__ == "__main__":
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(text())
