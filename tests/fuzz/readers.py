"""What reads bytes from outside, each as one function: any bytes are read, or refused in words.

A reader ends only with the errors that it documents. Whatever else it raises is a finding, and so
is what it takes and nobody can use.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ValidationError
from starlette.datastructures import Headers

from probes.data.datasets import load_dataset
from probes.errors import DataError
from probes.pictures.container import Limits, PictureRefused
from probes.pictures.decoder import decode
from service.access.key_file import KeyFileError, load_keys, new_key, save_keys, utc_now
from service.access.tokens import (
    JwksError,
    JwksFile,
    TokenRefused,
    Tokens,
    parse_jwks,
    subject_id,
)
from service.errors import ServiceError
from service.http.body import check_headers, from_form
from service.http.json_body import read_model
from service.http.translate_chat import locate, to_answer_request
from service.images.data_uri import decode_base64, is_url
from service.schemas.answer import AnswerRequest
from service.schemas.chat import ChatRequest
from service.schemas.policy import PolicyRequest
from service.schemas.records import OutcomeRequest
from service.settings import PREFIX, SettingsError, load_settings
from tests.fuzz.bundles import bundle_seeds, policy_seeds, read_bundle_bytes, read_policy_bytes
from tests.fuzz.folder import folder
from tests.fuzz.words import has_words
from tests.probes.pictures.cases import cases
from tests.probes.pictures.damaged import damaged, lost

MOST_BYTES, MOST_PIXELS = 1_000_000, 1_000_000


@dataclass(frozen=True)
class Reader:
    """A reader.

    Args:
        read: takes any bytes; raises on a finding only.
        seeds: what it can read, and what stands at the edge of that.
    """

    read: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]


def read_picture(data: bytes) -> None:
    """A file of an image."""
    try:
        found = decode(data, Limits(MOST_BYTES, MOST_PIXELS))
    except PictureRefused as refused:
        has_words(refused)
        return
    height, width, channels = found.pixels.shape
    assert channels == 3
    assert 0 < height * width <= MOST_PIXELS
    assert found.pixels.dtype == "uint8"


def picture_seeds() -> list[bytes]:
    """Every case that has reference pixels, and every damaged one."""
    files = [case.file for case in cases().values()]
    return [*files, *damaged().values(), *lost().values()]


def read_multipart(data: bytes) -> None:
    """The value of Content-Type, a line end, the body."""
    kind, _, body = data.partition(b"\n")
    headers = Headers(raw=[(b"content-type", kind)])
    try:
        check_headers(headers)
        from_form(headers["content-type"], body)
    except ServiceError as error:
        _told(error)


def _told(error: ServiceError) -> None:
    """What a caller is told can be written, and is no fault of ours."""
    json.dumps([error.detail, error.field, error.kind]).encode()
    f"{error.detail}{error.field}{error.kind}".encode()
    assert error.status < 500


def _form(*parts: tuple[bytes, bytes], boundary: bytes = b"x") -> bytes:
    head = b"multipart/form-data; boundary=" + boundary + b"\n"
    lines = [
        b"--" + boundary + b"\r\nContent-Disposition: form-data; " + about + b"\r\n\r\n" + value
        for about, value in parts
    ]
    return head + b"\r\n".join(lines) + b"\r\n--" + boundary + b"--\r\n"


def multipart_seeds() -> list[bytes]:
    """Forms of every field, and the charsets that are read."""
    image = (b'name="image"; filename="a.png"', b"\x89PNG")
    question = (b'name="question"', b"Is it whole?")
    options = [
        (b'name="self_consistency"', b"auto"), (b'name="samples"', b"5"),
        (b'name="evidence"', b"true"), (b'name="max_tokens"', b"8"),
        (b'name="metadata"', b'{"line": "3"}'),
    ]  # fmt: skip
    strange = (b"name*=utf-8''qu%e4; filename*=iso-8859-1'en'a.png", b"\xff")
    charset = _form(question, image).replace(b"boundary=x", b"boundary=x; charset=latin1")
    typed = (b'name="question"\r\nContent-Type: text/plain; charset=utf-7', b"+AGE-")
    return [
        _form(question, image), _form(question, *options, image), _form(image, strange),
        _form(image, typed, boundary=b"'()+_,-./:=?"), charset, b"multipart/form-data\n--x",
    ]  # fmt: skip


MODELS = (AnswerRequest, ChatRequest, PolicyRequest, OutcomeRequest)


def read_json_body(data: bytes) -> None:
    """Which body (one byte), and the body."""
    model = MODELS[data[0] % len(MODELS)] if data else AnswerRequest
    try:
        asked = read_model(model, data[1:])
        if isinstance(asked, AnswerRequest) and not is_url(asked.image):
            decode_base64(asked.image, MOST_BYTES)
        if isinstance(asked, ChatRequest):
            question, image = locate(asked)
            to_answer_request(asked, question.value, image.value)
    except ServiceError as error:
        _told(error)
    except ValidationError:
        assert isinstance(asked, ChatRequest)  # its route tells these


def json_seeds() -> list[bytes]:
    """Bodies of each route that reads one."""
    content = [
        {"type": "text", "text": "Is it whole?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
    ]
    chat = {"model": "fake", "messages": [{"role": "user", "content": content}], "stream": True}
    answer = {
        "question": "Is it whole?", "image": "iVBORw0KGgo=", "samples": 3, "max_tokens": 4,
        "evidence": True, "self_consistency": "auto", "metadata": {"line": "3"},
    }  # fmt: skip
    policy = {"policy": "manual", "accept_below": 0.1, "reject_above": None, "required": ["domain"]}
    outcome = {"verdict": "right", "note": "seen"}
    bodies = [json.dumps(one).encode() for one in (answer, chat, policy, outcome)]
    odd = [
        b'{"image": "\\ud800", "question": "\\udc00a"}',
        b'{"image": "QQ=\\n=", "question": 1e9}',
    ]
    made = [bytes([number]) + body for number, body in enumerate(bodies)]
    return made + [b"\0" + one for one in odd] + [b"\1[]", b"\0" + b"[" * 99]


NAMES = ("data.csv", "data.jsonl", "coco_pope_random.json", "questions.json", "data.txt")


def read_table(data: bytes) -> None:
    """Which name (one byte), and the file: a dataset of questions."""
    path = folder() / NAMES[data[0] % len(NAMES) if data else 0]
    path.write_bytes(data[1:])
    try:
        examples, problems = load_dataset(path)
    except DataError as error:
        has_words(error)
        return
    finally:
        path.unlink()
    for one in examples:
        told = (one.id, one.question, *one.references, one.kind, one.slice, one.group or "")
        "".join(told).encode()
        assert one.where
    for problem in problems:
        str(problem).encode("utf-8", "backslashreplace")


def table_seeds() -> list[bytes]:
    """Datasets in each format."""
    (folder() / "a.png").write_bytes(next(iter(cases().values())).file)
    csv = (
        b"image,question,answers,slice,id,rule,kind,aliases,group\n"
        b'a.png,"Is it, ""whole""?",yes|y,cam,1,yes_no,whole,"{""yes"": [""y""]}",g\n'
        b"a.png,How many?,3,,2,number,,,\n"
    )
    line = {
        "image": "a.png", "question": "Q?", "answers": ["yes"], "id": "1", "slice": "s",
        "rule": {"rule": "number", "tolerance": 1}, "kind": "k", "group": "g",
        "aliases": {"two": ["a pair"]},
    }  # fmt: skip
    pope = {"question_id": 1, "image": "a.png", "text": "Is there a dog?", "label": "yes"}
    rules = ["vqa", "choice", "set", "date", "regex", "ignore", "match"]
    ruled = b"\n".join(
        json.dumps({"image": "a.png", "question": "Q?", "answers": ["1"], "rule": rule}).encode()
        for rule in rules
    )
    vqa = {"questions": [{"image_id": 1, "question": "Q?", "question_id": 1}]}
    return [
        b"\0" + csv, b"\0" + csv.replace(b",", b";"),
        b"\0\xff\xfe" + csv.decode().encode("utf-16-le"),
        b"\1" + json.dumps(line).encode(), b"\1" + ruled, b"\2" + json.dumps(pope).encode(),
        b"\3" + json.dumps(vqa).encode(), b"\4" + csv, b'\1{"image": "\\ud800"}', b"\1[1]\nnull\n",
    ]  # fmt: skip


def read_settings(data: bytes) -> None:
    """A TOML file of settings."""
    path = folder() / "settings.toml"
    path.write_bytes(data)
    with _environment({f"{PREFIX}CONFIG": str(path)}):
        try:
            load_settings()
        except SettingsError as error:
            has_words(error)


class _environment:
    """Variables that are set while the block runs."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def __enter__(self) -> None:
        self._before = {name: os.environ.get(name) for name in self._values}
        os.environ.update(self._values)

    def __exit__(self, *_: object) -> None:
        for name, value in self._before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def settings_seeds() -> list[bytes]:
    """Settings of each type."""
    return [
        b'host = "127.0.0.1"\nport = 0\nmode = "shadow"\naudit_rate = 0.1\ncors_origins = ["a"]',
        b'records_url = ""\nimage_url_hosts = "images.example.com,b.c"\nmetrics_slices = ["a:b"]',
        b'jwt_jwks = "https://a"\njwt_issuer = "a"\njwt_audience = "b"\nquota_per_second = 1e5',
        b'policy = "p.toml"\nrecords_strict = true\ndeadline_seconds = inf\nmax_pixels = 9_999',
        b'host = 2026-01-01T00:00:00Z\nport = -0\n[state_folder]\na = nan',
    ]  # fmt: skip


