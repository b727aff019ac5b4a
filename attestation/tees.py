"""Every TEE whose evidence is handled, each as one entry: how to recognise, parse, verify and check it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from attestation import identity
from attestation.amd import abi as snp
from attestation.amd.checks import snp_checks
from attestation.amd.verify import collateral_key as snp_collateral_key
from attestation.amd.verify import verify_report
from attestation.azure import abi as azure
from attestation.azure.checks import azure_checks
from attestation.azure.verify import collateral_key as azure_collateral_key
from attestation.azure.verify import verify_evidence as verify_azure
from attestation.collateral import CollateralKey
from attestation.findings import Finding
from attestation.intel import abi, td_abi
from attestation.intel.checks import sgx_checks
from attestation.intel.td_checks import tdx_checks
from attestation.intel.verify import collateral_key, verify_quote
from attestation.nitro.checks import nitro_checks
from attestation.nitro.document import is_document, parse_document
from attestation.nitro.verify import verify_document
from attestation.nvidia import container as nvidia
from attestation.nvidia.checks import nvidia_checks
from attestation.nvidia.verify import verify_evidence as verify_nvidia
from attestation.ratls import certificate as ratls
from attestation.ratls.verify import collateral_key as ratls_collateral_key
from attestation.ratls.verify import verify_certificate
from attestation.roots import Roots
from attestation.tpm.abi import is_evidence, parse_evidence
from attestation.tpm.checks import tpm_checks
from attestation.tpm.verify import verify_evidence
from attestation.verified import Evidence, Verified
from manifests.errors import ErrorCode


@dataclass(frozen=True)
class Tee:
    """One TEE.

    name: of its evidence, and of its table in policies.  title: for people.  recognise: whether bytes look like its
    evidence, by a few fixed bytes.  parse: bytes to evidence.  collateral_key: which collateral it needs, as the
    unverified evidence says; None: none.  verify: evidence, collateral, roots and time to Verified.  checks: Verified
    and the policy's table to findings.  Each raises EvidenceError and nothing else.  device: whether the evidence is of
    a device, which runs none of the code that a policy is about: it stands beside other evidence, never for it.
    identity: codes of the checks that ask whose code it is, which only a policy can answer.
    """

    name: str
    title: str
    recognise: Callable[[bytes], bool]
    parse: Callable[[bytes], Evidence]
    collateral_key: Callable[[Any], CollateralKey | None]
    verify: Callable[[Any, Any, Roots, int], Verified]
    checks: Callable[[Any, Any], Iterator[Finding]]
    device: bool = False
    identity: frozenset[ErrorCode] = identity.NONE


TEES: tuple[Tee, ...] = (
    Tee(
        name="sgx",
        title="Intel SGX",
        recognise=lambda data: abi.is_quote(data, abi.VERSION),
        parse=abi.parse_quote,
        collateral_key=collateral_key,
        verify=verify_quote,
        checks=sgx_checks,
        identity=identity.SGX,
    ),
    Tee(
        name="tdx",
        title="Intel TDX",
        recognise=lambda data: abi.is_quote(data, *td_abi.VERSIONS),
        parse=td_abi.parse_td_quote,
        collateral_key=collateral_key,
        verify=verify_quote,
        checks=tdx_checks,
        identity=identity.TDX,
    ),
    Tee(
        name="snp",
        title="AMD SEV-SNP",
        recognise=snp.looks_like_report,
        parse=snp.parse_report,
        collateral_key=snp_collateral_key,
        verify=verify_report,
        checks=snp_checks,
        identity=identity.SNP,
    ),
    Tee(
        name="nitro",
        title="AWS Nitro Enclaves",
        recognise=is_document,
        parse=parse_document,
        collateral_key=lambda _: None,
        verify=verify_document,
        checks=nitro_checks,
        identity=identity.NITRO,
    ),
    Tee(
        name="nvidia",
        title="NVIDIA GPUs",
        recognise=nvidia.is_container,
        parse=nvidia.parse_evidence,
        collateral_key=lambda _: None,
        verify=verify_nvidia,
        checks=nvidia_checks,
        device=True,
    ),
    Tee(
        name="tpm",
        title="TPM 2.0",
        recognise=is_evidence,
        parse=parse_evidence,
        collateral_key=lambda _: None,
        verify=verify_evidence,
        checks=tpm_checks,
        identity=identity.TPM,
    ),
    Tee(
        name="azure-snp",
        title="Azure vTPM on AMD SEV-SNP",
        recognise=lambda data: azure.looks_like(data, b"vcek"),
        parse=azure.parse_evidence,
        collateral_key=azure_collateral_key,
        verify=verify_azure,
        checks=azure_checks,
        identity=identity.AZURE,
    ),
    Tee(
        name="azure-tdx",
        title="Azure vTPM on Intel TDX",
        recognise=lambda data: azure.looks_like(data, b"td_quote"),
        parse=azure.parse_evidence,
        collateral_key=azure_collateral_key,
        verify=verify_azure,
        checks=azure_checks,
        identity=identity.AZURE,
    ),
    Tee(
        name="ratls",
        title="RA-TLS certificate",
        recognise=ratls.looks_like,
        parse=ratls.parse_certificate,
        collateral_key=ratls_collateral_key,
        verify=verify_certificate,
        checks=lambda _verified, _table: iter(()),  # judged is the evidence inside, under the table of its own TEE
    ),
)

BY_NAME = {tee.name: tee for tee in TEES}
