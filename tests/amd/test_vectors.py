"""Real SEV-SNP evidence gives the verdicts of its catalogue; where we are stricter, the test says so."""

from __future__ import annotations

import pytest

from attestation import evidence
from attestation.amd.abi import parse_report
from attestation.amd.certificates import ASK, ASVK, VCEK, VLEK, read_issued, read_root
from attestation.amd.collateral import SnpCollateral
from attestation.amd.endorsement import endorsement_of
from attestation.amd.errors import SnpCode, SnpFinding
from attestation.amd.verified import OUT_OF_DATE, UP_TO_DATE, SnpVerified
from attestation.amd.verify import collateral_key, verify_report
from attestation.appraise import appraise
from attestation.collateral import DirectorySource
from attestation.errors import EvidenceCode
from attestation.evidence import Roots
from attestation.policy import Policy, load_policy
from attestation.roots import AMD_ROOTS, Anchor, Hierarchy
from attestation.validity import parse_rfc3339
from manifests.errors import ErrorCode
from tests.amd import kit
from tests.amd.kit import Vector, refused

VALID = {
    "SNP-1": Vector("v2-milan-coco.report.bin", "certs/v2-milan-coco.vcek.der", "milan", "2024-01-01"),
    "SNP-2": Vector("v2-milan-gosev-debugpolicy.report.bin", "certs/v2-milan-gosev.vcek.der", "milan", "2024-01-01"),
    "SNP-4": Vector("v3-milan-msft.report.bin", "certs/v3-milan-msft.vcek.pem", "milan", "2026-03-01"),
    "SNP-5": Vector("v3-genoa-msft.report.bin", "certs/v3-genoa-msft.vcek.pem", "genoa", "2026-03-01"),
    "SNP-6": Vector("v5-turin-msft.report.bin", "certs/v5-turin-msft.vcek.pem", "turin", "2026-03-01"),
    "SNP-8": Vector("v3-milan-dstack.report.bin", "certs/v3-milan-dstack.vcek.pem", "milan", "2026-06-18"),
    "SNP-9": Vector("v3-milan-vlek-coco.report.bin", "certs/v3-milan-vlek-coco.vlek.der", "milan", "2025-06-01"),
    "SNP-12": Vector("v5-genoa-attrs.report.bin", "certs/v5-genoa-attrs.vcek.der", "genoa", "2026-03-01"),
    "SNP-14": Vector("v2-milan-sevcrate.report.hex.bin", "certs/v2-milan-sevcrate.vcek.der", "milan", "2024-01-01"),
}

BAD_REPORTS: dict[str, tuple[str, str, ErrorCode]] = {
    "SNP-D1": ("SNP-1", "derived-bad/v2-milan-coco-measurement.report.bin", SnpCode.SIGNATURE),
    "SNP-D2": ("SNP-1", "derived-bad/v2-milan-coco-sigR.report.bin", SnpCode.SIGNATURE),
    # The changed byte is bit 0 of IMAGE_ID's 11th byte; others report the signature, too.
    "SNP-D4": ("SNP-9", "derived-bad/v3-milan-vlek-coco-vlek-b42.report.bin", SnpCode.SIGNATURE),
    "SNP-D5": ("SNP-8", "derived-bad/v3-milan-dstack-reportdata.report.bin", SnpCode.SIGNATURE),
    "SNP-D7": ("SNP-8", "derived-bad/v3-milan-dstack-trunc200.report.bin", SnpCode.LENGTH),
    # The mismatch is named before the signature fails.
    "SNP-D9": ("SNP-6", "derived-bad/v5-turin-msft-turin-chipid.report.bin", SnpCode.VEK_CHIP),
    "SNP-B3": ("SNP-1", "bad/aci-corrupted-version0.report.bin", SnpCode.VERSION),
    "SNP-B5": ("SNP-1", "bad/aci-fake-v1.report.bin", SnpCode.VERSION),
}

BAD_CERTIFICATES: dict[str, tuple[str, str, ErrorCode]] = {
    "SNP-B1": ("SNP-1", "bad/vcek-invalid-legacy.der", EvidenceCode.CHAIN_SIGNATURE),
    "SNP-D10": ("SNP-1", "derived-bad/v2-milan-coco-vcek-b42.der", EvidenceCode.CHAIN_SIGNATURE),
}

