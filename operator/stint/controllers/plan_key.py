"""The key by which plans are signed: in a Secret of the operator's own namespace, so that the next operator knows it.

Where the Secret may not be read or written, this process signs by a key of its own: what it places counts until it
ends, and a gang that has all of its nodes by then keeps them.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import os
from collections.abc import Callable

import aiohttp

from stint.kube.client.api import Api, ApiError, FencedError

log = logging.getLogger(__name__)

NAME = "stint-plan-key"
_FIELD = "key"
_BYTES = 32
_AGAIN_S, _LOOK_EVERY_S = 1.0, 60.0


class PlanKey:
    """Read once, and written again where somebody deletes it."""

    def __init__(self, api: Api, *, namespace: str, leads: Callable[[], bool], on_known: Callable[[], None]) -> None:
        """`on_known` is called once `known` has become true."""
        self.value = os.urandom(_BYTES)
        self.known = False
        self._api = api
        self._leads = leads
        self._on_known = on_known
        self._collection = f"/api/v1/namespaces/{namespace}/secrets"

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            before = self.known
            try:
                await self.look()
            except (ApiError, FencedError, aiohttp.ClientError, TimeoutError) as error:
                log.warning("Secret %s: %s", NAME, error or type(error).__name__)
                # Told as a missing right; nobody waits for it.
                self.known = self.known or (isinstance(error, ApiError) and error.status == 403)
            if self.known and not before:
                self._on_known()
            await asyncio.sleep(_LOOK_EVERY_S if self.known else _AGAIN_S)

    async def look(self) -> None:
        """Read it, or write it where there is none and we lead.

        Raises:
            ApiError, FencedError, aiohttp.ClientError, TimeoutError: the API server does not let us.
        """
        found = await self._api.find(f"{self._collection}/{NAME}")
        if found is None and self._leads():
            data = {_FIELD: base64.b64encode(self.value).decode()}
            meta = {"name": NAME, "labels": {"app.kubernetes.io/managed-by": "stint"}}
            body = {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": data}
            found = await self._api.create(self._collection, body)
        if found is not None and not self.known:
            self.value = _key_in(found.get("data") or {}) or self.value
            self.known = True


def _key_in(data: dict[str, str]) -> bytes:
    """Empty: there is none of the right length, and plans are signed by a key that ends with this process."""
    try:
        key = base64.b64decode(data.get(_FIELD, ""), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) < _BYTES:
        log.warning("Secret %s has no key of %d bytes; delete it, and a new one is made", NAME, _BYTES)
        return b""
    return key
