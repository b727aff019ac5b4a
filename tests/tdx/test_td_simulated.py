"""The simulated platform makes trust domains in every state, and each is refused or rated as it should be."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import pytest

from attestation import evidence
from attestation.collateral import CollateralKey, DirectorySource
from attestation.errors import EvidenceCode
from attestation.evidence import Roots
from attestation.intel.errors import TdxCode
from attestation.intel.levels import PLATFORM_STATUSES, TcbStatus
from attestation.sim.pki import Lifetimes
from attestation.sim.state import DOCUMENTS
from attestation.sim.tdx import SimulatedTdx
from manifests.errors import ErrorCode
from tests.attestation import kit as sgx_kit
from tests.attestation.kit import dates, refused
from tests.tdx import kit
from tests.tdx.kit import CREATED, MRTD, NOW, REPORT_DATA, SEED

ACCEPTABLE = [status for status in TcbStatus if status in PLATFORM_STATUSES - {TcbStatus.REVOKED}]


@pytest.mark.parametrize("version", [4, 5])
def test_a_healthy_platform_verifies_as_simulated(version: int) -> None:
    verified = kit.verify_sim(version=version)
    assert verified.simulated
    assert (verified.tee, verified.version, verified.tcb_status) == ("tdx", version, "UpToDate")
    assert verified.measurement == MRTD
    assert verified.report_data == REPORT_DATA
    shown = verified.to_dict()
    assert shown["tdx_module_tcb_status"] == "UpToDate"
    assert shown["current_tcb_status"] == ("UpToDate" if version == 5 else None)
    assert shown["quote"]["td_report"]["mr_td"] == MRTD.hex()
    assert verified.tcb_components["tdxtcbcomp02svn"] == 3
    assert verified.tcb_components["sgxtcbcomp16svn"] == 0


def test_a_platform_is_the_same_for_its_enclaves_and_its_trust_domains() -> None:
    assert kit.platform().root_fingerprint == sgx_kit.platform().root_fingerprint
    assert kit.verify_sim().platform_ids == sgx_kit.verify_sim().platform_ids
    assert kit.verify_sim().quote.qe_report.mr_signer != sgx_kit.verify_sim().quote.qe_report.mr_signer


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (4, "a57202c2072f49be1278d970a5d9ad476e3c5dc506bd1391624a73618d33f533"),
        (5, "c2f3526afb85146c5fdc9a570dd5f7137a59013f1333acf0caf345e528c608a4"),
    ],
)
def test_golden_quotes(version: int, expected: str) -> None:
    """They change only with the format, or with the ways in which the platform derives its keys."""
    assert hashlib.sha256(kit.sim_quote(version)).hexdigest() == expected
    again = SimulatedTdx(SEED, CREATED)
    assert again.evidence(MRTD, REPORT_DATA, version=version) == kit.sim_quote(version)
    assert again.collateral(NOW) == kit.platform().collateral(NOW)


@pytest.mark.parametrize("status", ACCEPTABLE)
def test_every_platform_status_comes_through_as_data(status: TcbStatus) -> None:
    verified = kit.in_state(tcb_status=str(status), advisories=("SIM-SA-1",))
    assert verified.tcb_status == str(status)
    assert verified.advisories == ("SIM-SA-1",)


def test_the_modules_status_and_advisories_come_through() -> None:
    verified = kit.in_state(module_status="OutOfDate", module_advisories=("SIM-SA-2",), advisories=("SIM-SA-1",))
    assert verified.tcb_status == "OutOfDate"
    assert verified.advisories == ("SIM-SA-1", "SIM-SA-2")
    assert verified.details()["platform_tcb_status"] == "UpToDate"
    assert verified.details()["tdx_module_tcb_status"] == "OutOfDate"


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ({}, "TDRelaunchAdvised"),
        ({"tcb_status": "SWHardeningNeeded"}, "TDRelaunchAdvised"),
        ({"tcb_status": "ConfigurationNeeded"}, "TDRelaunchAdvisedConfigurationNeeded"),
        ({"tcb_status": "ConfigurationAndSWHardeningNeeded"}, "TDRelaunchAdvisedConfigurationNeeded"),
        ({"tcb_status": "OutOfDate"}, "OutOfDate"),
        ({"module_status": "OutOfDate"}, "OutOfDate"),
        ({"qe_status": "OutOfDate"}, "OutOfDate"),
    ],
    ids=str,
)
def test_a_module_that_was_updated_since_the_launch_advises_a_relaunch(state: dict[str, Any], status: str) -> None:
    assert kit.in_state(5, relaunch=True, **state).tcb_status == status


def test_a_report_that_does_not_say_what_runs_now_is_rated_by_its_launch() -> None:
    assert kit.in_state(4, relaunch=True).tcb_status == "OutOfDate"


BAD_STATES: list[tuple[dict[str, object], ErrorCode]] = [
    ({"tcb_status": "Revoked"}, EvidenceCode.TCB_REVOKED),
    ({"qe_status": "Revoked"}, EvidenceCode.TCB_REVOKED),
    ({"module_status": "Revoked"}, EvidenceCode.TCB_REVOKED),
    ({"tcb_status": "Unlisted"}, EvidenceCode.TCB_NO_MATCH),
    ({"qe_status": "Unlisted"}, EvidenceCode.QE_TCB_NO_MATCH),
    ({"module_status": "Unlisted"}, TdxCode.MODULE_NO_MATCH),
    ({"revoked": ("pck",)}, EvidenceCode.CERTIFICATE_REVOKED),
    ({"revoked": ("pck-ca",)}, EvidenceCode.CERTIFICATE_REVOKED),
    ({"revoked": ("tcb-signing",)}, EvidenceCode.CERTIFICATE_REVOKED),
    ({"expired": ("root-crl",)}, EvidenceCode.CRL_EXPIRED),
    ({"expired": ("pck-crl",)}, EvidenceCode.CRL_EXPIRED),
    ({"expired": ("tcb-info",)}, EvidenceCode.TCB_INFO_EXPIRED),
    ({"expired": ("qe-identity",)}, EvidenceCode.QE_IDENTITY_EXPIRED),
    ({"early": ("root-crl",)}, EvidenceCode.CRL_EARLY),
    ({"early": ("pck-crl",)}, EvidenceCode.CRL_EARLY),
    ({"early": ("tcb-info",)}, EvidenceCode.TCB_INFO_EARLY),
    ({"early": ("qe-identity",)}, EvidenceCode.QE_IDENTITY_EARLY),
]


@pytest.mark.parametrize(("state", "code"), BAD_STATES, ids=str)
@pytest.mark.parametrize("version", [4, 5])
def test_every_bad_state_is_refused_with_its_code(version: int, state: dict[str, Any], code: ErrorCode) -> None:
    with refused(code):
        kit.in_state(version, **state)


EDGES = {
    "root-crl": (EvidenceCode.CRL_EARLY, EvidenceCode.CRL_EXPIRED, False),
    "pck-crl": (EvidenceCode.CRL_EARLY, EvidenceCode.CRL_EXPIRED, False),
    "tcb-info": (EvidenceCode.TCB_INFO_EARLY, EvidenceCode.TCB_INFO_EXPIRED, True),
    "qe-identity": (EvidenceCode.QE_IDENTITY_EARLY, EvidenceCode.QE_IDENTITY_EXPIRED, True),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_are_valid_from_their_date_to_their_next_update(name: str) -> None:
    """JSON counts in the second of its nextUpdate, a revocation list no longer does."""
    early, late, inclusive = EDGES[name]
    start, end = NOW - 100, NOW + 100
    collateral = kit.platform().collateral_with(dates(**{name: (start, end)}))
    last = end if inclusive else end - 1
    kit.verify_sim(collateral=collateral, now=start)
    assert kit.verify_sim(collateral=collateral, now=last).expires == last + 1
    with refused(early):
        kit.verify_sim(collateral=collateral, now=start - 1)
    with refused(late):
        kit.verify_sim(collateral=collateral, now=last + 1)


@pytest.mark.parametrize("name", ["root", "pck_ca", "tcb_signing", "pck"])
def test_certificates_are_valid_to_the_last_second_of_their_dates(name: str) -> None:
    subject = SimulatedTdx(SEED, CREATED, lifetimes=Lifetimes(**{name: NOW - CREATED}))
    quote = evidence.parse(subject.evidence(MRTD, REPORT_DATA))
    roots, collateral = Roots.simulated(subject.root_pem), subject.collateral(NOW)
    assert evidence.verify(quote, collateral, roots, NOW).expires == NOW + 1
    with refused(EvidenceCode.CERTIFICATE_EXPIRED):
        evidence.verify(quote, collateral, roots, NOW + 1)


def test_vendor_roots_refuse_simulated_trust_domains() -> None:
    with refused(EvidenceCode.CHAIN_ROOT):
        evidence.verify(kit.parsed(), kit.platform().collateral(NOW), Roots.vendor(), NOW)


def test_prepared_collateral_gives_the_same_result_and_still_ages() -> None:
    collateral = kit.platform().collateral(NOW)
    prepared = evidence.prepare(collateral, kit.sim_roots(), NOW)
    assert prepared.tee == "tdx"
    assert evidence.verify(kit.parsed(), prepared, kit.sim_roots(), NOW) == kit.verify_sim(collateral=collateral)
    with refused(EvidenceCode.CRL_EXPIRED):
        evidence.verify(kit.parsed(), prepared, kit.sim_roots(), NOW + 40 * 86400)
    with refused(EvidenceCode.COLLATERAL_ROOTS):
        evidence.verify(kit.parsed(), prepared, Roots.vendor(), NOW)


def test_collateral_of_trust_domains_is_filed_under_their_own_name(tmp_path: Any) -> None:
    subject = kit.platform()
    key = evidence.collateral_key(kit.parsed())
    assert key == subject.collateral_key == CollateralKey("tdx", "53494d000000", "processor")
    (tmp_path / f"{key}.json").write_text(subject.collateral(NOW).to_json(), encoding="utf-8")
    assert evidence.collateral_for(kit.parsed(), DirectorySource(tmp_path)) == subject.collateral(NOW)


# ----------------------------------------------------------------------------------- signatures and enclaves


@pytest.mark.parametrize("version", [4, 5])
def test_everything_before_the_signature_data_is_signed(version: int) -> None:
    """Also the body's descriptor of version 5: a report 1.0 cannot be turned into another body."""
    quote = kit.parsed(version)
    for body in (
        dataclasses.replace(quote.body, mr_td=bytes(48)),
        dataclasses.replace(quote.body, report_data=bytes(64)),
        dataclasses.replace(quote.body, tee_tcb_svn=bytes(16)),
    ):
        with refused(EvidenceCode.QUOTE_SIGNATURE):
            kit.verify_sim(dataclasses.replace(quote, body=body).serialize())


