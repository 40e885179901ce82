"""Images by URL: off by default; where on, no way leads inside."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import ssl
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from service.errors import Invalid, ServiceError, TooLarge
from service.images import fetch_url as image_urls
from service.images.fetch_url import ImageUrls
from service.images.public_address import is_public

pytestmark = pytest.mark.anyio
HOST, OTHER = "images.example.com", "cdn.example.com"
URL = f"https://{HOST}/plate.png"
PUBLIC = "93.184.215.14"
Answer = Callable[[httpx.Request], httpx.Response]


class Net:
    """A resolver and the hosts behind it; notes what was resolved and where was connected to."""

    def __init__(self, answer: Answer, addresses: Sequence[Sequence[str]] = ((PUBLIC,),)) -> None:
        self.resolved: list[str] = []
        self.requests: list[httpx.Request] = []
        self._answer, self._addresses = answer, list(addresses)

    async def resolve(self, host: str) -> Sequence[str]:
        self.resolved.append(host)
        # Later questions get later answers: a name that is rebound.
        return self._addresses.pop(0) if len(self._addresses) > 1 else self._addresses[0]

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self._answer(request)

    def fetcher(self, seconds: float = 5.0, max_bytes: int = 1000) -> ImageUrls:
        return ImageUrls(
            (HOST, OTHER), max_bytes, seconds, resolve=self.resolve,
            transport=httpx.MockTransport(self),
        )  # fmt: skip


def gives(content: bytes = b"image", status: int = 200, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def stream():
        yield content

    return lambda request: httpx.Response(status, headers=named, content=stream())


def redirects(*places: str) -> Answer:
    left = list(places)
    image = gives()
    return lambda request: (
        httpx.Response(302, headers={"location": left.pop(0)}) if left else image(request)
    )


async def test_off_by_default(serve):
    async with serve() as client:
        reply = await client.post("/v1/answer", json={"question": "Is it?", "image": URL})
    assert reply.status_code == 422
    assert reply.json()["type"] == "urn:vlm-gate:problem:image_url_off"


async def test_the_connection_is_pinned_and_keeps_the_name():
    net = Net(gives())
    assert await net.fetcher().fetch(URL + "?size=2#part") == b"image"
    (request,) = net.requests
    assert net.resolved == [HOST]
    assert (request.url.host, request.url.port or 443) == (PUBLIC, 443)
    assert request.url.raw_path == b"/plate.png?size=2"
    assert request.headers["host"] == HOST
    assert request.extensions["sni_hostname"] == HOST
    assert "authorization" not in request.headers


async def test_an_answer_from_a_url(serve, engine, bundled, png):
    async with serve(image_url_hosts=HOST) as client:
        app = client._transport.app
        net = Net(gives(png))
        app.state.gate.image_urls = net.fetcher(max_bytes=100_000)
        reply = await client.post("/v1/answer", json={"question": "Is it?", "image": URL})
        sent = {"question": "Is it?", "image": base64.b64encode(png).decode()}
        same = await client.post("/v1/answer", json=sent)
    assert reply.status_code == 200
    assert reply.json()["risk"] == same.json()["risk"]


REFUSED_URLS = {
    "http": f"http://{HOST}/a.png",
    "file": "file:///etc/passwd",
    "ftp": f"ftp://{HOST}/a.png",
    "host that is not allowed": "https://evil.example/a.png",
    "allowed host as a user": f"https://{HOST}@evil.example/a.png",
    "user and password": f"https://user:password@{HOST}/a.png",
    "allowed host as a suffix": f"https://evil-{HOST}/a.png",
    "allowed host as a prefix": f"https://{HOST}.evil.example/a.png",
    "host below an allowed one": f"https://a.{HOST}/a.png",
    "dot at the host's end": f"https://{HOST}./a.png",
    "another port": f"https://{HOST}:22/a.png",
    "backslash": f"https://evil.example\\@{HOST}/a.png",
    "hash before the at": f"https://evil.example#@{HOST}/a.png",
    "loopback": "https://127.0.0.1/a.png",
    "loopback as a number": "https://2130706433/a.png",
    "loopback in octal": "https://0177.0.0.1/a.png",
    "loopback in short": "https://127.1/a.png",
    "metadata service": "https://169.254.169.254/latest/meta-data/",
    "IPv6 loopback": "https://[::1]/a.png",
    "IPv4 mapped into IPv6": "https://[::ffff:127.0.0.1]/a.png",
    "letters that look alike": "https://іmages.example.com/a.png",
    "full-width dots": "https://images。example。com/a.png",
    "line break": f"https://{HOST}/a\r\nHost: evil.example",
    "blank": f"https://{HOST}/a b.png",
    "10,000 characters": f"https://{HOST}/" + "a" * 10_000,
    "no host": "https:///a.png",
    "broken IPv6": "https://[::1/a.png",
}


@pytest.mark.parametrize("name", REFUSED_URLS)
async def test_a_url_is_refused_before_anything_is_resolved(name):
    net = Net(gives())
    with pytest.raises(Invalid) as refused:
        await net.fetcher().fetch(REFUSED_URLS[name])
    assert refused.value.kind == "image_url_refused"
    assert (net.resolved, net.requests) == ([], [])


NOT_PUBLIC = {
    "loopback": "127.0.0.1",
    "the rest of loopback": "127.8.8.8",
    "this host": "0.0.0.0",
    "private, class A": "10.1.2.3",
    "private, class B": "172.31.255.255",
    "private, class C": "192.168.1.1",
    "link-local, metadata": "169.254.169.254",
    "carrier-grade NAT": "100.64.0.1",
    "carrier-grade NAT, metadata": "100.100.100.200",
    "a cloud's host": "168.63.129.16",
    "protocol assignments, metadata": "192.0.0.192",
    "documentation": "203.0.113.7",
    "benchmarks": "198.18.0.1",
    "6to4 relay": "192.88.99.1",
    "multicast": "224.0.0.1",
    "reserved": "240.0.0.1",
    "broadcast": "255.255.255.255",
    "IPv6 loopback": "::1",
    "IPv6 unspecified": "::",
    "IPv6 link-local": "fe80::1",
    "IPv6 link-local with a zone": "fe80::1%eth0",
    "IPv6 global with a zone": "2606:4700::1%eth0",
    "IPv6 site-local": "fec0::1",
    "IPv6 unique local": "fd00:ec2::254",
    "IPv6 multicast": "ff02::1",
    "IPv4-mapped loopback": "::ffff:127.0.0.1",
    "IPv4-mapped public": "::ffff:93.184.215.14",
    "IPv4-compatible": "::127.0.0.1",
    "IPv4-translated": "::ffff:0:127.0.0.1",
    "NAT64 of a private one": "64:ff9b::10.0.0.1",
    "NAT64, local prefix": "64:ff9b:1::10.0.0.1",
    "6to4 of a private one": "2002:0a00:0001::1",
    "Teredo": "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "ISATAP of a private one": "2606:4700::5efe:10.0.0.1",
    "IPv6 documentation": "2001:db8::1",
    "newer IPv6 documentation": "3fff::1",
    "IPv6 discard": "100::1",
    "segment routing": "5f00::1",
    "no address": "localhost",
}


@pytest.mark.parametrize("name", NOT_PUBLIC)
async def test_a_host_with_an_address_that_is_not_public_is_never_connected_to(name):
    assert not is_public(NOT_PUBLIC[name])
    # One inside among public ones is enough.
    net = Net(gives(), [(PUBLIC, "2606:4700::6810:84e5", NOT_PUBLIC[name])])
    with pytest.raises(Invalid, match="not public"):
        await net.fetcher().fetch(URL)
    assert net.requests == []


@pytest.mark.parametrize("address", [PUBLIC, "1.1.1.1", "172.32.0.1", "100.128.0.1",
                                     "2606:4700::6810:84e5", "2a00:1450:4001::200e"])  # fmt: skip
async def test_public_addresses_are_public(address):
    assert is_public(address)


async def test_a_name_that_resolves_to_nothing_is_refused():
    with pytest.raises(Invalid, match="not public"):
        await Net(gives(), [()]).fetcher().fetch(URL)


async def test_a_name_rebound_after_the_check_changes_nothing():
    """Resolved once: the second answer, 127.0.0.1, is never asked for."""
    net = Net(gives(), [(PUBLIC,), ("127.0.0.1",)])
    assert await net.fetcher().fetch(URL) == b"image"
    assert (net.resolved, net.requests[0].url.host) == ([HOST], PUBLIC)


REDIRECTS = {
    "to loopback": "https://127.0.0.1/",
    "to metadata, http": "http://169.254.169.254/latest/meta-data/",
    "to a host not allowed": "https://evil.example/",
    "to http": f"http://{HOST}/",
    "to a file": "file:///etc/passwd",
    "to another port": f"https://{HOST}:9200/",
    "without a scheme": "//evil.example/",
    "to IPv6 loopback": "https://[::1]/",
    "to a broken address": "https://[::1/",
    "with a password": f"https://a:b@{HOST}/",
    "to gopher": "gopher://127.0.0.1:6379/_FLUSHALL",
    "to data": "data:image/png;base64,AAAA",
}


@pytest.mark.parametrize("name", REDIRECTS)
async def test_a_redirect_is_refused(name):
    net = Net(redirects(REDIRECTS[name]))
    with pytest.raises(Invalid) as refused:
        await net.fetcher().fetch(URL)
    # What is no URL at all is already thrown out by the HTTP client.
    assert refused.value.kind in ("image_url_refused", "image_url_failed")
    assert len(net.requests) == 1


async def test_each_hop_of_a_redirect_is_resolved_and_checked():
    net = Net(redirects(f"https://{OTHER}/b.png"), [(PUBLIC,), ("10.0.0.1",)])
    with pytest.raises(Invalid, match="not public"):
        await net.fetcher().fetch(URL)
    assert net.resolved == [HOST, OTHER]
    assert len(net.requests) == 1


async def test_redirects_among_allowed_hosts_are_followed_three_times():
    followed = Net(redirects(f"https://{OTHER}/b.png", "c.png", "/d/e.png"))
    assert await followed.fetcher().fetch(URL) == b"image"
    places = [(request.headers["host"], request.url.path) for request in followed.requests]
    assert places == [(HOST, "/plate.png"), (OTHER, "/b.png"), (OTHER, "/c.png"),
                      (OTHER, "/d/e.png")]  # fmt: skip
    endless = Net(lambda request: httpx.Response(302, headers={"location": "/again"}))
    with pytest.raises(Invalid, match="too often"):
        await endless.fetcher().fetch(URL)
    assert len(endless.requests) == 4


async def test_a_body_over_the_limit_is_cut_off():
    read = 0

    async def endless():
        nonlocal read
        while True:
            read += 100
            yield bytes(100)

    for announced in ({}, {"content-length": "10"}):
        net = Net(lambda r, h=announced: httpx.Response(200, headers=h, content=endless()))
        with pytest.raises(TooLarge):
            await net.fetcher(max_bytes=1000).fetch(URL)
    assert read <= 2 * 1100
    with pytest.raises(TooLarge):
        await Net(gives(b"", content_length="100000000")).fetcher().fetch(URL)


async def test_a_compressed_body_is_refused():
    for coding in ("gzip", "br", "deflate", "zstd", "gzip, gzip"):
        with pytest.raises(Invalid, match="compressed"):
            await Net(gives(b"", content_encoding=coding)).fetcher().fetch(URL)


async def test_a_slow_host_and_a_slow_resolver_are_left():
    never = asyncio.Event()

    async def dribble():
        yield b"i"
        await never.wait()

    async def no_answer(host: str) -> Sequence[str]:
        await never.wait()
        return ()

    slow = Net(lambda request: httpx.Response(200, content=dribble()))
    with pytest.raises(Invalid, match="did not come within"):
        await slow.fetcher(seconds=0.05).fetch(URL)
    stuck = ImageUrls((HOST,), 1000, 0.05, resolve=no_answer)
    with pytest.raises(Invalid, match="did not come within"):
        await stuck.fetch(URL)


@pytest.mark.parametrize("status", [204, 304, 401, 404, 500])
async def test_what_is_no_image_is_told_as_one_error(status):
    with pytest.raises(Invalid) as failed:
        await Net(gives(b"inner secret", status)).fetcher().fetch(URL)
    assert failed.value.kind == "image_url_failed"
    assert "secret" not in failed.value.detail


async def test_a_signed_url_is_neither_echoed_nor_logged():
    def broken(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with structlog.testing.capture_logs() as logs, pytest.raises(ServiceError) as failed:
        await Net(broken).fetcher().fetch(URL + "?X-Signature=s3cret")
    assert logs
    assert "s3cret" not in repr(logs) + failed.value.detail


def certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's side for ``name`` and a client's side that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    chain, private = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ))  # fmt: skip
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(chain, private)
    return server, ssl.create_default_context(cafile=str(chain))


@pytest.mark.parametrize(("name", "fine"), [(HOST, True), ("evil.example", False)])
async def test_over_a_real_socket_the_certificate_must_be_the_names(
    tmp_path, monkeypatch, name, fine
):
    """Connected to the pinned 127.0.0.1, the TLS name and Host are the URL's."""
    server_side, client_side = certificate(tmp_path, name)
    told: list[str | None] = []
    server_side.sni_callback = lambda socket, sni, context: told.append(sni)
    heard: list[bytes] = []

    async def serve_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nimage")
        await writer.drain()
        writer.close()

    async def resolve(host: str) -> Sequence[str]:
        return ("127.0.0.1",)

    server = await asyncio.start_server(serve_once, "127.0.0.1", 0, ssl=server_side)
    monkeypatch.setattr(image_urls, "HTTPS_PORT", server.sockets[0].getsockname()[1])
    monkeypatch.setattr(
        image_urls, "is_public", lambda address: ipaddress.ip_address(address).is_loopback
    )
    fetcher = ImageUrls((HOST,), 1000, 5.0, resolve=resolve, trust=client_side)
    async with server:
        if fine:
            assert await fetcher.fetch(URL) == b"image"
            assert f"host: {HOST}\r\n".encode() in heard[0].lower()
        else:
            with pytest.raises(Invalid, match="cannot be reached by https"):
                await fetcher.fetch(URL)
            assert heard == []
    assert told == [HOST]
