"""`attest verify` gives every catalogued piece of evidence its verdict, without a policy, as anybody may ask.

Where the verdict is stricter than that of the verifier which the catalogue quotes, the row says why.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from attestation.cli import attest
from tests.shared import vectors

SGX = ("sgx/collateral/dcapqvl-00a067110000.json", "1752919277")
B0 = ("tdx/collateral/dcapqvl-b0c06f.json", "1752919234")
B0_JULY = (B0[0], "1751328000")
C90 = ("tdx/collateral/dcapqvl-90c06f.json", "1772323200")
C90_APRIL = ("tdx/collateral/assembled-attestation-rs-90c06f.json", "1775001600")
OLD_50 = ("tdx/collateral/assembled-go-tdx-guest-50806f.json", "1688173200")
NEW_50 = ("tdx/collateral/assembled-attestation-rs-50806f.json", "1775001600")
MILAN, GENOA, TURIN = (f"snp/certs/{name}_ask_ark_asvk.pem" for name in ("milan", "genoa", "turin"))

NO_RIMS = ("nvidia-driver-rim", "nvidia-vbios-rim", "nvidia-measurements")
"""Stricter: without NVIDIA's manifests nothing says which firmware runs.  Report and chain are genuine."""
UNENCRYPTED = ("nvidia-mode", *NO_RIMS)
"""Stricter, too: these reports do not say that the GPU is in a confidential mode."""


@dataclass(frozen=True)
class Row:
    """How one row is verified, and its verdict: exit status, and codes of what refuses (none: accepted).

    evidence: where it is not the row's own file.  genuine: whether all but a policy's terms holds.
    """

    collateral: tuple[str, ...]
    at: str
    refused: tuple[str, ...] = ()
    exit: int = 0
    status: str | None = None
    evidence: str | None = None
    genuine: bool = False


def row(collateral: tuple[str, str], *refused: str, exit_: int = 10, **more: Any) -> Row:
    """A row of Intel's: one file of collateral, and a time."""
    return Row(collateral[:1], collateral[1], refused, exit_ if refused else 0, genuine=not refused, **more)


def snp(name: str, at: str, *refused: str, chain: str = MILAN, exit_: int = 10, **more: Any) -> Row:
    """A row of AMD's: a certificate, the chain, and a day."""
    given = (f"snp/certs/{name}", chain) if name else (chain,)
    return Row(given, f"{at}T00:00:00Z", refused, exit_ if refused else 0, **{"genuine": not refused, **more})


def other(*refused: str, collateral: tuple[str, ...] = (), at: str = "2026-06-01T00:00:00Z", **more: Any) -> Row:
    return Row(collateral, at, refused, **{"exit": 10 if refused else 0, "genuine": not refused, **more})


UP, UNKNOWN = {"status": "UpToDate"}, {"exit": 20, "genuine": False}
NITRO_A, NITRO_DEBUG = {"at": "2025-12-25T13:15:38Z"}, {"at": "2025-12-25T08:20:47Z"}
COCO_VEK, DSTACK_VEK = "v2-milan-coco.vcek.der", "v3-milan-dstack.vcek.pem"
TEE_QUOTE = {"evidence": "tdx/v4-dcapqvl.quote.bin"}
SPR = {"exit_": 30}  # stricter: text that nobody signed follows these captures, and others pass over it

STALE = ("crl-expired", "tcb-info-expired", "qe-identity-expired")
"""All of it: each document of this collateral has ended by then."""

