from __future__ import annotations

import msgspec
import pytest

from stint.kube.informer import newer
from stint.kube.records import WirePod, reduce_pod

GPU = {"nvidia.com/gpu": "2", "cpu": "4", "memory": "8Gi"}


def requests(**spec: object):
    full = {"containers": [{"resources": {"requests": GPU}}], **spec}
    pod = msgspec.convert(
        {"metadata": {"name": "p", "uid": "u"}, "spec": full, "status": {"phase": "Running"}}, WirePod
    )
    return reduce_pod(pod)[2].requests


def test_containers_add_up():
    found = requests(containers=[{"resources": {"requests": GPU}}, {"resources": {"requests": {"cpu": "500m"}}}])
    assert (found.gpus, found.cpu, found.memory_gib, found.pods) == (2, 4.5, 8.0, 1)


def test_init_containers_count_only_where_they_are_larger():
    first = {"resources": {"requests": {"cpu": "16", "memory": "1Gi"}}}
    found = requests(initContainers=[first])
    assert (found.gpus, found.cpu, found.memory_gib) == (2, 16.0, 8.0)


def test_sidecars_and_overhead_come_on_top():
    sidecar = {"restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}}
    found = requests(initContainers=[sidecar], overhead={"cpu": "250m"})
    assert found.cpu == 5.25


@pytest.mark.parametrize(
    ("version", "known", "is_newer"), [("10", "9", True), ("9", "10", False), ("x", "y", True), ("x", "x", False)]
)
def test_resource_versions_are_numbers(version, known, is_newer):
    assert newer(version, known) is is_newer
