"""What the cases of Azure's confidential VMs share, whatever the processor."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from attestation.azure.errors import AzureCode, AzureFinding
from attestation.errors import EvidenceCode as E
from attestation.errors import FindingCode as F
from attestation.sim.azure import BOOTED, CONFIGURATION, SimulatedAzure
from attestation.tpm.errors import TpmCode, TpmFinding
from manifests.errors import ErrorCode
from tests.vectors.attestation.intel import put
from tests.vectors.attestation.scene import NOW, REPORT_DATA, SEED, Scene, merged
from tests.vectors.attestation.vector import Vector

PCRS: Final = {"sha256": {"pcr7": [BOOTED[7].hex()]}}
HCL: Final = {"td_quote": "az-tdx", "vcek": "az-snp"}


@dataclass(frozen=True)
class Vm:
    """A scene with the machine behind it; endorsement: which member of the JSON vouches for the processor."""

    scene: Scene
    machine: SimulatedAzure
    endorsement: str

    def evidence(self, **changes: Any) -> bytes:
        return self.machine.evidence(REPORT_DATA, **changes)

    def members(self, **members: Any) -> bytes:
        """The healthy JSON with members replaced; None takes one out."""
        value = json.loads(self.scene.evidence) | members
        return json.dumps({name: item for name, item in value.items() if item is not None}).encode()


def shared_cases(vm: Vm) -> Iterator[Vector]:
    scene = vm.scene
    yield scene.accepted("healthy version 1", "Healthy evidence of version 1 is accepted.")
    second = vm.evidence(version=2)
    yield scene.accepted("healthy version 2", "In version 2 user data are bound.", version=2, evidence=second)
    enveloped = json.dumps({"platform": HCL[vm.endorsement], "evidence": json.loads(scene.evidence)}).encode()
    yield scene.accepted("envelope", "An envelope names the platform.", evidence=enveloped)
    yield from texts(vm)
    yield from reports(vm)
    yield from joints(vm)
    yield from claims(vm)
    yield from checks(vm)


def texts(vm: Vm) -> Iterator[Vector]:
    bad = AzureCode.EVIDENCE_MALFORMED
    quote = json.loads(vm.scene.evidence)["tpm_quote"]
    base = vm.scene.evidence
    wrong = {name: platform for name, platform in HCL.items() if name != vm.endorsement}
    envelope = json.dumps({"platform": min(wrong.values()), "evidence": json.loads(base)}).encode()
    for edge, comment, code, data in (
        ("version 3", "Version 3 is not handled.", AzureCode.EVIDENCE_VERSION, vm.members(version=3)),
        ("version true", "A boolean is no version.", AzureCode.EVIDENCE_VERSION, vm.members(version=True)),
        ("no version", "Version 0 has lists of numbers.", bad, vm.members(version=None)),
        ("no report", "The paravisor's report is missing.", bad, vm.members(hcl_report=None)),
        ("another member", "No other members are known.", bad, vm.members(more=1)),
        ("report in base64", "The report is base64url.", bad, vm.members(hcl_report="A+/A")),
        ("report of a number", "The report is text.", bad, vm.members(hcl_report=7)),
        ("message in capitals", "Byte strings are lower-case hex.", bad,
         vm.members(tpm_quote=quote | {"message": quote["message"].upper()})),
        ("quote without a message", "The quote has three members.", bad, vm.members(tpm_quote={"pcrs": []})),
        ("envelope of another platform", "The envelope names another platform than the report.", AzureCode.HCL_TEE,
         envelope),
        ("trailing text", "Something follows the JSON.", E.JSON_MALFORMED, base + b"}"),
        ("repeated name", "A name that comes twice says two things.", E.JSON_MALFORMED,
         base.replace(b'"version": 1', b'"version": 1, "version": 1')),
    ):  # fmt: skip
        yield vm.scene.unparsed(edge, comment, code, data)


def reports(vm: Vm) -> Iterator[Vector]:
    """The paravisor's report."""
    report = _report(vm)
    for edge, comment, code, changed in (
        ("report without its signature", "The report begins with HCLA.", AzureCode.HCL_MALFORMED, put(report, 0, b"X")),
        ("report of version 3", "The report is of version 3.", AzureCode.HCL_UNSUPPORTED, put(report, 4, b"\3")),
        ("report with a reserved byte", "Reserved bytes are zero.", AzureCode.HCL_MALFORMED, put(report, 20, b"\1")),
        ("report of an unknown hardware", "The type of the hardware report is unknown.", AzureCode.HCL_UNSUPPORTED,
         put(report, 1224, b"\3")),
        ("report with an endless length", "The runtime data are longer than the report.", AzureCode.HCL_MALFORMED,
         put(report, 1232, b"\xff\xff\xff\x7f")),
        ("report with a tail", "What fills the report up is zero.", AzureCode.HCL_MALFORMED, report[:-1] + b"\1"),
        ("report cut", "The report ends within its runtime data.", AzureCode.HCL_MALFORMED, report[:1235]),
    ):  # fmt: skip
        yield vm.scene.unparsed(edge, comment, code, vm.members(hcl_report=_base64url(changed)))