ROWS = {
    "SGX-1": row(SGX, status="ConfigurationAndSWHardeningNeeded"),
    "SGX-D1": row(SGX, "quote-signature"),
    "SGX-D3": row(SGX, "quote-signature"),
    "SGX-D4": row(SGX, "qe-report-binding"),
    "SGX-D6": row(SGX, "qe-report-signature"),
    "SGX-D8": row(SGX, "quote-truncated", exit_=30),
    "TDX4-1": row(B0, **UP),
    "TDX4-3": row(B0_JULY, "tcb-no-match"),
    "TDX4-5": row(OLD_50, "quote-trailing-bytes", **SPR),
    "TDX4-6": Row((), "1735689600", ("collateral-missing",), 40),
    "TDX4-7": Row(OLD_50[:1], "1688169600", ("tdx-debug",), 10, "UpToDate", genuine=True),
    "TDX4-8": row(B0_JULY, "tcb-no-match"),
    "TDX4-9": row(C90, **UP),
    # No collateral is of their time: refused for dates, and there is no time at which all of them hold.
    "TDX4-11": Row(B0[:1], "1772323200", STALE, 10),
    "TDX4-12": Row(B0[:1], "1775001600", STALE, 10),
    "TDX4-14": Row((), "1717200000", ("collateral-missing",), 40),
    "TDX5-1": row(C90, **UP),
    "TDX5-2": row(C90_APRIL, "tcb-no-match"),
    "TDX4-D1": row(OLD_50, "quote-reserved", exit_=30),
    "TDX4-D2": row(OLD_50, "quote-trailing-bytes", **SPR),
    "TDX4-D4": row(OLD_50, "quote-trailing-bytes", **SPR),
    "TDX4-D6": row(OLD_50, "quote-trailing-bytes", **SPR),
    "TDX4-D7": row(OLD_50, "quote-trailing-bytes", **SPR),
    "TDX5-D1": row(C90, "quote-signature"),
    "TDX5-D2": row(C90, "quote-signature"),
    "TDX5-D4": row(C90, "qe-report-binding"),
    "TDX5-D5": row(C90, "qe-report-signature"),
    "TDX5-D7": row(C90, "qe-report-binding"),
    "TDX5-D8": row(C90, "quote-truncated", exit_=30),
    "TDX5-D9": row(C90_APRIL, "tdx-body-type", exit_=20),
    "TDX4-T48": row(NEW_50, "quote-truncated", exit_=30),
    "TDX4-T631": row(NEW_50, "quote-truncated", exit_=30),
    "TDX4-C1": row(("tdx/derived-bad/collateral-b0c06f-tcbinfo-edited.json", B0[1]), "tcb-info-signature", **TEE_QUOTE),
    "TDX4-C2": row(("tdx/derived-bad/collateral-b0c06f-tcbinfo-sig.json", B0[1]), "tcb-info-signature", **TEE_QUOTE),
    "TDX4-C4": row(("tdx/derived-bad/collateral-b0c06f-pckcrl-sig.json", B0[1]), "crl-signature", **TEE_QUOTE),
    "TDX4-C6": row(("tdx/derived-bad/collateral-b0c06f-sgx-qeid.json", B0[1]), "collateral-tee", **TEE_QUOTE),
    "TDX4-F1": row(B0, "chain-signature"),
    "TDX4-F3": row(B0, "chain-root"),  # stricter: the root that is embedded must be the pinned one
    "TDX4-F4": row(B0, "quote-trailing-bytes", exit_=30),  # stricter: others pass over what nobody signed
    "TDX4-F5": row(B0, **UP),
    "SNP-1": snp(COCO_VEK, "2024-01-01", **UP),
    "SNP-2": snp("v2-milan-gosev.vcek.der", "2024-01-01", "snp-debug", **UP, genuine=True),
    "SNP-4": snp("v3-milan-msft.vcek.pem", "2026-03-01", **UP),
    "SNP-5": snp("v3-genoa-msft.vcek.pem", "2026-03-01", chain=GENOA, **UP),
    "SNP-6": snp("v5-turin-msft.vcek.pem", "2026-03-01", chain=TURIN, **UP),
    "SNP-8": snp(DSTACK_VEK, "2026-06-18", "tcb-status", status="OutOfDate", genuine=True),
    # Stricter: the platform vouches for less than it has committed to, which the catalogue's verifier does not look at.
    "SNP-9": snp("v3-milan-vlek-coco.vlek.der", "2025-06-01", "tcb-status", status="OutOfDate", genuine=True),
    "SNP-11": Row((), "2026-03-01T00:00:00Z", ("collateral-missing",), 40),
    "SNP-12": snp("v5-genoa-attrs.vcek.der", "2026-03-01", chain=GENOA, **UP),
    "SNP-14": snp("v2-milan-sevcrate.vcek.der", "2024-01-01", **UP),
    "SNP-B1": snp(
        "../bad/vcek-invalid-legacy.der", "2024-01-01", "chain-signature", evidence="snp/v2-milan-coco.report.bin"
    ),
    "SNP-B3": other("snp-version", **UNKNOWN),
    "SNP-B5": other("snp-version", **UNKNOWN),
    "SNP-D1": snp(COCO_VEK, "2024-01-01", "snp-signature"),
    "SNP-D2": snp(COCO_VEK, "2024-01-01", "snp-signature"),
    "SNP-D4": snp("v3-milan-vlek-coco.vlek.der", "2025-06-01", "snp-signature"),
    "SNP-D5": snp(DSTACK_VEK, "2026-06-18", "snp-signature"),
    "SNP-D7": snp(DSTACK_VEK, "2026-06-18", "snp-length", exit_=30),
    "SNP-D9": snp("v5-turin-msft.vcek.pem", "2026-03-01", "snp-vek-chip", chain=TURIN),
    "SNP-D10": snp(
        "../derived-bad/v2-milan-coco-vcek-b42.der",
        "2024-01-01",
        "chain-signature",
        evidence="snp/v2-milan-coco.report.bin",
    ),
    "AZSNP-1": snp("", "2025-06-01", **UP),
    "AZSNP-2": snp("", "2025-06-01", **UP),
    "AZSNP-3": snp("", "2025-06-01", **UP),
    "AZSNP-5": snp("", "2024-01-01", **UP),
    "AZSNP-6": snp("", "2025-06-01", **UP),
    "AZSNP-D1": snp("", "2025-06-01", "snp-vek-tcb"),
    "AZSNP-D2": snp("", "2025-06-01", "azure-runtime-data"),
    "AZSNP-D4": snp("", "2025-06-01", "tpm-signature"),
    # No collateral is held for this platform: what takes none tells the forged from the genuine.
    "AZTDX-1": Row((), "1717200000", ("collateral-missing",), 40),
    "AZTDX-D1": Row((), "1717200000", ("azure-runtime-data",), 10),
    "AZTDX-D3": Row((), "1717200000", ("tpm-pcr-digest",), 10),
    "NITRO-1": other(**NITRO_A),
    "NITRO-3": other("nitro-debug", genuine=True, **NITRO_DEBUG),
    "NITRO-D1": other("nitro-signature", **NITRO_A),
    "NITRO-D2": other("nitro-signature", **NITRO_A),
    # Parts without a key or a signature, and a platform that is not handled: refused as no evidence.
    "TPM-1": other("evidence-unknown", **UNKNOWN),
    "TPM-3": other("evidence-unknown", **UNKNOWN),
    "TPM-4": other("evidence-unknown", **UNKNOWN),
    "CCA-1": other("evidence-unknown", **UNKNOWN),
    "NV-1": other(*NO_RIMS, collateral=("nvidia/hopper-580.chain.pem",), genuine=True),
    "NV-2": other(
        "nvidia-rim-digest", collateral=("nvidia/hopper-535.chain.pem", "nvidia/bad/rim-driver-535.86.09-mismatch.xml")
    ),
    "NV-4": other(
        "nvidia-mode", "nvidia-flags", *NO_RIMS, collateral=("nvidia/blackwell-575.chain.pem",), genuine=True
    ),
    "NV-5": other(*4 * UNENCRYPTED, genuine=True),
    "NV-8": other(*NO_RIMS, collateral=("nvidia/hopper-550-coco.chain.pem",), genuine=True),
    "NV-10": other(
        collateral=("nvidia/switch-ls10.chain.pem", "nvidia/rims/NV_SWITCH_BIOS_5612_0002_890_9610550001.xml")
    ),
    "NV-B1": other("nvidia-signature", collateral=("nvidia/bad/hopper-invalid-signature.chain.pem",)),
    "NV-D1": other("nvidia-signature", collateral=("nvidia/hopper-550-coco.chain.pem",)),
    "NV-D3": other("nvidia-report-truncated", collateral=("nvidia/hopper-550-coco.chain.pem",), exit=30),
    # A chain or a manifest is no evidence: each goes with a report here, as it would be used.
    "NV-B3": other(
        "collateral-missing",
        collateral=("nvidia/bad/hopper-550-chain-case2.pem",),
        evidence="nvidia/hopper-550-coco.report.hex",
        exit=40,
    ),
    "NV-B4": other(
        "chain-signature",
        collateral=("nvidia/bad/hopper-550-chain-case3.pem",),
        evidence="nvidia/hopper-550-coco.report.hex",
    ),
}

