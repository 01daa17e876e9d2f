"""A thin client: the connection comes from the `kubernetes` library, the bytes go through aiohttp and msgspec.

Kubeconfig files, exec plug-ins and in-cluster tokens are read by `kubernetes.config`. Requests do not use its model
objects: a list of 50,000 pods is decoded straight into the few fields we need (see `stint.kube.client.informer`).
"""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp
import msgspec
import yaml
from aiohttp.abc import AbstractStreamWriter
from aiohttp.connector import Connection as Wire
from kubernetes import client as k8s_client
from kubernetes import config as k8s_config

from stint import __version__
from stint.errors import ApiError as ApiError
from stint.errors import StintError

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
JSON_PATCH = "application/json-patch+json"

FIELD_MANAGER = "stint"
PAGE = 500  # objects in an answer to a list
_OWN_PAGE = 1000  # ours are small, and listed for ever
_RETRIED = frozenset({429, 500, 502, 503, 504})
_ATTEMPTS = 4
_LONGEST_PAUSE_S = 5.0  # a server that asks for more is left alone: what was to be written is out of date by then
WRITE_TIMEOUT_S = 3.0  # less than the time between a leader's giving up and a standby's taking over
_READS = frozenset({"GET"})
_DATE_LASTS_S = 60.0
# What the library raises where a kubeconfig is broken, or is just being written.
_UNREADABLE = (k8s_config.ConfigException, OSError, ValueError, TypeError, KeyError, yaml.YAMLError)


class FencedError(StintError):
    """A write that was not sent, because leadership could not be shown to hold."""


class ListMeta(msgspec.Struct, rename="camel"):
    """metadata of a list"""

    resource_version: str = ""
    continue_: str = msgspec.field(name="continue", default="")


class Page(msgspec.Struct):
    """A part of a list, each object as the JSON that came."""

    metadata: ListMeta  # its version is the whole list's
    items: list[msgspec.Raw]

    @property
    def last(self) -> bool:
        """Whether none follows."""
        return not self.metadata.continue_


_PAGES = msgspec.json.Decoder(Page)


class _Status(msgspec.Struct):
    message: str = ""
    reason: str = ""
    code: int = 0


@dataclass(slots=True)
class Connection:
    """Where the API server is and how it knows us."""

    server: str
    ca_path: str | None
    certificate_path: str | None
    private_key_path: str | None
    verify: bool
    configuration: Any  # of the kubernetes library: it renews tokens
    reload: Callable[[], Any] | None = None  # reads it afresh, from where it came

    def renew(self) -> bool:
        """After the server has turned our token down: read it again. False: there is no other one yet."""
        before = self.token()
        if self.reload is None:
            return False
        try:
            self.configuration = self.reload()
        except _UNREADABLE:
            return False
        return self.token() != before

    def token(self) -> str | None:
        """The bearer token as it is now; the library renews it when it is about to expire."""
        header: str | None = self.configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        # From a kubeconfig it begins with "Bearer", from inside a cluster with "bearer".
        return header.rpartition(" ")[2] if header else None

    def ssl_context(self) -> ssl.SSLContext:
        """For one session; certificates that are renewed need a new one."""
        context = ssl.create_default_context(cafile=self.ca_path)
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.certificate_path and self.private_key_path:
            context.load_cert_chain(self.certificate_path, self.private_key_path)
        return context


def _kubeconfigs() -> list[str]:
    return os.environ.get("KUBECONFIG", "~/.kube/config").split(os.pathsep)


def connect(kubeconfig: Path | None = None) -> Connection:
    """From a kubeconfig file, from $KUBECONFIG, or from inside a cluster, in this order.

    Raises:
        StintError: there is none of them, or it cannot be read.
    """

    def load() -> Any:
        configuration = k8s_client.Configuration()
        if kubeconfig is not None:
            k8s_config.load_kube_config(  # type: ignore[no-untyped-call]
                config_file=str(kubeconfig), client_configuration=configuration
            )
        elif any(Path(each).expanduser().exists() for each in _kubeconfigs()):
            k8s_config.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            k8s_config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        return configuration

    try:
        configuration = load()
    except _UNREADABLE as error:
        why = " ".join(str(error).split())
        raise StintError(f"no cluster: {why}; set KUBECONFIG or give --kubeconfig") from error
    return Connection(
        server=configuration.host.rstrip("/"),
        ca_path=configuration.ssl_ca_cert,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        verify=configuration.verify_ssl,
        configuration=configuration,
        reload=load,
    )


