from __future__ import annotations

import json
from typing import Any

import pytest

from stint.api import snapshot
from stint.decide import decide
from stint.errors import InvalidInputError
from stint.testing.builders import a_job, a_node, a_situation, an_offering

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
