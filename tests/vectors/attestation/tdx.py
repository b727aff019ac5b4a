"""Cases of TDX quotes, versions 4 and 5."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Final

from attestation.errors import EvidenceCode as E
from attestation.errors import FindingCode as F
from attestation.intel.collateral import IntelCollateral
from attestation.intel.errors import TdxCode, TdxFinding
from attestation.intel.td_abi import TdAttributes, TdQuote
from attestation.sim import issue
from attestation.sim.pki import Lifetimes
from attestation.sim.signature import sign_raw
from attestation.sim.state import UNLISTED
from attestation.sim.tdx import MODULE_SVN, MODULE_VERSION, TEE_TCB_SVN, SimulatedTdx, TdxState
from tests.vectors.attestation.intel import Machine, documents, layout_cases, put, shared_cases, simulated, spans
from tests.vectors.attestation.scene import CREATED, REPORT_DATA, SEED, Scene, merged
from tests.vectors.attestation.vector import Vector

MRTD: Final = bytes([9]) * 48
ZERO: Final = "00" * 48


def make(created: int = CREATED, lifetimes: Lifetimes | None = None, **state: Any) -> SimulatedTdx:
    return SimulatedTdx(SEED, created, TdxState(**state), lifetimes)


def quote(platform: SimulatedTdx, version: int = 4, **fields: Any) -> TdQuote:
    """The quote of a TD with these fields in its report."""
    report = platform.report(fields.pop("mr_td", MRTD), REPORT_DATA, current=version >= 5, **fields)
    return platform.quote(report, version)


def resign(platform: SimulatedTdx, changed: TdQuote) -> bytes:
    return dataclasses.replace(changed, signature=sign_raw(platform.attestation_key, changed.signed)).serialize()


def publish(
    platform: SimulatedTdx,
    dates: Mapping[str, issue.Span] | None = None,
    info: Mapping[str, Any] | None = None,
    qe: Mapping[str, Any] | None = None,
) -> IntelCollateral:
    """Collateral with other dates, or other fields of its documents."""
    publication = documents(platform.publication(), info or {}, qe or {})
    return platform.collateral_with(spans(platform.state, **dates or {}), publication)


def _scene() -> Scene:
    platform = make()
    policy = {
        "version": 1,
        "evidence": {
            "simulation": True,
            "simulated_root": platform.root_fingerprint.hex(),
            "tcb_status": ["UpToDate"],
        },
        "tdx": {"mrtd": [MRTD.hex()], "rtmr1": [ZERO], "rtmr2": [ZERO]},
    }
    return Scene(
        tee="tdx",
        version=4,
        evidence=quote(platform).serialize(),
        collateral=publish(platform).to_json(),
        roots=simulated(platform),
        policy=policy,
        tcb_status="UpToDate",
    )


MACHINE: Final = Machine(_scene(), make, quote, resign, publish)
SCENE: Final = MACHINE.scene
V5: Final = SCENE.but(version=5, evidence=quote(MACHINE.platform, 5).serialize())


def cases() -> Iterator[Vector]:
    yield SCENE.accepted("healthy version 4", "A healthy quote of version 4 is accepted.")
    yield V5.accepted("healthy version 5", "A healthy quote of version 5 with a TD report 1.5 is accepted.")
    yield from layout_cases(MACHINE, 632)
    yield from bytes_of_a_quote()
    yield from shared_cases(MACHINE)
    yield from modules()
    yield from relaunches()
    yield from td_checks()
    yield from permitted()


def bytes_of_a_quote() -> Iterator[Vector]:
    v4, v5 = SCENE.evidence, V5.evidence
    for edge, comment, code, changed in (
        ("tee type of an enclave", "The quote of version 4 is of an enclave.", TdxCode.TEE_TYPE, put(v4, 4, bytes(4))),
        ("reserved byte of the header", "Bytes 8 to 11 of the header are zero.", E.QUOTE_RESERVED, put(v4, 9, b"\1")),
        ("version 6", "Quotes of version 6 are not handled.", E.EVIDENCE_UNKNOWN, put(v4, 0, b"\6\0")),
    ):
        yield SCENE.unparsed(edge, comment, code, changed)
    for edge, comment, code, changed in (
        ("body of an enclave", "Body type 1 is an enclave's report.", TdxCode.BODY_TYPE, put(v5, 48, b"\1\0")),
        ("body of an unknown type", "Body type 4 is not handled.", TdxCode.BODY_TYPE, put(v5, 48, b"\4\0")),
        (
            "body of another size",
            "The body is a byte shorter than its type.",
            E.QUOTE_LENGTHS,
            put(v5, 50, b"\x87\x02"),
        ),
    ):
        yield V5.unparsed(edge, comment, code, changed)


def svns(*numbers: int) -> bytes:
    return bytes((*numbers, *[0] * (16 - len(numbers))))


def modules() -> Iterator[Vector]:
    """The TDX module: its version, signer, attributes and levels."""
    platform = MACHINE.platform
    for edge, comment, code, fields in (
        ("module of another version", "TCB info knows no module of version 4.", TdxCode.MODULE_UNKNOWN,
         {"tee_tcb_svn": svns(MODULE_SVN, MODULE_VERSION + 1, 2)}),
        ("module below every level", "The module is below every level of its identity.", TdxCode.MODULE_NO_MATCH,
         {"tee_tcb_svn": svns(MODULE_SVN - 2, MODULE_VERSION, 2)}),
        ("module of another signer", "The module's signer is not its identity's.", TdxCode.MODULE_SIGNER,
         {"mr_signer_seam": b"\1" + bytes(47)}),
        ("module with an attribute", "The module's attributes are not its identity's.", TdxCode.MODULE_ATTRIBUTES,
         {"seam_attributes": 1}),
        ("tdx component below every level", "The microcode of TEE_TCB_SVN reaches no level.", E.TCB_NO_MATCH,
         {"tee_tcb_svn": svns(MODULE_SVN, MODULE_VERSION, 1)}),
    ):  # fmt: skip
        yield SCENE.unverified(edge, comment, code, evidence=quote(platform, **fields).serialize())
    yield SCENE.unverified(
        "module identities absent",
        "TCB info without identities knows no module that has a version.",
        TdxCode.MODULE_UNKNOWN,
        collateral=publish(platform, info={"tdxModuleIdentities": None}).to_json(),
    )
    yield SCENE.unverified(
        "module Revoked", "The module's level is revoked.", E.TCB_REVOKED, **MACHINE.state(module_status="Revoked")
    )
    yield SCENE.unverified(
        "module unlisted",
        "The module reaches no level that is published.",
        TdxCode.MODULE_NO_MATCH,
        **MACHINE.state(module_status=UNLISTED),
    )
    for status, result in (("UpToDate", "OutOfDate"), ("ConfigurationNeeded", "OutOfDateConfigurationNeeded")):
        yield SCENE.refused(
            f"module OutOfDate under {status}",
            "The module is out of date: the worse of module and platform counts.",
            F.TCB_STATUS,
            **MACHINE.state(tcb_status=status, module_status="OutOfDate") | {"tcb_status": result},
        )
    advised = MACHINE.state(module_status="OutOfDate", module_advisories=("INTEL-SA-01036",))
    yield SCENE.refused(
        "module with an advisory",
        "The advisory of the module's level counts beside the platform's.",
        F.ADVISORIES,
        F.TCB_STATUS,
        **advised | {"tcb_status": "OutOfDate"},
    )
    yield SCENE.unverified(
        "collateral of enclaves", "The collateral is for SGX.", E.COLLATERAL_TEE, collateral=_sgx_collateral()
    )


def _sgx_collateral() -> str:
    from tests.vectors.attestation.sgx import SCENE as SGX  # which shares this module's collateral in turn

    assert SGX.collateral is not None
    return SGX.collateral


def relaunches() -> Iterator[Vector]:
    """TD report 1.5: what the TD was launched under, and what runs now."""
    platform = make(relaunch=True)
    configured = make(relaunch=True, tcb_status="ConfigurationNeeded")
    for edge, status, subject in (
        ("relaunch advised", "TDRelaunchAdvised", platform),
        ("relaunch and configuration advised", "TDRelaunchAdvisedConfigurationNeeded", configured),
    ):
        changes: dict[str, Any] = {
            "evidence": quote(subject, 5).serialize(),
            "collateral": publish(subject).to_json(),
            "tcb_status": status,
        }
        comment = "The module was updated since the launch, and what the TD was launched under is out of date."
        yield V5.refused(edge, comment, F.TCB_STATUS, **changes)
        named = merged(SCENE.policy, evidence={"tcb_status": ["UpToDate", status]})
        yield V5.accepted(f"{edge} permitted", comment, warnings=(F.TCB_STATUS,), **changes | {"policy": named})
    back = quote(MACHINE.platform, 5, tee_tcb_svn=TEE_TCB_SVN, tee_tcb_svn2=svns(MODULE_SVN - 1, MODULE_VERSION, 2))
    yield V5.refused(
        "module taken back",
        "An older module runs than the TD was launched under, and counts.",
        F.TCB_STATUS,
        evidence=back.serialize(),
        tcb_status="OutOfDate",
    )
    for edge, comment, code, current in (
        ("present module unknown", "The module that runs now has no identity.", TdxCode.MODULE_UNKNOWN,
         svns(MODULE_SVN, MODULE_VERSION + 1, 2)),
        ("present module below every level", "The module that runs now reaches no level.", TdxCode.MODULE_NO_MATCH,
         svns(MODULE_SVN - 2, MODULE_VERSION, 2)),
        ("present components below every level", "The components of now reach no level.", E.TCB_NO_MATCH,
         svns(MODULE_SVN, MODULE_VERSION, 1)),
    ):  # fmt: skip
        data = quote(MACHINE.platform, 5, tee_tcb_svn2=current).serialize()
        yield V5.unverified(edge, comment, code, evidence=data)


def td_checks() -> Iterator[Vector]:
    """Each check of the TD fails by itself."""
    platform, other = MACHINE.platform, b"\1" * 48
    attributes = platform.report(MRTD, REPORT_DATA).td_attributes
    rtmrs = merged(SCENE.policy, tdx={"rtmr0": [ZERO], "rtmr3": [ZERO]})
    seam = merged(SCENE.policy, tdx={"mrseam": ["11" * 48]})
    for edge, comment, code, fields, policy in (
        ("mrtd not named", "MRTD is another.", TdxFinding.MRTD, {"mr_td": other}, None),
        ("rtmr0 not named", "RTMR0 is another.", TdxFinding.RTMR0, {"rtmr0": other}, rtmrs),
        ("rtmr1 not named", "RTMR1 is another.", TdxFinding.RTMR1, {"rtmr1": other}, None),
        ("rtmr2 not named", "RTMR2 is another.", TdxFinding.RTMR2, {"rtmr2": other}, None),
        ("rtmr3 not named", "RTMR3 is another.", TdxFinding.RTMR3, {"rtmr3": other}, rtmrs),
        ("mrconfigid not named", "MRCONFIGID is set.", TdxFinding.MRCONFIGID, {"mr_config_id": other}, None),
        ("mrowner not named", "MROWNER is set.", TdxFinding.MROWNER, {"mr_owner": other}, None),
        ("mrownerconfig not named", "It is set.", TdxFinding.MROWNERCONFIG, {"mr_owner_config": other}, None),
        ("mrseam not named", "The TDX module is none that the policy names.", TdxFinding.MRSEAM, {}, seam),
        ("debug", "The TD is under debug.", TdxFinding.DEBUG, {"td_attributes": attributes | TdAttributes.DEBUG}, None),
        ("profiled", "The host may profile the TD.", TdxFinding.DEBUG,
         {"td_attributes": attributes | TdAttributes.PERF_PROF}, None),
        ("sept ve", "The host can cause #VE on the TD's pages.", TdxFinding.SEPT_VE, {"td_attributes": 0}, None),
        ("migratable", "The TD can be migrated.", TdxFinding.MIGRATABLE,
         {"td_attributes": attributes | TdAttributes.MIGRATABLE}, None),
        ("perfmon not permitted", "PERFMON is set, and the policy does not name it.", TdxFinding.ATTRIBUTES,
         {"td_attributes": attributes | TdAttributes.PERFMON}, None),
        ("unknown attribute", "An attribute is set that nobody knows.", TdxFinding.ATTRIBUTES,
         {"td_attributes": attributes | 1 << 40}, None),
        ("unknown xfam", "A feature is enabled that nobody knows.", TdxFinding.XFAM, {"xfam": 0x602E7 | 1 << 62}, None),
        ("xfam without sse", "x87 and SSE are always enabled.", TdxFinding.XFAM, {"xfam": 0x602E5}, None),
    ):  # fmt: skip
        data = quote(platform, **fields).serialize()
        yield SCENE.refused(edge, comment, code, evidence=data, policy=policy or SCENE.policy)
    yield V5.refused(
        "service td not named",
        "A service TD is bound.",
        TdxFinding.MRSERVICETD,
        evidence=quote(platform, 5, mr_service_td=other).serialize(),
    )
    yield from _strange_modules()


def _strange_modules() -> Iterator[Vector]:
    """A vendor that publishes a module with a signer or attributes: genuine, and still refused."""
    for edge, code, fields, identity in (
        ("module signed by others", TdxFinding.MRSIGNERSEAM, {"mr_signer_seam": b"\1" * 48}, {"mrsigner": "01" * 48}),
        ("module attributes published", TdxFinding.SEAM_ATTRIBUTES, {"seam_attributes": 1},
         {"attributes": "0100000000000000"}),
    ):  # fmt: skip
        info = MACHINE.platform.publication().tcb_info
        modules_ = [{**module, **identity} for module in info["tdxModuleIdentities"]]
        yield SCENE.refused(
            edge,
            "The module is as published, and not as Intel's own modules are.",
            code,
            evidence=quote(MACHINE.platform, **fields).serialize(),
            collateral=publish(MACHINE.platform, info={"tdxModuleIdentities": modules_}).to_json(),
        )


def permitted() -> Iterator[Vector]:
    platform, other = MACHINE.platform, b"\2" * 48
    dangers = TdAttributes.DEBUG | TdAttributes.MIGRATABLE
    yield SCENE.accepted(
        "dangers permitted",
        "Debug, migration and #VE are permitted by name, and show as warnings.",
        warnings=(TdxFinding.DEBUG, TdxFinding.MIGRATABLE, TdxFinding.SEPT_VE),
        evidence=quote(platform, td_attributes=int(dangers)).serialize(),
        policy=merged(SCENE.policy, tdx={"debug": True, "migratable": True, "sept_ve": True}),
    )
    fields = dict.fromkeys(("mr_config_id", "mr_owner", "mr_owner_config", "mr_service_td", "rtmr3"), other)
    named = {key: [other.hex()] for key in ("mrconfigid", "mrowner", "mrownerconfig", "mrservicetd", "rtmr3")}
    yield V5.accepted(
        "owner and service named",
        "Configuration, owner and service TD are as the policy names them.",
        evidence=quote(platform, 5, **fields).serialize(),
        policy=merged(SCENE.policy, tdx=named),
    )
    component = {"tcb_components_min": {"tdxtcbcomp03svn": 3}}
    yield SCENE.refused(
        "tdx component below its floor",
        "The third TDX component is one below the policy's floor.",
        F.TCB_COMPONENTS,
        policy=merged(SCENE.policy, tdx=component),
    )