def _fenced_by(may_write: Callable[[], bool]) -> type[aiohttp.ClientRequest]:
    """Requests that ask before they are sent."""

    class Fenced(aiohttp.ClientRequest):
        def _not_sent(self) -> FencedError:
            return FencedError(f"{self.method} {self.url.path} was not sent: leadership is not certain")

        async def send(self, conn: Wire) -> aiohttp.ClientResponse:
            # As late as can be: what has waited for its turn, or for a connection, may have waited too long.
            if not may_write():
                raise self._not_sent()
            return await super().send(conn)

        async def write_bytes(
            self, writer: AbstractStreamWriter, conn: Wire, content_length: int | None = None
        ) -> None:
            # Head and body go out together, in a task of their own: in between a process may have been stopped.
            if may_write() or conn.protocol is None:
                await super().write_bytes(writer, conn, content_length)
            else:
                conn.protocol.set_exception(self._not_sent())

    return Fenced


class Api:
    """One session with the API server to read, and one for writes that only a leader may send."""

    def __init__(self, connection: Connection, *, concurrency: int = 16, agent: str = "") -> None:
        """`agent`: which of several processes of ours this is; audit logs show it."""
        self.connection = connection
        # Asked before each write but those of the Lease itself; a leader sets it.
        self.may_write: Callable[[], bool] = lambda: True
        self._agent = f"stint/{__version__}" + (f" ({agent})" if agent else "")
        self.requests: dict[tuple[str, int], int] = {}  # (verb, status) -> how many
        self._date: tuple[str, float] = ("", 0.0)  # what the server said the time was, and when on our own clock
        connector = aiohttp.TCPConnector(ssl=connection.ssl_context(), limit=0)
        self._session = aiohttp.ClientSession(connector=connector)
        fenced = _fenced_by(lambda: self.may_write())
        self._writer = aiohttp.ClientSession(connector=connector, connector_owner=False, request_class=fenced)
        self._writes = asyncio.Semaphore(concurrency)

    async def __aenter__(self) -> Api:
        """The session is open from the start."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close both."""
        await self._writer.close()
        await self._session.close()

    def _headers(self, content_type: str | None = None) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": self._agent}
        if token := self.connection.token():
            headers["Authorization"] = f"Bearer {token}"
        elif self.connection.configuration.username:
            pair = f"{self.connection.configuration.username}:{self.connection.configuration.password}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        if content_type:
            headers["Content-Type"] = content_type
        return headers

    async def raw(
        self,
        verb: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "application/json",
        fenced: bool = True,
    ) -> bytes:
        """One request; busy and broken servers are asked again, with the pause they ask for.

        Args:
            fenced: whether a write is sent only while `may_write` says so; leadership's own cannot be.

        Raises:
            ApiError: any answer that is not a success.
            FencedError: a write by a process that may no longer write.
            aiohttp.ClientError: no answer.
        """
        data = None if body is None else msgspec.json.encode(body)
        renewed = False
        attempt = 1
        while True:
            try:
                # Leadership's own requests do not queue behind the writes that depend on them.
                async with self._writes if fenced else nullcontext():
                    session = self._writer if fenced and verb not in _READS else self._session
                    return await self._once(session, verb, path, params, data, content_type)
            except ApiError as error:
                if error.status == 401 and not renewed:
                    renewed = True
                    if self.connection.renew():
                        continue
                pause = error.retry_after_s if error.retry_after_s is not None else 0.2 * 2**attempt
                safe = verb in ("GET", "PATCH", "DELETE") or error.status == 429
                again = error.status in _RETRIED and safe and attempt < _ATTEMPTS and pause <= _LONGEST_PAUSE_S
                if not again:
                    raise
                attempt += 1
                await asyncio.sleep(pause)

    async def _once(
        self,
        session: aiohttp.ClientSession,
        verb: str,
        path: str,
        params: Mapping[str, str] | None,
        data: bytes | None,
        content_type: str,
    ) -> bytes:
        headers = self._headers(content_type if data is not None else None)
        url = self.connection.server + path
        timeout = aiohttp.ClientTimeout(total=60 if verb in _READS else WRITE_TIMEOUT_S)
        async with session.request(verb, url, params=params, data=data, headers=headers, timeout=timeout) as response:
            payload = await response.read()
            self._count(verb, response.status)
            self._date = response.headers.get("Date", ""), time.monotonic()
            if response.status >= 400:
                raise error_of(response.status, payload, response.headers.get("Retry-After"))
            return payload

    def server_time(self) -> datetime | None:
        """What time it is by the API server, to the second below; None: it has not told for a while."""
        text, at = self._date
        age = time.monotonic() - at
        if not text or age > _DATE_LASTS_S:
            return None
        try:
            return parsedate_to_datetime(text) + timedelta(seconds=age)
        except ValueError:
            return None

    def _count(self, verb: str, status: int) -> None:
        self.requests[verb, status] = self.requests.get((verb, status), 0) + 1

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        """A decoded object or list."""
        return msgspec.json.decode(await self.raw("GET", path, params=params))

    async def pages(self, path: str, *, limit: int = _OWN_PAGE) -> AsyncIterator[Page]:
        """A list, page by page of so many objects at the most."""
        params = {"limit": str(limit)}
        while True:
            page = _PAGES.decode(await self.raw("GET", path, params=params))
            yield page
            if page.last:
                return
            params["continue"] = page.metadata.continue_

    async def find(self, path: str, *, fenced: bool = True) -> Any | None:
        """A decoded object, or None where there is none."""
        try:
            return msgspec.json.decode(await self.raw("GET", path, fenced=fenced))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def create(self, path: str, body: object) -> Any:
        """The object as created."""
        return msgspec.json.decode(await self.raw("POST", path, params={"fieldManager": FIELD_MANAGER}, body=body))

    async def ask(self, path: str, body: object) -> Any:
        """The answer to a question that takes a POST and changes nothing, such as a review of rights."""
        return msgspec.json.decode(await self.raw("POST", path, body=body, fenced=False))

    async def rehearse(self, path: str, body: object) -> None:
        """Have an object judged as if it were created, unknown fields and all; nothing is stored.

        Raises:
            ApiError: it would be refused.
        """
        params = {"fieldManager": FIELD_MANAGER, "dryRun": "All", "fieldValidation": "Strict"}
        await self.raw("POST", path, params=params, body=body, fenced=False)

    async def patch(self, path: str, body: object, *, content_type: str = MERGE) -> Any:
        """The object as patched."""
        params = {"fieldManager": FIELD_MANAGER}
        return msgspec.json.decode(await self.raw("PATCH", path, params=params, body=body, content_type=content_type))

    async def replace(self, path: str, body: object) -> Any:
        """The object as replaced; a conflict where it is no longer of the body's resourceVersion."""
        params = {"fieldManager": FIELD_MANAGER}
        return msgspec.json.decode(await self.raw("PUT", path, params=params, body=body))

    async def apply_status(self, path: str, body: object) -> Any:
        """The object after a server-side apply on its status subresource: our fields, ours alone."""
        params = {"fieldManager": FIELD_MANAGER, "force": "true"}
        answer = await self.raw("PATCH", path + "/status", params=params, body=body, content_type=APPLY)
        return msgspec.json.decode(answer)

    async def delete(self, path: str, *, uid: str | None = None, propagation: str = "Background") -> bool:
        """False where it was gone (or replaced) already."""
        body: dict[str, Any] = {"propagationPolicy": propagation}
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        try:
            await self.raw("DELETE", path, body=body)
        except ApiError as error:
            if error.status in (404, 409):
                return False
            raise
        return True

    def watch(self, path: str, params: Mapping[str, str]) -> aiohttp.client._RequestContextManager:
        """An open stream, to be used with `async with`. Times out when nothing comes, not after a while."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=90)
        url = self.connection.server + path
        return self._session.get(url, params=params, headers=self._headers(), timeout=timeout)


def error_of(status: int, payload: bytes, retry_after: str | None) -> ApiError:
    """An answer that is not a success, as the exception it becomes."""
    try:
        told = msgspec.json.decode(payload, type=_Status)
    except msgspec.DecodeError:
        told = _Status(message=payload[:300].decode(errors="replace"))
    pause = float(retry_after) if retry_after and retry_after.isdigit() else None
    return ApiError(status, told.reason, told.message, retry_after_s=pause)
