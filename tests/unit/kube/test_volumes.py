from __future__ import annotations

import msgspec
import pytest

from stint.kube.observe.volumes import claims_of
from stint.kube.reduce import reduce_storage_class, reduce_volume, reduce_volume_claim
from stint.kube.wire import WireStorageClass, WireVolume, WireVolumeClaim
from stint.model.constraints import Requirement

ZONE = "topology.kubernetes.io/zone"
IN_A = (Requirement(key=ZONE, operator="In", values=("a",)),)


def meta(name, **more):
    return {"name": name, "uid": name, **more}


def claim(name="data", *, volume="", phase="Pending", storage_class="fast", modes=("ReadWriteMany",)):
    spec = {"volumeName": volume, "storageClassName": storage_class, "accessModes": list(modes)}
    body = {"metadata": meta(name, namespace="team"), "spec": spec, "status": {"phase": phase}}
    return reduce_volume_claim(msgspec.convert(body, WireVolumeClaim))[2]


def volume(name="pv", *, zones=(), labels=None):
    spec = {}
    if zones:
        term = {"matchExpressions": [{"key": ZONE, "operator": "In", "values": list(zones)}]}
        spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": [term]}}
    body = {"metadata": meta(name, labels=labels or {}), "spec": spec}
    return reduce_volume(msgspec.json.decode(msgspec.json.encode(body), type=WireVolume))[2]


def storage(name="fast", *, mode="WaitForFirstConsumer", zones=(), default=False):
    told = {"storageclass.kubernetes.io/is-default-class": "true"} if default else {}
    body = {"metadata": meta(name, annotations=told), "volumeBindingMode": mode}
    if zones:
        body["allowedTopologies"] = [{"matchLabelExpressions": [{"key": ZONE, "values": list(zones)}]}]
    return reduce_storage_class(msgspec.json.decode(msgspec.json.encode(body), type=WireStorageClass))[2]


def of(*claims, volumes=(), classes=()):
    return claims_of(claims, volumes, classes)["team"]["data"]


def test_a_bound_claim_goes_where_its_volume_can_be_mounted():
    bound = claim(volume="pv", phase="Bound")
    assert of(bound, volumes=[volume(zones=["a"])]).where == (IN_A,)
    assert of(bound, volumes=[volume()]).where is None
    assert of(bound).where is None, "the volume is not known yet: kube-scheduler will say"


def test_the_zone_labels_of_a_volume_count_where_it_has_no_affinity():
    (term,) = volume(labels={ZONE: "a__b"}).where
    assert term == (Requirement(key=ZONE, operator="In", values=("a", "b")),)


@pytest.mark.parametrize("storage_class", ["fast", None])
def test_a_claim_that_is_bound_with_its_pod_goes_where_its_class_allows(storage_class):
    waiting = claim(storage_class=storage_class)
    assert of(waiting, classes=[storage(zones=["a"], default=True)]).where == (IN_A,)
    assert of(waiting, classes=[storage(default=True)]).where is None


def test_a_claim_that_is_not_bound_or_lost_holds_its_pods():
    assert "not bound to a volume yet" in of(claim(), classes=[storage(mode="Immediate")]).lacking
    assert "not bound to a volume yet" in of(claim(storage_class="nobody-knows")).lacking
    assert "has lost its volume pv" in of(claim(volume="pv", phase="Lost")).lacking


def test_a_claim_of_one_pod_is_told_apart():
    assert of(claim(volume="pv", phase="Bound", modes=["ReadWriteOncePod"])).of_one_pod
    assert of(claim(modes=["ReadWriteOncePod"]), classes=[storage()]).of_one_pod
    assert not of(claim(volume="pv", phase="Bound", modes=["ReadWriteOnce"])).of_one_pod
