"""What the next node of a pool will be like, from what is seen, was seen, and will run on it."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from stint.api.gpupool import GPUPool
from stint.feeds import bundled
from stint.kube.observe.snapshot import Caches, observe
from stint.kube.reduce import reduce_daemon_set, reduce_limit_range, reduce_runtime_class
from stint.kube.wire import WireDaemonSet, WireLimitRange, WireRuntimeClass
from stint.model.market import Taint
from stint.model.plan import Plan
from stint.model.resources import Resources
from stint.model.situation import Settings
from stint.testing.builders import NOW
from stint.views.pool_status import pool_status
from tests.unit.kube.objects import P4DE, a_record

NO_PLAN = Plan(decided_at=NOW)
GPU = Taint(key="nvidia.com/gpu", value="present")


def a_gpu_pool(**status):
    body = {
        "metadata": {"name": "p", "uid": "p"},
        "spec": {
            "nodeSelector": {"pool": "p"},
            "offerings": [{"provider": "aws", "zone": "us-east-1a", "instanceType": "p4de.24xlarge"}],
            "scaler": {"adapter": "Kwok", "mode": "Act"},
            "limits": {"maxNodes": 4},
        },
        "status": status,
    }
    return msgspec.convert(body, GPUPool)


def daemons(cpu="2", *, selector=None, tolerations=({"operator": "Exists"},)):
    pod = {
        "containers": [{"resources": {"requests": {"cpu": cpu, "memory": "1Gi"}}}],
        "nodeSelector": selector,
        "tolerations": list(tolerations),
    }
    body = {"metadata": {"name": "agent", "uid": "d"}, "spec": {"template": {"spec": pod}}}
    return reduce_daemon_set(msgspec.json.decode(msgspec.json.encode(body), type=WireDaemonSet))[2]


def look(*nodes, pool=None, daemon_sets=()):
    pool = pool or a_gpu_pool()
    caches = Caches(
        trainingjobs=[], gpu_pools=[pool], price_books=[], nodes=nodes, pods=[], jobs=[], daemon_sets=daemon_sets
    )
    return observe(caches, bundled.load(), Settings(), now=NOW, created={}, empty_since={})


def a_node(name="n1", **changes):
    labels = {**P4DE, "pool": "p", "rack": "7", "kubernetes.io/hostname": name}
    size = Resources(gpus=8, cpu=90, memory_gib=1000, pods=110, extended=(("vpc.amazonaws.com/efa", 4.0),))
    return a_record(name, **{"labels": labels, "allocatable": size, **changes})


def the_offering(seen):
    (offering,) = seen.situation.offerings
    return offering


def test_without_a_node_the_description_counts():
    offering = the_offering(look())
    assert offering.new_node == offering.per_node
    assert offering.labels["kubernetes.io/arch"] == "amd64"
    assert offering.orderable


def test_a_node_that_is_there_says_what_the_next_one_has_but_its_name_is_its_own():
    offering = the_offering(look(a_node()))
    assert (offering.new_node.cpu, dict(offering.new_node.extended)) == (90, {"vpc.amazonaws.com/efa": 4.0})
    assert offering.labels["rack"] == "7"
    assert "kubernetes.io/hostname" not in offering.labels
    assert offering.per_node.cpu != 90, "the price is shared by what a machine has, not by what is left of it"


def test_of_several_nodes_what_all_have_counts_and_the_least_of_it():
    small = replace_size(a_node("n2"), cpu=80)
    other = a_node("n3", labels={**P4DE, "pool": "p", "rack": "8"}, taints=(GPU, Taint(key="mine")))
    offering = the_offering(look(a_node(), small, other))
    assert offering.new_node.cpu == 80
    assert "rack" not in offering.labels
    assert offering.taints == (GPU,)


def replace_size(record, **changes):
    return msgspec.structs.replace(record, allocatable=replace(record.allocatable, **changes))


def test_a_node_whose_gpus_have_failed_is_no_measure():
    offering = the_offering(look(a_node(), replace_size(a_node("n2"), gpus=3, cpu=1)))
    assert (offering.new_node.gpus, offering.new_node.cpu) == (8, 90)


def test_what_was_seen_is_remembered_when_the_last_node_is_gone():
    first = look(a_node())
    pool = a_gpu_pool()
    told = pool_status(pool, first, NO_PLAN)
    assert [n.offering for n in told.new_nodes] == [the_offering(first).id]
    later = msgspec.structs.replace(pool, status=told)
    assert the_offering(look(pool=later)).new_node == the_offering(first).new_node
    assert pool_status(later, look(pool=later), NO_PLAN).new_nodes == told.new_nodes


def test_a_taint_that_somebody_puts_on_the_only_node_is_no_rule():
    pool = a_gpu_pool()
    pool = msgspec.structs.replace(pool, status=pool_status(pool, look(a_node()), NO_PLAN))
    offering = the_offering(look(a_node(taints=(GPU, Taint(key="maintenance"))), pool=pool))
    assert offering.taints == (GPU,)


def test_daemon_sets_that_will_run_there_are_taken_off():
    offering = the_offering(look(daemon_sets=[daemons("2"), daemons("3")]))
    assert offering.new_node.cpu == offering.per_node.cpu - 5
    assert offering.new_node.memory_gib == offering.per_node.memory_gib - 2
    assert offering.new_node.pods == 108


def test_a_daemon_set_that_fits_on_no_node_takes_nothing_of_it():
    alone, beside = the_offering(look(daemon_sets=[daemons("2")])), [daemons("1000"), daemons("2"), daemons("95")]
    assert the_offering(look(daemon_sets=beside)).new_node == alone.new_node


def test_daemon_sets_that_will_not_run_there_are_not():
    elsewhere = daemons(selector={"pool": "q"})
    shy = daemons(tolerations=())
    offering = the_offering(look(daemon_sets=[elsewhere, shy]))
    assert offering.new_node == offering.per_node


@pytest.mark.parametrize(("machine", "arch"), [("p5.48xlarge", "amd64"), ("g5g.16xlarge", "arm64")])
def test_the_labels_that_every_kubelet_gives_are_known_beforehand(machine, arch):
    pool = a_gpu_pool()
    offerings = [msgspec.structs.replace(pool.spec.offerings[0], instance_type=machine)]
    pool = msgspec.structs.replace(pool, spec=msgspec.structs.replace(pool.spec, offerings=offerings))
    assert the_offering(look(pool=pool)).labels["kubernetes.io/arch"] == arch


def test_a_taint_of_the_first_node_that_passes_is_no_rule_for_the_next():
    starting = (GPU, Taint(key="ebs.csi.aws.com/agent-not-ready", effect="NoExecute"))
    pool, first = a_gpu_pool(), look(a_node(taints=starting))
    assert the_offering(first).taints == (GPU,)
    pool = msgspec.structs.replace(pool, status=pool_status(pool, first, NO_PLAN))
    assert the_offering(look(pool=pool)).taints == (GPU,)


def test_an_edit_of_the_pool_makes_what_was_seen_earlier_void():
    pool = a_gpu_pool()
    pool = msgspec.structs.replace(pool, status=pool_status(pool, look(a_node()), NO_PLAN))
    edited = msgspec.structs.replace(pool, metadata=msgspec.structs.replace(pool.metadata, generation=2))
    assert the_offering(look(pool=edited)).new_node == the_offering(look()).new_node


def test_a_limit_range_without_limits_and_a_runtime_class_without_overhead_can_be_read():
    body = {"metadata": {"name": "l", "uid": "l", "namespace": "team"}, "spec": {"limits": None}}
    assert reduce_limit_range(msgspec.convert(body, WireLimitRange))[2].requests == ()
    runtime = {"metadata": {"name": "r", "uid": "r"}, "overhead": {"podFixed": None}}
    assert reduce_runtime_class(msgspec.convert(runtime, WireRuntimeClass))[2].overhead == ()
