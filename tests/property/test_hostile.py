"""Whatever a tenant writes into any field, the others' job is decided about as ever."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from hack import fuzz
from hack.fuzz import Tried, hurt, judge, tries
from stint.kube.act import proxy_jobs
from stint.model.plan import Placement


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(tried=tries(6))
def test_nothing_that_a_tenant_writes_leaves_its_guard(tried: Tried):
    assert hurt(tried) == ""


def pod(**annotations: str) -> dict:
    said = {k.replace("__", "/").replace("_", "-"): v for k, v in annotations.items()}
    labels = {"stint.dev/managed": "true", "stint.dev/group": "g"}
    return {
        "metadata": {"name": "mine", "namespace": "tenant", "labels": labels, "annotations": said},
        "spec": {
            "containers": [{"resources": {"requests": {"nvidia.com/gpu": "8"}}}],
            "schedulingGates": [{"name": "stint.dev/placement"}],
        },
    }


@pytest.mark.parametrize("text", fuzz.CORPUS)
def test_the_corpus_hurts_nobody(text: str):
    wrote = pod(stint_dev__spec=text, stint_dev__group_size=text)
    wrote["metadata"]["annotations"] = {"stint.dev/spec": text, "stint.dev/group-size": "1", "stint.dev/rank": text}
    found = judge(Tried(pods=[wrote]))
    assert isinstance(found.victim, Placement)


def test_it_would_be_seen(monkeypatch: pytest.MonkeyPatch):
    """What raises outside its guard, and what sends the others' job elsewhere, is told."""
    assert hurt(Tried(pods=[pod()])) == ""
    monkeypatch.setattr(fuzz, "observe", lambda *_, **__: {}["gone"])
    assert hurt(Tried(pods=[pod()])) == "KeyError('gone')"


def test_what_cannot_be_made_of_one_group_is_told_on_it(monkeypatch: pytest.MonkeyPatch):
    def fails(*_: object) -> None:
        raise TypeError("'<' not supported between instances of 'str' and 'int'")

    monkeypatch.setattr(proxy_jobs, "_fragment", fails)
    wrote = pod()
    wrote["metadata"]["annotations"] = {"stint.dev/group-size": "1"}
    found = judge(Tried(pods=[wrote]))
    assert isinstance(found.victim, Placement)
    assert any("NotSteered" in told and "TypeError" in told for told in found.told)
