"""Every bit of real evidence of Azure over SEV-SNP matters: each decoded part, flipped, is refused.

Each flip is held against the steps that it can reach, so that what it leaves untouched is verified once.  Of the JSON
text, which takes all steps for each flip, bits are drawn by a fixed seed; `make fuzz` flips them all.  Other texts than
its flips say the same: nothing covers how JSON is written.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable

import pytest

from attestation import evidence
from attestation.amd.abi import parse_report
from attestation.amd.certificates import ASK, VCEK, Certificate, read_issued, read_root
from attestation.amd.verify import ValidatedEndorsement, prepare, verify_report
from attestation.azure.abi import AzureEvidence
from attestation.azure.hcl import HARDWARE_REPORT, HEADER, HclReport
from attestation.azure.verify import check_vtpm, verify_evidence
from attestation.errors import EvidenceError
from attestation.intel import pem
from attestation.roots import Anchor, Roots
from attestation.tpm.abi import SignedQuote
from attestation.tpm.algorithms import Hash, Scheme
from attestation.tpm.signature import Signature
from tests import flips
from tests.attestation.kit import REAL_NOW
from tests.azure import kit
from tests.flips import flip

SLICES = 4
"""Parts of the work, so that processes can share it."""
HARDWARE = slice(HEADER.size, HEADER.size + HARDWARE_REPORT)


@functools.lru_cache(maxsize=1)
def original() -> AzureEvidence:
    return kit.parsed(kit.captured("coco-evidence-v1.json"))


@functools.lru_cache(maxsize=1)
def endorsement() -> ValidatedEndorsement:
    return prepare(dataclasses.replace(kit.milan(), vek=original().vcek or b""), Roots.vendor(), REAL_NOW)


@functools.lru_cache(maxsize=1)
def signer() -> tuple[Certificate, Anchor]:
    ask, ark = pem.decode_chain(kit.milan().chain, 2)
    root, anchor = read_root(ark, Roots.vendor())
    return read_issued(ask, root, (ASK,), anchor), anchor


def hardware(data: bytes) -> None:
    verify_report(parse_report(data), endorsement(), Roots.vendor(), REAL_NOW)


def paravisor(data: bytes) -> None:
    """The report with its hardware report as it was: all that lies around it."""
    check_vtpm(dataclasses.replace(original(), hcl=HclReport.parse(data)))


def vcek(data: bytes) -> None:
    issuer, anchor = signer()
    read_issued(data, issuer, (VCEK,), anchor)


def quote(message: bytes, signature: bytes, pcrs: bytes) -> None:
    size = Hash.SHA256.size
    values = [pcrs[at : at + size] for at in range(0, len(pcrs), size)]
    signed = SignedQuote.parse(message, Signature(Scheme.RSASSA, Hash.SHA256, (signature,)), values)
    check_vtpm(dataclasses.replace(original(), quote=signed))


def parts() -> dict[str, tuple[bytes, Callable[[bytes], None]]]:
    """Each part, and the steps that tell whether it was altered."""
    report, signed = original().hcl.serialize(), original().quote
    message, (signature,), pcrs = signed.attest.serialize(), signed.signature.value, b"".join(signed.pcrs.values)
    before, after = report[: HARDWARE.start], report[HARDWARE.stop :]
    middle = report[HARDWARE]
    return {
        "hardware report": (middle, hardware),
        "paravisor's header": (before, lambda data: paravisor(data + middle + after)),
        "runtime data": (after, lambda data: paravisor(before + middle + data)),
        "vcek": (original().vcek or b"", vcek),
        "message": (message, lambda data: quote(data, signature, pcrs)),
        "signature": (signature, lambda data: quote(message, data, pcrs)),
        "pcrs": (pcrs, lambda data: quote(message, signature, data)),
    }


NAMES = ("hardware report", "paravisor's header", "runtime data", "vcek", "message", "signature", "pcrs")


def test_the_parts_are_all_of_the_evidence_and_pass_unflipped() -> None:
    verify_evidence(original(), kit.milan(), Roots.vendor(), REAL_NOW)
    assert set(parts()) == set(NAMES)
    for data, check in parts().values():
        check(data)


@pytest.mark.parametrize("part", range(SLICES))
@pytest.mark.parametrize("name", NAMES)
def test_every_flipped_bit_is_refused(name: str, part: int) -> None:
    data, check = parts()[name]
    accepted = []
    for bit in range(part, 8 * len(data), SLICES):
        with contextlib.suppress(EvidenceError):
            check(flip(data, bit))
            accepted.append(bit)
    assert accepted == []


def real_text() -> flips.Case:
    """The JSON text, held against all steps from the parser on; the collateral, which has no VCEK, is verified anew."""
    return flips.Case(
        {"json": original().raw},
        lambda _name, data: evidence.verify(evidence.parse(data), kit.milan(), Roots.vendor(), REAL_NOW),
    )


@pytest.mark.parametrize("share", range(flips.SHARES))
def test_drawn_bits_of_the_text_are_refused(share: int) -> None:
    assert flips.unnoticed_draws(real_text(), "azure", share) == []
