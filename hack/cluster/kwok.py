"""How fake nodes and pods behave: the stages that come with kwok, a little changed, and ours in `hack/kwok/`.

kwok ends every pod of a Job at once; here a pod runs for as long as an annotation says, and may start late, fail,
or run on. Nodes may boot slowly and be taken away as spot nodes are.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

from hack import build
from hack.processes import Processes, free_port

# One kwok stands in for the kubelets of all nodes, which would not wait for each other; by default it reports four pods
# at a time. What is not said here has no default any more, so all else is as it is by default.
_CONFIGURATION = {
    "apiVersion": "config.kwok.x-k8s.io/v1alpha1",
    "kind": "KwokConfiguration",
    "options": {
        "podPlayStageParallelism": 16,
        "nodePlayStageParallelism": 4,
        "nodeLeaseParallelism": 4,
        "podsOnNodeSyncParallelism": 1,
        "enablePodsOnNodeSyncListPager": True,
        "cidr": "10.0.0.0/24",
    },
}
OURS = Path(__file__).resolve().parent.parent / "kwok" / "stages.yaml"
SIM = "sim.stint.dev"


def _annotated(name: str, *, there: bool) -> dict[str, Any]:
    return {"key": f'.metadata.annotations["{SIM}/{name}"]', "operator": "Exists" if there else "DoesNotExist"}


def _after(stage: dict[str, Any], annotation: str) -> list[dict[str, Any]]:
    """A stage twice: at once without the annotation, and after the time it gives."""
    late = copy.deepcopy(stage)
    stage["spec"]["selector"]["matchExpressions"].append(_annotated(annotation, there=False))
    late["metadata"]["name"] += "-late"
    late["spec"]["selector"]["matchExpressions"].append(_annotated(annotation, there=True))
    late["spec"]["delay"] = {
        "durationFrom": {"expressionFrom": f'.metadata.annotations["{SIM}/{annotation}"]'},
    }
    return [stage, late]


def render(upstream: Path) -> str:
    """Settings and stages, as kwok's --config wants them. `upstream`: the folder of the stages that come with kwok."""
    (initialise,) = list(yaml.safe_load_all((upstream / "node/fast/node-initialize.yaml").read_text()))
    (heartbeat,) = list(
        yaml.safe_load_all((upstream / "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml").read_text())
    )
    (ready,) = list(yaml.safe_load_all((upstream / "pod/fast/pod-ready.yaml").read_text()))
    (delete,) = list(yaml.safe_load_all((upstream / "pod/fast/pod-delete.yaml").read_text()))
    ended = {"key": ".status.phase", "operator": "In", "values": ["Succeeded", "Failed"]}
    delete["spec"]["selector"]["matchExpressions"].append(ended)
    ours = list(yaml.safe_load_all(OURS.read_text()))
    stages = [*_after(initialise, "ready-after"), heartbeat, *_after(ready, "start-after"), delete, *ours]
    return yaml.safe_dump_all([_CONFIGURATION, *stages], sort_keys=False)


def start_kwok(processes: Processes, state: Path, kubeconfig: Path) -> None:
    """KWOK as a process, for nodes that are annotated as fake and no others."""
    (state / "stages.yaml").write_text(render(build.kwok_stages()))
    processes.start(
        "kwok",
        [
            str(build.kwok()),
            f"--kubeconfig={kubeconfig}",
            f"--config={state / 'stages.yaml'}",
            "--manage-all-nodes=false",
            "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
            "--node-lease-duration-seconds=120",
            f"--server-address=127.0.0.1:{free_port()}",
            "--node-ip=127.0.0.1",
        ],
        env={"GOMEMLIMIT": "1GiB"},
    )
