"""`python -m hack.exporter --port N`: serves /metrics until it is ended."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

import aiohttp
from aiohttp import web

from hack.exporter.series import Meter, Style, render
from stint.kube.client.api import Api, ApiError, connect


async def serve(kubeconfig: Path | None, host: str, port: int, style: Style) -> None:
    """Look at the API server whenever Prometheus asks."""
    meter = Meter()
    async with Api(connect(kubeconfig)) as api:

        async def metrics(_: web.Request) -> web.Response:
            try:
                nodes, pods = await asyncio.gather(api.get("/api/v1/nodes"), api.get("/api/v1/pods"))
            except (ApiError, aiohttp.ClientError) as error:
                return web.Response(status=503, text=str(error))
            text = render(nodes["items"], pods["items"], style=style, meter=meter)
            return web.Response(text=text, headers={"Content-Type": "text/plain; version=0.0.4"})

        app = web.Application()
        app.router.add_get("/metrics", metrics)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, host, port).start()
        await asyncio.Event().wait()


def main() -> None:
    """Parse and serve."""
    parser = argparse.ArgumentParser(prog="python -m hack.exporter")
    parser.add_argument("--kubeconfig", type=Path, help="default: KUBECONFIG, or the cluster that it runs in")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9400)
    parser.add_argument("--host-label", choices=("hostname", "Hostname"), default="hostname")
    parser.add_argument(
        "--old-labels", action="store_true", help="pod_name and pod_namespace, as before Kubernetes 1.16"
    )
    parser.add_argument("--no-profiling", action="store_true", help="no DCGM_FI_PROF_*, as on GPUs that have none")
    options = parser.parse_args()
    style = Style(options.host_label, new_labels=not options.old_labels, profiling=not options.no_profiling)
    asyncio.run(serve(options.kubeconfig, options.host, options.port, style))


if __name__ == "__main__":
    main()
