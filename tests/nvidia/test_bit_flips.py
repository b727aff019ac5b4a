"""Every bit of real device evidence matters: of a GPU's and a switch's report and chain, and of the frame around them.

Of the switch's reference manifest, which is larger and slower to verify, bits are drawn by a fixed seed; `make fuzz`
flips them all.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import pytest

from attestation import evidence
from attestation.chains import Chain, read_chain
from attestation.errors import EvidenceCode, EvidenceError
from attestation.evidence import Roots
from attestation.nvidia.container import pack
from attestation.nvidia.errors import NvidiaCode
from attestation.nvidia.rim import parse_rim
from attestation.nvidia.sdk_json import pem_chain
from attestation.nvidia.spdm import parse_report
from attestation.nvidia.verify import PROFILE, Known, verify_evidence
from manifests.errors import ErrorCode
from tests import flips
from tests.attestation.kit import refused
from tests.flips import flip
from tests.nvidia import kit

SLICES = 16
"""Parts of the work, so that processes can share it."""
GPU = "hopper-580"
SWITCH = "switch-ls10"
ROOTS = Roots.vendor()


@dataclass(frozen=True)
class Device:
    """Report and chain (leaf first) of one captured device, and the chain as it was verified."""

    report: bytes
    ders: tuple[bytes, ...]
    chain: Chain


@functools.cache
def device(name: str) -> Device:
    ders = pem_chain(kit.file(f"{name}.chain.pem"))
    (verified,) = kit.verify_real(kit.captured(name)).devices
    return Device(kit.real_report(f"{name}.report.hex"), ders, verified.chain)


def refusal(name: str, report: bytes, ders: tuple[bytes, ...]) -> ErrorCode | None:
    """Which code refuses a report with its chain.

    Certificates that are the real ones are known: neither they nor what vouches for them have changed, so that their
    verdict stands (`chains.read_chain`), and a flip costs the one signature that it can reach.
    """
    try:
        verify_evidence(evidence.parse(pack([(report, ders)])), Known((device(name).chain,)), ROOTS, kit.NOW)
    except EvidenceError as error:
        return error.code
    return None


@pytest.mark.parametrize("part", range(SLICES))
@pytest.mark.parametrize("name", [GPU, SWITCH])
def test_every_flipped_bit_of_a_report_is_refused(name: str, part: int) -> None:
    real = device(name)
    assert refusal(name, real.report, real.ders) is None
    bits = range(part, 8 * len(real.report), SLICES)
    assert [bit for bit in bits if refusal(name, flip(real.report, bit), real.ders) is None] == []


def chain_passes(name: str, ders: tuple[bytes, ...]) -> bool:
    """Whether a chain passes.  The chain alone is looked at first: evidence with one that is refused is refused."""
    try:
        read_chain(ders[::-1], PROFILE, ROOTS, device(name).chain)
    except EvidenceError:
        return False
    return refusal(name, device(name).report, ders) is None


def chain_bits(name: str) -> list[tuple[int, int]]:
    """Every bit of a chain: which certificate, and which of its bits."""
    return [(place, bit) for place, der in enumerate(device(name).ders) for bit in range(8 * len(der))]


@pytest.mark.parametrize("part", range(SLICES))
@pytest.mark.parametrize("name", [GPU, SWITCH])
def test_every_flipped_bit_of_a_chain_is_refused(name: str, part: int) -> None:
    ders = device(name).ders
    assert chain_passes(name, ders)
    unnoticed = [
        (place, bit)
        for place, bit in chain_bits(name)[part::SLICES]
        if chain_passes(name, (*ders[:place], flip(ders[place], bit), *ders[place + 1 :]))
    ]
    assert unnoticed == []


def test_every_flipped_bit_around_report_chain_and_manifest_is_refused() -> None:
    """The container's own bytes: the rest of the switch's evidence."""
    real, rim = device(SWITCH), kit.file(kit.SWITCH_RIM)
    data = kit.captured(SWITCH, kit.SWITCH_RIM)
    kit.verify_real(data, kit.SWITCH_NOW)
    inside: set[int] = set()
    for part in (real.report, *real.ders, rim):
        assert data.count(part) == 1
        inside.update(range(data.index(part), data.index(part) + len(part)))
    assert len(inside) == len(real.report) + sum(map(len, real.ders)) + len(rim)
    case = flips.Case({"container": data}, lambda _name, changed: kit.verify_real(changed, kit.SWITCH_NOW))
    frame = [("container", bit) for bit in range(8 * len(data)) if bit // 8 not in inside]
    assert len(frame) > 8 * 64
    assert case.unnoticed(frame) == []


# ------------------------------------------------------------------------------------------------- the manifest


def real_manifest() -> flips.Case:
    """The switch's manifest; of its signer's chain, what is unchanged is not verified again, as above."""
    data = kit.file(kit.SWITCH_RIM)
    known = parse_rim(data).verify(ROOTS)
    return flips.Case({"manifest": data}, lambda _name, changed: parse_rim(changed).verify(ROOTS, known))


@pytest.mark.parametrize("share", range(flips.SHARES))
def test_drawn_bits_of_a_real_manifest_are_refused(share: int) -> None:
    assert flips.unnoticed_draws(real_manifest(), "nvidia", share) == []


def test_line_feeds_after_a_manifest_are_the_one_thing_that_nothing_covers() -> None:
    """They are no part of the XML document."""
    case = real_manifest()
    data = case.parts["manifest"]
    assert case.accepts("manifest", data.rstrip(b"\n"))
    assert case.accepts("manifest", data + b"\n\n")
    assert not case.accepts("manifest", data + b" ")


def test_cutting_and_appending_is_refused() -> None:
    real = device(SWITCH)
    for size in range(0, len(real.report), 29):
        assert refusal(SWITCH, real.report[:size], real.ders) is not None
    assert refusal(SWITCH, real.report + b"\0", real.ders) is NvidiaCode.REPORT_MALFORMED
    assert parse_report(real.report).serialize() == real.report
    whole = kit.captured(SWITCH, kit.SWITCH_RIM)
    for size in (0, 1, 20, 100, len(whole) - 1):
        with refused(EvidenceCode.EVIDENCE_UNKNOWN if size < 35 else NvidiaCode.CONTAINER):
            evidence.parse(whole[:size])
    with refused(NvidiaCode.CONTAINER):
        evidence.parse(whole + b"\0")
