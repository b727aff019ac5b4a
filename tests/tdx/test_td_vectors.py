"""Real TDX evidence gives the verdicts of its catalogue; where we are stricter, the test says so and why.

Captures carry the zeros of the buffer that their driver filled: they are stripped first, as the command line does.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from attestation import evidence
from attestation.collateral import CollateralKey
from attestation.errors import EvidenceCode
from attestation.evidence import Roots
from attestation.intel.abi import strip_padding
from attestation.intel.errors import TdxCode, TdxFinding
from attestation.intel.td_abi import TdQuote
from attestation.intel.td_checks import tdx_checks
from attestation.intel.verified import TdxVerified
from manifests.errors import ErrorCode
from tests.attestation.kit import refused
from tests.shared import vectors
from tests.tdx import kit

B0C06F = "tdx/collateral/dcapqvl-b0c06f.json"
C90C06F = "tdx/collateral/dcapqvl-90c06f.json"
LATER_90C06F = "tdx/collateral/assembled-attestation-rs-90c06f.json"
OLD_50806F = "tdx/collateral/assembled-go-tdx-guest-50806f.json"
NEW_50806F = "tdx/collateral/assembled-attestation-rs-50806f.json"

JULY_2023 = 1_688_173_200
JULY_2025 = 1_751_328_000
MARCH_2026 = 1_772_323_200
APRIL_2026 = 1_775_001_600
NEWER_ADVISORIES = "00837 00960 00982 00986 01010 01036 01076 01079 01099 01103 01111"  # all of one level of 2026


@dataclass(frozen=True)
class Case:
    """One capture with collateral and time, and the status and advisories or the refusal that the catalogue has."""

    id: str
    path: str
    collateral: str
    now: int
    expected: str | ErrorCode
    advisories: str = ""
    cut: int | None = None


CASES = [
    Case("TDX4-1", "tdx/v4-dcapqvl.quote.bin", B0C06F, kit.REAL_NOW, "UpToDate"),
    Case("TDX4-1", "tdx/v4-dcapqvl.quote.bin", B0C06F, JULY_2025, "UpToDate"),
    Case("TDX4-1", "tdx/v4-dcapqvl.quote.bin", B0C06F, kit.REAL_NOW + 1, EvidenceCode.CRL_EXPIRED),
    Case("TDX4-1", "tdx/v4-dcapqvl.quote.bin", B0C06F, 1_750_329_146, EvidenceCode.QE_IDENTITY_EARLY),
    Case("TDX4-1", "tdx/v4-dcapqvl.quote.bin", B0C06F, 1_795_000_000, EvidenceCode.CRL_EXPIRED),
    Case("TDX4-1", "tdx/v4-dcapqvl.quote.bin", C90C06F, MARCH_2026, EvidenceCode.TCB_INFO_FMSPC),
    Case("TDX4-3", "tdx/v4-dstack-tappd.quote.hex", B0C06F, JULY_2025, EvidenceCode.TCB_NO_MATCH),
    # Text follows this quote ("extra bytes(only for testing purpose)"): refused, and cut off for the verdict.
    Case("TDX4-5", "tdx/v4-spr-e4.quote.bin", OLD_50806F, JULY_2023, EvidenceCode.QUOTE_TRAILING_BYTES),
    Case("TDX4-5", "tdx/v4-spr-e4.quote.bin", OLD_50806F, JULY_2023, EvidenceCode.TCB_NO_MATCH, cut=4935),
    Case("TDX4-5", "tdx/v4-spr-e4.quote.bin", NEW_50806F, 1_775_000_000, EvidenceCode.TCB_NO_MATCH, cut=4935),
    Case("TDX4-5", "tdx/v4-spr-e4.quote.bin", OLD_50806F, 2_634_944_400, EvidenceCode.CERTIFICATE_EXPIRED, cut=4935),
    Case("TDX4-7", "tdx/v4-coco-debug.quote.bin", OLD_50806F, 1_688_169_600, "UpToDate"),
    Case("TDX4-7", "tdx/v4-coco-debug.quote.bin", NEW_50806F, APRIL_2026, "OutOfDate", NEWER_ADVISORIES),
    Case("TDX4-8", "tdx/v4-dstack-ratls.quote.bin", B0C06F, JULY_2025, EvidenceCode.TCB_NO_MATCH),
    Case("TDX4-9", "tdx/v4-dstack-quote-report.json", C90C06F, MARCH_2026, "UpToDate"),
    Case("TDX4-9", "tdx/v4-dstack-quote-report.json", LATER_90C06F, APRIL_2026, "UpToDate"),
    Case("TDX4-11", "tdx/v4-dstack-simulator.attestation.bin", B0C06F, JULY_2025, EvidenceCode.CERTIFICATE_EARLY),
    Case("TDX4-12", "tdx/v4-attrs-live.quote.bin", B0C06F, JULY_2025, EvidenceCode.CERTIFICATE_EARLY),
    # No collateral is held for these platforms.  That of another family is reached, and refused, only after every
    # signature and chain of the quote has held: step 10 of 11.
    Case("TDX4-6", "tdx/v4-cos113.quote.bin", B0C06F, JULY_2025, EvidenceCode.TCB_INFO_FMSPC),
    Case("TDX4-11", "tdx/v4-dstack-simulator.attestation.bin", C90C06F, MARCH_2026, EvidenceCode.TCB_INFO_FMSPC),
    Case("TDX4-12", "tdx/v4-attrs-live.quote.bin", LATER_90C06F, APRIL_2026, EvidenceCode.TCB_INFO_FMSPC),
    Case("TDX4-14", "tdx/v4-azure-coco.quote.bin", B0C06F, JULY_2025, EvidenceCode.TCB_INFO_FMSPC),
    Case("TDX5-1", "tdx/v5-gotdx.quote.bin", C90C06F, MARCH_2026, "UpToDate"),
    Case("TDX5-1", "tdx/v5-gotdx.quote.bin", LATER_90C06F, APRIL_2026, "UpToDate"),
    Case("TDX5-2", "tdx/v5-coco.quote.bin", LATER_90C06F, APRIL_2026, EvidenceCode.TCB_NO_MATCH),
    # Derived: the recipes are the catalogue's.
    Case("TDX4-D1", "tdx/derived-bad/spr-e4-version3.quote.bin", OLD_50806F, JULY_2023, EvidenceCode.QUOTE_RESERVED),
    Case(
        "TDX4-D2",
        "tdx/derived-bad/spr-e4-sigdatasize.quote.bin",
        OLD_50806F,
        JULY_2023,
        EvidenceCode.QUOTE_TRAILING_BYTES,
        cut=4935,
    ),
    # Stricter than dcap-qvl, which takes the root from its own store and never looks at the embedded one.
    Case(
        "TDX4-D4",
        "tdx/derived-bad/spr-e4-rootcert-byte.quote.bin",
        OLD_50806F,
        JULY_2023,
        EvidenceCode.CHAIN_ROOT,
        cut=4935,
    ),
    Case(
        "TDX4-D6",
        "tdx/derived-bad/spr-e4-pck-byte.quote.bin",
        OLD_50806F,
        JULY_2023,
        EvidenceCode.CHAIN_SIGNATURE,
        cut=4935,
    ),
    Case(
        "TDX4-D7",
        "tdx/derived-bad/spr-e4-header-byte.quote.bin",
        OLD_50806F,
        JULY_2023,
        EvidenceCode.QUOTE_SIGNATURE,
        cut=4935,
    ),
    Case("TDX5-D1", "tdx/derived-bad/v5-gotdx-userdata.quote.bin", C90C06F, MARCH_2026, EvidenceCode.QUOTE_SIGNATURE),
    Case("TDX5-D2", "tdx/derived-bad/v5-gotdx-body.quote.bin", C90C06F, MARCH_2026, EvidenceCode.QUOTE_SIGNATURE),
    Case("TDX5-D4", "tdx/derived-bad/v5-gotdx-attkey.quote.bin", C90C06F, MARCH_2026, EvidenceCode.QE_REPORT_BINDING),
    Case(
        "TDX5-D5", "tdx/derived-bad/v5-gotdx-qereport.quote.bin", C90C06F, MARCH_2026, EvidenceCode.QE_REPORT_SIGNATURE
    ),
    Case("TDX5-D7", "tdx/derived-bad/v5-gotdx-qeauth.quote.bin", C90C06F, MARCH_2026, EvidenceCode.QE_REPORT_BINDING),
    Case("TDX5-D8", "tdx/derived-bad/v5-gotdx-truncated.quote.bin", C90C06F, MARCH_2026, EvidenceCode.QUOTE_TRUNCATED),
    Case("TDX5-D9", "tdx/derived-bad/v5-coco-bodytype99.quote.bin", LATER_90C06F, APRIL_2026, TdxCode.BODY_TYPE),
    Case(
        "TDX4-T48",
        "tdx/derived-bad/coco-debug-header-only.quote.bin",
        NEW_50806F,
        APRIL_2026,
        EvidenceCode.QUOTE_TRUNCATED,
    ),
    Case(
        "TDX4-T631",
        "tdx/derived-bad/coco-debug-body-minus1.quote.bin",
        NEW_50806F,
        APRIL_2026,
        EvidenceCode.QUOTE_TRUNCATED,
    ),
    Case(
        "TDX4-C1",
        "tdx/v4-dcapqvl.quote.bin",
        "tdx/derived-bad/collateral-b0c06f-tcbinfo-edited.json",
        kit.REAL_NOW,
        EvidenceCode.TCB_INFO_SIGNATURE,
    ),
    Case(
        "TDX4-C2",
        "tdx/v4-dcapqvl.quote.bin",
        "tdx/derived-bad/collateral-b0c06f-tcbinfo-sig.json",
        kit.REAL_NOW,
        EvidenceCode.TCB_INFO_SIGNATURE,
    ),
    Case(
        "TDX4-C4",
        "tdx/v4-dcapqvl.quote.bin",
        "tdx/derived-bad/collateral-b0c06f-pckcrl-sig.json",
        kit.REAL_NOW,
        EvidenceCode.CRL_SIGNATURE,
    ),
    Case(
        "TDX4-C6",
        "tdx/v4-dcapqvl.quote.bin",
        "tdx/derived-bad/collateral-b0c06f-sgx-qeid.json",
        kit.REAL_NOW,
        EvidenceCode.COLLATERAL_TEE,
    ),
    Case(
        "TDX4-F1",
        "tdx/derived-bad/v4-dcapqvl-pckcert-sub.quote.bin",
        B0C06F,
        kit.REAL_NOW,
        EvidenceCode.CHAIN_SIGNATURE,
    ),
    # Stricter than dcap-qvl, as above.
    Case("TDX4-F3", "tdx/derived-bad/v4-dcapqvl-rootcert-sub.quote.bin", B0C06F, kit.REAL_NOW, EvidenceCode.CHAIN_ROOT),
    # Stricter than dcap-qvl, which ignores what follows: nothing signs it, and it could hide anything.
    Case(
        "TDX4-F4",
        "tdx/derived-bad/v4-dcapqvl-trailing-garbage.quote.bin",
        B0C06F,
        kit.REAL_NOW,
        EvidenceCode.QUOTE_TRAILING_BYTES,
    ),
    Case("TDX4-F5", "tdx/derived-bad/v4-dcapqvl-trailing-stripped.quote.bin", B0C06F, kit.REAL_NOW, "UpToDate"),
]


def verified(case: Case) -> TdxVerified:
    quote, _ = strip_padding(kit.real(case.path)[: case.cut])
    return evidence.verify(evidence.parse(quote), kit.real_collateral(case.collateral), Roots.vendor(), case.now)


@pytest.mark.parametrize("case", CASES, ids=[f"{case.id}-{case.now}-{case.expected}" for case in CASES])
def test_each_capture_has_its_catalogued_verdict(case: Case) -> None:
    if isinstance(case.expected, ErrorCode):
        with refused(case.expected):
            verified(case)
        return
    found = verified(case)
    assert found.tcb_status == case.expected
    assert found.advisories == tuple(f"INTEL-SA-{number}" for number in case.advisories.split())
    assert not found.simulated


def rows() -> list[dict[str, object]]:
    catalogue = json.loads((vectors() / "catalogue.json").read_text(encoding="utf-8"))
    return [row for row in catalogue["rows"] if row["tee"].startswith("TDX")]


def test_no_catalogued_row_and_no_file_is_left_out() -> None:
    assert {row["id"] for row in rows()} == {case.id for case in CASES}
    files = {f"tdx/derived-bad/{path.name}" for path in (vectors() / "tdx" / "derived-bad").iterdir()}
    assert files <= {case.path for case in CASES} | {case.collateral for case in CASES}


def parsed_row(row: dict[str, object]) -> TdQuote:
    paths = row["files"]
    assert isinstance(paths, list)
    quote, padding = strip_padding(kit.real(paths[0])[: 4935 if "spr-e4" in paths[0] else None])
    fields = row["fields"]
    assert isinstance(fields, dict)
    if "spr-e4" not in paths[0]:
        assert padding == int(fields["trailing_bytes"])
    found = evidence.parse(quote)
    assert isinstance(found, TdQuote)
    assert found.serialize() == quote
    return found


NAMES = {
    "mrtd": "mr_td",
    "rtmr0": "rtmr0",
    "rtmr1": "rtmr1",
    "rtmr2": "rtmr2",
    "rtmr3": "rtmr3",
    "mrconfigid": "mr_config_id",
    "mrowner": "mr_owner",
    "mrownerconfig": "mr_owner_config",
    "mrseam": "mr_seam",
    "mrsignerseam": "mr_signer_seam",
    "seamattributes": "seam_attributes",
    "tdattributes": "td_attributes",
    "xfam": "xfam",
    "tee_tcb_svn": "tee_tcb_svn",
    "report_data": "report_data",
}


def test_every_capture_decodes_to_its_catalogued_fields() -> None:
    captured = [row for row in rows() if row["cls"] == "HW"]
    assert len(captured) == 12
    for row in captured:
        quote = parsed_row(row)
        shown = quote.body.to_hex()
        fields = row["fields"]
        assert isinstance(fields, dict)
        for theirs, ours in NAMES.items():
            text = str(fields[theirs])
            zeros = text.startswith("00*")
            assert (set(shown[ours]) == {"0"}) if zeros else (shown[ours] == text), (row["id"], theirs)
        assert str(quote.version) == str(fields["quote_version"])
        assert str(quote.qe_report.isv_svn) == str(fields["qe_isvsvn"])
        key = CollateralKey("tdx", str(fields["fmspc"]), "platform")
        assert evidence.collateral_key(quote) == key


def test_a_td_report_1_5_shows_what_runs_now_and_the_service_tds() -> None:
    newer = evidence.parse(kit.real("tdx/v5-gotdx.quote.bin"))
    assert isinstance(newer, TdQuote)
    assert newer.body.tee_tcb_svn[:3] == bytes((11, 1, 4))
    assert newer.body.tee_tcb_svn2 == bytes((13, 1, 4, *[0] * 13))
    bound = evidence.parse(kit.real("tdx/v5-coco.quote.bin"))
    assert isinstance(bound, TdQuote)
    assert bound.body.mr_service_td is not None
    assert bound.body.mr_service_td.hex().startswith("383c87d3bbb0")


def test_a_real_td_in_debug_mode_is_refused_unless_named() -> None:
    case = next(case for case in CASES if case.id == "TDX4-7")
    report = verified(case)
    assert report.quote.body.debug
    for debug in (False, True):
        table = kit.policy(tdx={"debug": debug or None}).table("tdx")
        codes = {finding.code for finding in tdx_checks(report, table) if not finding.passed}
        assert (TdxFinding.DEBUG in codes) is not debug


def test_evidence_of_one_tee_is_not_judged_by_collateral_of_another() -> None:
    sgx = evidence.parse((vectors() / "sgx" / "v3-dcapqvl.quote.bin").read_bytes())
    with refused(EvidenceCode.COLLATERAL_TEE):
        evidence.verify(sgx, kit.real_collateral(B0C06F), Roots.vendor(), kit.REAL_NOW)
    tdx = evidence.parse(strip_padding(kit.real("tdx/v4-dcapqvl.quote.bin"))[0])
    collateral = kit.real_collateral("sgx/collateral/dcapqvl-00a067110000.json")
    with refused(EvidenceCode.COLLATERAL_TEE) as caught:
        evidence.verify(tdx, collateral, Roots.vendor(), kit.REAL_NOW)
    assert "fetched for tdx" in str(caught.value.remedy)


def test_every_catalogued_sgx_row_has_a_test_of_its_verdict() -> None:
    from tests.attestation import test_real_vectors

    catalogue = json.loads((vectors() / "catalogue.json").read_text(encoding="utf-8"))
    files = {path for row in catalogue["rows"] if row["tee"].startswith("SGX") for path in row["files"]}
    known = {f"sgx/derived-bad/{name}.quote.bin" for name in test_real_vectors.EXPECTED}
    assert files == known | {"sgx/v3-dcapqvl.quote.bin"}