MANIFESTS = {
    "NV-R1": "evidence-unknown",
    "NV-R2": "evidence-unknown",
    "NV-B6": "evidence-unknown",
    "NV-B8": "evidence-unknown",
    "NV-B10": "evidence-unknown",
    "NV-B11": "evidence-unknown",
    "NV-B12": "evidence-unknown",
}
"""Manifests alone: refused as no evidence; the tests of NVIDIA's evidence hold their verdicts."""


def catalogue() -> dict[str, dict[str, Any]]:
    rows = json.loads((vectors() / "catalogue.json").read_text(encoding="utf-8"))["rows"]
    return {row["id"]: row for row in rows}


def test_no_row_is_left_out() -> None:
    assert set(catalogue()) == set(ROWS) | set(MANIFESTS)


def verify(path: Path, collateral: tuple[str, ...], at: str) -> tuple[int, dict[str, Any]]:
    words = ["verify", "--evidence", str(path), "--at", at, "--json"]
    for name in collateral:
        words += ["--collateral", str(vectors() / name)]
    result = CliRunner().invoke(attest, words)
    return result.exit_code, json.loads(result.stdout)


@pytest.mark.parametrize("name", ROWS)
def test_each_row_has_its_verdict(name: str) -> None:
    expected = ROWS[name]
    path = vectors() / (expected.evidence or catalogue()[name]["files"][0])
    status, shown = verify(path, expected.collateral, expected.at)
    refused = tuple(item["code"] for item in shown["findings"] if item["severity"] == "refusal")
    assert (refused, status) == (expected.refused, expected.exit)
    assert shown["exit_code"] == status
    assert shown["accepted"] is (status == 0)
    assert shown["genuine"] is expected.genuine
    assert shown["tcb_status"] == expected.status
    assert shown["policy"] is None
    if shown["phases"]["parse"] == "passed":
        assert shown["tee"] is not None
        assert shown["quote"]


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_alone_is_no_evidence(name: str) -> None:
    status, shown = verify(vectors() / catalogue()[name]["files"][0], (), "1767225600")
    assert (status, shown["error"]["code"]) == (20, MANIFESTS[name])