def read_keys(data: bytes) -> None:
    """A file of API keys."""
    path = folder() / "keys.json"
    path.write_bytes(data)
    path.chmod(0o600)
    try:
        ring = load_keys(path)
    except KeyFileError as error:
        has_words(error)
        return
    ring.active(utc_now())
    for key in ring.keys:
        ring.find(f"vg_{key.id}_{'a' * 43}", utc_now())


def keys_seeds() -> list[bytes]:
    """A file as the program writes it."""
    path = folder() / "keys.json"
    save_keys(path, [new_key("line 3", ("answer", "read"), utc_now(), utc_now())[1]])
    return [path.read_bytes(), b'{"format": 1, "keys": []}']


@cache
def _signing() -> tuple[Any, dict[str, Any], Tokens]:
    key = ec.generate_private_key(ec.SECP256R1())
    public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
    jwk = {**public, "kid": "k1", "alg": "ES256", "use": "sig"}
    path = Path(tempfile.mkdtemp(dir=folder())) / "jwks.json"
    path.write_text(json.dumps({"keys": [jwk]}))
    return key, jwk, Tokens(JwksFile(path), "https://id.example", "vlm-gate")


def read_token(data: bytes) -> None:
    """How (one byte), and a JWKS, a token, or the claims of one that is signed here."""
    how, rest = data[:1], data[1:]
    key, _, tokens = _signing()
    if how < b"\x40":
        try:
            assert parse_jwks(rest)
        except JwksError:
            return
        return
    token = rest.decode("latin-1")
    if how >= b"\x80":
        signed = jwt.api_jws.PyJWS().encode(rest, key, algorithm="ES256", headers={"kid": "k1"})
        token = signed
    try:
        claims = asyncio.run(tokens.verify(token))
    except TokenRefused as error:
        has_words(error)
        return
    assert how >= b"\x80"
    subject_id(claims)


