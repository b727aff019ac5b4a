"""A client written from docs/wire.md alone.  It imports nothing of Strongroom.

`connect` returns the evidence record with the report data that its quote must carry; judging the quote is the
caller's part.  `request` sends one request and returns its response.
"""

import hashlib
import struct

import msgpack
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

ROOM = 2**20 - 6
EVIDENCE, REQUEST, RESPONSE, ERROR, CLOSE = 1, 3, 4, 5, 6


class RefusalError(Exception):
    """The peer's bytes do not follow the page, or the enclave refused a request."""


def need(condition, reason):
    if not condition:
        raise RefusalError(reason)


def ordered(value):
    if isinstance(value, dict):
        return {key: ordered(value[key]) for key in sorted(value, key=str.encode)}
    return [ordered(item) for item in value] if isinstance(value, list | tuple) else value


def decode(data):
    """Section 1: what does not encode to itself, with map keys in order, is refused."""
    try:
        value = msgpack.unpackb(data)
        again = msgpack.packb(ordered(value))
    except Exception as error:
        raise RefusalError("not msgpack") from error
    need(again == bytes(data), "not canonical")
    return value


def sha512(*parts):
    return hashlib.sha512(b"".join(parts)).digest()


class Cipher:
    """AES-256-GCM with a counter, and section 7's new key before every 65,536th record."""

    def __init__(self, key):
        self.key, self.n = key[:32], 0

    def step(self):
        if self.n and self.n % 65536 == 0:
            self.key = AESGCM(self.key).encrypt(struct.pack(">4xQ", 2**64 - 1), bytes(32), b"")[:32]
        self.n += 1
        return AESGCM(self.key), struct.pack(">4xQ", self.n - 1)

    def seal(self, plaintext, aad=b""):
        aead, nonce = self.step()
        return aead.encrypt(nonce, plaintext, aad)

    def open(self, data, aad=b""):
        aead, nonce = self.step()
        try:
            return aead.decrypt(nonce, data, aad)
        except InvalidTag:
            raise RefusalError("does not authenticate") from None


class Handshake:
    """Section 5: the symmetric state.  `cipher` is None as long as there is no k."""

    def __init__(self, name, prologue):
        self.h = self.ck = name.encode().ljust(64, b"\0")
        self.cipher = None
        self.mix_hash(prologue)

    def mix_hash(self, data):
        self.h = sha512(self.h, data)

    def hkdf(self, material, count):
        output = HKDF(SHA512(), 64 * count, self.ck, b"").derive(material)
        return [output[start : start + 64] for start in range(0, len(output), 64)]

    def mix_key(self, material, *, and_hash=False):
        self.ck, *to_hash, key = self.hkdf(material, 2 + and_hash)
        self.cipher = Cipher(key)
        if and_hash:
            self.mix_hash(*to_hash)

    def encrypt_and_hash(self, plaintext):
        data = self.cipher.seal(plaintext, self.h) if self.cipher else plaintext
        self.mix_hash(data)
        return data

    def decrypt_and_hash(self, data):
        plaintext = self.cipher.open(data, self.h)
        self.mix_hash(data)
        return plaintext


def report_data(leaf, index, size, path):
    """Section 6: what the quote must carry."""
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
    return sha512(b"strongroom report v1\0", struct.pack(">Q", size), root)


def padded(size):
    """Section 7: the bytes that content and padding take."""
    e = (size + 6).bit_length() - 1
    mask = 2 ** (e - e.bit_length()) - 1
    return max(256, (size + 6 + mask) & ~mask) - 6


def records(cipher, kind, content):
    """Section 7: a message, cut into records behind their lengths."""
    out, room = b"", padded(len(content))
    for start in range(0, room, ROOM):
        part, size = content[start : start + ROOM], min(ROOM, room - start)
        header = struct.pack(">BBI", kind, start + size == room, len(part))
        data = cipher.seal(header + part.ljust(size, b"\0"))
        out += struct.pack(">I", len(data)) + data
    return out


def devices_named(record):
    """Section 6: whether claims and record agree about the enclave's devices."""
    devices = record.get("devices")
    expected = b"" if devices is None else sha512(b"strongroom device evidence v1\0", devices)
    return decode(record["claims"])["gpu_evidence"] == expected


def message(cipher, receive_item, limit=2**28):
    """Section 7: (type, content) of a message of at most so many bytes, put together from its records."""
    content, rooms, first, last = b"", 0, None, 0
    while not last:
        plaintext = cipher.open(receive_item(22, 2**20 + 16))
        (kind, last, length), body = struct.unpack(">BBI", plaintext[:6]), plaintext[6:]
        need(1 <= kind <= 6 and last in {0, 1} and length <= len(body), "bad record header")
        need(body and (last or len(body) == ROOM) and not any(body[length:]), "bad record padding")
        need(rooms + len(body) <= padded(limit), "too large")
        need(kind == (first or kind) and (not length or len(content) == rooms), "bad sequence of records")
        first, content, rooms = kind, content + body[:length], rooms + len(body)
    need(rooms == padded(len(content)), "bad padding")
    return first, content


