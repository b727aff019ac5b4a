"""Records: messages under one key per direction, padded, in order, or not at all.

    record    = u32 length || AES-256-GCM(key, nonce, empty AAD, plaintext)         length counts ciphertext and tag
    plaintext = u8 type || u8 flags || u32 content length || content || zeros       at most 1 MiB
    nonce     = 4 zero bytes || u64 counter                              (Noise revision 34, section 12.3)

A message of n bytes is padded to max(256, Padme(n + 6)) bytes, header included, before it is cut; each record of
a longer message repeats the 6 bytes of header.  All but the last are full.  Noise's Rekey (section 4.2) is applied
before record 65,536 of a direction and before every 65,536th after it; the counter goes on.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from attestation.errors import WireCode, WireError
from attestation.wire.messages import MessageType
from attestation.wire.noise import rekeyed
from attestation.wire.noise_primitives import CIPHERS, MAX_NONCE, TAG_SIZE
from attestation.wire.stream import PREFIX_SIZE, Bounds, Buffer

HEADER_SIZE = 6
MAX_PLAINTEXT = 1 << 20
ROOM = MAX_PLAINTEXT - HEADER_SIZE
"""Bytes of content and padding that one record carries."""
MIN_PADDED = 256
"""Most requests on tabular data look alike below it."""
REKEY_INTERVAL = 1 << 16
END_OF_MESSAGE = 1
DEFAULT_MAX_MESSAGE = 256 * 1024 * 1024

RECORD_BOUNDS = Bounds(HEADER_SIZE + TAG_SIZE, MAX_PLAINTEXT + TAG_SIZE, WireCode.RECORD_REFUSED)

_CIPHER = CIPHERS["AESGCM"]
_HEADER = struct.Struct(">BBI")
_NONCE = struct.Struct(">4xQ")
_PREFIX = struct.Struct(">I")
_ZEROS = bytes(MAX_PLAINTEXT)
_TYPES = {int(kind): kind for kind in MessageType}


class Received(NamedTuple):
    """A whole message.  `content` is a read-only view of memory that nothing else will touch."""

    type: MessageType
    content: memoryview


def padme(size: int) -> int:
    """Return `size` rounded up as Padmé does: at most 12 % more (Nikitin et al., PURBs, PETS 2019, algorithm 1)."""
    if size < 2:
        return size
    exponent = size.bit_length() - 1
    mask = (1 << exponent - exponent.bit_length()) - 1
    return (size + mask) & ~mask


def padded_room(size: int) -> int:
    """Return how many bytes content and padding of a message of `size` bytes take, over all its records."""
    return max(MIN_PADDED, padme(size + HEADER_SIZE)) - HEADER_SIZE


class _Direction:
    """One key and its counter.  Without a key, after `drop`, nothing works any more."""

    def __init__(self, key: bytes) -> None:
        self._aead: AESGCM | None = AESGCM(key)
        self.counter = 0

    def drop(self) -> None:
        """Forget the key."""
        self._aead = None

    def _next(self) -> tuple[AESGCM, bytes]:
        """Return cipher and nonce for the next record, rekeying where it is due."""
        if self._aead is None:
            raise WireError(WireCode.SESSION_STATE, "this direction of the session has ended")
        if self.counter >= MAX_NONCE:
            raise WireError(WireCode.RECORD_REFUSED, "the nonces of this direction are used up")
        if self.counter % REKEY_INTERVAL == 0 and self.counter:
            self._aead = AESGCM(rekeyed(_CIPHER, self._aead))
        nonce = _NONCE.pack(self.counter)
        self.counter += 1
        return self._aead, nonce


class RecordWriter(_Direction):
    """Seals messages of one direction."""

    def seal(self, kind: MessageType, content: Buffer) -> list[bytearray]:
        """Return the records of one message, each with its length prefix."""
        content = memoryview(content).cast("B")
        size, room = len(content), padded_room(len(content))
        if room <= ROOM:
            header = _HEADER.pack(kind, END_OF_MESSAGE, size)
            return [self._record(b"".join((header, content, bytes(room - size))))]
        return self._seal_long(kind, content, room)

    def _seal_long(self, kind: MessageType, content: memoryview, room: int) -> list[bytearray]:
        count = -(-room // ROOM)
        plaintext, records = bytearray(MAX_PLAINTEXT), []
        for index in range(count):
            part = content[index * ROOM : (index + 1) * ROOM]
            size = HEADER_SIZE + min(ROOM, room - index * ROOM)
            _HEADER.pack_into(plaintext, 0, kind, END_OF_MESSAGE if index == count - 1 else 0, len(part))
            plaintext[HEADER_SIZE : HEADER_SIZE + len(part)] = part
            plaintext[HEADER_SIZE + len(part) : size] = bytes(size - HEADER_SIZE - len(part))
            records.append(self._record(memoryview(plaintext)[:size]))
        return records

    def _record(self, plaintext: bytes | memoryview) -> bytearray:
        size = len(plaintext) + TAG_SIZE
        aead, nonce = self._next()
        record = bytearray(PREFIX_SIZE + size)
        _PREFIX.pack_into(record, 0, size)
        aead.encrypt_into(nonce, plaintext, None, memoryview(record)[PREFIX_SIZE:])
        return record


class RecordReader(_Direction):
    """Opens records of one direction and puts messages together.

    Any exception but WireError is a bug: `record-refused` for what does not authenticate, `record-malformed` for
    an authentic record that breaks the format, `message-too-large` beyond `max_message` bytes of content.  After
    any of them the reader is dead.
    """

    def __init__(self, key: bytes, max_message: int = DEFAULT_MAX_MESSAGE) -> None:
        """Start with record 0 of a direction."""
        super().__init__(key)
        self.max_message = max_message
        self._message = bytearray()
        self._type: MessageType | None = None
        self._content = 0

    def drop(self) -> None:
        """Forget the key and what is unfinished."""
        super().drop()
        self._message = bytearray()
        self._type = None

    @property
    def unfinished(self) -> bool:
        """Tell whether a message has begun and not ended."""
        return self._type is not None

    @property
    def held(self) -> int:
        """Bytes kept of a message that has not ended."""
        return len(self._message)

    def open(self, ciphertext: Buffer) -> Received | None:
        """Open the next record (without its length prefix); return the message if that ends one."""
        try:
            return self._open(ciphertext)
        except WireError:
            self.drop()
            raise

    def _open(self, ciphertext: Buffer) -> Received | None:
        start = len(self._message)
        size = len(ciphertext) - TAG_SIZE
        if size < HEADER_SIZE:
            raise WireError(WireCode.RECORD_REFUSED, "a record is shorter than its header and tag")
        if start + size - HEADER_SIZE > padded_room(self.max_message):
            raise WireError(WireCode.MESSAGE_TOO_LARGE, "a message is too long", expected=self.max_message)
        kind, flags, length = self._decrypt(ciphertext, start, size)
        self._check(kind, flags, length, size - HEADER_SIZE)
        self._content += length
        if self._content > self.max_message:
            raise WireError(WireCode.MESSAGE_TOO_LARGE, "a message is too long", expected=self.max_message)
        return self._finish() if flags & END_OF_MESSAGE else None

    def _decrypt(self, ciphertext: Buffer, start: int, size: int) -> tuple[int, int, int]:
        """Decrypt behind the message's bytes so far, and return the record's header.

        The header lands on the last 6 of them, which are put back: so content stays in one piece without a copy.
        The first record of a message has nothing before it, and its header stays.
        """
        if not start:
            self._message = bytearray(size)
            self._decrypt_into(ciphertext, self._message)
            return _HEADER.unpack_from(self._message)
        message, offset = self._message, start - HEADER_SIZE
        kept = bytes(message[offset:])
        message += memoryview(_ZEROS)[: size - HEADER_SIZE]
        with memoryview(message) as view:
            self._decrypt_into(ciphertext, view[offset:])
            header = _HEADER.unpack_from(view, offset)
            view[offset:start] = kept
        return header

    def _decrypt_into(self, ciphertext: Buffer, target: bytearray | memoryview) -> None:
        """Decrypt, or zero the unauthenticated bytes that a failed decryption leaves behind."""
        aead, nonce = self._next()
        try:
            aead.decrypt_into(nonce, ciphertext, None, target)
        except InvalidTag:
            target[:] = bytes(len(target))
            raise WireError(
                WireCode.RECORD_REFUSED, "a record does not authenticate at its place in the session"
            ) from None

    def _check(self, kind: int, flags: int, length: int, room: int) -> None:
        """Hold a record to the one form that its message has; `room` is what follows its header."""
        known = _TYPES.get(kind)
        if known is None or (self._type is not None and known is not self._type):
            raise _malformed("a record's type is unknown or differs from its message's")
        if flags not in {0, END_OF_MESSAGE} or length > room:
            raise _malformed("a record's flags or content length are out of bounds")
        if not room or (not flags and room != ROOM):
            raise _malformed("a record is empty, or is not full before its message's last")
        if length < room and not self._message.endswith(memoryview(_ZEROS)[: room - length]):
            raise _malformed("a record's padding is not zero")
        if length and self._content != len(self._message) - HEADER_SIZE - room:
            raise _malformed("content follows padding")
        self._type = known

    def _finish(self) -> Received:
        kind, message, size = self._type, self._message, self._content
        if kind is None or len(message) - HEADER_SIZE != padded_room(size):
            raise _malformed("a message is not padded to its length")
        self._type, self._message, self._content = None, bytearray(), 0
        return Received(kind, memoryview(message)[HEADER_SIZE : HEADER_SIZE + size].toreadonly())


def _malformed(message: str) -> WireError:
    return WireError(WireCode.RECORD_MALFORMED, message)