def token_seeds() -> list[bytes]:
    """Key sets, tokens that are forged, and claims."""
    _, jwk, _ = _signing()
    claims = {"iss": "https://id.example", "aud": ["vlm-gate"], "sub": "\ud800", "iat": 1,
              "nbf": 1, "exp": 4_000_000_000, "scope": "answer"}  # fmt: skip
    other = ec.generate_private_key(ec.SECP256R1())
    forged = jwt.encode(claims, other, algorithm="ES256", headers={"kid": "k1", "crit": ["b64"]})
    bare = jwt.encode(claims, None, algorithm="none", headers={"kid": "k1"})
    sets = [{"keys": [jwk, {**jwk, "kid": "k2", "use": "enc"}, None]}, {"keys": [jwk]}, jwk]
    rsa = {"kty": "RSA", "kid": "r", "n": "AQAB", "e": "AQAB", "alg": "RS256"}
    okp = {"kty": "OKP", "kid": "o", "crv": "Ed25519", "x": "AA", "alg": "EdDSA"}
    sets.append({"keys": [rsa, okp]})
    odd = [{**claims, "exp": 1e400}, {**claims, "aud": {}}, {**claims, "exp": "1"}, []]
    return [
        *(b"\0" + json.dumps(one).encode() for one in sets),
        *(b"\x50" + one.encode() for one in (forged, bare, "a.b.c", "eyJ.eyJ.")),
        *(b"\xff" + json.dumps(one).encode() for one in (claims, *odd)),
    ]


READERS: dict[str, Reader] = {
    "picture": Reader(read_picture, picture_seeds),
    "multipart": Reader(read_multipart, multipart_seeds),
    "json": Reader(read_json_body, json_seeds),
    "table": Reader(read_table, table_seeds),
    "policy": Reader(read_policy_bytes, policy_seeds),
    "settings": Reader(read_settings, settings_seeds),
    "keys": Reader(read_keys, keys_seeds),
    "token": Reader(read_token, token_seeds),
    "bundle": Reader(read_bundle_bytes, bundle_seeds),
}