UNENDORSED = {"SNP-11": "v3-genoa-tinfoil.report.bin"}

STATUSES = dict.fromkeys(VALID, UP_TO_DATE) | {
    "SNP-8": OUT_OF_DATE,
    # The catalogue calls it valid; the host reports microcode 217 where 219 is committed.
    "SNP-9": OUT_OF_DATE,
}


def at(vector: Vector) -> int:
    return parse_rfc3339(f"{vector.now}T00:00:00Z")


def verified(name: str) -> SnpVerified:
    vector = VALID[name]
    return verify_report(vector.parsed(), vector.collateral(), Roots.vendor(), at(vector))


def test_no_row_of_the_catalogue_is_left_out() -> None:
    covered = {*VALID, *BAD_REPORTS, *BAD_CERTIFICATES, *UNENDORSED}
    assert covered == set(kit.catalogue())


@pytest.mark.parametrize("name", sorted(VALID))
def test_real_reports_verify_and_decode_to_their_catalogued_fields(name: str) -> None:
    found, row = verified(name), kit.catalogue()[name]["fields"]
    report = found.report
    assert not found.simulated
    assert found.root in AMD_ROOTS.values()
    assert found.tcb_status == STATUSES[name]
    assert report.version == row["report_version"]
    assert report.signing_key.name == row["signing_key"]
    for field in ("measurement", "chip_id", "report_data", "host_data", "id_key_digest", "family_id", "report_id"):
        value = row[field]
        zeros = value.startswith("00*")
        assert getattr(report, field) == (bytes(int(value[3:])) if zeros else bytes.fromhex(value)), field
    assert report.policy == int(row["policy"], 16)
    assert report.vmpl == row["vmpl"]
    assert report.guest_svn == row["guest_svn"]
    assert [report.cpuid_fam_id or 0, report.cpuid_mod_id or 0, report.cpuid_step or 0] == row["cpuid_fms"]
    assert ".".join(map(str, report.current_firmware)) == row["current_fw"]
    names = {"bl": "bootloader", "ucode": "microcode"}
    decoded = {names.get(key, key): value for key, value in row["reported_tcb_dec"].items()}
    assert found.tcb.reported.to_dict() == decoded
    assert found.endorsement.product_name == row["vek_product"]
    if report.version == 5:
        assert report.launch_mit_vector == int.from_bytes(bytes.fromhex(row["launch_mit_vector"]), "little")


@pytest.mark.parametrize("name", sorted(VALID))
def test_real_reports_serialise_to_themselves_and_are_recognised(name: str) -> None:
    data = VALID[name].data()
    parsed = evidence.parse(data)
    assert parsed.tee == "snp"
    assert parsed.serialize() == data


@pytest.mark.parametrize("name", sorted(BAD_REPORTS))
def test_each_bad_report_is_refused_with_its_own_code(name: str) -> None:
    base, file, code = BAD_REPORTS[name]
    vector = VALID[base]
    with refused(code):
        report = evidence.parse((kit.vectors() / "snp" / file).read_bytes())
        evidence.verify(report, vector.collateral(), Roots.vendor(), at(vector))


@pytest.mark.parametrize("name", sorted(BAD_CERTIFICATES))
def test_each_bad_certificate_is_refused_with_its_own_code(name: str) -> None:
    base, file, code = BAD_CERTIFICATES[name]
    vector = VALID[base]
    with refused(code):
        verify_report(vector.parsed(), vector.collateral(vek=file), Roots.vendor(), at(vector))


def test_no_file_of_the_folder_is_left_out() -> None:
    used = {vector.report for vector in VALID.values()} | {vector.vek for vector in VALID.values()}
    used |= {file for _, file, _ in (*BAD_REPORTS.values(), *BAD_CERTIFICATES.values())} | set(UNENDORSED.values())
    used |= {f"certs/{product}_ask_ark_asvk.pem" for product in AMD_ROOTS}
    used |= {"certs/v3-milan-msft.vcek-2025-12.pem"}
    wrapped = {"v3-milan-dstack.attestation.bin", "v3-milan-dstack.attestation.json"}
    wrapped |= {"v3-genoa-tinfoil.attestation.json"}
    folder = kit.vectors() / "snp"
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == used | wrapped


