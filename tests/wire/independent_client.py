"""A client written from docs/wire.md alone.  It imports nothing of Strongroom.

`connect` returns the evidence record with the report data that its quote must carry; judging the quote is the
caller's part.  `request` sends one request and returns its response.
"""

import hashlib
import hmac
import struct

import msgpack
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ROOM = 2**20 - 6
EVIDENCE, REQUEST, RESPONSE, ERROR, CLOSE = 1, 3, 4, 5, 6


class RefusalError(Exception):
    """The peer's bytes do not follow the page, or the enclave refused a request."""


def need(condition, reason):
    if not condition:
        raise RefusalError(reason)


def canonical(value):
    """Section 1: encode with map keys in ascending order."""

    def ordered(item):
        if isinstance(item, dict):
            return {key: ordered(item[key]) for key in sorted(item, key=str.encode)}
        return [ordered(one) for one in item] if isinstance(item, list | tuple) else item

    return msgpack.packb(ordered(value))


def decode(data):
    try:
        value = msgpack.unpackb(data)
        again = canonical(value)
    except Exception as error:
        raise RefusalError("not msgpack") from error
    need(again == bytes(data), "not canonical")
    return value


def sha512(*parts):
    return hashlib.sha512(b"".join(parts)).digest()


def label(name):
    return f"strongroom {name} v1\0".encode()


def nonce(counter):
    return bytes(4) + struct.pack(">Q", counter)


def unseal(key, counter, data, aad):
    try:
        return AESGCM(key).decrypt(nonce(counter), data, aad)
    except InvalidTag:
        raise RefusalError("does not authenticate") from None


class Handshake:
    """Section 5: the symmetric state."""

    def __init__(self, name, prologue):
        self.h = self.ck = name.encode().ljust(64, b"\0")
        self.k, self.n = None, 0
        self.mix_hash(prologue)

    def mix_hash(self, data):
        self.h = sha512(self.h, data)

    def hkdf(self, material, count):
        t, output, outputs = hmac.digest(self.ck, material, "sha512"), b"", []
        for index in range(1, count + 1):
            output = hmac.digest(t, output + bytes([index]), "sha512")
            outputs.append(output)
        return outputs

    def mix_key(self, material):
        self.ck, t = self.hkdf(material, 2)
        self.k, self.n = t[:32], 0

    def mix_key_and_hash(self, material):
        self.ck, t, u = self.hkdf(material, 3)
        self.mix_hash(t)
        self.k, self.n = u[:32], 0

    def encrypt_and_hash(self, plaintext):
        data = plaintext if self.k is None else AESGCM(self.k).encrypt(nonce(self.n), plaintext, self.h)
        self.n += 1
        self.mix_hash(data)
        return data

    def decrypt_and_hash(self, data):
        plaintext = data if self.k is None else unseal(self.k, self.n, data, self.h)
        self.n += 1
        self.mix_hash(data)
        return plaintext


def padded(size):
    """Section 7: the bytes that content and padding take."""
    length = size + 6
    e = length.bit_length() - 1
    s = e.bit_length()
    mask = 2 ** (e - s) - 1
    return max(256, (length + mask) & ~mask) - 6


class Direction:
    """Section 7: a key and its counter."""

    def __init__(self, key):
        self.key, self.n = key, 0

    def step(self):
        if self.n and self.n % 65536 == 0:
            self.key = AESGCM(self.key).encrypt(nonce(2**64 - 1), bytes(32), b"")[:32]
        self.n += 1
        return self.key, self.n - 1

    def seal(self, kind, content):
        out, room, position = b"", padded(len(content)), 0
        while position < room:
            size = min(ROOM, room - position)
            part = content[position : position + size]
            last = position + size == room
            plaintext = struct.pack(">BBI", kind, last, len(part)) + part + bytes(size - len(part))
            key, n = self.step()
            data = AESGCM(key).encrypt(nonce(n), plaintext, b"")
            out += struct.pack(">I", len(data)) + data
            position += size
        return out

    def open(self, data):
        """Return (type, last, content, room) of one record."""
        key, n = self.step()
        plaintext = unseal(key, n, data, b"")
        kind, flags, length = struct.unpack(">BBI", plaintext[:6])
        body = plaintext[6:]
        need(1 <= kind <= 6 and flags in {0, 1} and length <= len(body), "bad record header")
        need(body and (flags or len(body) == ROOM) and not any(body[length:]), "bad record padding")
        return kind, flags, body[:length], len(body)


