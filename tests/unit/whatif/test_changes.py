"""Changes as they are written, and what they make of a situation."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from stint.accelerators import registry
from stint.decide import decide
from stint.errors import InvalidInputError
from stint.feeds import bundled
from stint.model.offering import CapacityType
from stint.model.situation import Situation
from stint.testing.builders import NOW, a_job, a_node, a_pool, a_situation, an_offering, running_on
from stint.whatif.changes import apply
from stint.whatif.written import Written, read

CATALOGUE = bundled.load()
A100 = an_offering()
OTHER = an_offering("h100", usd=20.0, model="H100-SXM", instance_type="p5.48xlarge")


def changed(situation: Situation, **written: object) -> Situation:
    return apply(situation, read(Written(**{k: [v] for k, v in written.items()}), situation, CATALOGUE))


def two() -> Situation:
    nodes = [a_node("n", A100, used_gpus=8), a_node("m", OTHER)]
    running = running_on(a_job("runs"), nodes[0], offering=A100, hours_left=4)
    pools = [a_pool(A100), a_pool(OTHER)]
    return a_situation(offerings=[A100, OTHER], nodes=nodes, pools=pools, jobs=[running, a_job("waits")])


def test_nodes_that_could_be_bought_are_bought_only_where_that_pays():
    after = changed(two(), add_pool="p5.48xlarge:3@us-east-1b:spot")
    (new,) = [o for o in after.offerings if o.pool == "p5-48xlarge-spot"]
    assert (new.provider, new.region, new.gpu_model) == ("aws", "us-east-1", "H100-SXM")
    assert new.usd_per_node_hour == CATALOGUE.price("aws", "us-east-1", "p5.48xlarge", CapacityType.SPOT, "us-east-1b")
    (pool,) = [p for p in after.pools if p.name == new.pool]
    assert (pool.max_nodes, pool.advise_only) == (3, False)
    assert after.nodes == two().nodes


def test_owned_and_reserved_nodes_stand_there():
    after = changed(two(), add_pool="mine=aws/p5.48xlarge:2@us-east-1b:reserved")
    assert [n.name for n in after.nodes if n.offering.startswith("mine/")] == ["mine-0", "mine-1"]
    hungry = replace(after, jobs=(a_job("big", workers=2, speeds={"H100-SXM": 1.0}, tolerations=registry.TOLERATIONS),))
    (placed,) = decide(hungry).placements
    assert placed.nodes == ("mine-0", "mine-1")


def test_a_machine_that_is_there_already_is_added_at_the_price_it_has_there():
    after = changed(two(), add_pool="more=p4de.24xlarge:1@us-east-1a")
    (new,) = [o for o in after.offerings if o.pool == "more"]
    assert (new.usd_per_node_hour, new.per_node) == (A100.usd_per_node_hour, A100.per_node)


def test_who_runs_in_a_pool_that_goes_waits_again():
    after = changed(two(), drop_pool="a100")
    assert {o.pool for o in after.offerings} == {p.name for p in after.pools} == {"h100"}
    assert [n.name for n in after.nodes] == ["m"]
    assert all(j.assignment is None for j in after.jobs)
    assert sum(h.job in ("team/runs", "team/waits") for h in decide(after).holds) == 2


@pytest.mark.parametrize(
    "what", ["a100", "p4de.24xlarge", "p4de.24xlarge:on-demand", "p4de.24xlarge@us-east-1a:on-demand", A100.id]
)
@pytest.mark.parametrize(("amount", "usd"), [("3.5", 3.5), ("x0.5", 4.0), ("0", 0.0)])
def test_a_price_is_of_a_pool_an_offering_or_a_type(what, amount, usd):
    after = changed(two(), price=f"{what}={amount}")
    assert {o.pool: o.usd_per_node_hour.value for o in after.offerings} == {"a100": usd, "h100": 20.0}


@pytest.mark.parametrize(
    ("text", "deadline"),
    [
        ("waits=24h", NOW + timedelta(hours=24)),
        ("team/waits=2026-12-01T08:00:00+02:00", NOW.replace(month=12, day=1, hour=6)),
        ("waits=none", None),
    ],
)
def test_a_deadline_is_a_time_a_duration_or_none(text, deadline):
    after = changed(two(), deadline=text)
    assert {j.id: j.deadline for j in after.jobs} == {"team/runs": None, "team/waits": deadline}


def test_a_budget_is_an_amount_or_none():
    assert [j.budget_usd for j in changed(two(), budget="waits=12.5").jobs] == [None, 12.5]
    assert [j.budget_usd for j in changed(two(), budget="waits=none").jobs] == [None, None]


@pytest.mark.parametrize(
    ("option", "text", "remedy"),
    [
        ("drop_pool", "x", "is no pool; there are a100, h100"),
        ("add_pool", "p5.48xlarge", "must be [NAME=][PROVIDER/]TYPE:NODES@ZONE[:CAPACITY]"),
        ("add_pool", "p5.48xlarge:0@us-east-1a", "from 1 to 10000 nodes"),
        ("add_pool", "p5.48xlarge:99999@us-east-1a", "from 1 to 10000 nodes"),
        ("add_pool", "p5.48xlarge:1@us-east-1a:cheap", "must be one of on-demand, spot, reserved, owned"),
        ("add_pool", "a100=p5.48xlarge:1@us-east-1a", "there is a pool a100 already"),
        ("add_pool", "nothing:1@us-east-1a", "is sold by nobody whose prices are known"),
        ("add_pool", "aws/nothing:1@us-east-1a", "is no machine that the catalogue knows"),
        ("add_pool", "p5.48xlarge:1@nowhere", "nobody lists its price; add --price p5-48xlarge-on-demand=USD"),
        ("price", "a100", "must be WHAT=USD"),
        ("price", "a100=-1", "must be WHAT=USD"),
        ("price", "a100=nan", "must be WHAT=USD"),
        ("price", "a100=xinf", "must be WHAT=USD"),
        ("price", "b200=1", "names no pool, offering, TYPE"),
        ("deadline", "waits=soon", "must be JOB= and a time with its zone"),
        ("deadline", "waits=2026-12-01T08:00:00", "must be JOB= and a time with its zone"),
        ("deadline", "waits=999999999d", "must be JOB= and a time with its zone"),
        ("deadline", "nobody=1h", "is no job that has yet to end; there are team/runs, team/waits"),
        ("budget", "waits=much", "must be JOB=USD or JOB=none"),
    ],
)
def test_what_is_wrong_is_told_with_its_remedy(option, text, remedy):
    with pytest.raises(InvalidInputError) as caught:
        changed(two(), **{option: text})
    (mistake,) = caught.value.mistakes
    assert mistake.path == f"--{option.replace('_', '-')}"
    assert remedy in mistake.remedy


def test_a_price_given_beside_a_pool_that_has_none_is_enough():
    situation = two()
    texts = Written(add_pool=["p5.48xlarge:1@nowhere"], price=["p5-48xlarge-on-demand=9"])
    after = apply(situation, read(texts, situation, CATALOGUE))
    assert [o.usd_per_node_hour.value for o in after.offerings if o.pool == "p5-48xlarge-on-demand"] == [9.0]


def test_all_mistakes_are_told_at_once():
    with pytest.raises(InvalidInputError) as caught:
        read(Written(drop_pool=["x", "y"], price=["z=1"], budget=["waits=?"]), two(), CATALOGUE)
    assert len(caught.value.mistakes) == 4


def test_a_name_that_several_jobs_have_needs_its_namespace():
    twins = replace(two(), jobs=(a_job("a"), replace(a_job("a"), id="other/a")))
    with pytest.raises(InvalidInputError, match="is the name of several jobs; write NAMESPACE/NAME"):
        changed(twins, deadline="a=1h")
    assert changed(twins, deadline="other/a=1h").jobs[0].deadline is None
