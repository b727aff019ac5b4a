"""A verifier written from docs/receipts.md and docs/wire.md alone.  It imports nothing of Strongroom.

`verify` takes a bundle and checks everything but the platform's own evidence: that the quote, whose report data it
finds where an SGX quote of version 3 has them, is bound to claims and handshake; the signature; every field; the
openings.
"""

import hashlib
import hmac
import struct

import msgpack
from nacl.bindings import crypto_core_ed25519_is_valid_point
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

CONTENT_TYPE = "application/vnd.strongroom.receipt+cbor"
SIZES = {
    "evidence": 64,
    "session": 64,
    "origin": 64,
    "boot_id": 16,
    "model": 64,
    "owner": 32,
    "input": 64,
    "output": 64,
}
FORMS = {0: {"scores", "rounded", "label-only", "text"}, 1: {"rounded"}, 2: {"label-only"}}
NUMBERS = ("version", "serial", "request", "epoch", "broker_time", "broker_epoch")
SGX_REPORT_DATA = slice(48 + 320, 48 + 384)


class RefusedError(Exception):
    """The bundle does not follow the page, or does not hold."""


def need(condition, reason):
    if not condition:
        raise RefusedError(reason)


def label(name):
    return f"strongroom {name} v1".encode() + b"\0"


def sha512(*parts):
    return hashlib.sha512(b"".join(parts)).digest()


def mac(key, *parts):
    return hmac.new(key, b"".join(parts), "sha512").digest()


def ordered(value):
    if isinstance(value, dict):
        return {key: ordered(value[key]) for key in sorted(value, key=str.encode)}
    return [ordered(item) for item in value] if isinstance(value, list | tuple) else value


def unpack(data):
    """Canonical msgpack."""
    try:
        value = msgpack.unpackb(data)
        again = msgpack.packb(ordered(value))
    except Exception as error:
        raise RefusedError("not msgpack") from error
    need(again == bytes(data), "not canonical")
    return value


def cbor_head(major, number):
    for limit, extra, form in (
        (24, None, ""),
        (1 << 8, 24, "B"),
        (1 << 16, 25, ">H"),
        (1 << 32, 26, ">I"),
        (1 << 64, 27, ">Q"),
    ):
        if number < limit:
            return bytes([major << 5 | (number if extra is None else extra)]) + (
                struct.pack(form, number) if form else b""
            )
    raise RefusedError("too large")


def cbor(value):
    """Core deterministic encoding of what a receipt has."""
    if isinstance(value, int):
        return cbor_head(0, value) if value >= 0 else cbor_head(1, -1 - value)
    if isinstance(value, bytes):
        return cbor_head(2, len(value)) + value
    if isinstance(value, str):
        return cbor_head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return cbor_head(4, len(value)) + b"".join(map(cbor, value))
    pairs = sorted((cbor(key), cbor(item)) for key, item in value.items())
    return cbor_head(5, len(value)) + b"".join(key + item for key, item in pairs)


def read(data, at=0):
    """Return (value, position behind it); a tag gives (number, value) as a tuple."""
    need(at < len(data), "ends early")
    major, low = data[at] >> 5, data[at] & 31
    at += 1
    if low >= 24:
        need(low <= 27, "a head of another kind")
        size = 1 << low - 24
        low, at = int.from_bytes(data[at : at + size], "big"), at + size
    if major < 2:
        return (low if major == 0 else -1 - low), at
    if major < 4:
        need(at + low <= len(data), "ends early")
        raw = data[at : at + low]
        try:
            return (raw if major == 2 else raw.decode()), at + low
        except UnicodeDecodeError as error:
            raise RefusedError("not text") from error
    need(low < 1000 or major == 6, "too many items")
    if major == 4:
        items = []
        for _ in range(low):
            item, at = read(data, at)
            items.append(item)
        return items, at
    if major == 5:
        table = {}
        for _ in range(low):
            key, at = read(data, at)
            need(isinstance(key, int | str) and key not in table, "a key that is none, or twice")
            table[key], at = read(data, at)
        return table, at
    need(major == 6, "a value of another kind")
    value, at = read(data, at)
    return (low, value), at


def decode(data):
    value, end = read(data)
    need(end == len(data), "bytes follow")
    again = cbor_head(6, value[0]) + cbor(value[1]) if isinstance(value, tuple) else cbor(value)
    need(again == data, "not deterministic")
    return value


