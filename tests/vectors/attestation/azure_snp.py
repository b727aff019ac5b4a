"""Cases of Azure's vTPM evidence over SEV-SNP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from attestation.amd.errors import SnpCode
from attestation.amd.tcb import Product
from attestation.azure.errors import AzureCode
from attestation.azure.hcl import ReportType
from attestation.errors import EvidenceCode as E
from attestation.errors import FindingCode as F
from attestation.sim.azure import SimulatedAzure
from tests.vectors.attestation import snp
from tests.vectors.attestation.azure import PCRS, Vm, shared_cases
from tests.vectors.attestation.scene import LAST, NOW, OF_LISTS, REPORT_DATA, SEED, Scene, edges, merged
from tests.vectors.attestation.vector import Vector

MACHINE: Final = snp.machine()


def report(report_data: bytes, **fields: Any) -> bytes:
    return MACHINE.evidence(snp.MEASUREMENT, report_data, version=3, **fields)


def vcek(_: bytes) -> bytes:
    return MACHINE.collateral(NOW).vek


VM: Final = SimulatedAzure(SEED, ReportType.SNP, report, vcek)
POLICY: Final = merged(snp.SCENE.policy, azure_snp={}, tpm={"pcrs": PCRS})  # type: ignore[arg-type]
SCENE: Final = Scene(
    tee="azure-snp",
    version=1,
    evidence=VM.evidence(REPORT_DATA),
    collateral=snp.changed(MACHINE.collateral(NOW), vek=b""),
    roots=snp.roots(MACHINE),
    policy=POLICY,
    tcb_status="UpToDate",
)


def cases() -> Iterator[Vector]:
    yield from shared_cases(Vm(SCENE, VM, "vcek"))
    other = snp.machine(Product.GENOA).collateral(NOW).vek
    flipped = snp.flip(vcek(b""))
    for edge, comment, code, der in (
        ("vcek of another product", "The VCEK that is carried is Genoa's.", E.CHAIN_NAMES, other),
        ("vcek corrupted", "The VCEK that is carried differs by a bit.", E.CHAIN_SIGNATURE, flipped),
    ):
        yield SCENE.unverified(edge, comment, code, evidence=VM.evidence(REPORT_DATA, parts={"vcek": der}))

    def wrapping(**fields: Any) -> bytes:
        return SimulatedAzure(SEED, ReportType.SNP, lambda data: report(data, **fields), vcek).evidence(REPORT_DATA)

    for edge, comment, code, fields in (
        ("report of another chip", "The report is of another chip.", SnpCode.VEK_CHIP, {"chip_id": b"\1" * 64}),
        ("report signed by nothing", "The firmware signed with no key.", SnpCode.UNSIGNED, {"key_info": 7 << 2}),
    ):
        yield SCENE.unverified(edge, comment, code, evidence=wrapping(**fields))
    yield SCENE.unverified(
        "report asked for at vmpl 2",
        "The paravisor asks at VMPL 0, and whoever runs above it is not meant.",
        AzureCode.VMPL,
        evidence=wrapping(vmpl=2),
    )
    yield SCENE.unverified(
        "report asked for at vmpl 2 permitted",
        "A policy's vmpl_max admits no other than the paravisor.",
        AzureCode.VMPL,
        evidence=wrapping(vmpl=2),
        policy=merged(POLICY, snp={"vmpl_max": 3}),
    )
    yield SCENE.unparsed(
        "report of version 6",
        "The processor's report is of an unknown version.",
        SnpCode.VERSION,
        SimulatedAzure(SEED, ReportType.SNP, lambda data: snp.put(report(data), 0, b"\6"), vcek).evidence(REPORT_DATA),
    )
    yield SCENE.refused(
        "no table for the processor",
        "The policy has tables for the machine and its vTPM alone.",
        F.TEE,
        policy={name: table for name, table in POLICY.items() if name != "snp"},
    )
    yield from dates()
    yield from revocations()
    for version in (2,):
        yield SCENE.unverified(
            "user data of another report",
            "From version 2 on, the paravisor's user data are the quote's qualifying data.",
            AzureCode.USER_DATA,
            version=version,
            evidence=VM.evidence(REPORT_DATA, version=2, claims={"user-data": "22" * 64}),
        )
    yield snp.SCENE.refused(
        "stripped of azure",
        "Where the policy has a table for Azure's wrapping, a bare report would escape the other tables.",
        F.BARE,
        policy=POLICY,
    )


def dates() -> Iterator[Vector]:
    """The VCEK is in the evidence, and everything above it in the collateral."""
    for name, title in {"ark": "ARK", "signer": "ASK", "vek": "VCEK"}.items():
        held = MACHINE.collateral(NOW, dates={name: (NOW, LAST)})
        rule = f"Dates of the {title} certificate are inclusive (RFC 5280, 4.1.2.5)."
        changes = snp.trusting(held, SCENE) | {"collateral": snp.changed(held, vek=b"")}
        if name == "vek":
            changes["evidence"] = VM.evidence(REPORT_DATA, parts={"vcek": held.vek})
        yield from edges(SCENE, title.lower(), rule, **changes)
    held = MACHINE.collateral(NOW, dates={"crl": (NOW, LAST)})
    yield from edges(SCENE, "crl", snp.CRL_RULE, OF_LISTS, LAST - 1, collateral=snp.changed(held, vek=b""))


def revocations() -> Iterator[Vector]:
    for name, title in {"signer": "ASK", "vek": "VCEK"}.items():
        held = snp.machine(revoked=(name,)).collateral(NOW)
        yield SCENE.unverified(
            f"{title.lower()} revoked",
            f"The {title} is on the ARK's revocation list.",
            E.CERTIFICATE_REVOKED,
            collateral=snp.changed(held, vek=b""),
        )
