"""Every bit of real evidence of Azure over TDX matters, but for the fields of the TD report that no quote has.

No TCB info of this platform's family was captured.  With that of another family, the quote passes every step up to the
one that compares families (step 10 of `attestation.intel.verify`), and is refused by `tcb-info-fmspc`.  That code is
therefore what "goes unnoticed" means here for the quote; any other refusal is one of its signatures, chain or form.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import json
from collections.abc import Callable

import pytest

from attestation import evidence
from attestation.azure.abi import AzureEvidence
from attestation.azure.hcl import HARDWARE_REPORT, HEADER, HclReport
from attestation.azure.td_report import TD_REPORT, UNSIGNED
from attestation.azure.verify import check_vtpm
from attestation.errors import EvidenceCode, EvidenceError
from attestation.intel.td_abi import TdQuote, parse_td_quote
from attestation.intel.verify import ValidatedCollateral, verify_quote
from attestation.roots import Roots
from attestation.tpm.abi import SignedQuote
from attestation.tpm.algorithms import Hash, Scheme
from attestation.tpm.signature import Signature
from tests import flips
from tests.attestation.kit import refused
from tests.azure import kit
from tests.flips import flip
from tests.tdx import kit as tdx
from tests.tdx.test_td_vectors import B0C06F

SLICES = 8
"""Parts of the work, so that processes can share it."""
REPORT = slice(HEADER.size, HEADER.size + TD_REPORT.size)
"""Where the TD report lies in the paravisor's report."""


@functools.cache
def original() -> AzureEvidence:
    return kit.parsed(kit.captured("coco-evidence-v1.json", "azure-tdx"))


@functools.cache
def other_family() -> ValidatedCollateral:
    return evidence.prepare(tdx.real_collateral(B0C06F), Roots.vendor(), tdx.REAL_NOW)


def td_quote(data: bytes) -> None:
    """The quote on its own, and then what is bound to it."""
    quote = parse_td_quote(data)
    try:
        verify_quote(quote, other_family(), Roots.vendor(), tdx.REAL_NOW)
    except EvidenceError as error:
        if error.code is not EvidenceCode.TCB_INFO_FMSPC:
            raise
    check_vtpm(dataclasses.replace(original(), inner=quote))


def paravisor(data: bytes) -> None:
    check_vtpm(dataclasses.replace(original(), hcl=HclReport.parse(data)))


def vtpm(message: bytes, signature: bytes, pcrs: bytes) -> None:
    size = Hash.SHA256.size
    values = [pcrs[at : at + size] for at in range(0, len(pcrs), size)]
    signed = SignedQuote.parse(message, Signature(Scheme.RSASSA, Hash.SHA256, (signature,)), values)
    check_vtpm(dataclasses.replace(original(), quote=signed))


def parts() -> dict[str, tuple[bytes, Callable[[bytes], None]]]:
    """Each part, and the steps that tell whether it was altered."""
    signed = original().quote
    message, (signature,), pcrs = signed.attest.serialize(), signed.signature.value, b"".join(signed.pcrs.values)
    return {
        "td quote": (original().inner.serialize(), td_quote),
        "paravisor's report": (original().hcl.serialize(), paravisor),
        "message": (message, lambda data: vtpm(data, signature, pcrs)),
        "signature": (signature, lambda data: vtpm(message, data, pcrs)),
        "pcrs": (pcrs, lambda data: vtpm(message, signature, data)),
    }


NAMES = ("td quote", "paravisor's report", "message", "signature", "pcrs")


def test_the_parts_are_all_of_the_evidence_and_pass_unflipped() -> None:
    assert set(parts()) == set(NAMES)
    for data, check in parts().values():
        check(data)
    text = json.loads(original().raw)
    for name in ("td_quote", "hcl_report"):
        raw = base64.urlsafe_b64decode(text[name] + "=" * (-len(text[name]) % 4))
        serialized = parts()["td quote" if name == "td_quote" else "paravisor's report"][0]
        assert raw[: len(serialized)] == serialized
        assert not any(raw[len(serialized) :])


def test_the_quote_fails_at_nothing_but_the_family_of_its_platform() -> None:
    quote = original().inner
    assert isinstance(quote, TdQuote)
    with refused(EvidenceCode.TCB_INFO_FMSPC):
        verify_quote(quote, other_family(), Roots.vendor(), tdx.REAL_NOW)


@pytest.mark.parametrize("part", range(SLICES))
@pytest.mark.parametrize("name", NAMES)
def test_every_flipped_bit_is_refused_but_those_that_no_quote_has(name: str, part: int) -> None:
    data, check = parts()[name]
    case = flips.Case({name: data}, lambda _name, changed: check(changed))
    unnoticed = [bit for bit in range(part, 8 * len(data), SLICES) if case.accepts(name, flip(data, bit))]
    assert unnoticed == (sorted(unsigned_bits(part)) if name == "paravisor's report" else [])


def unsigned_bits(part: int) -> set[int]:
    """The bits of one slice of the paravisor's report that are in fields of the TD report that nothing covers."""
    rows = [row for row in TD_REPORT.rows if row.name in UNSIGNED]
    starts = [(8 * (REPORT.start + row.offset), 8 * row.size) for row in rows]
    return {bit for start, size in starts for bit in range(start, start + size) if bit % SLICES == part}


def test_zeros_fill_the_rest_of_the_hardware_report() -> None:
    assert TD_REPORT.size < HARDWARE_REPORT
    assert original().hcl.hardware_report[: TD_REPORT.size] == original().hcl.serialize()[REPORT]
