"""Opening a sealed model where it is served: every byte is checked before it is decrypted.

The order is fixed: signature, owner and digest from core and tail; the key commitment; then for each chunk its hash
and its decryption straight into the target.  Each byte of the source is read once, so that a source which gives
different bytes the second time gains nothing.
"""

from __future__ import annotations

import hmac
from typing import TypeVar, overload

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from manifests.errors import ManifestCode, ManifestError
from manifests.model import MAX_MANIFEST, ModelManifest
from manifests.sealed import digest as digests
from manifests.sealed import stream
from manifests.sealed.core import TAG_SIZE, Chunk, Core, malformed
from manifests.sealed.header import load_header
from manifests.sealed.source import Buffer, ByteSource, truncated

Target = TypeVar("Target", bytearray, memoryview)


class SealedReader:
    """A sealed model whose owner and digest are known to be the expected ones."""

    def __init__(self, source: ByteSource, *, owner: bytes, digest: bytes) -> None:
        """Read and check core and tail.

        Raises ManifestError `sealed-malformed`, `sealed-version`, `sealed-truncated`, `sealed-signature`,
        `sealed-owner` or `sealed-digest`, and whatever the source raises.
        """
        header = load_header(source)
        if header.core.owner != owner:
            raise ManifestError(
                ManifestCode.SEALED_OWNER,
                "the sealed model belongs to another owner",
                expected=owner.hex(),
                found=header.core.owner.hex(),
            )
        if not hmac.compare_digest(header.digest, digest):
            raise ManifestError(
                ManifestCode.SEALED_DIGEST,
                "the sealed model is another one than was asked for",
                expected=digest.hex(),
                found=header.digest.hex(),
            )
        self._source = source
        self._header = header
        self._dek: Buffer | None = None

    @property
    def core(self) -> Core:
        """Name, owner, epoch and parts."""
        return self._header.core

    @property
    def digest(self) -> bytes:
        """The model digest, 64 bytes."""
        return self._header.digest

    def open(self, dek: Buffer) -> None:
        """Take the 32-byte data key, which stays the caller's to wipe; raises ManifestError `sealed-commitment`."""
        stream.check_commitment(dek, self.core.salt, self.core.commitment)
        self._dek = dek

    def close(self) -> None:
        """Forget the data key."""
        self._dek = None

    @overload
    def read_part(self, index: int, into: None = None) -> bytearray: ...
    @overload
    def read_part(self, index: int, into: Target) -> Target: ...

    def read_part(self, index: int, into: bytearray | memoryview | None = None) -> bytearray | memoryview:
        """Decrypt one part into a new bytearray, or into a writable buffer of exactly its size, and return that.

        Nothing in the buffer may be used before this returns; after an exception it holds zeros.
        Raises ManifestError `sealed-state`, `sealed-part`, `sealed-chunk`, `sealed-decrypt` or `sealed-truncated`,
        and whatever the source raises.
        """
        cipher = self._cipher(index)
        size = self.core.parts[index].size
        target = bytearray(size) if into is None else into
        with memoryview(target).cast("B") as view:
            if len(view) != size:
                raise ManifestError(
                    ManifestCode.SEALED_PART, "the target has not the part's size", expected=size, found=len(view)
                )
            try:
                for chunk, expected in self._header.chunks(index):
                    self._decrypt(cipher, chunk, expected, view[chunk.start : chunk.start + chunk.size])
            except BaseException:
                stream.wipe(view)  # a failed decryption leaves plaintext that nobody authenticated
                raise
        return target

    def read_manifest(self) -> ModelManifest:
        """Return the model manifest, checked against the core.

        Raises as `read_part`, and ManifestError `manifest-invalid` or `sealed-malformed`.
        """
        if self.core.parts[0].size > MAX_MANIFEST:
            raise malformed("the model manifest is too large")
        manifest = ModelManifest.decode(bytes(self.read_part(0)))
        if (manifest.name, manifest.owner, manifest.epoch) != (self.core.name, self.core.owner, self.core.epoch):
            raise malformed("core and model manifest name different models")
        return manifest

    def _cipher(self, part: int) -> AESGCM:
        if self._dek is None:
            raise ManifestError(ManifestCode.SEALED_STATE, "the data key has not been given")
        if not 0 <= part < len(self.core.parts):
            raise ManifestError(
                ManifestCode.SEALED_PART, "there is no such part", expected=f"below {len(self.core.parts)}", found=part
            )
        return stream.part_cipher(self._dek, self.core.salt, self._header.core_digest, part)

    def _decrypt(self, cipher: AESGCM, chunk: Chunk, expected: bytes, target: memoryview) -> None:
        length = chunk.size + TAG_SIZE
        sealed = self._source.read_at(self._header.content_offset + chunk.offset, length)
        if len(sealed) != length:
            raise truncated()
        if not hmac.compare_digest(digests.chunk_hash(sealed), expected):
            raise ManifestError(
                ManifestCode.SEALED_CHUNK,
                f"chunk {chunk.index} of part {chunk.part} is not the one that the owner sealed",
                remedy="fetch the file again",
            )
        try:
            cipher.decrypt_into(stream.nonce(chunk), sealed, None, target)
        except InvalidTag:
            raise ManifestError(
                ManifestCode.SEALED_DECRYPT,
                f"chunk {chunk.index} of part {chunk.part} does not decrypt under the data key",
            ) from None
