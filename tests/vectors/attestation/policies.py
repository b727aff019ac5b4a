"""Cases of policies that cannot stand, of lists of broken hardware, and of evidence inside what tools wrap it in."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from typing import Any, Final

from attestation.collateral.errors import FetchCode
from attestation.errors import EvidenceCode as E
from attestation.errors import FindingCode as F
from attestation.errors import PolicyCode as P
from attestation.policy.feed import CONTEXT
from attestation.validity import rfc3339
from manifests.errors import ErrorCode
from manifests.signing import Signer
from tests.vectors.attestation import nitro, sgx, snp, tdx, tpm
from tests.vectors.attestation.scene import DAY, NOW, merged
from tests.vectors.attestation.sgx import MACHINE, SCENE
from tests.vectors.attestation.vector import Vector

WATCHER: Final = Signer.from_seed(bytes([9]) * 32)
STRANGER: Final = Signer.from_seed(bytes([8]) * 32)


def cases() -> Iterator[Vector]:
    yield from tables()
    yield from other_tables()
    yield from feeds()
    yield from wrapped()


def tables() -> Iterator[Vector]:
    base: Any = SCENE.policy
    root = base["evidence"]["simulated_root"]
    signer = {"mrenclave": None, "mrsigner": ["11" * 32]}
    table: tuple[tuple[str, str, ErrorCode, Any], ...] = (
        ("no toml", "The policy is not TOML.", P.POLICY_MALFORMED, "version = \n"),
        ("version 2", "The policy is of a later version.", P.POLICY_VERSION, base | {"version": 2}),
        ("version true", "A boolean is no version.", P.POLICY_VERSION, base | {"version": True}),
        ("no version", "A policy has a version.", P.POLICY_VERSION, {k: v for k, v in base.items() if k != "version"}),
        ("unknown table", "Nobody knows the table.", P.POLICY_MALFORMED, base | {"sev": {}}),
        ("unknown field", "Nobody knows the field.", P.POLICY_MALFORMED, merged(base, sgx={"mr_enclave": "x"})),
        ("no table of a tee", "Nothing says what code is accepted.", P.POLICY_VACUOUS,
         {k: v for k, v in base.items() if k != "sgx"}),
        ("no evidence table", "[evidence] is required.", P.POLICY_MALFORMED,
         {k: v for k, v in base.items() if k != "evidence"}),
        ("no status", "No status is accepted.", P.POLICY_VACUOUS, merged(base, evidence={"tcb_status": None})),
        ("unknown status", "Nobody knows the status.", P.POLICY_MALFORMED,
         merged(base, evidence={"tcb_status": ["Fine"]})),
        ("status Revoked", "No policy accepts a revoked TCB.", P.POLICY_CONTRADICTION,
         merged(base, evidence={"tcb_status": ["Revoked"]})),
        ("simulation without its root", "Any simulator would do.", P.POLICY_VACUOUS,
         merged(base, evidence={"simulated_root": None})),
        ("root without simulation", "The two need each other.", P.POLICY_CONTRADICTION,
         merged(base, evidence={"simulation": None})),
        ("no enclave", "No enclave is named.", P.POLICY_VACUOUS, merged(base, sgx={"mrenclave": None})),
        ("empty list", "A list that admits nothing says nothing.", P.POLICY_VACUOUS,
         merged(base, sgx={"mrenclave": []})),
        ("signer without a product", "A signer signs more than one program.", P.POLICY_VACUOUS,
         merged(base, sgx=signer)),
        ("mrenclave of 31 bytes", "A measurement has 32 bytes.", P.POLICY_MALFORMED,
         merged(base, sgx={"mrenclave": ["11" * 31]})),
        ("mrenclave in capitals", "Hex has one form.", P.POLICY_MALFORMED,
         merged(base, sgx={"mrenclave": ["AA" * 32]})),
        ("floor of text", "A floor is a number.", P.POLICY_MALFORMED, merged(base, sgx={"isv_svn_min": "5"})),
        ("unknown component", "Nobody knows the component.", P.POLICY_MALFORMED,
         merged(base, sgx={"tcb_components_min": {"sgxtcbcomp17svn": 1}})),
        ("advisories all and one", "The two exclude each other.", P.POLICY_CONTRADICTION,
         merged(base, evidence={"advisories_accepted": ["*", "INTEL-SA-00334"]})),
        ("advisories refused anyway", "What is not accepted is refused anyway.", P.POLICY_VACUOUS,
         merged(base, evidence={"advisories_refused": ["INTEL-SA-00334"]})),
        ("unknown id denied", "Nobody knows the kind of id.", P.POLICY_MALFORMED,
         merged(base, evidence={"platforms_denied": {"serial": ["1"]}})),
        ("simulation with a replaced root", "A simulated platform has no vendor.", P.POLICY_CONTRADICTION,
         merged(base, evidence={"dangerous_replacement_roots": {"intel": [root]}})),
        ("date that is none", "A date has one form.", P.POLICY_MALFORMED,
         merged(base, evidence={"tcb_date_min": "yesterday"})),
    )  # fmt: skip
    for edge, comment, code, policy in table:
        yield SCENE.fails("policy", f"policy {edge}", comment, code, policy=policy)


def other_tables() -> Iterator[Vector]:
    """What the tables of the other TEEs refuse."""
    zero, some = ["00" * 48], ["11" * 48]
    table: tuple[tuple[Any, str, str, ErrorCode, dict[str, Any]], ...] = (
        (sgx.SCENE, "configsvn and a floor", "One value, or a floor.", P.POLICY_CONTRADICTION,
         {"config_svn": 1, "config_svn_min": 1}),
        (tdx.SCENE, "no td", "No TD is named.", P.POLICY_VACUOUS, {"mrtd": None}),
        (tdx.SCENE, "no rtmr", "MRTD covers the firmware alone.", P.POLICY_VACUOUS, {"rtmr1": None, "rtmr2": None}),
        (tdx.SCENE, "registers of no system", "RTMR0 and RTMR3 do not say what was booted.", P.POLICY_VACUOUS,
         {"rtmr1": None, "rtmr2": None, "rtmr0": zero, "rtmr3": zero}),
        (snp.SCENE, "no guest", "No guest is named.", P.POLICY_VACUOUS, {"measurement": None}),
        (snp.SCENE, "no floor", "Any firmware would do.", P.POLICY_VACUOUS, {"reported_tcb_min": None}),
        (snp.SCENE, "lent to anyone", "AMD lends keys to any provider.", P.POLICY_VACUOUS, {"signing_keys": ["vlek"]}),
        (snp.SCENE, "provider without lent keys", "The two need each other.", P.POLICY_CONTRADICTION,
         {"csp_id": ["CN=cloud"]}),
        (snp.SCENE, "agent without migration", "The two need each other.", P.POLICY_CONTRADICTION,
         {"report_id_ma": ["11" * 32]}),
        (snp.SCENE, "floor of a product left out", "The product is not accepted.", P.POLICY_CONTRADICTION,
         {"reported_tcb_min": {"milan": {"snp": 1}}, "launch_tcb_min": {"genoa": {"snp": 1}}}),
        (nitro.SCENE, "no image", "No image is named.", P.POLICY_VACUOUS, {"pcrs": {"pcr1": some}}),
        (nitro.SCENE, "image of debug mode", "PCR0 is zero in debug mode alone.", P.POLICY_CONTRADICTION,
         {"pcrs": {"pcr0": zero}}),
        (nitro.SCENE, "no signer", "PCR8 is zero where nobody signed.", P.POLICY_CONTRADICTION,
         {"pcrs": {"pcr8": zero}}),
        (nitro.SCENE, "register 32", "There are 32 registers.", P.POLICY_MALFORMED, {"pcrs": {"pcr32": some}}),
        (tpm.SCENE, "no pcr", "No PCR is named.", P.POLICY_VACUOUS, {"pcrs": None}),
        (tpm.SCENE, "registers that anyone resets", "Software resets PCR 16 and PCR 23.", P.POLICY_VACUOUS,
         {"pcrs": {"sha256": {"pcr16": ["00" * 32], "pcr23": ["00" * 32]}}}),
        (tpm.SCENE, "registers as they begin", "PCR 7 begins with zeros, PCR 17 with ones, PCR 0 with a locality.",
         P.POLICY_VACUOUS,
         {"pcrs": {"sha256": {"pcr0": ["00" * 31 + "03"], "pcr7": ["00" * 32, "11" * 32], "pcr17": ["ff" * 32]}}}),
        (tpm.SCENE, "bank of sha-1", "SHA-1 is too weak.", P.POLICY_MALFORMED,
         {"pcrs": {"sha1": {"pcr7": ["11" * 20]}}}),
        (tpm.SCENE, "pcr explained and not", "The two exclude each other.", P.POLICY_CONTRADICTION,
         {"event_log_pcrs": [9], "event_log_partial": [9]}),
    )  # fmt: skip
    for scene, edge, comment, code, fields in table:
        policy = merged(scene.policy, **{scene.tee: fields})
        yield scene.fails("policy", f"policy {edge}", comment, code, policy=policy)


# ------------------------------------------------------------------------------------------------- broken hardware


def entry(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "id": "SR-1",
        "date": "2025-09-01T00:00:00Z",
        "reason": "its attestation key was read off the memory bus",
        "tees": ["sgx"],
        "platforms": {"ppid": [MACHINE.pki.extension.ppid.hex()]},
    }
    return {name: value for name, value in (values | changes).items() if value is not None}


def feed(*entries: dict[str, Any], signer: Signer = WATCHER, **changes: Any) -> str:
    body = {
        "version": 1,
        "serial": 7,
        "issued": rfc3339(NOW - DAY),
        "expires": rfc3339(NOW + 5 * DAY),
        "entries": list(entries),
    }
    text = json.dumps(body | changes, sort_keys=True, separators=(",", ":"))
    return json.dumps({"feed": text, "signature": signer.sign(CONTEXT, text.encode()).hex()})


def listed(text: str, **fields: Any) -> dict[str, Any]:
    named = {"broken_hardware": text, "broken_hardware_key": WATCHER.public.hex()}
    return merged(SCENE.policy, evidence=named | fields)


def feeds() -> Iterator[Vector]:
    fmspc = {"fmspc": [MACHINE.pki.extension.fmspc.hex()]}
    below = entry(platforms=None, below={"pcesvn": 14})
    advised = entry(platforms=None, advisories=["INTEL-SA-00615"])
    for edge, item in (
        ("by ppid", entry()),
        ("by family", entry(platforms=fmspc)),
        ("below a version", below),
    ):
        comment = "The signed list of broken hardware names the platform."
        yield SCENE.refused(f"broken {edge}", comment, F.BROKEN, policy=listed(feed(item)))
    state = MACHINE.state(tcb_status="SWHardeningNeeded", advisories=("INTEL-SA-00615",))
    accepts = {"tcb_status": ["SWHardeningNeeded"], "advisories_accepted": ["*"]}
    yield SCENE.refused(
        "broken by an advisory",
        "The list names whatever the advisory applies to, though the policy accepts it.",
        F.BROKEN,
        **state | {"tcb_status": "SWHardeningNeeded", "policy": listed(feed(advised), **accepts)},
    )
    for edge, item in (
        ("of another platform", entry(platforms={"ppid": ["11" * 16]})),
        ("of another tee", entry(tees=["tdx"])),
        ("at its version", entry(platforms=None, below={"pcesvn": 13})),
        ("of both conditions", entry(below={"pcesvn": 13})),
    ):
        yield SCENE.accepted(f"broken {edge}", "A condition of the entry does not hold.", policy=listed(feed(item)))
    empty = listed(feed())
    for edge, code, now in (
        ("not valid yet", F.FEED_DATES, NOW - DAY - 1),
        ("just expired", F.FEED_DATES, NOW + 5 * DAY),
    ):
        dated = {"collateral": MACHINE.publish(MACHINE.platform, dates=_wide()).to_json(), "now": now}
        yield SCENE.refused(f"list {edge}", "The list's end is exclusive.", code, policy=empty, **dated)
    for edge, now in (("first second", NOW - DAY), ("last second", NOW + 5 * DAY - 1)):
        dated = {"collateral": MACHINE.publish(MACHINE.platform, dates=_wide()).to_json(), "now": now}
        yield SCENE.accepted(f"list {edge}", "The list's end is exclusive.", policy=empty, **dated)
    yield SCENE.refused("list too old", "The list is a second too old.", F.FEED_AGE,
                        policy=listed(feed(), broken_hardware_max_age=DAY - 1))  # fmt: skip
    yield SCENE.accepted("list at its age", "The list is just young enough.",
                         policy=listed(feed(), broken_hardware_max_age=DAY, broken_hardware_serial_min=7))  # fmt: skip
    signed = json.loads(feed())
    for edge, comment, code, policy in (
        ("list of a stranger", "Another key signed the list.", P.FEED_SIGNATURE, listed(feed(signer=STRANGER))),
        ("list rolled back", "The list is older than the policy's floor.", P.FEED_ROLLED_BACK,
         listed(feed(), broken_hardware_serial_min=8)),
        ("list of a later version", "The list is of version 2.", P.FEED_VERSION, listed(feed(version=2))),
        ("list without entries", "The list has no member for them.", P.FEED_MALFORMED,
         listed(json.dumps({name: signed[name] for name in list(signed)[:1]}))),
        ("list of advisories of another tee", "Evidence of SEV-SNP shows no advisories.", P.FEED_MALFORMED,
         listed(feed(entry(tees=["snp"], platforms=None, advisories=["AMD-SB-3019"])))),
        ("list of a product misspelt", "Products are milan, genoa and turin.", P.FEED_MALFORMED,
         listed(feed(entry(tees=["snp"], platforms={"product": ["Genoa"]})))),
        ("list without its key", "The list could be anyone's.", P.POLICY_VACUOUS,
         listed(feed(), broken_hardware_key=None)),
    ):  # fmt: skip
        yield SCENE.fails("policy", edge, comment, code, policy=policy)


def _wide() -> dict[str, tuple[int, int]]:
    span = (NOW - 10 * DAY, NOW + 10 * DAY)
    return {"root_crl": span, "pck_crl": span, "tcb_info": span, "qe_identity": span}


# ---------------------------------------------------------------------------------------------------------- wrapped


def wrapped() -> Iterator[Vector]:
    """Evidence as tools hand it out; see docs/attestation.md."""
    scene, data = SCENE.but(wrapped=True), SCENE.evidence
    text = base64.b64encode(data).decode()
    lines = "\n".join(text[at : at + 64] for at in range(0, len(text), 64))
    armour = f"-----BEGIN QUOTE-----\n{lines}\n-----END QUOTE-----\n"
    forms: tuple[tuple[str, bytes], ...] = (
        ("raw", data),
        ("hex", data.hex().encode()),
        ("hex with 0x in capitals", b"0x" + data.hex().upper().encode()),
        ("base64", text.encode()),
        ("base64url without padding", base64.urlsafe_b64encode(data).rstrip(b"=")),
        ("armour", armour.encode()),
        ("json", json.dumps({"status": 0, "result": {"quote": text}}).encode()),
        ("json list of numbers", json.dumps({"quote": list(data)}).encode()),
        ("gzip in base64", base64.b64encode(gzip.compress(data, mtime=0))),
        ("zero padding", data + bytes(512)),
        ("hex in base64 in json", json.dumps({"evidence": base64.b64encode(data.hex().encode()).decode()}).encode()),
    )
    for edge, form in forms:
        yield scene.accepted(f"wrapped {edge}", "A wrapping changes nothing of what is inside.", evidence=form)
    other = json.dumps({"quote": text, "report": base64.b64encode(_other()).decode()}).encode()
    deep = data.hex().encode()
    for _ in range(9):
        deep = base64.b64encode(deep)
    nested: Any = text
    for _ in range(20):
        nested = {"quote": nested}
    for edge, comment, code, form in (
        ("two pieces", "Two pieces of evidence are inside.", E.WRAPPING_AMBIGUOUS, other),
        ("repeated name", "Tools disagree on which of the two counts.", E.WRAPPING_AMBIGUOUS,
         f'{{"quote": "{text}", "quote": "{text}"}}'.encode()),
        ("json of twenty levels", "No tool nests so deep.", E.WRAPPING_TOO_LARGE, json.dumps(nested).encode()),
        ("nothing", "Nothing inside is evidence.", E.EVIDENCE_UNKNOWN, b'{"quote": "none"}'),
        ("text", "Text is no evidence.", E.EVIDENCE_UNKNOWN, b"not evidence at all, really"),
        ("bundle of nothing", "The bundle has a format, and nothing else.", FetchCode.BUNDLE_MALFORMED,
         b'{"format": "strongroom-evidence-bundle"}'),
    ):  # fmt: skip
        yield scene.fails("unwrap", f"wrapped {edge}", comment, code, evidence=form)


def _other() -> bytes:
    platform = MACHINE.platform
    data: bytes = platform.quote(platform.report_body(bytes(32)), bytes(64))
    return data
