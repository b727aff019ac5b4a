"""Cases of SGX quotes."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from attestation.errors import EvidenceCode as E
from attestation.errors import FindingCode as F
from attestation.intel.abi import Attributes, QuoteV3, parse_quote
from attestation.intel.collateral import IntelCollateral
from attestation.sim import issue
from attestation.sim.pki import Lifetimes
from attestation.sim.platform import SimulatedPlatform
from attestation.sim.signature import sign_raw
from attestation.sim.state import State
from tests.vectors.attestation.intel import Machine, documents, layout_cases, put, shared_cases, simulated, spans
from tests.vectors.attestation.scene import CREATED, NOW, REPORT_DATA, SEED, Scene, merged
from tests.vectors.attestation.vector import Vector

MRENCLAVE: Final = bytes([7]) * 32


def make(created: int = CREATED, lifetimes: Lifetimes | None = None, **state: Any) -> SimulatedPlatform:
    return SimulatedPlatform(SEED, created, State(**state), lifetimes)


def quote(platform: SimulatedPlatform, **fields: Any) -> QuoteV3:
    """The quote of an enclave with these fields in its report."""
    body = dataclasses.replace(platform.report_body(MRENCLAVE), **fields)
    return parse_quote(platform.quote(body, REPORT_DATA))


def resign(platform: SimulatedPlatform, changed: QuoteV3) -> bytes:
    signature = sign_raw(platform._attestation_key, changed.signed)
    return dataclasses.replace(changed, signature=signature).serialize()


def publish(
    platform: SimulatedPlatform,
    dates: Mapping[str, issue.Span] | None = None,
    info: Mapping[str, Any] | None = None,
    qe: Mapping[str, Any] | None = None,
) -> IntelCollateral:
    """Collateral with other dates, or other fields of its documents."""
    state, pki = platform.state, platform.pki
    identity = issue.qe_identity("QE", issue.QE_ISV_PROD_ID, platform._qe_signer, state)
    publication = issue.Publication(issue._tcb_info(pki, state), identity, pki.tcb_signing)
    return issue.publish(pki, documents(publication, info or {}, qe or {}), state, spans(state, **dates or {}))


def _scene() -> Scene:
    platform = make()
    policy = {
        "version": 1,
        "evidence": {
            "simulation": True,
            "simulated_root": platform.root_fingerprint.hex(),
            "tcb_status": ["UpToDate"],
        },
        "sgx": {"mrenclave": [MRENCLAVE.hex()]},
    }
    return Scene(
        tee="sgx",
        version=3,
        evidence=quote(platform).serialize(),
        collateral=publish(platform).to_json(),
        roots=simulated(platform),
        policy=policy,
        tcb_status="UpToDate",
    )


MACHINE: Final = Machine(_scene(), make, quote, resign, publish)
SCENE: Final = MACHINE.scene


def cases() -> Iterator[Vector]:
    yield SCENE.accepted("healthy", "A healthy quote of version 3 is accepted.")
    yield from layout_cases(MACHINE, 432)
    yield from bytes_of_a_quote()
    yield from shared_cases(MACHINE)
    yield from key_that_is_no_point()
    yield from enclave_checks()
    yield from permitted()


def bytes_of_a_quote() -> Iterator[Vector]:
    data = SCENE.evidence
    for edge, comment, code, changed in (
        ("reserved byte of the header", "Bytes 4 to 7 of the header are zero.", E.QUOTE_RESERVED, put(data, 5, b"\1")),
        ("reserved byte of the report", "Bytes 21 to 31 of the report are zero.", E.QUOTE_RESERVED,
         put(data, 48 + 21, b"\1")),
        ("last reserved byte of the report", "Reserved bytes of the report are zero.", E.QUOTE_RESERVED,
         put(data, 48 + 303, b"\x80")),
        ("reserved byte of the qe report", "Reserved bytes of the QE report are zero.", E.QUOTE_RESERVED,
         put(data, 436 + 128 + 96, b"\1")),
        ("version 2", "Quotes of version 2 are not handled.", E.EVIDENCE_UNKNOWN, put(data, 0, b"\2\0")),
        ("empty", "No bytes are evidence of nothing.", E.EVIDENCE_UNKNOWN, b"\0"),
        ("text", "Text is no evidence.", E.EVIDENCE_UNKNOWN, b"not evidence at all"),
    ):  # fmt: skip
        yield SCENE.unparsed(edge, comment, code, changed)


def key_that_is_no_point() -> Iterator[Vector]:
    base, key = quote(MACHINE.platform), bytes(64)
    bound = hashlib.sha256(key + base.qe_auth_data).digest() + bytes(32)
    report = dataclasses.replace(base.qe_report, report_data=bound)
    signature = MACHINE.pki.pck.sign_raw(report.serialize())
    forged = dataclasses.replace(base, attestation_key=key, qe_report=report, qe_report_signature=signature)
    yield SCENE.unverified(
        "attestation key off its curve",
        "The QE vouches for a key that is no point on P-256.",
        E.ATTESTATION_KEY,
        evidence=forged.serialize(),
    )


def enclave_checks() -> Iterator[Vector]:
    """Each check of the enclave fails by itself."""
    platform = MACHINE.platform
    flags = platform.report_body(MRENCLAVE).flags
    both = {"mrenclave": None, "mrsigner": [platform.mr_signer.hex()], "isv_prod_id": 3, "isv_svn_min": 5}
    signer = merged(SCENE.policy, sgx=both)
    for edge, comment, code, fields, policy in (
        ("mrenclave not named", "The enclave is another.", F.MRENCLAVE, {"mr_enclave": bytes(32)}, None),
        ("mrsigner not named", "The enclave is another signer's.", F.MRSIGNER,
         {"mr_signer": bytes(32), "isv_prod_id": 3, "isv_svn": 5}, signer),
        ("product not named", "The enclave is another product.", F.ISV_PROD_ID,
         {"isv_prod_id": 4, "isv_svn": 5}, signer),
        ("isvsvn below its floor", "ISVSVN is one below the policy's floor.", F.ISV_SVN,
         {"isv_prod_id": 3, "isv_svn": 4}, signer),
        ("not initialised", "INIT is not set.", F.INIT, {"flags": flags & ~int(Attributes.INIT)}, None),
        ("not of 64 bits", "MODE64BIT is not set.", F.MODE64, {"flags": flags & ~int(Attributes.MODE64BIT)}, None),
        ("debug", "The enclave is in debug mode.", F.DEBUG, {"flags": flags | Attributes.DEBUG}, None),
        ("provision key", "The enclave has the provisioning key.", F.PROVISION_KEY,
         {"flags": flags | Attributes.PROVISION_KEY}, None),
        ("launch key", "The enclave has the launch key.", F.EINITTOKEN_KEY,
         {"flags": flags | Attributes.EINITTOKEN_KEY}, None),
        ("kss not permitted", "KSS is set, and the policy does not name it.", F.ATTRIBUTES,
         {"flags": flags | Attributes.KSS}, None),
        ("unknown attribute", "An attribute is set that nobody knows.", F.ATTRIBUTES, {"flags": flags | 1 << 63}, None),
        ("unknown xfrm", "A feature is enabled that nobody knows.", F.XFRM, {"xfrm": 0xE7 | 1 << 62}, None),
        ("xfrm without sse", "x87 and SSE are always enabled.", F.XFRM, {"xfrm": 0xE5}, None),
        ("miscselect", "The extended frame has EXINFO.", F.MISCSELECT, {"misc_select": 1}, None),
        ("cet attributes", "Control-flow attributes are set.", F.CET_ATTRIBUTES, {"cet_attributes": 1}, None),
        ("configid", "CONFIGID is set, and the policy names none.", F.CONFIG_ID, {"config_id": b"\1" * 64}, None),
        ("configsvn", "CONFIGSVN is set, and the policy names none.", F.CONFIG_SVN, {"config_svn": 1}, None),
        ("configsvn below the floor", "CONFIGSVN is one less than the floor.", F.CONFIG_SVN, {"config_svn": 1},
         merged(SCENE.policy, sgx={"config_svn_min": 2})),
        ("isvextprodid", "ISVEXTPRODID is set, and the policy names none.", F.ISV_EXT_PROD_ID,
         {"isv_ext_prod_id": b"\1" * 16}, None),
        ("isvfamilyid", "ISVFAMILYID is set, and the policy names none.", F.ISV_FAMILY_ID,
         {"isv_family_id": b"\1" * 16}, None),
    ):  # fmt: skip
        data = quote(platform, **fields).serialize()
        yield SCENE.refused(edge, comment, code, evidence=data, policy=policy or SCENE.policy)
    many = quote(platform, flags=flags | Attributes.DEBUG, misc_select=1, mr_enclave=bytes(32)).serialize()
    yield SCENE.refused(
        "three checks at once",
        "All failing checks are reported together.",
        F.DEBUG,
        F.MISCSELECT,
        F.MRENCLAVE,
        evidence=many,
    )


def permitted() -> Iterator[Vector]:
    """What the policy permits by name, and at its limit."""
    platform = MACHINE.platform
    flags = platform.report_body(MRENCLAVE).flags
    dangers = Attributes.DEBUG | Attributes.PROVISION_KEY | Attributes.EINITTOKEN_KEY
    yield SCENE.accepted(
        "dangers permitted",
        "Debug mode and both keys are permitted by name, and show as warnings.",
        warnings=(F.DEBUG, F.PROVISION_KEY, F.EINITTOKEN_KEY),
        evidence=quote(platform, flags=flags | dangers).serialize(),
        policy=merged(SCENE.policy, sgx={"debug": True, "provision_key": True, "einittoken_key": True}),
    )
    fields = {
        "flags": flags | Attributes.KSS,
        "misc_select": 1,
        "config_id": b"\2" * 64,
        "config_svn": 3,
        "isv_ext_prod_id": b"\4" * 16,
        "isv_family_id": b"\5" * 16,
    }
    named = {
        "attributes_allowed": ["KSS"],
        "miscselect_allowed": 1,
        "config_id": [(b"\2" * 64).hex()],
        "config_svn": 3,
        "isv_ext_prod_id": (b"\4" * 16).hex(),
        "isv_family_id": (b"\5" * 16).hex(),
    }
    yield SCENE.accepted(
        "configsvn at the floor",
        "CONFIGSVN is the least that the policy accepts.",
        evidence=quote(platform, config_svn=2).serialize(),
        policy=merged(SCENE.policy, sgx={"config_svn_min": 2}),
    )
    yield SCENE.accepted(
        "configuration named",
        "Key separation and its fields are as the policy names them.",
        evidence=quote(platform, **fields).serialize(),
        policy=merged(SCENE.policy, sgx=named),
    )
    signer = {"mrenclave": None, "mrsigner": [platform.mr_signer.hex()], "isv_prod_id": 3, "isv_svn_min": 5}
    yield SCENE.accepted(
        "signer named",
        "The signer is named, with its product and a floor that is just reached.",
        evidence=quote(platform, isv_prod_id=3, isv_svn=5).serialize(),
        policy=merged(SCENE.policy, sgx=signer),
    )
    yield SCENE.unverified(
        "collateral of trust domains",
        "The collateral is for TDX.",
        E.COLLATERAL_TEE,
        collateral=_tdx_collateral(),
    )


def _tdx_collateral() -> str:
    from tests.vectors.attestation.tdx import SCENE as TDX  # which is made with what this module shares

    assert TDX.collateral is not None
    return TDX.collateral


__all__ = ["MACHINE", "NOW", "SCENE", "cases", "quote"]
