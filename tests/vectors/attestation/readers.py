"""Cases of bytes that are handed to the reader of one TEE, instead of being told by what they begin with."""

from __future__ import annotations

from collections.abc import Iterator

from attestation.amd.errors import SnpCode
from attestation.azure.errors import AzureCode
from attestation.errors import EvidenceCode as E
from attestation.nitro.errors import NitroCode
from attestation.nvidia.errors import NvidiaCode
from attestation.ratls.errors import RatlsCode
from attestation.sim.ratls import RatlsProfile, certificate
from attestation.tpm.errors import TpmCode
from attestation.types import cbor
from tests.vectors.attestation import azure_snp, nitro, nvidia, ratls, sgx, snp, tdx, tpm
from tests.vectors.attestation.intel import put
from tests.vectors.attestation.scene import Scene
from tests.vectors.attestation.vector import Vector


def read_as(scene: Scene) -> Scene:
    return scene.but(details={"as": scene.tee})


def cases() -> Iterator[Vector]:
    for scene in (sgx.SCENE, tdx.SCENE, tdx.V5, snp.SCENE, nitro.SCENE, tpm.SCENE, azure_snp.SCENE, ratls.SCENE):
        edge = f"read as {scene.tee} of version {scene.version}"
        yield read_as(scene).accepted(edge, "The reader of its own TEE takes healthy evidence.")
    yield from quotes()
    yield from others()


def quotes() -> Iterator[Vector]:
    """The version is the first thing that a quote says."""
    rule = "A reader refuses the quotes of versions that are not its own."
    for scene, version in ((sgx.SCENE, 2), (sgx.SCENE, 4), (tdx.SCENE, 3), (tdx.SCENE, 6)):
        data = put(scene.evidence, 0, version.to_bytes(2, "little"))
        yield read_as(scene).unparsed(f"read as {scene.tee} version {version}", rule, E.QUOTE_VERSION, data)
    for scene, other, comment in (
        (sgx.SCENE, tdx.SCENE, "Where a TD's quote says its TEE, an enclave's has a reserved field."),
        (tdx.SCENE, sgx.SCENE, "Where an enclave's quote has SVNs, a TD's has a reserved field."),
    ):
        edge = f"read as {scene.tee} a quote of {other.tee}"
        yield read_as(scene).unparsed(edge, comment, E.QUOTE_RESERVED, other.evidence)
    for scene in (sgx.SCENE, tdx.SCENE):
        keyless = put(scene.evidence, 2, b"\0\0")
        comment = "A quote without a type of key would be taken for a report of SEV-SNP's."
        yield read_as(scene).unparsed(f"read as {scene.tee} without a key type", comment, E.QUOTE_KEY_TYPE, keyless)


def others() -> Iterator[Vector]:
    scene = read_as(nitro.SCENE)
    for name, number in (("es256", -7), ("es512", -36), ("eddsa", -8)):
        header = cbor.encode({1: number})
        data = scene.evidence.replace(cbor.encode(cbor.encode({1: -35})), cbor.encode(header), 1)
        assert data != scene.evidence
        yield scene.unparsed(f"read as nitro {name}", "Documents are signed by ES384.", NitroCode.ALGORITHM, data)
    bare = certificate(ratls.KEY, {}, RatlsProfile())
    yield read_as(ratls.SCENE).unparsed(
        "read as ratls without evidence", "The certificate carries no evidence at all.", RatlsCode.NO_EVIDENCE, bare
    )
    twin = certificate(ratls.KEY, {ratls.TWIN: ratls.SCENE.evidence[:16]}, RatlsProfile())
    yield read_as(ratls.SCENE).unparsed(
        "read as ratls with another extension", "An extension of DICE's, and not the one of tagged evidence.",
        RatlsCode.NO_EVIDENCE, twin,
    )  # fmt: skip
    foreign = (
        (snp.SCENE, SnpCode.LENGTH, sgx.SCENE, "A quote has another length than a report."),
        (nitro.SCENE, E.CBOR_MALFORMED, tpm.SCENE, "A container in msgpack is no COSE_Sign1 message."),
        (tpm.SCENE, TpmCode.EVIDENCE_MALFORMED, nvidia.SCENE, "The container is one of devices."),
        (nvidia.SCENE, NvidiaCode.CONTAINER, tpm.SCENE, "The container is one of a TPM."),
        (azure_snp.SCENE, AzureCode.EVIDENCE_MALFORMED, snp.SCENE, "A bare report is no JSON."),
        (ratls.SCENE, RatlsCode.CERTIFICATE, sgx.SCENE, "A bare quote is no certificate."),
    )
    for scene, code, other, comment in foreign:
        edge = f"read as {scene.tee} evidence of {other.tee}"
        yield read_as(scene).unparsed(edge, comment, code, other.evidence)