class Client:
    """One session over a connected socket."""

    def __init__(self, route="default", ticket=None):
        self.route, self.ticket = route, ticket
        self.stream, self.ids = b"", 0

    def connect(self, sock):
        """Return the evidence as a map with `report_data` added, or None in a resumed session."""
        self.sock = sock
        name = "NNhfs+psk0" if self.ticket else "NNhfs"
        identity, psk = self.ticket or (b"", b"")
        state = Handshake(f"Noise_{name}_25519+MLKEM768_AESGCM_SHA512", b"strongroom session v1" + identity)
        ec, kc = X25519PrivateKey.generate(), MLKEM768PrivateKey.generate()
        if self.ticket:
            state.mix_key_and_hash(psk)
        first = self.mix_ephemeral(state, ec.public_key().public_bytes_raw())
        first += state.encrypt_and_hash(kc.public_key().public_bytes_raw()) + state.encrypt_and_hash(b"")
        head = bytes([1, bool(self.ticket)])
        self.send_stream(struct.pack(">I", 2 + len(identity + first)) + head + identity + first)
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
        self.up, self.down = (Direction(key[:32]) for key in state.hkdf(b"", 2))
        return None if self.ticket else self.receive_evidence()

    def mix_ephemeral(self, state, public):
        state.mix_hash(public)
        if self.ticket:
            state.mix_key(public)
        return public

    def receive_evidence(self):
        kind, content = self.receive_message()
        need(kind == EVIDENCE, "evidence is due")
        record = decode(content)
        names = {"claims", "hint", "index", "path", "quote", "size", "version"}
        need(isinstance(record, dict) and set(record) == names and record["version"] == 1, "bad evidence")
        leaf = sha512(b"\0", label("leaf session"), self.h, sha512(record["claims"]))
        record["report_data"] = report_data(leaf, record["index"], record["size"], record["path"])
        return record

    def request(self, header, buffers=b""):
        """Send a request and return (header, buffers) of its response."""
        self.ids += 1
        head = canonical({**header, "id": self.ids})
        self.send_stream(self.up.seal(REQUEST, struct.pack(">I", len(head)) + head + buffers))
        kind, content = self.receive_message()
        need(kind in {RESPONSE, ERROR}, "a response is due")
        end = 4 + struct.unpack(">I", content[:4])[0]
        answer = decode(content[4:end])
        need(answer.pop("id") == self.ids, "another request's response")
        need(kind == RESPONSE, answer.get("code"))
        return answer, content[end:]

    def close(self):
        """End this direction, and wait for the peer to end its own."""
        self.send_stream(self.up.seal(CLOSE, b""))
        need(self.receive_message() == (CLOSE, b""), "a close record is due")
        self.send_stream(b"")

    def receive_message(self):
        content, rooms, first, last = b"", 0, None, False
        while not last:
            kind, last, part, room = self.down.open(self.receive_item(22, 2**20 + 16))
            need(kind == (first or kind) and (not part or len(content) == rooms), "bad sequence of records")
            first, content, rooms = kind, content + part, rooms + room
        need(rooms == padded(len(content)), "bad padding")
        return first, content

    # Sections 3 and 4: the stream within frames.

    def send_stream(self, data):
        for start in range(0, max(len(data), 1), 2**20):
            body = {"v": 1, "route": self.route, "sid": 7, "body": data[start : start + 2**20]}
            frame = canonical(body)
            self.sock.sendall(struct.pack(">I", len(frame)) + frame)

    def receive_item(self, low, high):
        while len(self.stream) < 4 or len(self.stream) < 4 + int.from_bytes(self.stream[:4], "big"):
            if len(self.stream) >= 4:
                need(low <= int.from_bytes(self.stream[:4], "big") <= high, "a length out of bounds")
            self.stream += self.receive_frame()
        end = 4 + int.from_bytes(self.stream[:4], "big")
        need(low <= end - 4 <= high, "a length out of bounds")
        item, self.stream = self.stream[4:end], self.stream[end:]
        return item

    def receive_frame(self):
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


def report_data(leaf, index, size, path):
    """Section 6: what the quote must carry."""
    need(0 <= index < size <= 2**16 and len(path) <= 16, "bad proof")
    fn, sn, root = index, size - 1, leaf
    for p in path:
        need(sn and len(p) == 64, "bad proof")
        if fn & 1 or fn == sn:
            root = sha512(b"\1", p, root)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            root = sha512(b"\1", root, p)
        fn, sn = fn >> 1, sn >> 1
    need(sn == 0, "bad proof")
    return sha512(label("report"), struct.pack(">Q", size), root)
