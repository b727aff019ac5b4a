"""The simulated platform produces every status, every edge of a date, and every revocation."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from attestation import evidence
from attestation.errors import EvidenceCode
from attestation.evidence import Roots
from attestation.intel.levels import PLATFORM_STATUSES, TcbStatus
from attestation.sim.pki import Lifetimes
from attestation.sim.platform import SimulatedPlatform, _write_first
from attestation.sim.state import DOCUMENTS, State
from manifests import canonical
from manifests.errors import ManifestCode
from tests.attestation import kit
from tests.attestation.kit import CREATED, MRENCLAVE, NOW, REPORT_DATA, SEED, refused

ACCEPTABLE = [status for status in TcbStatus if status in PLATFORM_STATUSES - {TcbStatus.REVOKED}]


def test_a_healthy_platform_verifies_as_simulated() -> None:
    verified = kit.verify_sim()
    assert verified.simulated
    assert verified.platform == "simulated"
    assert verified.tcb_status == "UpToDate"
    assert verified.report_data == REPORT_DATA
    assert verified.quote.body.mr_enclave == MRENCLAVE


def test_the_same_seed_gives_the_same_bytes() -> None:
    again = SimulatedPlatform(SEED, CREATED)
    assert again.quote(again.report_body(MRENCLAVE), REPORT_DATA) == kit.sim_quote()
    assert again.collateral(NOW) == kit.platform().collateral(NOW)
    other = SimulatedPlatform(bytes(32), CREATED)
    assert other.root_fingerprint != again.root_fingerprint


def test_golden_quote() -> None:
    """Changes only with the format, or with the ways in which the platform derives its keys."""
    digest = hashlib.sha256(kit.sim_quote()).hexdigest()
    assert digest == "c0227e93bd58d6afb42ce100ad678a1b16ac8d07f8eb8c75ad97b37d0c4f594b"


@pytest.mark.parametrize("status", ACCEPTABLE)
def test_every_platform_status_comes_through_as_data(status: TcbStatus) -> None:
    subject = kit.platform(tcb_status=str(status), advisories=("SIM-SA-1",))
    verified = kit.verify_sim(collateral=subject.collateral(NOW))
    assert verified.tcb_status == str(status)
    assert verified.advisories == ("SIM-SA-1",)


@pytest.mark.parametrize(
    ("platform", "merged"),
    [
        ("UpToDate", "OutOfDate"),
        ("SWHardeningNeeded", "OutOfDate"),
        ("ConfigurationNeeded", "OutOfDateConfigurationNeeded"),
        ("ConfigurationAndSWHardeningNeeded", "OutOfDateConfigurationNeeded"),
        ("OutOfDate", "OutOfDate"),
        ("OutOfDateConfigurationNeeded", "OutOfDateConfigurationNeeded"),
    ],
)
def test_an_old_quoting_enclave_lowers_the_status(platform: str, merged: str) -> None:
    subject = kit.platform(tcb_status=platform, qe_status="OutOfDate")
    assert kit.verify_sim(collateral=subject.collateral(NOW)).tcb_status == merged


@pytest.mark.parametrize(
    ("state", "code"),
    [
        ({"tcb_status": "Revoked"}, EvidenceCode.TCB_REVOKED),
        ({"qe_status": "Revoked"}, EvidenceCode.TCB_REVOKED),
        ({"tcb_status": "Unlisted"}, EvidenceCode.TCB_NO_MATCH),
        ({"qe_status": "Unlisted"}, EvidenceCode.QE_TCB_NO_MATCH),
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
    ],
    ids=str,
)
def test_every_bad_state_is_refused_with_its_code(state: dict[str, object], code: EvidenceCode) -> None:
    collateral = kit.platform(**state).collateral(NOW)
    with refused(code):
        kit.verify_sim(collateral=collateral)


def test_a_revocation_names_the_certificate() -> None:
    for name, title in (("pck", "PCK"), ("pck-ca", "PCK CA"), ("tcb-signing", "TCB signing")):
        collateral = kit.platform(revoked=(name,)).collateral(NOW)
        with refused(EvidenceCode.CERTIFICATE_REVOKED) as caught:
            kit.verify_sim(collateral=collateral)
        assert f"the {title} certificate was revoked" in caught.value.message


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
    collateral = kit.platform().collateral_with(kit.dates(**{name: (start, end)}))
    last = end if inclusive else end - 1
    kit.verify_sim(collateral=collateral, now=start)
    assert kit.verify_sim(collateral=collateral, now=last).expires == last + 1
    with refused(early):
        kit.verify_sim(collateral=collateral, now=start - 1)
    with refused(late):
        kit.verify_sim(collateral=collateral, now=last + 1)


@pytest.mark.parametrize("name", ["root", "pck_ca", "tcb_signing", "pck"])
def test_certificates_are_valid_to_the_last_second_of_their_dates(name: str) -> None:
    subject = SimulatedPlatform(SEED, CREATED, lifetimes=Lifetimes(**{name: NOW - CREATED}))
    quote = evidence.parse(subject.quote(subject.report_body(MRENCLAVE), REPORT_DATA))
    roots, collateral = Roots.simulated(subject.root_pem), subject.collateral(NOW)
    assert evidence.verify(quote, collateral, roots, NOW).expires == NOW + 1
    with refused(EvidenceCode.CERTIFICATE_EXPIRED):
        evidence.verify(quote, collateral, roots, NOW + 1)


def test_certificates_from_the_future_are_refused() -> None:
    subject = SimulatedPlatform(SEED, NOW + 10 * 86400)
    quote = evidence.parse(subject.quote(subject.report_body(MRENCLAVE), REPORT_DATA))
    with refused(EvidenceCode.CERTIFICATE_EARLY):
        evidence.verify(quote, subject.collateral(NOW), Roots.simulated(subject.root_pem), NOW)


def test_vendor_roots_refuse_simulated_evidence() -> None:
    with refused(EvidenceCode.CHAIN_ROOT):
        evidence.verify(kit.parsed(), kit.platform().collateral(NOW), Roots.vendor(), NOW)


def test_a_vendor_anchor_refuses_the_simulators_mark_even_where_its_root_is_pinned() -> None:
    with refused(EvidenceCode.CHAIN_SIMULATED):
        evidence.verify(
            kit.parsed(),
            kit.platform().collateral(NOW),
            Roots.dangerous_replacement(kit.platform().root_pem),
            NOW,
        )


def test_one_simulated_platform_does_not_vouch_for_another() -> None:
    other = SimulatedPlatform(bytes(32), CREATED)
    data = other.quote(other.report_body(MRENCLAVE), REPORT_DATA)
    with refused(EvidenceCode.CHAIN_ROOT):
        kit.verify_sim(data, other.collateral(NOW))
    with refused(EvidenceCode.CHAIN_ROOT):
        kit.verify_sim(data)


def test_debug_shows_in_the_report() -> None:
    subject = kit.platform(debug=True)
    verified = kit.verify_sim(subject.quote(subject.report_body(MRENCLAVE), REPORT_DATA))
    assert verified.quote.body.debug
    assert not kit.verify_sim().quote.body.debug


def test_prepared_collateral_gives_the_same_result_and_still_ages() -> None:
    collateral = kit.platform().collateral(NOW)
    prepared = evidence.prepare(collateral, kit.sim_roots(), NOW)
    assert evidence.verify(kit.parsed(), prepared, kit.sim_roots(), NOW) == kit.verify_sim(collateral=collateral)
    with refused(EvidenceCode.CRL_EXPIRED):
        evidence.verify(kit.parsed(), prepared, kit.sim_roots(), NOW + 40 * 86400)
    with refused(EvidenceCode.COLLATERAL_ROOTS):
        evidence.verify(kit.parsed(), prepared, Roots.vendor(), NOW)


def test_a_folder_keeps_its_platform(tmp_path: Path) -> None:
    home = tmp_path / "platform"
    first = SimulatedPlatform.open(home, CREATED)
    again = SimulatedPlatform.open(home, NOW)
    assert again.root_pem == first.root_pem == (home / "root.pem").read_bytes()
    assert home.stat().st_mode & 0o777 == 0o700
    assert (home / "platform.key").stat().st_mode & 0o777 == 0o600
    assert SimulatedPlatform.open(tmp_path / "other", CREATED).root_pem != first.root_pem


def test_a_folder_publishes_where_a_directory_source_looks(tmp_path: Path) -> None:
    from attestation.collateral import DirectorySource

    platform = SimulatedPlatform.open(tmp_path, CREATED)
    platform.publish(tmp_path, NOW)
    quote = evidence.parse(platform.quote(platform.report_body(MRENCLAVE), REPORT_DATA))
    collateral = DirectorySource(tmp_path / "collateral").fetch(evidence.collateral_key(quote))
    assert evidence.verify(quote, collateral, Roots.simulated(platform.root_pem), NOW).simulated


def test_the_state_survives_in_the_folder(tmp_path: Path) -> None:
    platform = SimulatedPlatform.open(tmp_path, CREATED)
    state = State(tcb_status="OutOfDate", advisories=("SIM-SA-2",), revoked=("pck",), debug=True, evaluation_number=3)
    platform.save_state(tmp_path, state)
    assert SimulatedPlatform.open(tmp_path, NOW).state == state


@pytest.mark.parametrize(
    "text",
    [
        "tcb_status = 'Fine'",
        "tcb_status = 3",
        "expired = ['everything']",
        "expired = 'tcb-info'",
        "debug = 'yes'",
        "evaluation_number = -1",
        "colour = 'red'",
        "not toml",
        "[" * 5000,
    ],
)
def test_an_unusable_state_file_is_refused(tmp_path: Path, text: str) -> None:
    SimulatedPlatform.open(tmp_path, CREATED)
    (tmp_path / "state.toml").write_text(text, encoding="utf-8")
    with refused(EvidenceCode.SIMULATOR_STATE):
        SimulatedPlatform.open(tmp_path, CREATED)


@pytest.mark.parametrize("content", [b"", b"\x00" * 62, b"nothing"])
def test_an_unusable_key_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "platform.key").write_bytes(content)
    with refused(EvidenceCode.SIMULATOR_STATE):
        SimulatedPlatform.open(tmp_path, CREATED)


def test_a_platform_of_a_later_version_asks_for_a_newer_release(tmp_path: Path) -> None:
    SimulatedPlatform.open(tmp_path, CREATED)
    (tmp_path / "state.toml").write_text("version = 2\nmood = 'fine'\n", encoding="utf-8")
    with refused(ManifestCode.VERSION_UNSUPPORTED):
        SimulatedPlatform.load(tmp_path)
    (tmp_path / "platform.key").write_bytes(canonical.encode({"version": 2, "keys": []}))
    with refused(ManifestCode.VERSION_UNSUPPORTED):
        SimulatedPlatform.load(tmp_path)


def test_a_state_file_without_a_version_is_of_the_first(tmp_path: Path) -> None:
    SimulatedPlatform.open(tmp_path, CREATED)
    (tmp_path / "state.toml").write_text("debug = true\n", encoding="utf-8")
    assert SimulatedPlatform.load(tmp_path).state.debug


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with refused(ManifestCode.FILE_UNAVAILABLE):
        SimulatedPlatform.open(tmp_path / "file", CREATED)


def test_no_secret_shows_in_repr() -> None:
    secret = str(kit.platform().pki.root.key.private_numbers().private_value)
    assert secret not in repr(kit.platform().pki)


def test_the_first_of_two_makers_of_a_platform_wins(tmp_path: Path) -> None:
    path = tmp_path / "platform.key"
    _write_first(path, b"first")
    _write_first(path, b"second")
    assert path.read_bytes() == b"first"
    with refused(ManifestCode.FILE_UNAVAILABLE):
        _write_first(tmp_path / "missing" / "platform.key", b"x")
