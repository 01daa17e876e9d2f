"""A gang that must stay in one rack, on a real API server."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.e2e

RACK = "cloud.provider.com/topology-rack"


def test_a_gang_stays_in_one_rack_and_waits_for_it_although_the_cluster_has_room(world):
    racks = {name: world.node(name, labels={RACK: name[0]}) for name in ("a0", "a1", "b0", "b1")}
    world.apply(world.job("first", workers=1, gpus=8))
    taken = world.until("Running", "first")["nodes"]
    other = "b" if set(taken) <= {racks["a0"], racks["a1"]} else "a"
    together = {"topology": {"within": RACK}}
    world.apply(world.job("gang", workers=2, gpus=8, **together))
    assert set(world.until("Running", "gang")["nodes"]) == {racks[f"{other}0"], racks[f"{other}1"]}

    world.apply(world.job("small", workers=2, gpus=8, **together))  # one node is free, its neighbour is not
    assert world.until("Queued", "small", reason="NotEnoughGpus")["message"]
    world.kubectl("delete", "tj", "gang")
    assert set(world.until("Running", "small")["nodes"]) == {racks[f"{other}0"], racks[f"{other}1"]}


def test_a_rack_that_no_node_names_and_a_gang_that_no_host_holds_are_told_so(world):
    world.node("a")
    world.apply(
        world.job("racked", workers=2, gpus=4, topology={"within": RACK}),
        world.job("hosted", workers=2, gpus=8, topology={"within": "kubernetes.io/hostname"}),
        world.job("loose", workers=2, gpus=4, topology={"within": RACK, "required": False}),
    )
    assert RACK in world.until("Queued", "racked", reason="TopologyMismatch")["message"]
    assert world.until("Queued", "hosted", reason="TopologyMismatch")["message"]
    world.until("Running", "loose")
