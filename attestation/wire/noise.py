"""The Noise protocol framework, revision 34: CipherState, SymmetricState, HandshakeState (section 5).

General over patterns, psk and hfs modifiers, AESGCM and ChaChaPoly, SHA-2 and BLAKE2, with 25519 as the group.
Names follow the specification.  Every method that reads foreign bytes raises WireError `handshake-failed` and
nothing else; a handshake that failed has dropped its keys.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from attestation.errors import WireCode, WireError
from attestation.wire import noise_primitives as primitives
from attestation.wire.noise_patterns import Pattern, pattern
from attestation.wire.noise_primitives import CIPHERS, DHS, HASHES, KEY_SIZE, TAG_SIZE, Cipher, CryptoRefusal, Hash, Kem

T = TypeVar("T")

MAX_MESSAGE = 65535
"""Section 3: a handshake message never exceeds it."""


@dataclass(frozen=True)
class Suite:
    """A Noise protocol name, taken apart."""

    name: str
    pattern: Pattern
    cipher: Cipher
    hash: Hash
    hybrid: bool

    @classmethod
    def parse(cls, name: str) -> Suite:
        """Parse a name such as `Noise_XXpsk3_25519_AESGCM_SHA256` (section 8); raises ValueError."""
        parts = name.split("_")
        if len(parts) != 5 or parts[0] != "Noise" or parts[2] not in DHS:
            raise ValueError(f"{name!r} is not a Noise protocol that is covered here")
        if parts[3] not in CIPHERS or parts[4] not in HASHES:
            raise ValueError(f"{name!r} names an unknown cipher or hash")
        hybrid = parts[2] != "25519"
        if hybrid != ("hfs" in parts[1]):
            raise ValueError("a KEM and the hfs modifier come together")
        return cls(name, pattern(parts[1]), CIPHERS[parts[3]], HASHES[parts[4]], hybrid)


class CipherState:
    """A key and a counter nonce (section 5.1).  Without a key it passes data through."""

    def __init__(self, cipher: Cipher, key: bytes | None = None) -> None:
        """InitializeKey."""
        self._cipher = cipher
        self.initialize_key(key)

    def initialize_key(self, key: bytes | None) -> None:
        """Set the key and start counting from zero."""
        self._key = key
        self._aead = None if key is None else self._cipher.make(key)
        self._counter = 0

    @property
    def key(self) -> bytes | None:
        """The key, if there is one: a secret."""
        return self._key

    def take_key(self) -> bytes:
        """Return the key and forget it: for a record layer, which counts on its own."""
        key = self._key
        if key is None:
            raise WireError(WireCode.SESSION_STATE, "a cipher has no key to hand over")
        self.initialize_key(None)
        return key

    def encrypt_with_ad(self, ad: bytes, plaintext: bytes) -> bytes:
        """Return ciphertext || tag under the next nonce."""
        if self._aead is None:
            return plaintext
        return self._aead.encrypt(self._next_nonce(), plaintext, ad)

    def decrypt_with_ad(self, ad: bytes, ciphertext: bytes) -> bytes:
        """Return the plaintext; raises CryptoRefusal."""
        if self._aead is None:
            return ciphertext
        return primitives.open_sealed(self._aead, self._next_nonce(), ciphertext, ad)

    def rekey(self) -> None:
        """Replace the key by REKEY(key) (section 11.3); the counter goes on."""
        if self._aead is None:
            raise WireError(WireCode.SESSION_STATE, "a cipher without a key cannot be rekeyed")
        self._key = rekeyed(self._cipher, self._aead)
        self._aead = self._cipher.make(self._key)

    def _next_nonce(self) -> bytes:
        if self._counter >= primitives.MAX_NONCE:
            raise CryptoRefusal("the nonces of this key are used up")
        self._counter += 1
        return self._cipher.nonce(self._counter - 1)


def rekeyed(cipher: Cipher, aead: primitives.Aead) -> bytes:
    """Return REKEY(k): the first 32 bytes of ENCRYPT(k, 2**64 - 1, empty, 32 zeros) (section 4.2)."""
    return aead.encrypt(cipher.nonce(primitives.MAX_NONCE), bytes(KEY_SIZE), b"")[:KEY_SIZE]


class SymmetricState:
    """The chaining key, the transcript hash and the handshake's cipher (section 5.2)."""

    def __init__(self, suite: Suite) -> None:
        """InitializeSymmetric."""
        self._hash = suite.hash
        self._cipher = suite.cipher
        name = suite.name.encode("ascii")
        self.h = name.ljust(self._hash.size, b"\0") if len(name) <= self._hash.size else self._hash.digest(name)
        self._ck = self.h
        self._state = CipherState(suite.cipher)

    @property
    def tag_size(self) -> int:
        """Bytes that encryption adds at this point: 0 before the first key, then 16."""
        return 0 if self._state.key is None else TAG_SIZE

    def mix_hash(self, data: bytes) -> None:
        """Set h = HASH(h || data)."""
        self.h = self._hash.digest(self.h, data)

    def mix_key(self, material: bytes) -> None:
        """Derive a new chaining key and cipher key."""
        self._ck, key = self._hash.hkdf(self._ck, material, 2)
        self._state.initialize_key(key[:KEY_SIZE])

    def mix_key_and_hash(self, material: bytes) -> None:
        """MixKeyAndHash, for pre-shared keys."""
        self._ck, mixed, key = self._hash.hkdf(self._ck, material, 3)
        self.mix_hash(mixed)
        self._state.initialize_key(key[:KEY_SIZE])

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        """Encrypt under h and mix the result into h."""
        ciphertext = self._state.encrypt_with_ad(self.h, plaintext)
        self.mix_hash(ciphertext)
        return ciphertext

    def decrypt_and_hash(self, ciphertext: bytes) -> bytes:
        """Inverse of `encrypt_and_hash`; raises CryptoRefusal."""
        plaintext = self._state.decrypt_with_ad(self.h, ciphertext)
        self.mix_hash(ciphertext)
        return plaintext

    def split(self) -> tuple[CipherState, CipherState]:
        """Return the ciphers of the initiator's and of the responder's direction."""
        first, second = self._hash.hkdf(self._ck, b"", 2)
        return CipherState(self._cipher, first[:KEY_SIZE]), CipherState(self._cipher, second[:KEY_SIZE])