def test_a_quote_of_one_version_is_not_signed_for_the_other() -> None:
    older = kit.platform().quote(kit.report(4), version=5)
    forged = dataclasses.replace(older, header=kit.parsed(4).header)
    with refused(EvidenceCode.QUOTE_SIGNATURE):
        kit.verify_sim(forged.serialize())


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"mr_signer": bytes(32)}, "MRSIGNER"),
        ({"isv_prod_id": 1}, "ISVPRODID"),
        ({"misc_select": 1}, "MISCSELECT"),
        ({"flags": 0x17}, "ATTRIBUTES"),
    ],
)
def test_the_quoting_enclave_is_held_to_its_identity(changes: dict[str, Any], name: str) -> None:
    quote = kit.platform().quote(kit.report(), qe_report=changes)
    with refused(EvidenceCode.QE_REPORT_IDENTITY) as caught:
        kit.verify_sim(quote.serialize())
    assert name in caught.value.message


def test_the_quoting_enclave_of_enclaves_does_not_quote_trust_domains() -> None:
    """Its signer and product differ, as they do for Intel's."""
    theirs = sgx_kit.parsed().qe_report
    changes = {"mr_signer": theirs.mr_signer, "isv_prod_id": theirs.isv_prod_id}
    with refused(EvidenceCode.QE_REPORT_IDENTITY):
        kit.verify_sim(kit.platform().quote(kit.report(), qe_report=changes).serialize())


def test_report_data_of_the_quoting_enclave_vouches_for_the_key() -> None:
    with refused(EvidenceCode.QE_REPORT_BINDING):
        kit.verify_sim(kit.platform().quote(kit.report(), qe_report={"report_data": bytes(64)}).serialize())


def test_chains_of_another_length_order_or_root_are_refused() -> None:
    pki = kit.platform().pki
    leaf, ca, root = pki.pck.der, pki.pck_ca.der, pki.root.der
    for chain, code in (
        ((leaf, ca), EvidenceCode.CHAIN_LENGTH),
        ((leaf, ca, root, root), EvidenceCode.CHAIN_LENGTH),
        ((ca, leaf, root), EvidenceCode.CHAIN_SIGNATURE),
        ((leaf, ca, ca), EvidenceCode.CHAIN_ROOT),
        ((leaf, ca, root[:-1] + b"\0"), EvidenceCode.CHAIN_ROOT),
    ):
        with refused(code):
            kit.verify_sim(kit.platform().quote(kit.report(), chain=chain).serialize())
