"""MPIJob of Kubeflow's mpi-operator: workers, which it makes, and a launcher, which a Job of it makes.

See its `mpi_job_controller.go` for the labels. The launcher seldom asks for GPUs, and then it does not wait.
"""

from __future__ import annotations

from stint.workloads.kind import AsksForGpus, Belonging, Kind, Object, at, by_conditions
from stint.workloads.kubeflow import JOB_NAME, REPLICA_INDEX, replicas_in
from stint.workloads.label import LabelTemplates


def _one_by_one(spec: Object, asks: AsksForGpus) -> str:
    launcher = at(spec, "mpiReplicaSpecs", "Launcher", "template", "spec")
    if spec.get("launcherCreationPolicy") != "WaitForWorkersReady" or not asks(launcher):
        return ""
    return (
        "its launcher asks for GPUs and is made only when the workers are ready; set spec.launcherCreationPolicy to "
        "AtStartup"
    )


MPIJOB = Kind(
    kind="MPIJob",
    group="kubeflow.org",
    version="v2beta1",
    plural="mpijobs",
    pods=replicas_in("mpiReplicaSpecs", Worker=0),
    ended=by_conditions("Succeeded", "Failed"),
    suspend=("spec", "runPolicy", "suspend"),
    belonging=Belonging(
        label=JOB_NAME,
        order=("training.kubeflow.org/job-role", REPLICA_INDEX),
        role="training.kubeflow.org/job-role",
        of_a_family=True,
        makers=(("kubeflow.org", "MPIJob"), ("batch", "Job")),
    ),
    hands_down=LabelTemplates(templates=("spec.mpiReplicaSpecs{}.template",)),
    one_by_one=_one_by_one,
)