@pytest.mark.parametrize("name", sorted(UNENDORSED))
def test_a_report_without_its_certificate_fails_closed(name: str) -> None:
    report = evidence.parse((kit.vectors() / "snp" / UNENDORSED[name]).read_bytes())
    with refused(EvidenceCode.COLLATERAL_MISSING) as caught:
        evidence.verify(report, None, Roots.vendor(), kit.NOW)
    assert caught.value.expected == str(evidence.collateral_key(report))


def test_a_reissued_certificate_of_the_same_key_serves_as_well() -> None:
    vector = VALID["SNP-4"]
    other = vector.collateral(vek="certs/v3-milan-msft.vcek-2025-12.pem")
    assert verify_report(vector.parsed(), other, Roots.vendor(), at(vector)).tcb_status == UP_TO_DATE


def test_the_ask_of_another_product_signs_nothing() -> None:
    vector = VALID["SNP-4"]
    with refused(EvidenceCode.CHAIN_SIGNATURE):
        verify_report(vector.parsed(), vector.collateral(chain="genoa"), Roots.vendor(), at(vector))


def test_an_ask_is_no_root() -> None:
    vector = VALID["SNP-4"]
    ask, _, _ = kit.certificates("certs/milan_ask_ark_asvk.pem")
    chain = kit.pem.encode_chain(ask, ask)
    with refused(EvidenceCode.CHAIN_ROOT):
        verify_report(vector.parsed(), SnpCollateral(vector.collateral().vek, chain, b""), Roots.vendor(), at(vector))


def test_an_ask_signs_no_lent_key() -> None:
    vector = VALID["SNP-9"]
    ask, ark, _ = kit.certificates("certs/milan_ask_ark_asvk.pem")
    chain = kit.pem.encode_chain(ask, ark)
    with refused(EvidenceCode.CHAIN_SIGNATURE):
        verify_report(vector.parsed(), SnpCollateral(vector.collateral().vek, chain, b""), Roots.vendor(), at(vector))


@pytest.mark.parametrize(
    ("now", "code"),
    [
        ("2024-12-10T22:14:20Z", EvidenceCode.CERTIFICATE_EARLY),
        ("2024-12-10T22:14:21Z", None),
        ("2025-12-10T22:14:21Z", None),
        ("2025-12-10T22:14:22Z", EvidenceCode.CERTIFICATE_EXPIRED),
    ],
)
def test_the_lent_key_has_its_catalogued_dates(now: str, code: ErrorCode | None) -> None:
    vector = VALID["SNP-9"]
    if code is None:
        found = verify_report(vector.parsed(), vector.collateral(), Roots.vendor(), parse_rfc3339(now))
        assert found.expires == parse_rfc3339("2025-12-10T22:14:22Z")
        return
    with refused(code):
        verify_report(vector.parsed(), vector.collateral(), Roots.vendor(), parse_rfc3339(now))


def test_the_old_and_the_new_encoding_of_certificates_both_read() -> None:
    """AMD's older signer spelled out a default that DER leaves out; both forms occur, and no third is read."""
    for name, form in (("SNP-1", "304606092a864886f70d01010a"), ("SNP-4", "304106092a864886f70d01010a")):
        assert VALID[name].collateral().vek.count(bytes.fromhex(form)) == 2


def test_the_extensions_of_the_bad_certificate_read_although_it_is_refused() -> None:
    """What others call a legacy certificate has the one form of extensions that AMD uses."""
    ask, ark, _ = kit.certificates("certs/milan_ask_ark_asvk.pem")
    root, anchor = read_root(ark, Roots.vendor())
    assert anchor == Anchor(AMD_ROOTS["milan"], simulated=False, hierarchy=Hierarchy.AMD)
    signer = read_issued(ask, root, (ASK, ASVK), anchor)
    with refused(EvidenceCode.CHAIN_SIGNATURE):
        read_issued(kit.certificates("bad/vcek-invalid-legacy.der")[0], signer, (VCEK,), anchor)
    vcek = read_issued(VALID["SNP-1"].collateral().vek, signer, (VCEK, VLEK), anchor)
    assert vcek.serial == 0
    assert endorsement_of(vcek).to_dict()["hwid"] == VALID["SNP-1"].parsed().chip_id.hex()


