"""What goes wrong with one object is not the others' affair; what concerns everybody is."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from stint.controllers import planner_worker
from stint.controllers.fan_out import together
from stint.decide import decide
from stint.kube.client.api import ApiError, FencedError
from stint.model.plan import Reason
from stint.testing.builders import a_job, a_node, a_situation, an_offering


async def _run(*failures: Exception) -> list[str]:
    """Some work that fails, and some that ends later and well; returns what ended well."""
    done: list[str] = []

    async def fails(error: Exception) -> None:
        raise error

    async def works() -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        done.append("good")

    work = {f"bad-{i}": fails(error) for i, error in enumerate(failures)}
    try:
        await together("trying", {**work, "good": works()})
    finally:
        assert done == ["good"], "somebody's work was broken off"
    return done


@pytest.mark.parametrize(
    "error", [ApiError(403, "Forbidden", "no"), ApiError(500, "InternalError", "hook"), ValueError()]
)
async def test_what_concerns_one_object_is_logged_with_its_name(error, caplog):
    await _run(error)
    assert "bad-0" in caplog.text


@pytest.mark.parametrize(
    "error", [ApiError(503, "Unavailable", ""), ApiError(401, "Unauthorized", ""), aiohttp.ClientError(), FencedError()]
)
async def test_what_concerns_everybody_is_raised_once_all_have_ended(error):
    with pytest.raises(type(error)):
        await _run(ValueError(), error)


def test_a_job_that_cannot_be_decided_about_is_told_so_and_the_others_are_placed(monkeypatch):
    good, poison = a_job("good"), a_job("poison")
    offering = an_offering()
    situation = a_situation(
        jobs=(good, poison), nodes=[a_node("n1", offering), a_node("n2", offering)], offerings=[offering]
    )

    def picky(situation, **how):
        if any(j.id == poison.id for j in situation.jobs):
            raise ZeroDivisionError("poison")
        return decide(situation, **how)

    monkeypatch.setattr(planner_worker, "decide", picky)
    plan = planner_worker.without_culprits(situation)
    assert [p.job for p in plan.placements] == [good.id]
    (hold,) = [h for h in plan.holds if h.job == poison.id]
    assert hold.reason is Reason.INTERNAL_ERROR
    assert "ZeroDivisionError" in hold.message


def test_what_fails_for_all_together_is_raised(monkeypatch):
    def broken(situation, **how):
        raise ZeroDivisionError

    monkeypatch.setattr(planner_worker, "decide", broken)
    with pytest.raises(ZeroDivisionError):
        planner_worker.without_culprits(a_situation(offerings=[an_offering()]))