ADVISORIES = {"SGX-1": ["INTEL-SA-00289", "INTEL-SA-00615"], "TDX4-1": []}


@pytest.mark.parametrize("name", ADVISORIES)
def test_the_fields_of_captured_quotes_are_shown_by_their_names(name: str) -> None:
    """The golden fields are the catalogue's, which are not of this project's making."""
    expected, fields = ROWS[name], catalogue()[name]["fields"]
    _, shown = verify(vectors() / catalogue()[name]["files"][0], expected.collateral, expected.at)
    assert shown["advisories"] == ADVISORIES[name]
    assert shown["platform_ids"] == {"fmspc": fields["fmspc"], "ppid": fields["ppid"]}
    assert shown["report_data"] == fields["report_data"]
    body = shown["quote"]["report_body" if name == "SGX-1" else "td_report"]
    names = {"mr_enclave": "mrenclave", "mr_signer": "mrsigner"} if name == "SGX-1" else {"mr_td": "mrtd"}
    assert {ours: body[ours] for ours in names} == {ours: fields[theirs] for ours, theirs in names.items()}
    assert shown["collateral"]["key"].startswith(f"{shown['tee']}-{fields['fmspc']}-")
    assert shown["collateral"]["issued"] < shown["at"] < shown["collateral"]["expires"]
    assert shown["tcb_age_seconds"] > 0
