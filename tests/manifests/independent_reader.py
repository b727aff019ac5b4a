"""A reader of sealed models written from docs/sealed-model.md alone; it imports nothing of ours."""

from __future__ import annotations

import hashlib
import hmac
import struct
from pathlib import PurePosixPath
from typing import Any

import blake3
import msgpack
import nacl.bindings
import nacl.signing
from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

FIELDS = {"chunk_size", "commitment", "epoch", "format", "name", "owner", "parts", "salt", "suite"}


class Refused(Exception):  # noqa: N818 - it reads as what happened
    """The file is refused; the argument is the documented code."""


def need(condition: object, code: str) -> None:
    if not condition:
        raise Refused(code)


def label(name: str) -> bytes:
    return b"strongroom " + name.encode() + b" v1\x00"


def sha512(*pieces: bytes) -> bytes:
    return hashlib.sha512(b"".join(pieces)).digest()


def unpack(data: bytes) -> Any:
    def pairs(items: list[tuple[Any, Any]]) -> dict[str, Any]:
        need(items == sorted(items, key=lambda item: item[0].encode()), "sealed-malformed")
        return dict(items)

    try:
        value = msgpack.unpackb(data, object_pairs_hook=pairs, strict_map_key=True)
    except (ValueError, AttributeError):
        raise Refused("sealed-malformed") from None
    need(msgpack.packb(value) == data, "sealed-malformed")
    return value


