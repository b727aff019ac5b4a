"""What can be done with a sealed model besides opening it: show it, recover its key, and change its recipients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from manifests.errors import ManifestCode, ManifestError
from manifests.files import write_atomically
from manifests.sealed import digest as digests
from manifests.sealed import recipients as keys
from manifests.sealed import stream
from manifests.sealed.core import TAG_SIZE
from manifests.sealed.header import Header, SealedInfo, load_header, load_recipients, open_source
from manifests.sealed.recipients import RecipientKey, Recipients
from manifests.sealed.source import ByteSource

_BLOCK = 1 << 20


def inspect_sealed(source: ByteSource | Path) -> SealedInfo:
    """Verify the owner's signature, every chunk's hash and the recipients' checksum; needs no key.

    Whether the owner is the right one is for the caller to judge.  Raises ManifestError `sealed-malformed`,
    `sealed-version`, `sealed-truncated`, `sealed-signature`, `sealed-chunk`, and whatever the source raises.
    """
    with open_source(source) as opened:
        header = load_header(opened)
        recipients = load_recipients(opened, header)
        for part in range(len(header.core.parts)):
            for chunk, expected in header.chunks(part):
                sealed = opened.read_at(header.content_offset + chunk.offset, chunk.size + TAG_SIZE)
                if digests.chunk_hash(sealed) != expected:
                    raise ManifestError(
                        ManifestCode.SEALED_CHUNK,
                        f"chunk {chunk.index} of part {chunk.part} is not the one that the owner sealed",
                        remedy="fetch the file again",
                    )
        return SealedInfo(header.core, header.digest, sorted(recipients), opened.size)


def recover_dek(source: ByteSource | Path, private: RecipientKey) -> bytearray:
    """Return the data key of a sealed model as one of its recipients; the caller wipes it.

    Raises ManifestError `sealed-recipient`, `sealed-commitment`, and as `inspect_sealed` but for the chunks.
    """
    with open_source(source) as opened:
        header = load_header(opened)
        return _recover(header, load_recipients(opened, header), private)


def rewrap(
    path: Path,
    *,
    private: RecipientKey,
    add: Sequence[bytes] = (),
    remove: Sequence[bytes] = (),
    destination: Path | None = None,
    overwrite: bool = False,
) -> SealedInfo:
    """Rewrite the recipients of a sealed model, in place or to `destination`; everything else is copied as it is.

    `add` are public keys (1,216 bytes; one that is there already gets a new entry), `remove` are key ids (16 bytes).
    Who was removed may have kept the data key: to shut somebody out, seal again.  Raises as `recover_dek`, and
    ManifestError `sealed-recipients`, `key-invalid`, `disk-full`, `file-unavailable`, or `file-exists` for a
    destination that is there, without `overwrite`.
    """
    with open_source(path) as source:
        header = load_header(source)
        recipients = load_recipients(source, header)
        dek = _recover(header, recipients, private)
        try:
            recipients = _without(recipients, remove) | keys.seal_keys(dek, add, header.digest)
        finally:
            stream.wipe(dek)
        section = keys.encode_section(recipients, header.digest)
        blocks = _copy(source, header.recipients_offset, section)
        write_atomically(destination or path, blocks, replace=destination is None or overwrite)
    return SealedInfo(header.core, header.digest, sorted(recipients), header.recipients_offset + len(section))


def _recover(header: Header, recipients: Recipients, private: RecipientKey) -> bytearray:
    sealed_key = recipients.get(private.key_id)
    if sealed_key is None:
        raise ManifestError(
            ManifestCode.SEALED_RECIPIENT,
            "the model was not sealed for this key",
            expected=private.key_id.hex(),
            found=", ".join(key_id.hex() for key_id in recipients),
            remedy="have a recipient add this key's card: `strongroom rewrap MODEL --key KEY --add CARD`, where that is"
            " a broker `strongroom broker rewrap MODEL --home DIR --add CARD`",
        )
    dek = private.unseal(sealed_key, header.digest)
    stream.check_commitment(dek, header.core.salt, header.core.commitment)
    return dek


def _without(recipients: Recipients, remove: Sequence[bytes]) -> Recipients:
    for key_id in remove:
        if key_id not in recipients:
            raise ManifestError(ManifestCode.SEALED_RECIPIENT, "a recipient to remove is not there", found=key_id.hex())
    return {key_id: entry for key_id, entry in recipients.items() if key_id not in remove}


def _copy(source: ByteSource, end: int, section: bytes) -> Iterator[bytes | memoryview]:
    """Yield the file up to its recipients, then the new section."""
    for offset in range(0, end, _BLOCK):
        length = min(_BLOCK, end - offset)
        yield source.read_at(offset, length)
    yield section
