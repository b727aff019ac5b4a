"""Catalogued documents of real Nitro enclaves give their verdict, and every bit of one matters."""

from __future__ import annotations

import functools

import pytest

from attestation import evidence
from attestation.appraise import appraise
from attestation.errors import EvidenceCode, EvidenceError, FindingCode
from attestation.nitro.errors import NitroCode, NitroFinding
from attestation.nitro.verify import NitroVerified
from attestation.roots import AWS_NITRO_ROOT
from manifests.errors import ErrorCode
from tests.attestation.kit import refused
from tests.nitro import kit

VERDICTS: dict[str, tuple[str, int, ErrorCode | None]] = {
    "NITRO-1": ("prod-a.cose.cbor", kit.REAL_NOW, None),
    "NITRO-3": ("debug.cose.cbor", kit.DEBUG_NOW, None),
    "NITRO-D1": ("derived-bad/prod-a-pcr0.cose.cbor", kit.REAL_NOW, NitroCode.SIGNATURE),
    "NITRO-D2": ("derived-bad/prod-a-sig.cose.cbor", kit.REAL_NOW, NitroCode.SIGNATURE),
}


def test_no_catalogued_document_is_forgotten() -> None:
    assert {row["id"]: row["files"][0] for row in kit.rows()} == {
        name: f"nitro/{file}" for name, (file, _, _) in VERDICTS.items()
    }


@pytest.mark.parametrize("name", VERDICTS)
def test_a_catalogued_document_has_its_verdict(name: str) -> None:
    file, now, code = VERDICTS[name]
    if code is None:
        verified = kit.verify_real(kit.real(file), now)
        assert not verified.simulated
        assert verified.root == AWS_NITRO_ROOT
    else:
        with refused(code):
            kit.verify_real(kit.real(file), now)


@pytest.mark.parametrize("name", ["NITRO-1", "NITRO-3"])
def test_a_catalogued_document_decodes_to_its_catalogued_fields(name: str) -> None:
    fields = next(row["fields"] for row in kit.rows() if row["id"] == name)
    file, now, _ = VERDICTS[name]
    data = kit.real(file)
    document = kit.parsed(data)
    assert document.serialize() == data
    assert document.module_id == fields["module_id"]
    assert document.timestamp == fields["timestamp_ms"]
    assert document.seconds == now
    assert document.report_data.hex() == fields["user_data"]
    assert (document.nonce, document.public_key) == (None, None)
    assert [index for index, pcr in document.pcrs.items() if not any(pcr)] == fields["pcr_zero"]
    for index, pcr in document.pcrs.items():
        assert fields.get(f"pcr{index}", bytes(48).hex()) == pcr.hex()
    assert document.to_dict()["pcrs"]["4"] == fields["pcr4"]


def test_the_framed_original_holds_the_same_document() -> None:
    framed = kit.real("prod-a.dstack.bin")
    assert kit.real() in framed
    with refused(EvidenceCode.EVIDENCE_UNKNOWN):
        evidence.parse(framed)


def test_a_document_passes_from_its_second_until_its_certificate_ends() -> None:
    verified = kit.verify_real(kit.real())
    assert verified.issued == kit.REAL_NOW
    assert verified.expires == 1_766_679_338  # 2025-12-25T16:15:37Z is the last second
    kit.verify_real(kit.real(), verified.expires - 1)
    with refused(EvidenceCode.CERTIFICATE_EXPIRED):
        kit.verify_real(kit.real(), verified.expires)
    with refused(NitroCode.EARLY):
        kit.verify_real(kit.real(), kit.REAL_NOW - 1)


def test_a_real_document_meets_a_policy_that_names_its_image() -> None:
    verified = kit.verify_real(kit.real())
    named = {"pcr0": [verified.measurement.hex()], "pcr4": [verified.document.pcrs[4].hex()]}
    policy = kit.policy(simulation=False, pcrs=named, module_ids=[verified.document.module_id])
    assert appraise(verified, policy, kit.REAL_NOW, report_data=bytes(64)).accepted


def test_an_enclave_in_debug_mode_is_refused_unless_the_policy_names_it() -> None:
    verified = kit.verify_real(kit.real("debug.cose.cbor"), kit.DEBUG_NOW)
    appraisal = appraise(verified, kit.policy(simulation=False), kit.DEBUG_NOW)
    assert [finding.code for finding in appraisal.failed] == [NitroFinding.DEBUG, NitroFinding.PCR]
    named = kit.policy(simulation=False, pcrs={"pcr0": ["00" * 48]}, debug=True)
    accepted = appraise(verified, named, kit.DEBUG_NOW)
    assert accepted.accepted
    assert [finding.code for finding in accepted.warnings] == [NitroFinding.DEBUG]


def test_a_document_for_another_session_is_refused() -> None:
    verified = kit.verify_real(kit.real())
    appraisal = appraise(verified, kit.policy(simulation=False), kit.REAL_NOW, report_data=bytes([1]) * 64)
    assert FindingCode.REPORT_DATA in [finding.code for finding in appraisal.failed]


SLICES = 16
"""Parts of the work, so that processes can share it."""


@functools.cache
def reference() -> tuple[bytes, NitroVerified]:
    return kit.real(), kit.verify_real(kit.real())


def refusal(data: bytes) -> ErrorCode | None:
    """Which code refuses a document whose chain begins like the real one's; certificates that both share are known."""
    try:
        kit.verify_real(data, known=reference()[1].chain)
    except EvidenceError as error:
        return error.code
    return None


@pytest.mark.parametrize("part", range(SLICES))
def test_every_flipped_bit_is_refused(part: int) -> None:
    data, _ = reference()
    accepted = []
    for bit in range(part, 8 * len(data), SLICES):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        if refusal(bytes(flipped)) is None:
            accepted.append(bit)
    assert accepted == []


def test_the_known_chain_changes_no_verdict() -> None:
    data, verified = reference()
    assert kit.verify_real(data, known=verified.chain) == verified
    with refused(EvidenceCode.CERTIFICATE_EXPIRED):
        kit.verify_real(data, verified.expires, known=verified.chain)
    other = kit.verify_real(kit.real("debug.cose.cbor"), kit.DEBUG_NOW, known=verified.chain)
    assert other == kit.verify_real(kit.real("debug.cose.cbor"), kit.DEBUG_NOW)


def test_cutting_and_appending_is_refused() -> None:
    data, _ = reference()
    for size in range(0, len(data), 37):
        assert refusal(data[:size]) is not None
    for more in (b"\0", b"\xff", data):
        assert refusal(data + more) is EvidenceCode.CBOR_MALFORMED
    assert refusal(b"\xd2" + data) is None, "the tagged form is the same message"
    assert kit.parsed(b"\xd2" + data).serialize() == b"\xd2" + data
