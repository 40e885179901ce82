"""``Connection: Upgrade`` opens nothing: a request's body is never taken for another request.

Raw sockets, directly and behind nginx and HAProxy with the lines that one writes for websockets;
and the clients that offer an upgrade by themselves.
"""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

HERE = Path(__file__).parent
HIDDEN = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\nX-Hidden: yes\r\n\r\n"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: "
FRAMES = {
    "a length": (b"Content-Length: %d\r\n" % len(HIDDEN), HIDDEN),
    "chunks": (
        b"Transfer-Encoding: chunked\r\n",
        b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN),
    ),
}  # fmt: skip
OFFERS = {
    "websocket": UPGRADE + b"websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
    "TLS": UPGRADE + b"TLS/1.0\r\n",
    "nothing known": UPGRADE + b"x\r\n",
    "several": UPGRADE + b"websocket, h2c\r\n",
    "keep-alive too": b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n",
}  # fmt: skip
POSTS = ("/v1/answer", "/nowhere", "/healthz", "/v1/chat/completions")
KINDS = [
    (f"{method} {path}, {offer}, {frame}, {pieces}", method, path, offer, frame, pieces)
    for method in ("POST", "GET")
    for path in POSTS
    for offer in OFFERS
    for frame in FRAMES
    for pieces in ("at once", "in two", "bytes")
]
CASES = KINDS[:: max(1, len(KINDS) // 200)][:200] if len(KINDS) > 200 else KINDS
FRONTS = ("none", "nginx", "haproxy")


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as bound:
        return int(bound.getsockname()[1])


def nginx(folder: Path, port: int, upstream: int) -> list[str]:
    """The lines of nginx's own page on websockets."""
    (folder / "nginx.conf").write_text(f"""
daemon off; pid {folder}/pid; error_log stderr; worker_processes 1;
events {{ }}
http {{
  access_log off;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
  upstream gate {{ server 127.0.0.1:{upstream}; keepalive 4; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://gate;
      proxy_http_version 1.1;
      proxy_request_buffering off;
      proxy_set_header Host $host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
    }}
  }}
}}
""")
    return ["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)]


def haproxy(folder: Path, port: int, upstream: int) -> list[str]:
    """As HAProxy does by itself: upgrades go through, and tunnels have a time of their own."""
    (folder / "haproxy.cfg").write_text(f"""
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
  timeout tunnel 1h
  option http-keep-alive
frontend front
  bind 127.0.0.1:{port}
  default_backend gate
backend gate
  http-reuse always
  server one 127.0.0.1:{upstream}
""")
    return ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")]


@contextmanager
def behind(front: str, folder: Path, upstream: int) -> Iterator[int]:
    """The port of the front; that of the service when there is none."""
    if front == "none":
        yield upstream
        return
    port = free_port()
    command = {"nginx": nginx, "haproxy": haproxy}[front](folder, port, upstream)
    assert shutil.which(command[0], path="/usr/sbin:/usr/bin:/sbin"), (
        f"install {front}: deploy/debian-packages.txt"
    )
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        _await(port, process)
        yield port
    finally:
        process.terminate()
        process.wait(20)
        if process.stderr is not None:
            process.stderr.close()


def _await(port: int, process: subprocess.Popen[str]) -> None:
    """Return when it takes connections."""
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        try:
            process.wait(0.02)
        except subprocess.TimeoutExpired:
            continue
        pytest.fail("the front ended: " + (process.stderr.read() if process.stderr else ""))
    pytest.fail("the front takes no connection")


async def statuses(port: int, method: str, path: str, offer: str, frame: str, pieces: str) -> bytes:
    """Send one request, then one that closes; give all that comes back."""
    framing, body = FRAMES[frame]
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n".encode() + OFFERS[offer] + framing
    head += b"Content-Type: application/json\r\n\r\n"
    last = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    cut = {"at once": [head + body], "in two": [head, body], "bytes": [head, body[:9], body[9:]]}
    try:
        for piece in [*cut[pieces], last]:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.002)  # lets the pieces be pieces
        return await asyncio.wait_for(reader.read(), 20)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


@pytest.mark.anyio
@pytest.mark.parametrize("front", FRONTS)
async def test_a_body_is_never_a_request(live, tmp_path, front):
    async def one(port: int, case: tuple[str, ...]) -> str | None:
        async with bound:
            told = await statuses(port, *case[1:])
        smuggled = b'"live"' in told and case[2] != "/healthz"
        answers = told.count(b"HTTP/1.1 ") - told.count(b"HTTP/1.1 100")
        return f"{case[0]}: {told[:400]!r}" if smuggled or answers > 2 or not told else None

    bound = asyncio.Semaphore(4)
    with live(records_url="") as service, behind(front, tmp_path, _port(service.url)) as port:
        found = await asyncio.gather(*(one(port, case) for case in CASES))
    assert [one for one in found if one] == []
    assert len(found) == 200


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


NODE = """
const body = require('fs').readFileSync(0);
(async () => {
  for (let n = 0; n < 3; n++) {
    const told = await fetch(process.argv[1], {
      method: 'POST', body, headers: {'content-type': 'application/json'}});
    await told.text();
    console.log(told.status);
  }
})();
"""
CLIENTS = {
    "Java's HttpClient": ["java", str(HERE / "Ask.java"), "URL"],
    "curl": ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}\n", "-d", "@-",
             "-H", "Content-Type: application/json", "URL", "URL", "URL"],
    "curl that offers HTTP/2": ["curl", "-s", "--http2", "-o", "/dev/null", "-w", "%{http_code}\n",
                                "-d", "@-", "-H", "Content-Type: application/json", "URL"],
    "Node's fetch": ["node", "-e", NODE, "URL"],
}  # fmt: skip


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_with_its_defaults_gets_its_answer(live, png, name):
    body = json.dumps({"question": "Is it whole?", "image": base64.b64encode(png).decode()})
    if shutil.which(CLIENTS[name][0]) is None:
        pytest.skip(f"there is no {CLIENTS[name][0]} here")
    with live(records_url="") as service:
        command = [service.url + "/v1/answer" if part == "URL" else part for part in CLIENTS[name]]
        told = subprocess.run(command, input=body, capture_output=True, text=True, timeout=120)
    assert told.returncode == 0, told.stderr
    codes = told.stdout.replace("200\n", "200 ").split()
    assert codes
    assert {code[-3:] for code in codes} == {"200"}


