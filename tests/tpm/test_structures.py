"""Bytes of TPM structures: what parses serialises to itself, and every departure has its code."""

from __future__ import annotations

import functools
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation import evidence
from attestation.errors import EvidenceCode
from attestation.sim.tpm import OWNER, SimulatedTpm
from attestation.tpm.abi import MAX_EVIDENCE, is_evidence, parse_evidence
from attestation.tpm.algorithms import Hash, Scheme
from attestation.tpm.attest import Attest, PcrSelection
from attestation.tpm.errors import TpmCode
from attestation.tpm.public import Attributes, Public
from attestation.tpm.signature import Signature
from manifests import canonical
from manifests.errors import ErrorCode
from tests.attestation.kit import CREATED, REPORT_DATA, SEED, outcome, refused
from tests.tpm import kit


def message() -> bytes:
    return bytes(kit.opened()["message"])


def public() -> bytes:
    return bytes(kit.opened()["key"])


def signature(scheme: Scheme = Scheme.ECDSA) -> bytes:
    return bytes(kit.opened(kit.sim(scheme).evidence(REPORT_DATA))["signature"])


def put(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


@pytest.mark.parametrize("scheme", list(Scheme))
def test_each_structure_serialises_to_itself(scheme: Scheme) -> None:
    data = kit.sim(scheme).evidence(REPORT_DATA)
    parsed = parse_evidence(data)
    value = kit.opened(data)
    assert parsed.serialize() == data
    assert parsed.quote.attest.serialize() == value["message"]
    assert parsed.quote.signature.serialize() == value["signature"]
    assert parsed.key.serialize() == value["key"]
    assert parsed.quote.serialize() == value["message"] + value["signature"] + b"".join(value["pcrs"])


def test_the_fields_show_by_the_vendors_names() -> None:
    shown = evidence.parse(kit.healthy()).to_dict()
    assert shown["attest"]["magic"] == "ff544347"
    assert shown["attest"]["type"] == "8018"
    assert shown["key"]["attributes"].startswith("fixedtpm, fixedparent")
    assert shown["pcrs"]["sha256"]["7"] == shown["pcrs"]["sha256"]["7"].lower()
    assert shown["event_log"][0]["type"] == "EV_NO_ACTION"


# ----------------------------------------------------------------------------------------------------- container


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"version": 2}, TpmCode.EVIDENCE_VERSION),
        ({"version": 0}, TpmCode.EVIDENCE_MALFORMED),
        ({"format": "strongroom tpm"}, TpmCode.EVIDENCE_MALFORMED),
        ({"extra": b""}, TpmCode.EVIDENCE_MALFORMED),
        ({"message": "text"}, TpmCode.EVIDENCE_MALFORMED),
        ({"message": bytes(1025)}, TpmCode.EVIDENCE_MALFORMED),
        ({"parent": bytes(67)}, TpmCode.EVIDENCE_MALFORMED),
        ({"pcrs": [b""] * 257}, TpmCode.EVIDENCE_MALFORMED),
        ({"key_chain": [bytes(9000)]}, TpmCode.EVIDENCE_MALFORMED),
    ],
)
def test_a_container_of_another_form_is_refused(changes: dict[str, Any], code: TpmCode) -> None:
    with refused(code):
        parse_evidence(kit.rebuilt(**changes))


def test_a_container_in_another_encoding_is_refused() -> None:
    """The map's keys in another order mean the same, and are not the one encoding."""
    value = kit.opened()
    other = b"\x89" + b"".join(canonical.encode(name) + canonical.encode(value[name]) for name in reversed(value))
    for data in (other, kit.healthy() + b"\0", kit.healthy()[:-1], b""):
        with refused(TpmCode.EVIDENCE_MALFORMED):
            parse_evidence(data)
    with refused(TpmCode.EVIDENCE_MALFORMED):
        parse_evidence(bytes(MAX_EVIDENCE + 1))


def test_the_container_is_recognised_by_its_beginning() -> None:
    assert is_evidence(kit.healthy())
    assert not is_evidence(b"")
    assert not is_evidence(b"\x89\xa6format\xa3abc")
    with refused(TpmCode.EVIDENCE_MALFORMED):
        evidence.parse(kit.healthy()[:40])