class Client:
    """One session over a connected socket."""

    def __init__(self, route="default", ticket=None):
        self.route, self.ticket = route, ticket
        self.stream, self.ids = b"", 0

    def connect(self, sock):
        """Return the evidence as a map with `report_data` added, or None in a resumed session."""
        self.sock = sock
        name, (identity, psk) = ("NNhfs+psk0", self.ticket) if self.ticket else ("NNhfs", (b"", b""))
        state = Handshake(f"Noise_{name}_25519+MLKEM768_AESGCM_SHA512", b"strongroom session v1" + identity)
        ec, kc = X25519PrivateKey.generate(), MLKEM768PrivateKey.generate()
        if self.ticket:
            state.mix_key(psk, and_hash=True)
        first = self.mix_ephemeral(state, ec.public_key().public_bytes_raw())
        first += state.encrypt_and_hash(kc.public_key().public_bytes_raw()) + state.encrypt_and_hash(b"")
        head = bytes([1, bool(self.ticket)])
        self.send(struct.pack(">I", 2 + len(identity + first)) + head + identity + first)
        answer = self.receive_item(1154, 1154)
        need(answer[:2] == head, "another version or mode")
        es = self.mix_ephemeral(state, answer[2:34])
        try:
            state.mix_key(ec.exchange(X25519PublicKey.from_public_bytes(es)))
        except ValueError:
            raise RefusalError("zero shared secret") from None
        state.mix_key(kc.decapsulate(state.decrypt_and_hash(answer[34:1138])))
        need(state.decrypt_and_hash(answer[1138:]) == b"", "payload in the handshake")
        self.h = state.h
        self.up, self.down = map(Cipher, state.hkdf(b"", 2))
        return None if self.ticket else self.receive_evidence()

    def mix_ephemeral(self, state, public):
        state.mix_hash(public)
        if self.ticket:
            state.mix_key(public)
        return public

    def receive_evidence(self):
        kind, content = message(self.down, self.receive_item, 1_445_888)
        need(kind == EVIDENCE, "evidence is due")
        record = decode(content)
        names = {"claims", "hint", "index", "path", "quote", "size", "version"}
        need(isinstance(record, dict) and set(record) - {"devices"} == names, "bad evidence")
        need(record["version"] == 1 and record.get("devices") != b"", "bad evidence")
        leaf = sha512(b"\0strongroom leaf session v1\0", self.h, sha512(record["claims"]))
        return record | {"report_data": report_data(leaf, record["index"], record["size"], record["path"])}

    def request(self, header, buffers=b""):
        """Send a request and return (header, buffers) of its response."""
        self.ids += 1
        head = msgpack.packb(ordered({**header, "id": self.ids}))
        self.send(records(self.up, REQUEST, struct.pack(">I", len(head)) + head + buffers))
        kind, content = message(self.down, self.receive_item)
        need(kind in {RESPONSE, ERROR}, "a response is due")
        end = 4 + int.from_bytes(content[:4], "big")
        answer = decode(content[4:end])
        need(answer.pop("id") == self.ids, "another request's response")
        need(kind == RESPONSE, answer.get("code"))
        return answer, content[end:]

    def generate(self, header, buffers=b"", window=4):
        """Section 9: make a request and yield the headers of the parts of its answer."""
        self.note({**header, "window": window}, buffers)
        number, part, final = self.ids, 0, False
        while not final:
            kind, content = message(self.down, self.receive_item)
            answer = decode(content[4 : 4 + int.from_bytes(content[:4], "big")])
            need(answer.pop("id") == number, "another request's response")
            need(kind == RESPONSE, answer.get("code"))
            need(answer.pop("part") == part, "a part is missing")
            final = answer.pop("final")
            yield answer
            part += 1
            if not final:
                self.note({"op": "continue", "stream": number, "parts": 1})

    def note(self, header, buffers=b""):
        """Send a request without waiting for an answer."""
        self.ids += 1
        head = msgpack.packb(ordered({**header, "id": self.ids}))
        self.send(records(self.up, REQUEST, struct.pack(">I", len(head)) + head + buffers))

    def close(self):
        """End this direction, and wait for the peer to end its own."""
        self.send(records(self.up, CLOSE, b""))
        need(message(self.down, self.receive_item) == (CLOSE, b""), "a close record is due")
        self.send(b"")

    def send(self, data):
        """Sections 3 and 4: a piece of the stream, in frames."""
        for start in range(0, max(len(data), 1), 2**20):
            frame = msgpack.packb({"body": data[start : start + 2**20], "route": self.route, "sid": 7, "v": 1})
            self.sock.sendall(struct.pack(">I", len(frame)) + frame)

    def receive_item(self, low, high):
        """Section 4: the stream's next item."""
        length = int.from_bytes(self.take(4), "big")
        need(low <= length <= high, "a length out of bounds")
        return self.take(length)

    def take(self, size):
        while len(self.stream) < size:
            self.stream += self.receive_frame()
        taken, self.stream = self.stream[:size], self.stream[size:]
        return taken

    def receive_frame(self):
        """Section 3: the body of the next frame."""
        length = int.from_bytes(self.receive_exactly(4), "big")
        need(length <= 1_049_728, "an oversized frame")
        frame = decode(self.receive_exactly(length))
        need(isinstance(frame, dict) and set(frame) == {"body", "route", "sid", "v"} and frame["v"] == 1, "bad frame")
        need(frame["route"] == self.route and frame["sid"] == 7, f"not of this session: {frame['body'][:200]!r}")
        need(frame["body"], "truncated")
        return frame["body"]

    def receive_exactly(self, size):
        data = b""
        while len(data) < size:
            piece = self.sock.recv(size - len(data))
            need(piece, "truncated")
            data += piece
        return data