def payload_of(message, key):
    """The message: form and signature, then its payload."""
    need(len(message) <= 4096, "too large")
    tagged = decode(message)
    need(isinstance(tagged, tuple) and tagged[0] == 18, "no COSE_Sign1")
    items = tagged[1]
    need(isinstance(items, list) and [type(item) for item in items] == [bytes, dict, bytes, bytes], "no COSE_Sign1")
    protected, unprotected, payload, signature = items
    need(decode(protected) == {1: -19, 3: CONTENT_TYPE} and not unprotected, "headers")
    signed = cbor(["Signature1", protected, label("receipt"), payload])
    need(crypto_core_ed25519_is_valid_point(key), "key")
    try:
        VerifyKey(key).verify(signed, signature)
    except (BadSignatureError, ValueError) as error:
        raise RefusedError("signature") from error
    return decode(payload)


def check_form(said):
    need(said.keys() - {"stages"} == {*SIZES, *NUMBERS, "verdict"} and said["version"] == 1, "fields")
    stages = said.get("stages", [bytes(64)])
    need(isinstance(stages, list) and 0 < len(stages) <= 16, "stages")
    need(all(isinstance(digest, bytes) and len(digest) == 64 for digest in stages), "stages")
    need(all(isinstance(said[name], bytes) and len(said[name]) == size for name, size in SIZES.items()), "sizes")
    need(all(isinstance(said[name], int) and said[name] >= 0 for name in NUMBERS), "numbers")
    verdict = said["verdict"]
    need(verdict.keys() == {"abuse", "checks", "output"} and 0 <= verdict["abuse"] <= 255, "verdict")
    need(verdict["checks"] == sorted(set(verdict["checks"])), "checks are not ascending")
    need(verdict["output"] in FORMS.get(verdict["abuse"], ()), "form")
    need({"lease", "schema", "values"} <= set(verdict["checks"]), "checks")


def expected_report_data(leaf, index, size, path):
    need(0 <= index < size <= 2**16 and len(path) <= 16 and all(len(p) == 64 for p in path), "bad proof")
    fn, sn, root = index, size - 1, leaf
    for p in path:
        need(sn, "bad proof")
        is_right = fn & 1 or fn == sn
        root = sha512(b"\1", p, root) if is_right else sha512(b"\1", root, p)
        while is_right and not fn & 1 and fn:
            fn, sn = fn >> 1, sn >> 1
        fn, sn = fn >> 1, sn >> 1
    need(sn == 0, "bad proof")
    return sha512(label("report"), struct.pack(">Q", size), root)


def check_openings(openings, direction, commitment):
    need(
        sha512(label(f"receipt {direction}"), struct.pack(">I", len(openings)), *(o[0] for o in openings))
        == commitment,
        direction,
    )
    for leaf, *rest in openings:
        if not rest:
            continue
        salt, head, buffer = rest
        if buffer is not None:
            packed = msgpack.packb(head)
            made = mac(salt, label("receipt tensor"), struct.pack(">I", len(packed)), packed, buffer)
            need(made == leaf, f"{direction} {head[0]}")


def course(file):
    """Return whether a stateful model was to begin anew, and its step; None for what is not opened, or not there."""
    body = unpack(unpack(file)[0])
    found = []
    for direction, name, dtype in (("input", "reset", "bool"), ("output", "steps", "int64")):
        _, *rest = body[direction][-1]
        is_it = rest and rest[1] == [name, dtype, [1], len(rest[2] or b"")]
        found.append(int.from_bytes(rest[2], "little") if is_it else None)
    return found


def verify(file):
    """Verify a bundle; returns the payload.  The caller verifies the quote itself."""
    outer = unpack(file)
    need(isinstance(outer, list) and len(outer) == 2 and isinstance(outer[0], bytes), "no bundle")
    need(outer[1] == sha512(label("receipt bundle"), outer[0]), "damaged")
    body = unpack(outer[0])
    need(body["format"] == "strongroom-receipt-bundle" and body["version"] == 1, "format")
    record = unpack(body["evidence"])
    claims = unpack(record["claims"])
    said = payload_of(body["receipt"], claims["receipt_key"])
    check_form(said)
    need(said == body["noted"], "noted")
    need(said["evidence"] == sha512(label("evidence"), sha512(record["quote"]), sha512(record["claims"])), "evidence")
    need(said["boot_id"] == claims["boot_id"], "boot")
    leaf = sha512(b"\0", label("leaf session"), said["origin"], sha512(record["claims"]))
    bound = expected_report_data(leaf, record["index"], record["size"], record["path"])
    need(record["quote"][SGX_REPORT_DATA] == bound, "report data")
    for direction in ("input", "output"):
        check_openings(body[direction], direction, said[direction])
    return said
