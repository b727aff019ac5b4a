"""Real SGX evidence gives the verdicts of its catalogue; where we are stricter, the test says so."""

from __future__ import annotations

import json

import pytest

from attestation import evidence
from attestation.collateral import CollateralKey
from attestation.errors import EvidenceCode
from attestation.evidence import Roots
from attestation.intel import pem
from attestation.intel.abi import parse_quote
from attestation.roots import INTEL_SGX_ROOT, Anchor, Hierarchy
from tests.attestation import kit
from tests.attestation.kit import refused
from tests.shared import vectors

EXPECTED = {
    "v3-dcapqvl-userdata": EvidenceCode.QUOTE_SIGNATURE,
    "v3-dcapqvl-sig": EvidenceCode.QUOTE_SIGNATURE,
    "v3-dcapqvl-attkey": EvidenceCode.QE_REPORT_BINDING,
    "v3-dcapqvl-qesig": EvidenceCode.QE_REPORT_SIGNATURE,
    "v3-dcapqvl-truncated": EvidenceCode.QUOTE_TRUNCATED,
}


def test_the_real_quote_has_its_catalogued_verdict() -> None:
    verified = kit.verify_real(kit.real_quote())
    assert verified.tcb_status == "ConfigurationAndSWHardeningNeeded"
    assert verified.advisories == ("INTEL-SA-00289", "INTEL-SA-00615")
    assert not verified.simulated
    assert verified.platform == "hardware"


def test_the_real_quote_decodes_to_its_catalogued_fields() -> None:
    catalogue = json.loads((vectors() / "catalogue.json").read_text(encoding="utf-8"))
    text = json.dumps(catalogue)
    verified = kit.verify_real(kit.real_quote())
    body = verified.quote.body.to_hex()
    assert body["mr_enclave"] == kit.REAL_MRENCLAVE
    for value in (
        body["mr_enclave"],
        body["mr_signer"],
        body["cpu_svn"],
        body["report_data"],
        *verified.platform_ids.values(),
        verified.quote.qe_report.mr_signer.hex(),
        verified.pck.cpu_svn.hex(),
    ):
        assert value in text
    assert verified.quote.header.qe_svn == 10
    assert verified.quote.header.pce_svn == 15
    assert verified.pck.pce_svn == 13
    assert verified.quote.body.report_data.rstrip(b"\0") == b"Hello, world!"


def test_the_real_quote_serialises_to_itself() -> None:
    data = kit.real_quote()
    assert parse_quote(data).serialize() == data


def test_the_evidence_says_which_collateral_it_needs() -> None:
    quote = evidence.parse(kit.real_quote())
    assert evidence.collateral_key(quote) == CollateralKey("sgx", "00a067110000", "processor")


@pytest.mark.parametrize(
    ("now", "code"),
    [
        (1_751_328_000, None),
        (1_752_919_278, None),  # nextUpdate of the QE identity, inclusive
        (1_752_919_279, EvidenceCode.QE_IDENTITY_EXPIRED),
        (1_750_330_571, None),  # issueDate of the TCB info
        (1_750_330_570, EvidenceCode.TCB_INFO_EARLY),
        (1_795_000_000, EvidenceCode.CRL_EXPIRED),
        # Stricter than dcap-qvl, which does not look at thisUpdate of a revocation list.
        (1_750_328_597, EvidenceCode.CRL_EARLY),
    ],
)
def test_dates_have_their_catalogued_edges(now: int, code: EvidenceCode | None) -> None:
    if code is None:
        kit.verify_real(kit.real_quote(), now)
        return
    with refused(code):
        kit.verify_real(kit.real_quote(), now)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_each_bad_file_is_refused_with_its_own_code(name: str) -> None:
    data = (vectors() / "sgx" / "derived-bad" / f"{name}.quote.bin").read_bytes()
    with refused(EXPECTED[name]):
        kit.verify_real(data)


def test_no_bad_file_is_left_out() -> None:
    files = {path.name.split(".")[0] for path in (vectors() / "sgx" / "derived-bad").iterdir()}
    assert files == set(EXPECTED)


def test_trailing_bytes_are_refused_though_others_accept_them() -> None:
    with refused(EvidenceCode.QUOTE_TRAILING_BYTES):
        kit.verify_real(kit.real_quote() + b"\0")


def test_a_corrupted_embedded_root_is_refused_though_others_do_not_look_at_it() -> None:
    quote = parse_quote(kit.real_quote())
    leaf, ca, root = pem.decode_chain(quote.certification_data, 3)
    chain = pem.encode_chain(leaf, ca, root[:-1] + bytes([root[-1] ^ 1])) + b"\0"
    with refused(EvidenceCode.CHAIN_ROOT):
        kit.verify_real(kit.real_quote().replace(quote.certification_data, chain))


def test_simulated_roots_refuse_real_evidence() -> None:
    quote = evidence.parse(kit.real_quote())
    with refused(EvidenceCode.CHAIN_ROOT):
        evidence.verify(quote, kit.real_collateral(), kit.sim_roots(), kit.REAL_NOW)


def test_a_real_root_cannot_be_declared_simulated() -> None:
    root = (vectors() / "sgx" / "collateral" / "intel_sgx_root_ca.der").read_bytes()
    with refused(EvidenceCode.CHAIN_NOT_SIMULATED):
        Roots.simulated(root)
    # Even its bare fingerprint only makes every unmarked certificate below it a refusal.
    with refused(EvidenceCode.CHAIN_NOT_SIMULATED):
        evidence.verify(
            evidence.parse(kit.real_quote()),
            kit.real_collateral(),
            Roots.simulated_fingerprints(INTEL_SGX_ROOT),
            kit.REAL_NOW,
        )


def test_the_pinned_root_is_the_published_one() -> None:
    root = (vectors() / "sgx" / "collateral" / "intel_sgx_root_ca.der").read_bytes()
    assert Roots.vendor().anchor(Hierarchy.INTEL, root) == Anchor(
        INTEL_SGX_ROOT, simulated=False, hierarchy=Hierarchy.INTEL
    )


def test_platform_certificates_of_real_machines_parse_too() -> None:
    """The extension of a scalable machine has an instance id and a configuration."""
    data = (vectors() / "tdx" / "v4-dcapqvl.quote.bin").read_bytes()
    begin = data.index(b"-----BEGIN")
    end = data.rindex(b"-----END CERTIFICATE-----\n") + len(b"-----END CERTIFICATE-----\n")
    from attestation.intel.pck import peek

    fmspc, ca = peek(pem.decode_chain(data[begin:end], 3)[0])
    assert (fmspc.hex(), ca) == ("b0c06f000000", "platform")
