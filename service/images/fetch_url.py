"""Fetches images by https from hosts that the operator allows, and never from inside the network.

For each hop, redirects included: the host must be on the list, its name is resolved once, all its
addresses must be public, and the connection goes to one of those very addresses, while certificate
and Host header keep the name. A name that resolves differently a moment later changes nothing.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from urllib.parse import urljoin

import httpx
import structlog

from service.errors import Invalid, TooLarge
from service.images.public_address import is_public

log = structlog.get_logger("service.images.fetch_url")
MAX_REDIRECTS = 3
MAX_URL = 2048
HTTPS_PORT = 443
Resolve = Callable[[str], Awaitable[Sequence[str]]]
_REDIRECTS = frozenset((301, 302, 303, 307, 308))


class ImageUrls:
    """Fetches images.

    Args:
        hosts: names that images may come from; without any, image URLs are off.
        max_bytes: most bytes of an image.
        seconds: most time for one image, from resolving to the last byte.
        resolve: name -> addresses; the system's resolver unless a test brings its own.
        transport: of httpx; for tests.
        trust: which certificates count; the system's unless a test brings its own.
    """

    def __init__(
        self,
        hosts: Sequence[str],
        max_bytes: int,
        seconds: float,
        *,
        resolve: Resolve | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self._hosts = frozenset(hosts)
        self._max_bytes, self._seconds = max_bytes, seconds
        self._resolve = resolve or self._ask_system
        self._transport = transport
        self._trust = trust
        # Threads of their own: a resolver that hangs must not take those that measure.
        self._resolvers = ThreadPoolExecutor(4, thread_name_prefix="resolve")

    async def fetch(self, url: str) -> bytes:
        """The bytes behind a URL.

        Raises:
            Invalid: URLs are off, this one is not allowed, or nothing came. TooLarge: too much.
        """
        if not self._hosts:
            raise Invalid(
                "image URLs are off; send the image itself as base64 or as a multipart file",
                field="image",
                kind="image_url_off",
            )
        try:
            async with asyncio.timeout(self._seconds):
                for _ in range(MAX_REDIRECTS + 1):
                    target = self._check(url)
                    found = await self._get(target, await self._address(target.host))
                    if isinstance(found, bytes):
                        return found
                    url = _next(target, found)
            raise _failed("it redirects too often")
        except TimeoutError as error:
            raise _failed(f"it did not come within {self._seconds:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            # The host's name is on the operator's list; the rest of the URL may hold secrets.
            log.info("image_not_fetched", host=target.host, detail=type(error).__name__)
            raise _failed("its host cannot be reached by https") from error

    def close(self) -> None:
        """Let go of the threads."""
        self._resolvers.shutdown(wait=False, cancel_futures=True)

    @cached_property
    def _certificates(self) -> ssl.SSLContext:
        return self._trust or ssl.create_default_context()

    def _check(self, url: str) -> httpx.URL:
        if len(url) > MAX_URL or not re.fullmatch(r"[!-~]+", url) or "\\" in url:
            raise _refused(f"a URL has at most {MAX_URL} characters, visible ASCII ones only")
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise _refused("the URL cannot be read") from error
        if parsed.scheme != "https" or parsed.port is not None or parsed.userinfo:
            raise _refused("only https on its own port, without user or password, is fetched")
        if parsed.raw_host.decode("ascii") not in self._hosts:
            raise _refused("the operator has not allowed its host")
        return parsed

    async def _address(self, host: str) -> str:
        """Resolve the host once, and give one of its addresses if all are public."""
        addresses = await self._resolve(host)
        if not addresses or not all(is_public(address) for address in addresses):
            log.warning("image_host_not_public", host=host)
            raise _refused("its host has an address that is not public")
        return addresses[0]

    async def _get(self, target: httpx.URL, address: str) -> bytes | str:
        """The body, or the address that a redirect leads to."""
        client = httpx.AsyncClient(
            transport=self._transport,
            verify=self._certificates,
            trust_env=False,
            follow_redirects=False,
            timeout=self._seconds,
        )
        pinned = target.copy_with(host=address, port=HTTPS_PORT, fragment=None)
        async with (
            client,
            client.stream(
                "GET",
                pinned,
                headers={"host": target.host, "accept": "image/*", "accept-encoding": "identity"},
                extensions={"sni_hostname": target.host},
            ) as reply,
        ):
            if reply.status_code in _REDIRECTS:
                location: str = reply.headers.get("location", "")
                return location
            if reply.status_code != 200:
                raise _failed(f"its host answered {reply.status_code}")
            if reply.headers.get("content-encoding", "identity") != "identity":
                raise _failed("its host sends it compressed, which was not asked for")
            return await self._read(reply)

    async def _read(self, reply: httpx.Response) -> bytes:
        body = bytearray()
        announced = reply.headers.get("content-length", "0")
        if announced.isdecimal() and int(announced) > self._max_bytes:
            raise self._too_large()
        async for part in reply.aiter_raw():
            body += part
            if len(body) > self._max_bytes:
                raise self._too_large()
        return bytes(body)

    def _too_large(self) -> TooLarge:
        return TooLarge(
            f"the image has more than {self._max_bytes} bytes; send a smaller one",
            field="image",
            kind="too_many_bytes",
        )

    async def _ask_system(self, host: str) -> Sequence[str]:
        def ask() -> list[str]:
            found = socket.getaddrinfo(host, HTTPS_PORT, type=socket.SOCK_STREAM)
            return [str(entry[4][0]) for entry in found]

        return await asyncio.get_running_loop().run_in_executor(self._resolvers, ask)


def _next(target: httpx.URL, location: str) -> str:
    try:
        return urljoin(str(target), location)
    except ValueError as error:
        raise _refused("it redirects to what is no URL") from error


def _refused(why: str) -> Invalid:
    return Invalid(
        f"the image's URL is refused: {why}; send the image itself",
        field="image",
        kind="image_url_refused",
    )


def _failed(why: str) -> Invalid:
    return Invalid(
        f"the image could not be fetched: {why}; send the image itself",
        field="image",
        kind="image_url_failed",
    )
