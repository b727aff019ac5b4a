"""A certificate with two quotes, whose keys' certificates differ: a list that revokes either of them counts."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from attestation.carried import carried
from attestation.collateral import DirectorySource
from attestation.evidence import parse
from attestation.intel.certificates import SGX_EXTENSION
from attestation.intel.collateral import IntelCollateral
from attestation.report import examine
from attestation.signed_der import serial_of
from attestation.sim.extension import encode_extension
from attestation.sim.pki import Profile, certify, derive_key, revocation_list
from attestation.sim.platform import SimulatedPlatform
from attestation.sim.ratls import ratls_certificate
from tests.attestation import kit
from tests.attestation.kit import CREATED, MRENCLAVE, NOW, SEED

DAY = 86_400
SERIAL = 0x7777


def second_machine() -> SimulatedPlatform:
    """A machine of the same family, with a PCK of its own."""
    machine = SimulatedPlatform(SEED, CREATED)
    extension = dataclasses.replace(machine.pki.extension, ppid=b"\x22" * 16)
    profile = Profile("PCK Certificate", authority=False, extra=((SGX_EXTENSION, encode_extension(extension)),))
    dates = {"start": CREATED - DAY, "end": CREATED + 3000 * DAY}
    pck = certify(profile, derive_key(SEED, "other pck"), machine.pki.pck_ca, serial=SERIAL, **dates)
    machine.pki = dataclasses.replace(machine.pki, pck=pck, extension=extension)
    quote = machine._certify_attestation_key().serialize()
    machine._head, machine._size, machine._tail = quote[:48], quote[432:436], quote[500:]
    return machine


def certificate(*machines: SimulatedPlatform) -> bytes:
    """A certificate whose two quotes are of these machines, in the order in which they are made."""
    turn = itertools.cycle(machines)

    def quote(report_data: bytes) -> bytes:
        machine = next(turn)
        return machine.quote(machine.report_body(MRENCLAVE), report_data)

    return ratls_certificate(ec.generate_private_key(ec.SECP256R1()), quote)


def revoking(at: int) -> IntelCollateral:
    machine = SimulatedPlatform(SEED, CREATED)
    crl = revocation_list(machine.pki.pck_ca, [SERIAL], at, at + 25 * DAY)
    return dataclasses.replace(machine.collateral(at), pck_crl=crl)


@pytest.mark.parametrize("turned", [False, True])
def test_an_older_list_that_revokes_the_key_of_either_quote_refuses(turned: bool, tmp_path: Path) -> None:
    machines = [SimulatedPlatform(SEED, CREATED), second_machine()]
    data, roots = certificate(*(machines[::-1] if turned else machines)), kit.sim_roots()
    (tmp_path / "new.json").write_text(machines[0].collateral(NOW).to_json(), encoding="utf-8")
    assert examine(data, now=NOW, collateral=DirectorySource(tmp_path), roots=roots).accepted
    (tmp_path / "old.json").write_text(revoking(NOW - 5 * DAY).to_json(), encoding="utf-8")
    found = examine(data, now=NOW, collateral=DirectorySource(tmp_path), roots=roots)
    assert [str(each.code) for each in found.refused] == ["certificate-revoked"]


def test_the_certificates_of_all_quotes_are_held_against_the_lists() -> None:
    data = certificate(SimulatedPlatform(SEED, CREATED), second_machine())
    assert SERIAL in {serial_of(der) for der in carried(parse(data))}
    assert len(carried(parse(data))) == 6