class Sealed:
    """Steps 1 to 3 and the recipients; `open` does the rest."""

    def __init__(self, file: bytes) -> None:
        self.file = file
        need(file[:8] == b"STRGROOM"[: len(file)], "sealed-malformed")
        version, length = struct.unpack(">II", self._cut(8, 8))
        need(version == 1, "sealed-version")
        need(0 < length <= 1 << 20, "sealed-malformed")
        raw = self._cut(16, length)
        self.core = unpack(raw)
        self._check_core()
        self.core_hash = sha512(raw)
        self.start = 16 + length
        self.places = list(self._places())
        offset = self.places[-1][-1] + self.places[-1][-2] + 16
        tail = self._cut(offset, 32 * len(self.places) + 64)
        self.hashes = [tail[i : i + 32] for i in range(0, len(tail) - 64, 32)]
        leaves = [
            sha512(b"\x00", label("leaf sealed"), struct.pack(">IQB", part, index, last), chunk_hash)
            for (part, index, last, _, _), chunk_hash in zip(self.places, self.hashes, strict=True)
        ]
        self.digest = sha512(label("sealed model"), self.core_hash, self._root(leaves))
        self._verify(tail[-64:])
        self.recipients_at = offset + len(tail)

    def _cut(self, offset: int, length: int) -> bytes:
        piece = self.file[offset : offset + length]
        need(len(piece) == length, "sealed-truncated")
        return piece

    def _check_core(self) -> None:
        core = self.core
        need(isinstance(core, dict), "sealed-malformed")
        need((core.get("format"), core.get("suite")) == (1, "AES256GCM-STREAM-HKDFSHA512-BLAKE3"), "sealed-version")
        need(core["format"] is not True and set(core) == FIELDS, "sealed-malformed")
        for name in ("commitment", "owner", "salt"):
            need(isinstance(core[name], bytes) and len(core[name]) == 32, "sealed-malformed")
        need(
            type(core["chunk_size"]) is int and core["chunk_size"] in [1 << n for n in range(8, 25)], "sealed-malformed"
        )
        need(type(core["epoch"]) is int and 0 <= core["epoch"] < 1 << 63, "sealed-malformed")
        need(isinstance(core["name"], str) and 0 < len(core["name"]) <= 128, "sealed-malformed")
        need(core["name"].isprintable() and isinstance(core["parts"], list), "sealed-malformed")
        need(2 <= len(core["parts"]) <= 4096, "sealed-malformed")
        for part in core["parts"]:
            need(isinstance(part, list) and len(part) == 2, "sealed-malformed")
            need(isinstance(part[0], str) and type(part[1]) is int and 0 <= part[1] < 1 << 63, "sealed-malformed")
            need(0 < len(part[0]) <= 255 and part[0].isprintable() and "\\" not in part[0], "sealed-malformed")
            pieces = part[0].split("/")
            need("" not in pieces and "." not in pieces and ".." not in pieces, "sealed-malformed")
            need(not PurePosixPath(part[0]).is_absolute(), "sealed-malformed")
        names = [name for name, _ in core["parts"]]
        need(names[:2] == ["manifest", "model.onnx"] and len(set(names)) == len(names), "sealed-malformed")
        total = sum(max(1, -(-size // core["chunk_size"])) for _, size in core["parts"])
        need(total <= 1 << 20, "sealed-malformed")
        need(nacl.bindings.crypto_core_ed25519_is_valid_point(core["owner"]), "sealed-malformed")

    def _places(self) -> Any:
        """Yield (part, index, last, size, offset in the file) of every chunk."""
        offset, full = self.start, self.core["chunk_size"]
        for part, (_, size) in enumerate(self.core["parts"]):
            count = max(1, -(-size // full))
            for index in range(count):
                length = min(full, size - index * full)
                yield part, index, int(index == count - 1), length, offset
                offset += length + 16

    def _root(self, leaves: list[bytes]) -> bytes:
        if len(leaves) == 1:
            return leaves[0]
        split = 1
        while split * 2 < len(leaves):
            split *= 2
        return sha512(b"\x01", self._root(leaves[:split]), self._root(leaves[split:]))

    def _verify(self, signature: bytes) -> None:
        try:
            key = nacl.signing.VerifyKey(self.core["owner"])
            key.verify(label("sealed signature") + self.digest, signature)
        except Exception:
            raise Refused("sealed-signature") from None

    def recipients(self) -> dict[bytes, bytes]:
        (length,) = struct.unpack(">I", self._cut(self.recipients_at, 4))
        need(0 < length <= 1 << 17, "sealed-malformed")
        body = self._cut(self.recipients_at + 4, length)
        checksum = self._cut(self.recipients_at + 4 + length, 32)
        need(len(self.file) == self.recipients_at + 4 + length + 32, "sealed-malformed")
        expected = blake3.blake3(label("sealed recipients") + self.digest + body).digest()
        need(checksum == expected, "sealed-malformed")
        entries = unpack(body)
        need(isinstance(entries, list) and 0 < len(entries) <= 64, "sealed-malformed")
        for entry in entries:
            need(isinstance(entry, list) and [type(item) for item in entry] == [bytes, bytes], "sealed-malformed")
            need([len(item) for item in entry] == [16, 1168], "sealed-malformed")
        ids = [entry[0] for entry in entries]
        need(ids == sorted(set(ids)), "sealed-malformed")
        return dict(entries)

    def data_key(self, seed: bytes) -> bytes:
        """Recover the data key with a recipient's private key."""
        expanded = hashlib.shake_256(seed).digest(96)
        post_quantum = MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
        classical = X25519PrivateKey.from_private_bytes(expanded[64:])
        public = post_quantum.public_key().public_bytes_raw() + classical.public_key().public_bytes_raw()
        sealed = self.recipients().get(sha512(label("recipient key"), public)[:16])
        need(sealed is not None, "sealed-recipient")
        suite = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA512, hpke.AEAD.AES_256_GCM)
        private = hpke.MLKEM768X25519PrivateKey(post_quantum, classical)
        try:
            return suite.decrypt(sealed or b"", private, info=label("sealed recipient") + self.digest)
        except Exception:
            raise Refused("sealed-recipient") from None

    def _derive(self, dek: bytes, info: bytes) -> bytes:
        return HKDF(hashes.SHA512(), 32, self.core["salt"], info).derive(dek)

    def open(self, dek: bytes, owner: bytes, digest: bytes) -> dict[str, bytes]:
        """Return every part's plaintext (steps 4 to 7)."""
        need(self.core["owner"] == owner, "sealed-owner")
        need(self.digest == digest, "sealed-digest")
        commitment = self._derive(dek, label("sealed commitment"))
        need(hmac.compare_digest(commitment, self.core["commitment"]), "sealed-commitment")
        parts = {name: b"" for name, _ in self.core["parts"]}
        for (part, index, last, size, offset), expected in zip(self.places, self.hashes, strict=True):
            sealed = self._cut(offset, size + 16)
            need(blake3.blake3(sealed).digest() == expected, "sealed-chunk")
            key = self._derive(dek, label("sealed part") + self.core_hash + struct.pack(">I", part))
            try:
                plain = AESGCM(key).decrypt(index.to_bytes(11, "big") + bytes([last]), sealed, None)
            except Exception:
                raise Refused("sealed-decrypt") from None
            parts[self.core["parts"][part][0]] += plain
        return parts
