"""Where the API server is, as files say it that others write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from stint.errors import StintError
from stint.kube.client.api import Api, FencedError, connect

KUBECONFIG = """apiVersion: v1
kind: Config
clusters:
- name: c
  cluster: {server: "https://127.0.0.1:6443"}
contexts:
- name: x
  context: {cluster: c, user: u}
current-context: x
users:
- name: u
  user: {token: "TOKEN"}
"""


def test_a_token_that_was_replaced_is_read_again(tmp_path: Path):
    file = tmp_path / "kubeconfig"
    file.write_text(KUBECONFIG)
    connection = connect(file)
    assert connection.token() == "TOKEN"
    assert not connection.renew()
    file.write_text(KUBECONFIG.replace("TOKEN", "another"))
    assert connection.renew()
    assert connection.token() == "another"


def test_a_kubeconfig_that_is_just_being_written_ends_nothing(tmp_path: Path):
    file = tmp_path / "kubeconfig"
    file.write_text(KUBECONFIG)
    connection = connect(file)
    for length in range(len(KUBECONFIG)):
        file.write_text(KUBECONFIG[:length])
        connection.renew()
    file.unlink()
    connection.renew()
    file.write_text(KUBECONFIG.replace("TOKEN", "another"))
    assert connection.renew()
    assert connection.token() == "another"


@pytest.mark.parametrize("text", ["", "{", "clusters: 3", "- a"])
def test_a_kubeconfig_that_cannot_be_read_says_so_in_one_line(tmp_path: Path, text: str):
    file = tmp_path / "kubeconfig"
    file.write_text(text)
    with pytest.raises(StintError, match=r"no cluster: .*set KUBECONFIG"):
        connect(file)


@pytest.mark.parametrize(
    ("where", "step"),
    [(aiohttp.TCPConnector, "connect"), (aiohttp.ClientRequest, "send")],
    ids=["a connection is made", "it is about to go out"],
)
async def test_leadership_that_ends_while_a_write_is_on_its_way_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: type, step: str
):
    """A process that was asleep in between sends nothing when it wakes up; what needs no leader is sent."""
    asked, leads = [], True

    async def serve(request: web.BaseRequest) -> web.Response:
        asked.append(request.method)
        return web.json_response({})

    runner = web.ServerRunner(web.Server(serve))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    as_ever = getattr(where, step)

    async def fall_asleep(*args: Any, **options: Any) -> Any:
        nonlocal leads
        leads = leads and step == "connect"
        made = await as_ever(*args, **options)
        leads = False
        return made

    monkeypatch.setattr(where, step, fall_asleep)
    file = tmp_path / "kubeconfig"
    file.write_text(KUBECONFIG.replace("https://127.0.0.1:6443", "http://{}:{}".format(*runner.addresses[0])))
    async with Api(connect(file)) as api:
        api.may_write = lambda: leads
        for write in (api.create("/jobs", {}), api.patch("/jobs/a", {}), api.delete("/jobs/a")):
            leads = True
            with pytest.raises(FencedError, match="was not sent: leadership is not certain"):
                await write
        await api.get("/jobs")
        await api.ask("/reviews", {})
    await runner.cleanup()
    assert asked == ["GET", "POST"]
