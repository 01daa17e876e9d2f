"""What is told of nodes that no GPUPool speaks for."""

from __future__ import annotations

from unittest.mock import create_autospec

import msgspec

from stint.api.meta import Meta
from stint.controllers.feeds import Feeds
from stint.controllers.pool_writer import PoolWriter
from stint.decide import decide
from stint.kube.client.api import Api
from stint.kube.client.events import Recorder
from stint.model.plan import Reason
from stint.testing.builders import NOW
from tests.unit.kube.objects import a_record, a_resource
from tests.unit.kube.test_blame import refuse
from tests.unit.kube.test_observe import look


def blaming(namespace: str):
    made = a_resource(msgspec.to_builtins(refuse("n1", reason=Reason.NODE_REJECTED)))
    return msgspec.structs.replace(made, metadata=Meta(name="a", namespace=namespace, uid=namespace, generation=3))


async def test_a_suspect_node_is_told_of_once():
    events = create_autospec(Recorder, instance=True)
    api, feeds = create_autospec(Api, instance=True), create_autospec(Feeds, instance=True)
    writer = PoolWriter(api, events, pools=list, books=list, absorb={}, feeds=feeds)
    seen = look(resources=[blaming("one"), blaming("two")], nodes=[a_record()], now=NOW)
    for _ in range(2):
        await writer.tell(seen, decide(seen.situation))
    ((about, reason, note),) = [call.args for call in events.tell.await_args_list]
    assert (about.kind, about.name, reason) == ("Node", "n1", "SuspectNode")
    assert "nothing is placed on it until 13:00 UTC: drain it" in note