# ------------------------------------------------------------------------------------------------- TPMS_ATTEST

SELECTION = 6 + 2 + 34 + 2 + 32 + 8 + 4 + 4 + 1 + 8
"""Where pcrSelect begins in a message with SHA-256 names and qualifying data of 32 bytes."""


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        (lambda data: put(data, 0, b"\xfe"), TpmCode.MAGIC),
        (lambda data: put(data, 4, b"\x80\x17"), TpmCode.ATTEST_TYPE),
        (lambda data: data[:3], TpmCode.TRUNCATED),
        (lambda data: data[:-1], TpmCode.TRUNCATED),
        (lambda data: data + b"\0", TpmCode.TRAILING_BYTES),
        (lambda data: put(data, 6, b"\xff\xff"), TpmCode.SIZE),
        (lambda data: put(data, 6, b"\x00\x04"), TpmCode.SIZE),
        (lambda data: put(data, 92, b"\x02"), TpmCode.RESERVED),
        (lambda data: put(data, SELECTION, struct.pack(">I", 0)), TpmCode.PCR_SELECTION),
        (lambda data: put(data, SELECTION, struct.pack(">I", 1 << 31)), TpmCode.PCR_SELECTION),
        (lambda data: put(data, SELECTION + 4, b"\x00\x12"), TpmCode.ALGORITHM),
        (lambda data: put(data, SELECTION + 6, b"\x02"), TpmCode.PCR_SELECTION),
        (lambda data: put(data, SELECTION + 7, bytes(3)), TpmCode.PCR_SELECTION),
    ],
)
def test_a_message_of_another_form_is_refused(changed: Any, code: TpmCode) -> None:
    Attest.parse(message())
    with refused(code):
        Attest.parse(changed(message()))


def test_a_bank_that_is_selected_twice_is_refused() -> None:
    twice = (PcrSelection(Hash.SHA256, (0,)), PcrSelection(Hash.SHA256, (1,)))
    data = kit.sim().attest(bytes(32), {}, pcr_select=twice).serialize()
    with refused(TpmCode.PCR_SELECTION):
        Attest.parse(data)


def test_a_bank_without_pcrs_stands_beside_one_with_some() -> None:
    """A TPM answers so when it is asked for a bank that it does not keep."""
    selections = (PcrSelection(Hash.SHA1, ()), PcrSelection(Hash.SHA256, (0, 31), 4))
    data = kit.sim().attest(bytes(32), {}, pcr_select=selections).serialize()
    assert Attest.parse(data).pcr_select == selections


# ------------------------------------------------------------------------------------------------ TPMT_SIGNATURE


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        (lambda data: put(data, 0, b"\x00\x1a"), TpmCode.ALGORITHM),
        (lambda data: put(data, 2, b"\x00\x04"), TpmCode.ALGORITHM),
        (lambda data: put(data, 4, b"\x00\x00"), TpmCode.SIZE),
        (lambda data: data[:-1], TpmCode.TRUNCATED),
        (lambda data: data + b"\0", TpmCode.TRAILING_BYTES),
    ],
)
def test_a_signature_of_another_form_is_refused(changed: Any, code: TpmCode) -> None:
    for scheme in (Scheme.ECDSA, Scheme.RSASSA):
        with refused(code):
            Signature.parse(changed(signature(scheme)))


# -------------------------------------------------------------------------------------------------- TPM2B_PUBLIC


def rsa_public() -> bytes:
    return kit.sim(Scheme.RSASSA).public.serialize()


