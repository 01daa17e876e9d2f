from __future__ import annotations

import json
from typing import Any

import pytest

from stint.api import snapshot
from stint.decide import decide
from stint.errors import InvalidInputError
from stint.model.situation import Settings
from stint.testing.builders import a_job, a_node, a_situation, an_offering, running_on

OFFERING = an_offering()
SITUATION = a_situation(offerings=[OFFERING], nodes=[a_node("n", OFFERING)], jobs=[a_job(workers=1)])


def broken(change: Any) -> dict[str, str]:
    data = json.loads(snapshot.encode(SITUATION, None))
    change(data)
    with pytest.raises(InvalidInputError) as refused:
        snapshot.decode(json.dumps(data), name="file.json")
    return {m.path: m.remedy for m in refused.value.mistakes}


def test_what_is_written_reads_back_and_decides_the_same():
    stored = snapshot.encode(SITUATION, decide(SITUATION))
    read = snapshot.decode(stored, name="it")
    assert read.situation == SITUATION
    assert snapshot.encode(read.situation, decide(read.situation)) == stored


def test_every_mistake_is_told_with_its_path():
    def spoil(data: Any) -> None:
        data["situation"]["jobs"][0]["workers"] = "two"
        data["situation"]["nodes"][0]["ready"] = "yes"
        del data["situation"]["offerings"][0]["gpu_model"]

    found = broken(spoil)
    assert "situation.jobs[0].workers" in found
    assert "situation.nodes[0].ready" in found
    assert any("gpu_model" in text for text in found.values())


def test_references_that_lead_nowhere_are_told():
    def spoil(data: Any) -> None:
        data["situation"]["nodes"][0]["offering"] = "nowhere"
        data["situation"]["jobs"].append(data["situation"]["jobs"][0])

    found = broken(spoil)
    assert found["situation.nodes[0].offering"] == "is no offering of this file"
    assert found["situation.jobs[1].id"] == "is there twice"


@pytest.mark.parametrize("text", [b"{", b"- 1", b'{"format": "other"}', b"a: [", b""])
def test_anything_else_is_refused_with_a_reason(text):
    with pytest.raises(InvalidInputError):
        snapshot.decode(text, name="file")


def test_yaml_by_hand_will_do():
    import msgspec

    data = json.loads(snapshot.encode(SITUATION, None))
    assert snapshot.decode(msgspec.yaml.encode(data), name="file.yaml").situation == SITUATION


def test_mistakes_inside_what_may_be_absent_are_told_with_their_whole_path():
    def spoil(data: Any) -> None:
        data["situation"]["offerings"][0]["usd_per_node_hour"]["value"] = "cheap"
        data["situation"]["jobs"][0]["checkpoint"]["every"] = 5

    found = broken(spoil)
    assert "situation.offerings[0].usd_per_node_hour.value" in found
    assert "situation.jobs[0].checkpoint.every" in found


def test_numbers_that_cannot_be_are_told():
    def spoil(data: Any) -> None:
        situation = data["situation"]
        situation["offerings"][0]["usd_per_node_hour"]["value"] = -1
        situation["offerings"][0]["pool"] = "nowhere"
        situation["jobs"][0]["min_workers"] = 3
        situation["jobs"][0]["work"]["units"] = 0
        situation["now"] = "2026-11-23T12:00:00"

    assert set(broken(spoil)) == {
        "situation.offerings[0].usd_per_node_hour.value",
        "situation.offerings[0].pool",
        "situation.jobs[0].min_workers",
        "situation.jobs[0].work.units",
        "situation.now",
    }


def test_what_is_found_is_told_short():
    data = json.loads(snapshot.encode(SITUATION, None))
    data["situation"]["jobs"][0]["workers"] = "x" * 500
    with pytest.raises(InvalidInputError) as refused:
        snapshot.decode(json.dumps(data), name="file.json")
    assert max(len(m.found) for m in refused.value.mistakes) <= 60


def test_a_plan_alone_is_canonical_too():
    plan = decide(SITUATION)
    assert snapshot.encode_plan(plan) == snapshot.encode_plan(decide(SITUATION))
    assert json.loads(snapshot.encode_plan(plan)) == json.loads(snapshot.encode(SITUATION, plan))["plan"]


def test_a_situation_stored_with_the_solver_auto_is_read_as_portfolio():
    situation = a_situation(offerings=[an_offering()], settings=Settings(solver="auto"))
    record = snapshot.decode(snapshot.encode(situation, None), name="old")
    assert record.situation.settings.solver == "portfolio"


def test_a_record_of_an_earlier_version_is_read():
    """It has no gangs, calls requeues recalls, and knows less of them."""
    node = a_node("n", OFFERING, ready=False)
    situation = a_situation(offerings=[OFFERING], nodes=[node], jobs=[running_on(a_job(), node, offering=OFFERING)])
    plan = decide(situation)
    record = json.loads(snapshot.encode(situation, plan))
    del record["situation"]["gangs"], record["situation"]["settings"]["pace"]
    record["plan"]["recalls"] = [
        {k: v for k, v in r.items() if k in ("job", "reason", "message", "avoid")}
        for r in record["plan"].pop("requeues")
    ]
    read = snapshot.decode(json.dumps(record), name="old.json")
    assert read.situation == situation
    assert read.plan == plan
    assert len(plan.requeues) == 1