def _report(vm: Vm) -> bytes:
    text = json.loads(vm.scene.evidence)["hcl_report"]
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def joints(vm: Vm) -> Iterator[Vector]:
    """What hangs on what."""
    scene = vm.scene
    forged = vm.machine.runtime_data(**{"user-data": "33" * 64})
    table = json.loads(scene.evidence)["tpm_quote"]
    other = SimulatedAzure(bytes(32), vm.machine.report_type, vm.machine._report, vm.machine._endorsement)
    foreign = json.loads(other.evidence(REPORT_DATA))["tpm_quote"]
    for edge, comment, code, data in (
        ("runtime data exchanged", "The processor vouches for other runtime data.", AzureCode.RUNTIME_DATA,
         vm.evidence(hcl={"runtime_data": forged})),
        ("quote of another vtpm", "Another vTPM made the quote.", TpmCode.SIGNATURE, vm.members(tpm_quote=foreign)),
        ("pcr value altered", "A value that is carried was altered.", TpmCode.PCR_DIGEST,
         vm.members(tpm_quote=table | {"pcrs": ["11" * 32, *table["pcrs"][1:]]})),
        ("quote over other values", "The digest is of other values.", TpmCode.PCR_DIGEST,
         vm.evidence(pcr_digest=bytes(32))),
    ):  # fmt: skip
        yield scene.unverified(edge, comment, code, evidence=data)
    unbound = vm.evidence(version=2, claims={"user-data": "11" * 64})
    yield scene.unverified(
        "user data not bound", "In version 2 user data are the quote's qualifying data.", AzureCode.USER_DATA,
        version=2, evidence=unbound,
    )  # fmt: skip
    free = vm.evidence(claims={"user-data": "11" * 64})
    yield scene.accepted("user data free", "In version 1 user data are anything.", evidence=free)
    yield scene.unverified(
        "no collateral", "There is no collateral of the processor.", E.COLLATERAL_MISSING, collateral=None
    )
    yield scene.unverified(
        "root not trusted", "Only the vendors' roots are trusted.", E.CHAIN_ROOT, roots=(("vendor", ""),)
    )
    yield scene.refused(
        "other report data", "The quote is bound to something else.", F.REPORT_DATA, report_data=bytes(64)
    )


def claims(vm: Vm) -> Iterator[Vector]:
    """Runtime data that the processor vouches for, and that do not name one usable key."""
    key = json.loads(vm.machine.runtime_data())["keys"][0]
    bad = AzureCode.RUNTIME_CLAIMS
    table: tuple[tuple[str, str, ErrorCode, dict[str, Any]], ...] = (
        ("no key", "No key is named.", bad, {"keys": []}),
        ("two keys", "Two keys are named.", bad, {"keys": [key, key]}),
        ("key of another name", "The key is the endorsement key.", bad, {"keys": [key | {"kid": "HCLEkPub"}]}),
        ("key of another type", "The key is on a curve.", bad, {"keys": [key | {"kty": "EC"}]}),
        ("key with exponent 3", "The exponent is 65537.", bad, {"keys": [key | {"e": "Aw"}]}),
        ("key with leading zeros", "The modulus has one encoding.", bad, {"keys": [key | {"n": "AAAA" + key["n"]}]}),
        ("key too small", "The key has 600 bits.", TpmCode.KEY_SIZE, {"keys": [key | {"n": key["n"][:100]}]}),
        ("configuration of a list", "The configuration is a map.", bad, {"vm-configuration": []}),
        ("user data too short", "User data have 64 bytes.", bad, {"user-data": "00"}),
    )
    for edge, comment, code, changes in table:
        yield vm.scene.unverified(edge, comment, code, evidence=vm.evidence(claims=changes))


def checks(vm: Vm) -> Iterator[Vector]:
    scene, name = vm.scene, vm.scene.tee
    policy: Any = scene.policy
    for edge, member, value, code, field in (
        ("secure boot off", "secure-boot", False, AzureFinding.SECURE_BOOT, "insecure_boot"),
        ("secure boot of text", "secure-boot", "true", AzureFinding.SECURE_BOOT, "insecure_boot"),
        ("console on", "console-enabled", True, AzureFinding.CONSOLE, "console"),
        ("console not said", "console-enabled", None, AzureFinding.CONSOLE, "console"),
    ):
        data = vm.evidence(claims={"vm-configuration": {**CONFIGURATION, member: value}})
        yield scene.refused(edge, f"The paravisor says of {member}: {value}.", code, evidence=data)
        permitted = merged(policy, **{name: {field: True}})
        yield scene.accepted(
            f"{edge} permitted", "The policy permits it by name.", warnings=(code,), evidence=data, policy=permitted
        )
    named = merged(policy, **{name: {"vm_ids": ["another"]}})
    yield scene.refused("vm not named", "The VM is none that the policy names.", AzureFinding.VM_ID, policy=named)
    own = merged(policy, **{name: {"vm_ids": [CONFIGURATION["vmUniqueId"].lower()]}})
    yield scene.accepted("vm named", "The VM's id is named, in lower case.", policy=own)
    booted = vm.evidence(pcrs={7: b"\1" * 32})
    yield scene.refused("pcr not named", "PCR 7 has another value.", TpmFinding.PCR, evidence=booted)
    for part in ("tpm", name):
        rest = {key: table for key, table in policy.items() if key != part}
        yield scene.refused(f"no table for {part}", "The policy lacks one of the parts.", F.TEE, policy=rest)


__all__ = ["NOW", "SEED", "Vm", "shared_cases"]