@dataclass
class Keys:
    """Key material of one party; every field may be absent.  `ephemeral` is injected by tests alone.

    static: own static key.  remote_static: the peer's public key where the pattern knows it beforehand.
    psks: pre-shared keys of 32 bytes in the order of the pattern's psk tokens.
    """

    static: X25519PrivateKey | None = None
    remote_static: bytes | None = None
    psks: Sequence[bytes] = ()
    ephemeral: X25519PrivateKey | None = None

    def __repr__(self) -> str:
        return "Keys(...)"


class HandshakeState:
    """One run of a handshake (section 5.3).  Its ephemeral keys are made once and dropped at its end."""

    def __init__(
        self, suite: Suite, keys: Keys, *, initiator: bool, prologue: bytes = b"", kem: Kem | None = None
    ) -> None:
        """Initialize; raises WireError `session-state` if the pattern needs a key that is not given."""
        if [len(psk) for psk in keys.psks] != [KEY_SIZE] * suite.pattern.psk_count:
            raise WireError(WireCode.SESSION_STATE, "the pattern's pre-shared keys are not given, or not of 32 bytes")
        self._symmetric = SymmetricState(suite)
        self._suite = suite
        self._initiator = initiator
        self._static = keys.static
        self._ephemeral = keys.ephemeral
        self._remote_static = keys.remote_static
        self._remote_ephemeral: bytes | None = None
        self._psks = list(keys.psks)
        self._kem = kem or primitives.MlKem768()
        self._decapsulate: Callable[[bytes], bytes] | None = None
        self._remote_kem: bytes | None = None
        self._pending = list(suite.pattern.messages)
        self._my_turn = initiator
        self._failed = False
        self._symmetric.mix_hash(prologue)
        if suite.pattern.initiator_known:
            self._symmetric.mix_hash(self._known_static(mine=initiator))
        if suite.pattern.responder_known:
            self._symmetric.mix_hash(self._known_static(mine=not initiator))

    @property
    def finished(self) -> bool:
        """Tell whether the last message has passed."""
        return not self._pending and not self._failed

    @property
    def handshake_hash(self) -> bytes:
        """h: names this run once it has finished (section 11.2)."""
        return self._symmetric.h

    @property
    def remote_static(self) -> bytes | None:
        """The peer's static public key, as far as it is known."""
        return self._remote_static

    def write_message(self, payload: bytes = b"") -> bytes:
        """Return the next message; raises WireError `session-state` out of turn, else `handshake-failed`."""
        tokens = self._begin(mine=True)
        try:
            parts = [self._write_step(step) for step in tokens]
            parts.append(self._symmetric.encrypt_and_hash(payload))
        except CryptoRefusal as refusal:
            raise self._fail(str(refusal)) from None
        return b"".join(parts)

    def read_message(self, message: bytes) -> bytes:
        """Return the payload of the peer's message; raises as `write_message`."""
        tokens = self._begin(mine=False)
        if len(message) > MAX_MESSAGE:
            raise self._fail("a handshake message is too long")
        try:
            for step in tokens:
                message = self._read_step(step, message)
            return self._symmetric.decrypt_and_hash(message)
        except CryptoRefusal as refusal:
            raise self._fail(str(refusal)) from None

    def split(self) -> tuple[CipherState, CipherState]:
        """Return the ciphers (initiator's, responder's) and drop the handshake's keys."""
        if not self.finished:
            raise WireError(WireCode.SESSION_STATE, "the handshake has not finished")
        ciphers = self._symmetric.split()
        self._drop()
        return ciphers

    # ------------------------------------------------------------------------------------------ tokens

    def _write_step(self, step: str) -> bytes:
        if step == "e":
            self._ephemeral = self._ephemeral or X25519PrivateKey.generate()
            return self._mix_ephemeral(self._ephemeral.public_key().public_bytes_raw())
        if step == "s":
            return self._symmetric.encrypt_and_hash(_held(self._static).public_key().public_bytes_raw())
        if step == "e1":
            self._decapsulate, public = self._kem.generate()
            return self._symmetric.encrypt_and_hash(public)
        if step == "ekem1":
            secret, ciphertext = self._kem.encapsulate(_held(self._remote_kem))
            sealed = self._symmetric.encrypt_and_hash(ciphertext)
            self._symmetric.mix_key(secret)
            return sealed
        self._mix_step(step)
        return b""

    def _read_step(self, step: str, message: bytes) -> bytes:
        """Take the token's bytes off the message and return the rest."""
        if step == "e":
            self._remote_ephemeral, rest = _cut(message, KEY_SIZE)
            self._mix_ephemeral(self._remote_ephemeral)
        elif step == "s":
            sealed, rest = _cut(message, KEY_SIZE + self._symmetric.tag_size)
            self._remote_static = self._symmetric.decrypt_and_hash(sealed)
        elif step == "e1":
            sealed, rest = _cut(message, self._kem.public_size + self._symmetric.tag_size)
            self._remote_kem = self._symmetric.decrypt_and_hash(sealed)
        elif step == "ekem1":
            sealed, rest = _cut(message, self._kem.ciphertext_size + self._symmetric.tag_size)
            self._symmetric.mix_key(_held(self._decapsulate)(self._symmetric.decrypt_and_hash(sealed)))
        else:
            self._mix_step(step)
            rest = message
        return rest

    def _mix_ephemeral(self, public: bytes) -> bytes:
        self._symmetric.mix_hash(public)
        if self._suite.pattern.psk_count:
            self._symmetric.mix_key(public)
        return public

    def _mix_step(self, step: str) -> None:
        """Mix a pre-shared key, or a DH: the first letter names the initiator's key, the second the responder's."""
        if step == "psk":
            self._symmetric.mix_key_and_hash(self._psks.pop(0))
            return
        mine, theirs = (step[0], step[1]) if self._initiator else (step[1], step[0])
        private = _held(self._ephemeral if mine == "e" else self._static)
        public = _held(self._remote_ephemeral if theirs == "e" else self._remote_static)
        self._symmetric.mix_key(primitives.dh(private, public))

    # ------------------------------------------------------------------------------------------- order

    def _begin(self, *, mine: bool) -> tuple[str, ...]:
        if self._failed or not self._pending or self._my_turn is not mine:
            raise WireError(WireCode.SESSION_STATE, "the handshake is not at this point")
        self._my_turn = not self._my_turn
        return self._pending.pop(0)

    def _known_static(self, *, mine: bool) -> bytes:
        if mine:
            return _held(self._static).public_key().public_bytes_raw()
        return _held(self._remote_static)

    def _fail(self, reason: str) -> WireError:
        self._failed = True
        self._symmetric = SymmetricState(self._suite)
        self._drop()
        return WireError(WireCode.HANDSHAKE_FAILED, f"the handshake does not authenticate: {reason}")

    def _drop(self) -> None:
        self._ephemeral = self._static = self._decapsulate = None
        self._psks = []


def _cut(message: bytes, size: int) -> tuple[bytes, bytes]:
    if len(message) < size:
        raise CryptoRefusal("a message is too short")
    return message[:size], message[size:]


def _held(key: T | None) -> T:
    if key is None:
        raise WireError(WireCode.SESSION_STATE, "the handshake pattern needs a key that is not given")
    return key
