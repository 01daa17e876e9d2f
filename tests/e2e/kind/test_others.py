"""Other people's Jobs on real kubelets, gated by the policy and, where somebody wants that, by the webhook."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hack.cluster import CHART, NAMESPACE, Cluster
from tests.e2e import others
from tests.e2e.kind.conftest import RESTRICTED, Trainer

SPEC = "work: {units: 60, unitsPerSecond: {L4: 10}}\nbudget: {usd: 5}\n"


def job(trainer: Trainer, name: str) -> dict[str, object]:
    """Two workers that work for some seconds; nothing in it is Stint's but the label and the annotation."""
    made = others.job(trainer.world, name, said=SPEC)
    made["spec"]["template"] = {
        "spec": {
            "restartPolicy": "Never",
            "nodeSelector": {"stint.dev/fake-gpus": "true"},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
            "containers": [
                {
                    "name": "main",
                    "image": trainer.image,
                    "imagePullPolicy": "Never",
                    "command": ["python", "-c", "import time; time.sleep(4)"],
                    "resources": {"limits": {"nvidia.com/gpu": "2"}, "requests": {"cpu": "10m", "memory": "32Mi"}},
                    "securityContext": RESTRICTED,
                }
            ],
        }
    }
    trainer.world.cluster.kubectl("label", "ns", trainer.world.name, "stint.dev/managed=true", "--overwrite")
    trainer.world.apply(made)
    return made


def test_a_job_of_somebody_elses_runs_to_its_end(trainer: Trainer):
    job(trainer, "theirs")
    assert trainer.world.until("Running", "job-theirs", timeout=60)["gpus"] == 4
    trainer.world.until("Succeeded", "job-theirs", timeout=60)
    assert trainer.world.paid("job-theirs")["spentExactly"] > 0


@pytest.fixture
def by_webhook(cluster: Cluster) -> Iterator[None]:
    """The chart's other gate, with its own certificates and Service, served by both replicas."""

    def upgrade(gate: str) -> None:
        values = ("--reuse-values", "--set", f"steering.gate={gate}")
        cluster.helm("upgrade", "stint", str(CHART), "-n", NAMESPACE, "--wait", "--timeout=180s", *values)

    upgrade("webhook")
    yield
    upgrade("auto")


def test_the_webhook_gates_as_the_policy_does(trainer: Trainer, by_webhook: None):
    assert "stint-gates-pods" not in trainer.world.cluster.kubectl("get", "mutatingadmissionpolicies")
    job(trainer, "theirs")
    trainer.world.until("Running", "job-theirs", timeout=60)
    assert "stint.dev/managed" in trainer.world.kubectl("get", "job", "theirs", "-o", "jsonpath={.spec.template}")
    trainer.world.until("Succeeded", "job-theirs", timeout=60)