def test_simulated_roots_refuse_real_evidence() -> None:
    vector = VALID["SNP-4"]
    with refused(EvidenceCode.CHAIN_ROOT):
        verify_report(vector.parsed(), vector.collateral(), kit.roots(kit.snp()), at(vector))
    with refused(EvidenceCode.CHAIN_NOT_SIMULATED):
        verify_report(
            vector.parsed(), vector.collateral(), Roots.simulated_fingerprints(AMD_ROOTS["milan"]), at(vector)
        )


def test_collateral_is_found_in_a_folder_also_for_reports_that_do_not_name_their_product(tmp_path) -> None:
    for name in ("SNP-1", "SNP-6", "SNP-9"):
        vector = VALID[name]
        key = collateral_key(vector.parsed())
        filed = key.candidates[0]
        assert filed.family == vector.product
        (tmp_path / f"{filed}.json").write_text(vector.collateral().to_json())
        held = DirectorySource(tmp_path).fetch(key)
        assert verify_report(vector.parsed(), held, Roots.vendor(), at(vector)).tee == "snp"


# ------------------------------------------------------------------------------------------------ appraisal


def policy_for(name: str, **changes: object) -> Policy:
    """A policy that accepts a vector for what it is, without a revocation list, which no vector has."""
    report = VALID[name].parsed()
    table = {
        "measurement": [report.measurement.hex()],
        "reported_tcb_min": {VALID[name].product: {"snp": 4}},
        "host_data": [report.host_data.hex()],
        "family_id": [report.family_id.hex()],
        "image_id": [report.image_id.hex()],
        "id_key_digest": [report.id_key_digest.hex()],
        "policy_allowed": ["SMT"],
        "dangerous_crl_absent": True,
    }
    statuses = [STATUSES[name]]
    return load_policy({"version": 1, "evidence": {"tcb_status": statuses}, "snp": table | changes})


EXTRA = {
    "SNP-1": {"provisional_firmware": True},
    "SNP-2": {"debug": True},
    "SNP-9": {"provisional_firmware": True, "signing_keys": ["vlek"], "vmpl_max": 1}
    | {"csp_id": ["CN=cc-us-east-2.amazonaws.com"]},
}
"""What a policy must say besides, for evidence that is not of a guest in production."""


@pytest.mark.parametrize("name", sorted(VALID))
def test_real_guests_pass_a_policy_that_names_them(name: str) -> None:
    found = appraise(verified(name), policy_for(name, **EXTRA.get(name, {})), at(VALID[name]))
    assert kit.failed(found) == []
    assert SnpFinding.REVOCATION in {finding.code for finding in found.warnings}


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("SNP-1", [SnpFinding.PROVISIONAL]),
        ("SNP-2", [SnpFinding.DEBUG]),
        ("SNP-9", [SnpFinding.SIGNING_KEY, SnpFinding.CSP_ID, SnpFinding.PROVISIONAL, SnpFinding.VMPL]),
    ],
)
def test_what_a_policy_does_not_name_is_refused(name: str, codes: list[SnpFinding]) -> None:
    assert kit.failed(appraise(verified(name), policy_for(name), at(VALID[name]))) == codes


def test_evidence_without_a_revocation_list_passes_only_under_a_dangerous_name() -> None:
    policy = policy_for("SNP-4", dangerous_crl_absent=False)
    assert kit.failed(appraise(verified("SNP-4"), policy, at(VALID["SNP-4"]))) == [SnpFinding.REVOCATION]


def test_the_report_that_lags_behind_is_not_called_up_to_date() -> None:
    found = verified("SNP-8")
    assert found.tcb.reported.to_dict()["snp"] == 23
    assert found.tcb.committed.to_dict()["snp"] == 24
    assert found.tcb_status == OUT_OF_DATE


def test_a_byte_of_another_report_is_a_signature_that_fails() -> None:
    vector = VALID["SNP-4"]
    data = bytearray(vector.data())
    data[100] ^= 0xFF
    with refused(SnpCode.SIGNATURE):
        verify_report(parse_report(bytes(data)), vector.collateral(), Roots.vendor(), at(vector))