@pytest.mark.anyio
async def test_a_request_as_go_sends_it_gets_its_answer(live, png):
    """Go's client sends the head and the body in two writes, chunked where it knows no length."""
    body = json.dumps({"question": "Is it?", "image": base64.b64encode(png).decode()}).encode()
    head = (
        b"POST /v1/answer HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: Go-http-client/1.1\r\n"
        b"Transfer-Encoding: chunked\r\nContent-Type: application/json\r\n"
        b"Accept-Encoding: gzip\r\n\r\n"
    )
    with live(records_url="") as service:
        reader, writer = await asyncio.open_connection("127.0.0.1", _port(service.url))
        for _ in range(3):
            writer.write(head)
            await writer.drain()
            writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
            told = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
            assert told.startswith(b"HTTP/1.1 200")
            length = int(told.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            await reader.readexactly(length)
        writer.close()


@pytest.mark.anyio
async def test_an_upgrade_is_answered_as_if_it_were_not_there(live, png):
    headers = {"connection": "Upgrade", "upgrade": "websocket"}
    with live(records_url="") as service:
        async with httpx.AsyncClient(base_url=service.url, timeout=30) as client:
            for _ in range(3):
                data = {"question": "Is it whole?"}
                told = await client.post(
                    "/v1/answer", data=data, files={"image": png}, headers=headers
                )
                assert told.status_code == 200
            assert (await client.get("/healthz", headers=headers)).status_code == 200
