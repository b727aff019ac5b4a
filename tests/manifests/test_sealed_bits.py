"""Every single bit of a sealed model matters, and every length but its own is refused."""

from __future__ import annotations

import pytest

from manifests.errors import ManifestCode, ManifestError
from manifests.sealed import BytesSource, inspect_sealed, recover_dek, rewrap
from manifests.sealed.header import load_header
from tests.manifests.small import OTHER_RECIPIENT, RECIPIENT, Pieces, flip, small

SHARES = 4
"""The exhaustive tests are cut into shares, so that several processes can work on them."""

ONE = small(parts=(("model.onnx", b"g" * 300),))
HEADER = load_header(BytesSource(ONE.data))
TAIL = HEADER.content_offset + HEADER.core.content_size
RECIPIENTS = HEADER.recipients_offset

IN_CORE = {ManifestCode.SEALED_MALFORMED, ManifestCode.SEALED_VERSION, ManifestCode.SEALED_TRUNCATED}


def _documented(offset: int) -> set[ManifestCode]:
    """Return the codes under which a change of the byte at this offset may be refused."""
    if offset < HEADER.content_offset:
        return IN_CORE | {ManifestCode.SEALED_SIGNATURE}
    if offset < TAIL:
        return {ManifestCode.SEALED_CHUNK}
    if offset < RECIPIENTS:
        return {ManifestCode.SEALED_SIGNATURE}
    return {ManifestCode.SEALED_MALFORMED, ManifestCode.SEALED_TRUNCATED}


@pytest.mark.parametrize("share", range(SHARES))
def test_inspection_refuses_every_flipped_bit_of_the_file(share: int) -> None:
    for bit in range(share, len(ONE.data) * 8, SHARES):
        with pytest.raises(ManifestError) as caught:
            inspect_sealed(BytesSource(flip(ONE.data, bit)))
        assert caught.value.code in _documented(bit // 8), bit


@pytest.mark.parametrize("share", range(SHARES))
def test_the_reader_refuses_every_flipped_bit_before_the_recipients(share: int) -> None:
    for bit in range(share, RECIPIENTS * 8, SHARES):
        with pytest.raises(ManifestError) as caught:
            ONE.open(flip(ONE.data, bit))
        assert caught.value.code in _documented(bit // 8), bit


@pytest.mark.parametrize("share", range(SHARES))
def test_recovering_the_key_refuses_every_flipped_bit_of_the_recipients(share: int) -> None:
    for bit in range(RECIPIENTS * 8 + share, len(ONE.data) * 8, SHARES):
        with pytest.raises(ManifestError) as caught:
            recover_dek(BytesSource(flip(ONE.data, bit)), RECIPIENT)
        assert caught.value.code in _documented(bit // 8), bit


def test_the_reader_has_no_use_for_the_recipients() -> None:
    """The enclave gets its data key from the broker: what stands behind the tail cannot reach it."""
    assert tuple(ONE.open(ONE.data[:RECIPIENTS])) == ONE.parts


@pytest.mark.parametrize("share", range(SHARES))
def test_behind_a_forged_checksum_a_changed_entry_is_found_by_its_recipient_alone(share: int) -> None:
    """Nobody else can know: inspection passes, the other recipient still recovers the key, this one is refused."""
    two = small(recipients=(RECIPIENT, OTHER_RECIPIENT))
    entries = Pieces.of(two.data).entries(two.digest)
    sealed_key = entries[RECIPIENT.key_id]
    for bit in range(share, len(sealed_key) * 8, SHARES * 7):
        pieces = Pieces.of(two.data)
        pieces.set_entries(sorted({**entries, RECIPIENT.key_id: flip(sealed_key, bit)}.items()), two.digest)
        source = BytesSource(pieces.join())
        assert len(inspect_sealed(source).recipients) == 2
        assert recover_dek(source, OTHER_RECIPIENT) == two.dek
        with pytest.raises(ManifestError) as caught:
            recover_dek(source, RECIPIENT)
        assert caught.value.code is ManifestCode.SEALED_RECIPIENT


def test_every_other_length_is_refused() -> None:
    lengths = [*range(len(ONE.data)), len(ONE.data) + 1, len(ONE.data) + 4096]
    for length in lengths:
        cut = ONE.data[:length].ljust(length, b"\0")
        with pytest.raises(ManifestError) as caught:
            inspect_sealed(BytesSource(cut))
        assert caught.value.code in IN_CORE, length
        if length < RECIPIENTS:
            with pytest.raises(ManifestError) as caught:
                ONE.open(cut)
            assert caught.value.code in IN_CORE, length


def test_a_truncated_file_is_called_truncated_once_its_core_is_there() -> None:
    for length in range(HEADER.content_offset, len(ONE.data)):
        with pytest.raises(ManifestError) as caught:
            inspect_sealed(BytesSource(ONE.data[:length]))
        assert caught.value.code is ManifestCode.SEALED_TRUNCATED, length


def test_rewrapping_refuses_what_recovering_refuses(tmp_path) -> None:
    path = tmp_path / "s"
    for bit in (RECIPIENTS * 8, RECIPIENTS * 8 + 400, len(ONE.data) * 8 - 1, HEADER.content_offset * 8 - 3, TAIL * 8):
        path.write_bytes(flip(ONE.data, bit))
        with pytest.raises(ManifestError):
            rewrap(path, private=RECIPIENT, add=[OTHER_RECIPIENT.public])
        assert path.read_bytes() == flip(ONE.data, bit)
