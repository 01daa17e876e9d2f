"""The webhook that gates pods where the cluster has no policies that could. Every replica serves it, leader or not."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

import msgspec
from aiohttp import web

from stint.errors import StintError
from stint.kube.act.gating import answer

log = logging.getLogger(__name__)

MOST_BYTES = 16 * 2**20  # an object is at most some 3 MiB as JSON, and a review holds two
RENEWED_EVERY_S = 60.0  # a certificate that was renewed is taken up within this time


def _context(certificates: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificates / "tls.crt", certificates / "tls.key")
    except (OSError, ssl.SSLError) as error:
        text = f"--webhook-certificates {certificates}: no tls.crt and tls.key there that fit together ({error})"
        raise StintError(text) from error
    return context


async def _gate(request: web.Request) -> web.Response:
    try:
        answered = answer(msgspec.json.decode(await request.read()))
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError) as error:
        # The API server refuses the object then, and says so to whoever sent it.
        log.warning("an admission review cannot be read: %r", error)
        return web.Response(status=400, text=f"this is no AdmissionReview that Stint can read: {error!r}\n")
    return web.Response(body=msgspec.json.encode(answered), content_type="application/json")


async def serve_gate(port: int, certificates: Path, *, host: str = "0.0.0.0") -> None:
    """Until cancelled.

    Args:
        port: 0 takes a free one, and the log says which.
        certificates: a folder with tls.crt and tls.key, which are read again when they change.
    Raises:
        StintError: they cannot be read.
        OSError: the port is taken.
    """
    context = _context(certificates)
    app = web.Application(client_max_size=MOST_BYTES)
    app.router.add_post("/gate", _gate)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, ssl_context=context).start()
        log.info("the webhook that gates pods listens on port %s", runner.addresses[0][1])
        while True:
            await asyncio.sleep(RENEWED_EVERY_S)
            try:
                context.load_cert_chain(certificates / "tls.crt", certificates / "tls.key")
            except (OSError, ssl.SSLError) as error:
                log.warning("the webhook keeps its certificate, the new one cannot be read: %s", error)
    finally:
        await runner.cleanup()
