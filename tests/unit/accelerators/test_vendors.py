"""Vendors are told apart, known to nobody but their room, and the next one is a file and a line."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from stint.accelerators import registry
from stint.accelerators.vendor import Sharing, Vendor
from stint.feeds import bundled

OPERATOR = Path(__file__).parents[3] / "operator"
CATALOGUE = bundled.load()
VENDORS = pytest.mark.parametrize("vendor", registry.VENDORS, ids=lambda v: v.name)


def test_no_two_vendors_share_a_word():
    words = [{v.resource, *v.brands} for v in registry.VENDORS]
    assert not any(a & b for a, b in itertools.combinations(words, 2))


@VENDORS
class TestEveryVendor:
    def test_its_nodes_are_known_by_their_taint(self, vendor: Vendor):
        assert registry.on_node((), [vendor.taint.key]) is vendor
        assert vendor.toleration.key == vendor.taint.key == vendor.resource

    def test_the_catalogue_spells_it_alike(self, vendor: Vendor):
        models = [g for g in CATALOGUE.gpus.values() if g.vendor.lower() == vendor.name]
        assert models
        assert registry.named(models[0].vendor) is vendor

    def test_its_models_are_known_with_and_without_its_brand(self, vendor: Vendor):
        for gpu in (g for g in CATALOGUE.gpus.values() if g.vendor.lower() == vendor.name):
            for brand in vendor.brands:
                assert CATALOGUE.canonical_gpu(f"{brand}-{gpu.model}") == gpu.model

    def test_whole_devices_are_no_parts(self, vendor: Vendor):
        assert not registry.is_part(vendor.resource)

    def test_a_node_that_shares_nothing_is_read_as_it_is(self, vendor: Vendor):
        labels = {vendor.labels.product: "X"} if vendor.labels else {}
        if vendor.sharing is not None:
            assert isinstance(vendor.sharing, Sharing)
            assert vendor.sharing.whole(labels) == labels
            assert vendor.sharing.read(labels, {}, whole=8, memory_gib=80.0) is None
        assert not registry.shared(labels)


def test_who_makes_a_nodes_devices_is_told_by_labels_and_taints_or_is_the_usual():
    assert registry.on_node(["nvidia.com/gpu.product"], ()).name == "nvidia"
    assert registry.on_node((), ()) is registry.DEFAULT
    assert registry.named("Google") is registry.DEFAULT


def test_vendors_are_named_in_their_room_only():
    """In code: `grep -rn nvidia` finds where to look."""
    names = re.compile("|".join([*(re.escape(v.resource.partition("/")[0]) for v in registry.VENDORS), "nvidia"]), re.I)
    found = [
        f"{path.relative_to(OPERATOR)}:{number}: {line.strip()}"
        for path in sorted((OPERATOR / "stint").rglob("*.py"))
        if path.parent.name != "accelerators"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if names.search(line)
    ]
    assert found == []


def test_a_vendor_is_a_file_and_a_line():
    """In a process of its own: names are read once. `ACME` would be the file, the line after it the line."""
    program = """
        import re
        from pathlib import Path
        import stint.accelerators as room
        from stint.accelerators.vendor import NodeLabels, Vendor

        labels = NodeLabels(product="acme.com/model", memory_mib="acme.com/memory", count="acme.com/count")
        ACME = Vendor(name="acme", resource="acme.com/npu", brands=("acme",), labels=labels)

        import types, sys
        text = (Path(room.__file__).parent / "registry.py").read_text()
        registry = types.ModuleType("stint.accelerators.registry")
        registry.ACME = ACME
        sys.modules["stint.accelerators.registry"] = room.registry = registry
        exec(text.replace("    INTEL,\\n", "    INTEL,\\n    ACME,\\n", 1), registry.__dict__)

        from dataclasses import replace
        from datetime import UTC, datetime
        import msgspec
        from stint.capacity.adapter import Order
        from stint.capacity.kwok import _node
        from stint.catalogue.quote import FreshnessLimits
        from stint.feeds import bundled
        from stint.kube.observe.inventory import take_inventory
        from stint.kube.reduce import reduce_node, reduce_pod
        from stint.kube.wire import WireNode, WirePod

        catalogue = bundled.load()
        assert catalogue.canonical_gpu("ACME-H100-SXM") == "H100-SXM"
        asks = {"containers": [{"resources": {"requests": {"acme.com/npu": "2"}}}]}
        pod = {"metadata": {"name": "p", "uid": "p"}, "spec": asks}
        assert reduce_pod(msgspec.convert(pod, WirePod))[2].requests.gpus == 2
        amounts = {"acme.com/npu": "8", "cpu": "96", "memory": "1000Gi", "pods": "110"}
        node = {
            "metadata": {"name": "n", "uid": "n", "labels": {"acme.com/model": "H100-SXM", "acme.com/memory": "81920"}},
            "spec": {"taints": [{"key": "acme.com/npu", "value": "present", "effect": "NoSchedule"}]},
            "status": {"allocatable": amounts},
        }
        record = reduce_node(msgspec.convert(node, WireNode))[2]
        now = datetime(2026, 11, 30, tzinfo=UTC)
        found = take_inventory([record], [], catalogue, today=now.date(), limits=FreshnessLimits())
        (offering,) = found.offerings.values()
        assert (offering.gpu_model, offering.per_node.gpus) == ("H100-SXM", 8)
        made = _node("new", Order(pool="p", changes=(), members=(), now=now), offering)
        assert made["status"]["allocatable"]["acme.com/npu"] == "8"
        assert made["metadata"]["labels"]["acme.com/count"] == "8"
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, cwd=OPERATOR)
