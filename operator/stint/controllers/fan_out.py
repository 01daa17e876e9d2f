"""Work for many objects side by side: what goes wrong with one of them is not the others' affair."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping

import aiohttp

from stint.kube.client.api import ApiError, FencedError

log = logging.getLogger(__name__)

# These say something about the server or about us, not about the object that was written.
_EVERYBODYS = frozenset({401, 429, 502, 503, 504})


def concerns_everybody(error: BaseException) -> bool:
    """Whether going on with other objects is pointless after this."""
    if isinstance(error, ApiError):
        return error.status in _EVERYBODYS
    return isinstance(error, FencedError | aiohttp.ClientError | TimeoutError)


async def together(what: str, work: Mapping[str, Awaitable[object]]) -> None:
    """Everything to its end, whatever becomes of the rest. Nothing is in flight any more when it returns.

    Args:
        what: is being done, for the log.
        work: by the name of the object that it is about.
    Raises:
        ApiError, aiohttp.ClientError, TimeoutError, FencedError: the first that concerns everybody.
    """
    results = await asyncio.gather(*work.values(), return_exceptions=True)
    worst: BaseException | None = None
    for name, result in zip(work, results, strict=True):
        if not isinstance(result, BaseException):
            continue
        if not isinstance(result, Exception):
            raise result
        if concerns_everybody(result):
            worst = worst or result
        elif isinstance(result, ApiError):
            log.warning("%s, %s: %s", what, name, result)
        else:
            log.error("%s, %s: unforeseen", what, name, exc_info=result)
    if worst is not None:
        raise worst