@pytest.mark.parametrize(
    ("of", "changed", "code"),
    [
        (public, lambda data: put(data, 2, b"\x00\x08"), TpmCode.KEY_KIND),  # a keyed hash
        (public, lambda data: put(data, 4, b"\x00\x04"), TpmCode.ALGORITHM),  # named by SHA-1
        (public, lambda data: put(data, 6, b"\x80"), TpmCode.RESERVED),
        (public, lambda data: put(data, 12, b"\x00\x06"), TpmCode.KEY_KIND),  # a storage key
        (public, lambda data: put(data, 14, b"\x00\x14"), TpmCode.ALGORITHM),  # RSASSA on a curve
        (public, lambda data: put(data, 16, b"\x00\x04"), TpmCode.ALGORITHM),  # SHA-1
        (public, lambda data: put(data, 18, b"\x00\x01"), TpmCode.ALGORITHM),  # P-192
        (public, lambda data: put(data, 20, b"\x00\x20"), TpmCode.KEY_KIND),  # a key derivation
        (rsa_public, lambda data: put(data, 14, b"\x00\x18"), TpmCode.ALGORITHM),  # ECDSA with RSA
        (rsa_public, lambda data: put(data, 20, struct.pack(">I", 3)), TpmCode.KEY_KIND),
        (rsa_public, lambda data: put(data, 18, struct.pack(">H", 3072)), TpmCode.SIZE),
        (rsa_public, lambda data: put(data, 26, bytes(32)), TpmCode.KEY_SIZE),
        (public, lambda data: data[:-1], TpmCode.TRUNCATED),
        (public, lambda data: data + b"\0", TpmCode.TRAILING_BYTES),
        (public, lambda data: struct.pack(">H", len(data) - 1) + data[2:] + b"\0", TpmCode.TRAILING_BYTES),
        (public, lambda _: b"\0\0", TpmCode.SIZE),
    ],
)
def test_a_public_area_of_another_form_is_refused(of: Any, changed: Any, code: TpmCode) -> None:
    Public.parse(of())
    with refused(code):
        Public.parse(changed(of()))


def test_a_point_that_is_not_on_its_curve_is_refused() -> None:
    area = Public.parse(put(public(), len(public()) - 32, bytes(32)))
    with refused(TpmCode.KEY_INVALID):
        area.key()


@pytest.mark.parametrize(
    "attributes",
    [
        *(kit.sim().public.attributes & ~each for each in Attributes if each in kit.sim().public.attributes),
        kit.sim().public.attributes | Attributes.DECRYPT,
        kit.sim().public.attributes | Attributes.X509_SIGN,
        kit.sim().public.attributes | Attributes.ENCRYPTED_DUPLICATION,
    ],
    ids=lambda value: f"{int(value):#x}",
)
def test_the_attributes_of_a_key_decide_whether_it_attests(attributes: Attributes) -> None:
    tpm = SimulatedTpm(SEED, CREATED, attributes=attributes)
    if not attributes & Attributes.USER_WITH_AUTH:  # the one that does not matter
        kit.verify(tpm.evidence(REPORT_DATA))
        return
    with refused(TpmCode.KEY_ATTRIBUTES):
        kit.verify(tpm.evidence(REPORT_DATA))


def test_names_follow_from_public_areas() -> None:
    area = kit.sim().public
    assert area.name == b"\x00\x0b" + Hash.SHA256.digest(area.area)
    assert area.qualified_name(OWNER) == b"\x00\x0b" + Hash.SHA256.digest(OWNER + area.name)


# -------------------------------------------------------------------------------------------------------- totality


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_bytes_are_refused_or_serialise_to_themselves(data: st.DataObject) -> None:
    for parse, seed in (
        (Attest.parse, message()),
        (Signature.parse, signature()),
        (Public.parse, rsa_public()),
        (parse_evidence, kit.healthy()),
    ):
        start = data.draw(st.integers(0, len(seed)))
        end = data.draw(st.integers(start, len(seed)))
        raw = seed[:start] + data.draw(st.binary(max_size=64)) + seed[end:]
        parsed = outcome(functools.partial(parse, raw))
        if isinstance(parsed, ErrorCode):
            assert str(parsed).split("-")[0] in {"tpm", "eventlog"}
        else:
            assert parsed.serialize() == raw


def test_values_that_do_not_fit_the_selection_are_refused() -> None:
    values = kit.opened()["pcrs"]
    for wrong in ([], values[:-1], [*values, bytes(32)], [bytes(48), *values[1:]]):
        with refused(TpmCode.PCR_VALUES):
            parse_evidence(kit.rebuilt(pcrs=wrong))


def test_malformed_evidence_is_no_evidence_of_an_unknown_platform() -> None:
    with refused(EvidenceCode.EVIDENCE_UNKNOWN):
        evidence.parse(message())
