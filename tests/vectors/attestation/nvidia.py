"""Cases of NVIDIA device evidence.  Manifests are large, so that only the cases about them carry any."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.errors import EvidenceCode as E
from attestation.errors import FindingCode as F
from attestation.errors import PolicyCode
from attestation.nvidia.container import FORMAT, pack, parse_evidence
from attestation.nvidia.errors import NvidiaCode as N
from attestation.nvidia.errors import NvidiaFinding
from attestation.nvidia.fwid import COMPOSITE_DEVICE_ID, TCB_INFO
from attestation.nvidia.opaque import Field, Mode
from attestation.sim.chains import Authority384, Profile384, enrol
from attestation.sim.extension import element
from attestation.sim.nvidia import Device, ReportChanges, SimulatedNvidia
from manifests import canonical
from manifests.errors import ErrorCode
from tests.vectors.attestation.intel import flip, put
from tests.vectors.attestation.scene import CREATED, DAY, LAST, NOW, REPORT_DATA, SEED, YEAR, Scene, edges, merged
from tests.vectors.attestation.vector import Vector

MACHINE: Final = SimulatedNvidia(SEED, CREATED)
GPU: Final = Device()
BLACKWELL: Final = Device(product="GB100", vbios_version="97.00.00.00.01")
VERSIONED: Final = dataclasses.replace(BLACKWELL, svn=2)
SWITCH: Final = Device(product="LS10", vbios_version="96.10.00.00.01")


def document(*devices: Device, rims: Sequence[bytes] = (), **changes: Any) -> bytes:
    return MACHINE.evidence(REPORT_DATA, *(devices or (GPU,)), rims=rims, changes=ReportChanges(**changes))


def record(*devices: Device) -> list[str]:
    """Digests of the whole measurement records, which stand for manifests."""
    return [device.report.record_digest.hex() for device in parse_evidence(document(*devices)).devices]


class Unmarked(SimulatedNvidia):
    """Devices whose certificates do not say that they are simulated, as those of a vendor do not."""

    def _enrol(
        self, profile: Profile384, issuer: Authority384 | None, lifetime: int, name: str | None = None
    ) -> Authority384:
        return super()._enrol(dataclasses.replace(profile, marked=False), issuer, lifetime, name)


DEVICE_CHAIN: Final = {
    "device root": "Simulated NVIDIA Root",
    "device identity": "Simulated GH100 Identity",
    "device provisioner": "Simulated GH100 Provisioner",
    "device bootrom": "GH100 A01 GSP BROM",
    "device leaf": "GH100 A01 GSP FMC LF",
}
RIM_CHAIN: Final = {
    "manifest root": "Simulated NVIDIA Root",
    "manifest authority": "Simulated Reference Value CA",
    "manifest subordinate": "Simulated Reference Value L3",
    "manifest signer": "Simulated RIM Signer",
}
"""Certificates, by their name in cases and by their common name."""
ROOTS: Final = (("simulated", MACHINE.root_pem.decode("ascii")),)
EVIDENCE: Final[dict[str, Any]] = {
    "simulation": True,
    "simulated_root": MACHINE.root_fingerprint.hex(),
    "tcb_status": ["UpToDate"],
}
PINNED: Final[dict[str, Any]] = {
    "version": 1,
    "evidence": EVIDENCE,
    "nvidia": {"products": ["GH100", "GB100", "LS10"], "measurements": record(GPU, BLACKWELL, SWITCH)},
}
"""A policy that names whole measurement records."""
NAMED: Final[dict[str, Any]] = {
    "version": 1,
    "evidence": EVIDENCE,
    "nvidia": {"products": ["GH100"], "driver_versions": ["580.00"], "vbios_versions": ["96.00.00.00.01"]},
}
"""A policy that names versions, whose manifests have to be there."""
SCENE: Final = Scene(tee="nvidia", version=1, evidence=document(), roots=ROOTS, policy=PINNED)
IDS: Final = {
    "device_serial": MACHINE.serial(GPU).hex(),
    "device_key": sha256(
        MACHINE.chain(GPU)[-2].key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ).hexdigest(),
    "fwid": MACHINE.fwid(GPU).hex(),
}
"""What the GPU can be told from others by."""


def cases() -> Iterator[Vector]:
    yield SCENE.accepted("healthy gh100", "A GPU whose measurement record the policy names is accepted.")
    both = merged(PINNED, nvidia={"fwid_absent": True})
    named = {"device_serials": [IDS["device_serial"]], "device_keys": [IDS["device_key"]], "fwids": [IDS["fwid"]]}
    yield SCENE.accepted(
        "device named", "The policy names device, key and firmware.", policy=merged(PINNED, nvidia=named)
    )
    for device in (BLACKWELL, SWITCH):
        edge = f"healthy {device.product.lower()}"
        warnings = () if device is BLACKWELL else (NvidiaFinding.FWID,)
        data = document(device)
        yield SCENE.accepted(edge, f"The device is a {device.product}.", warnings=warnings, evidence=data, policy=both)
    yield SCENE.refused(
        "device alone",
        "Where the policy names an enclave, a device does not stand for it.",
        F.BARE,
        policy=PINNED | {"sgx": {"mrenclave": ["11" * 32]}},
    )
    yield from containers()
    yield from reports()
    yield from opaque()
    yield from certificates()
    yield from manifests()
    yield from checks()
    yield from classes()


def container(**changes: Any) -> bytes:
    value = canonical.decode(SCENE.evidence, max_size=1 << 20) | changes
    return canonical.encode({name: item for name, item in value.items() if item is not None})


def containers() -> Iterator[Vector]:
    for edge, comment, changes in (
        ("no reports", "There is at least one report.", {"reports": []}),
        ("report of bytes", "A report stands beside its chain.", {"reports": [b""]}),
        ("report without a chain", "A report stands beside its chain.", {"reports": [{"report": b""}]}),
        ("report too large", "A report has a bound.", {"reports": [{"report": bytes(17_000), "chain": []}]}),
        ("chain of nine", "A chain has a bound.", {"reports": [{"report": b"", "chain": [b""] * 9}]}),
        ("manifest of text", "A manifest is bytes.", {"rims": [""]}),
        ("version 0", "There is no version 0.", {"version": 0}),
    ):
        yield SCENE.unparsed(edge, comment, N.CONTAINER, container(**changes))
    yield SCENE.unparsed("version 2", "The container is of version 2.", N.VERSION, container(version=2))
    yield SCENE.unparsed(
        "format alone", "It is told by its first key and its size.", E.EVIDENCE_UNKNOWN,
        canonical.encode({"format": FORMAT, "version": 1}),
    )  # fmt: skip
    chain = [each.der for each in reversed(MACHINE.chain(GPU))]
    nonces = pack([(MACHINE.report(GPU, nonce), chain) for nonce in (bytes(32), b"\1" * 32)])
    yield SCENE.unparsed("two nonces", "All devices answer to one nonce.", N.NONCES, nonces)
    yield SCENE.unverified(
        "device twice", "Two reports are of one device.", N.DEVICE_TWICE, evidence=document(GPU, GPU)
    )


def with_report(report: bytes) -> bytes:
    return pack([(report, [each.der for each in reversed(MACHINE.chain(GPU))])])


def reports() -> Iterator[Vector]:
    """The SPDM exchange, by offset."""
    good = parse_evidence(SCENE.evidence).devices[0].report.serialize()
    for edge, comment, code, at, value in (
        ("of spdm 1 point 2", "The exchange is of SPDM 1.1.", N.REPORT_UNSUPPORTED, 0, 0x12),
        ("another request", "The request is GET_MEASUREMENTS.", N.REPORT_UNSUPPORTED, 1, 0xE1),
        ("unsigned request", "A signature was asked for.", N.REPORT_UNSUPPORTED, 2, 0),
        ("some measurements", "All measurements were asked for.", N.REPORT_UNSUPPORTED, 3, 1),
        ("slot 1", "The key is that of slot 0.", N.REPORT_UNSUPPORTED, 36, 1),
        ("reserved byte", "Reserved bytes are zero.", N.REPORT_RESERVED, 39, 1),
        ("a block missing", "There are as many blocks as it says.", N.REPORT_MALFORMED, 41, 63),
        ("record too long", "The record is longer than the report.", N.REPORT_TRUNCATED, 44, 1),
        ("index twice", "An index comes twice.", N.REPORT_MALFORMED, 45, 2),
        ("another specification", "Measurements follow DMTF's.", N.REPORT_UNSUPPORTED, 46, 2),
    ):
        yield SCENE.unparsed(f"report {edge}", comment, code, with_report(put(good, at, bytes([value]))))
    cut = with_report(good[:-1])
    yield SCENE.unparsed("report cut", "The signature lacks its last byte.", N.REPORT_TRUNCATED, cut)
    longer = with_report(good + b"\0")
    yield SCENE.unparsed("report with trailing byte", "A byte follows the signature.", N.REPORT_MALFORMED, longer)
    other = MACHINE.chain(Device(number=7))[-1]
    for edge, comment, data in (
        ("signed by another device", "Another device's key signed.", document(signer=other)),
        ("signature altered", "A bit of the signature differs.", with_report(flip(good))),
        ("measurement altered", "A bit of a measurement differs.", with_report(flip(good, 60))),
    ):
        yield SCENE.unverified(edge, comment, N.SIGNATURE, evidence=data)


def opaque() -> Iterator[Vector]:
    for edge, code, changes in (
        ("vbios version of seven bytes", N.OPAQUE_MALFORMED, {Field.VBIOS_VERSION: bytes(7)}),
        ("no vbios version", N.OPAQUE_MALFORMED, {Field.VBIOS_VERSION: None}),
        ("driver version empty", N.OPAQUE_MALFORMED, {Field.DRIVER_VERSION: b""}),
        ("driver version of two lines", N.OPAQUE_MALFORMED, {Field.DRIVER_VERSION: b"5\n0"}),
        ("fwid of 32 bytes", N.OPAQUE_MALFORMED, {Field.FWID: bytes(32)}),
        ("decoder neither on nor off", N.OPAQUE_MALFORMED, {Field.NVDEC0_STATUS: b"\0"}),
        ("unknown mode", N.OPAQUE_UNSUPPORTED, {Field.FEATURE_FLAG: b"\3\0"}),
        ("unknown version", N.OPAQUE_UNSUPPORTED, {Field.OPAQUE_DATA_VERSION: b"\2\0"}),
        ("unknown field", N.OPAQUE_UNSUPPORTED, {37: b""}),
    ):
        comment = "A field of the opaque data is not as its type has it."
        yield SCENE.unparsed(f"opaque {edge}", comment, code, document(opaque=changes))


# ------------------------------------------------------------------------------------------------------ certificates


def with_leaf(device: Device = GPU, **leaf: Any) -> bytes:
    """Evidence whose leaf has another profile; its key is the same, so that the report's signature holds."""
    report = parse_evidence(document(device)).devices[0].report.serialize()
    return pack([(report, [each.der for each in reversed(MACHINE.chain(device, **leaf))])])


def tcb_info(fwid: bytes, svn: bytes | None = None) -> bytes:
    digest = element(0x30, element(0x06, bytes.fromhex("608648016503040202")) + element(0x04, fwid))
    return element(0x30, (b"" if svn is None else element(0x83, svn)) + element(0xA6, digest))


def certificates() -> Iterator[Vector]:
    unknown = (x509.ObjectIdentifier("1.2.3"), b"\5\0")
    table: tuple[tuple[str, str, ErrorCode, bytes], ...] = (
        ("leaf unmarked", "The leaf lacks the mark of simulation.", E.CHAIN_NOT_SIMULATED, with_leaf(marked=False)),
        ("leaf as an authority", "The leaf may certify others.", E.CHAIN_ROLE,
         with_leaf(authority=True, constrained=True)),
        ("leaf that may not sign", "The key usage lacks digitalSignature.", E.CHAIN_ROLE,
         with_leaf(usages=("key_agreement",))),
        ("leaf with an unknown extension", "Nobody knows the extension.", E.CERTIFICATE_MALFORMED,
         with_leaf(extra=(unknown,))),
        ("leaf without firmware", "The report names firmware, and its certificate none.", N.FWID, with_leaf(extra=())),
        ("leaf of other firmware", "The report names other firmware than its certificate.", N.FWID,
         with_leaf(BLACKWELL, extra=((TCB_INFO, tcb_info(bytes(48))),))),
        ("leaf with an empty id", "The device's id is empty.", N.FWID_MALFORMED,
         with_leaf(extra=((COMPOSITE_DEVICE_ID, b""),))),
        ("leaf with a negative security version", "A security version is not negative.", N.FWID_MALFORMED,
         with_leaf(BLACKWELL, extra=((TCB_INFO, tcb_info(MACHINE.fwid(BLACKWELL), b"\xff")),))),
        ("leaf with firmware of 32 bytes", "The firmware's digest is of SHA-384.", N.FWID_MALFORMED,
         with_leaf(BLACKWELL, extra=((TCB_INFO, tcb_info(bytes(32))),))),
    )  # fmt: skip
    for edge, comment, code, data in table:
        yield SCENE.unverified(edge, comment, code, evidence=data)
    first = parse_evidence(SCENE.evidence).devices[0]
    *above, _ = MACHINE.chain(GPU)
    for edge, name in (("another product", "GB100 A01 GSP FMC LF"), ("an unknown product", "GX999 A01 GSP FMC LF")):
        renamed = enrol(SEED, Profile384(name, authority=False), above[-1], CREATED, NOW + 1)
        signed = first.report.signed + renamed.sign_raw(first.report.signed)
        data = pack([(signed, [renamed.der, *(each.der for each in reversed(above))])])
        yield SCENE.unverified(f"leaf of {edge}", "The chain names two products.", N.PRODUCT, evidence=data)
    chain, report = first.chain, first.report.serialize()
    for edge, comment, code, ders in (
        ("chain reversed", "The root stands first.", E.CHAIN_ROOT, chain[::-1]),
        ("chain without the root", "The chain ends before the root.", E.CHAIN_ROOT, chain[:-1]),
        ("chain with a corrupted leaf", "The leaf differs by a bit.", E.CHAIN_SIGNATURE, (flip(chain[0]), *chain[1:])),
    ):
        yield SCENE.unverified(edge, comment, code, evidence=pack([(report, ders)]))
    yield SCENE.unverified("root not trusted", "Only the vendors' roots are trusted.", E.CHAIN_ROOT,
                           roots=(("vendor", ""),))  # fmt: skip
    rule = "Dates of every certificate are inclusive; all begin with the root."
    first_second, last = CREATED - DAY, CREATED + 30 * YEAR
    yield SCENE.accepted("certificates first second", rule, now=first_second)
    yield SCENE.unverified("certificates not valid yet", rule, E.CERTIFICATE_EARLY, now=first_second - 1)
    yield SCENE.accepted("certificates last second", rule, now=last)
    yield SCENE.unverified("certificates just expired", rule, E.CERTIFICATE_EXPIRED, now=last + 1)
    yield from dates()


def dates() -> Iterator[Vector]:
    """Each certificate of a device, and of a manifest's signer, has dates of its own."""
    for name in DEVICE_CHAIN:
        machine = SimulatedNvidia(SEED, CREATED, {DEVICE_CHAIN[name]: (NOW, LAST)})
        rule = f"Dates of the certificate of the {name} are inclusive (RFC 5280, 4.1.2.5)."
        data = machine.evidence(REPORT_DATA, GPU, rims=())
        trusted = (("simulated", machine.root_pem.decode("ascii")),)
        named = merged(PINNED, evidence={"simulated_root": machine.root_fingerprint.hex()})
        yield from edges(SCENE, name, rule, evidence=data, roots=trusted, policy=named)
    for name in RIM_CHAIN:
        machine = SimulatedNvidia(SEED, CREATED, {RIM_CHAIN[name]: (NOW, LAST)})
        rule = f"Dates of the certificate of the {name} are inclusive (RFC 5280, 4.1.2.5)."
        data = document(rims=(machine.rim(GPU, driver=False),))
        other = machine.root_pem.decode("ascii")
        trusted = tuple(dict.fromkeys((*ROOTS, ("simulated", other))))
        yield from edges(SCENE, name, rule, evidence=data, roots=trusted)


# --------------------------------------------------------------------------------------------------------- manifests


def manifests() -> Iterator[Vector]:
    driver, vbios = MACHINE.rim(GPU, driver=True), MACHINE.rim(GPU, driver=False)
    named = SCENE.but(policy=NAMED)
    yield named.accepted("manifests of driver and vbios", "Both are there.", evidence=document(rims=(driver, vbios)))
    for edge, code, rims in (
        ("no vbios manifest", NvidiaFinding.VBIOS_RIM, (driver,)),
        ("no driver manifest", NvidiaFinding.DRIVER_RIM, (vbios,)),
    ):
        yield named.refused(edge, "A manifest is missing.", code, evidence=document(rims=rims))
    text = vbios.decode("ascii")
    other = MACHINE.rim(dataclasses.replace(GPU, vbios_version="96.00.00.00.02"), driver=False)
    altered = text.replace('versionScheme="', 'versionScheme="x', 1) if 'versionScheme="' in text else text
    changed = altered if altered != text else text.replace('version="', 'version="9', 1)
    for edge, comment, code, rim in (
        ("manifest signed by another key", "The signature is one over something else.", N.RIM_SIGNATURE,
         MACHINE.rim(GPU, driver=False, broken=True)),
        ("manifest of another version", "No device runs this version.", N.RIM_UNUSED, other),
        ("manifest changed", "A name was changed after the manifest was signed.", N.RIM_DIGEST, changed.encode()),
    ):  # fmt: skip
        data = document(rims=(rim,))
        yield named.unverified(edge, comment, code, evidence=data)
    twice = document(rims=(vbios, MACHINE.rim(GPU, driver=False, tag_id="11" * 48)))
    yield named.unverified("manifest twice", "Two manifests are of one component.", N.RIM_TWICE, evidence=twice)
    cut = document(rims=(vbios[:-20],))
    yield named.unparsed("manifest cut", "The XML ends within the manifest.", N.RIM_MALFORMED, cut)
    entity = b'<!DOCTYPE x [<!ENTITY a "b">]>' + vbios
    yield named.unparsed("manifest with an entity", "XML with a DOCTYPE is refused.", N.RIM_MALFORMED,
                         document(rims=(entity,)))  # fmt: skip
    stale = CREATED + 2 * YEAR
    yield named.unverified("manifest expired", "The signer's certificate expired a second ago.", E.CERTIFICATE_EXPIRED,
                           evidence=document(rims=(driver, vbios)), now=stale + 1)  # fmt: skip
    wrong = document(rims=(driver, vbios), measurements={1: bytes(48)})
    yield named.refused("measurement not vouched for", "A measurement has another value.", NvidiaFinding.MEASUREMENTS,
                        evidence=wrong)  # fmt: skip
    overlapping = MACHINE.rim(GPU, driver=False, active=range(10))
    yield named.refused("measurement claimed twice", "Both manifests claim one measurement.",
                        NvidiaFinding.RIM_CONFLICT, evidence=document(rims=(driver, overlapping)))  # fmt: skip
    tags = merged(NAMED, nvidia={"rim_tags": ["11" * 48]})
    yield named.refused("manifest not named", "The policy names other manifests.", NvidiaFinding.RIM_TAG,
                        evidence=document(rims=(driver, vbios)), policy=tags)  # fmt: skip


def checks() -> Iterator[Vector]:
    def table(**fields: Any) -> dict[str, Any]:
        return merged(PINNED, nvidia=fields)

    debugged = Device(product="GB100", vbios_version="97.00.00.00.01", flags=("debug",))
    shared = Device(mode=Mode.PPCIE)
    for edge, comment, code, data, policy in (
        ("product not named", "The GPU is another product.", NvidiaFinding.PRODUCT, SCENE.evidence,
         table(products=["GB100"])),
        ("driver version not named", "The driver is another.", NvidiaFinding.DRIVER_VERSION, SCENE.evidence,
         table(driver_versions=["570.00"])),
        ("vbios version not named", "The VBIOS is another.", NvidiaFinding.VBIOS_VERSION, SCENE.evidence,
         table(vbios_versions=["96.00.00.00.09"])),
        ("mode not permitted", "The GPU is in protected PCIe mode.", NvidiaFinding.MODE, document(shared), PINNED),
        ("debug flag", "The firmware is under debug.", NvidiaFinding.FLAGS, document(debugged), PINNED),
        ("firmware not shown", "The report does not name its firmware.", NvidiaFinding.FWID,
         document(opaque={Field.FWID: None}), PINNED),
        ("device denied", "The policy refuses the device by name.", F.DENIED, SCENE.evidence,
         merged(PINNED, evidence={"platforms_denied": {"device_serial": [MACHINE.serial(GPU).hex()]}})),
        ("device key denied", "The policy refuses the key that is burnt into the device.", F.DENIED, SCENE.evidence,
         merged(PINNED, evidence={"platforms_denied": {"device_key": [IDS["device_key"]]}})),
        ("firmware denied", "The policy refuses the firmware that holds the leaf's key.", F.DENIED, SCENE.evidence,
         merged(PINNED, evidence={"platforms_denied": {"fwid": [MACHINE.fwid(GPU).hex()]}})),
        ("serial number not named", "The policy names another device.", NvidiaFinding.DEVICE_SERIAL, SCENE.evidence,
         merged(PINNED, nvidia={"device_serials": [MACHINE.serial(BLACKWELL).hex()]})),
        ("device key not named", "The policy names another device's key.", NvidiaFinding.DEVICE_KEY, SCENE.evidence,
         merged(PINNED, nvidia={"device_keys": ["11" * 32]})),
        ("firmware id not named", "The policy names other firmware.", NvidiaFinding.FIRMWARE_ID, SCENE.evidence,
         merged(PINNED, nvidia={"fwids": [MACHINE.fwid(BLACKWELL).hex()]})),
        ("security version below the floor", "The firmware's security version is 2.", NvidiaFinding.FIRMWARE_SVN,
         document(VERSIONED), merged(PINNED, nvidia={"fwid_svn_min": 3})),
        ("no security version", "A leaf without a security version reaches no floor.", NvidiaFinding.FIRMWARE_SVN,
         SCENE.evidence, merged(PINNED, nvidia={"fwid_svn_min": 0})),
        ("policy for hardware", "The evidence is simulated.", F.CLASS, SCENE.evidence,
         merged(PINNED, evidence={"simulation": None, "simulated_root": None})),
    ):  # fmt: skip
        yield SCENE.refused(edge, comment, code, evidence=data, policy=policy)
    yield SCENE.refused(
        "record not named",
        "The measurement record is another, and nothing stands for the manifests that are missing.",
        NvidiaFinding.MEASUREMENTS,
        NvidiaFinding.DRIVER_RIM,
        NvidiaFinding.VBIOS_RIM,
        policy=table(measurements=["11" * 48]),
    )
    for edge, code, data, fields in (
        ("mode permitted", NvidiaFinding.MODE, document(shared), {"modes": ["PPCIE"]}),
        ("debug flag permitted", NvidiaFinding.FLAGS, document(debugged), {"flags_allowed": ["debug"]}),
    ):
        yield SCENE.accepted(edge, "The policy permits it.", warnings=(code,), evidence=data, policy=table(**fields))
    yield SCENE.refused("other report data", "The nonce is another.", F.REPORT_DATA, report_data=bytes(64))
    yield SCENE.accepted(
        "security version at the floor",
        "The leaf names the least version that the policy accepts.",
        evidence=document(VERSIONED),
        policy=table(fwid_svn_min=2),
    )
    for edge, fields in (("no device", {"products": None}), ("any firmware", {"measurements": None})):
        policy = table(**fields)
        yield SCENE.fails("policy", f"policy {edge}", "It is left open.", PolicyCode.POLICY_VACUOUS, policy=policy)


def classes() -> Iterator[Vector]:
    """Devices of one class, and manifests of another."""
    real = Unmarked(SEED, CREATED)
    pem = real.root_pem.decode("ascii")
    rule = "Devices and manifests are all hardware, or all simulated."
    driver, vbios = (real.rim(GPU, driver=driver) for driver in (True, False))
    for edge, data, roots in (
        ("simulated device with real manifests", document(rims=(driver, vbios)),
         (*ROOTS, ("replacement-nvidia-rim", pem))),
        ("simulated device with one real manifest", document(rims=(driver, MACHINE.rim(GPU, driver=False))),
         (*ROOTS, ("replacement-nvidia-rim", pem))),
        ("real device with simulated manifests", real.evidence(REPORT_DATA, GPU, rims=MACHINE.rims(GPU)),
         (*ROOTS, ("replacement-nvidia-device", pem))),
    ):  # fmt: skip
        yield SCENE.unverified(edge, rule, N.ROOTS_MIXED, evidence=data, roots=roots, policy=NAMED)
    both = (("replacement-nvidia-device", pem), ("replacement-nvidia-rim", pem))
    named = {"nvidia_device": [real.root_fingerprint.hex()], "nvidia_rim": [real.root_fingerprint.hex()]}
    evidence = {"tcb_status": ["UpToDate"], "dangerous_replacement_roots": named}
    replaced = SCENE.but(evidence=real.evidence(REPORT_DATA, GPU), policy=NAMED | {"evidence": evidence})
    comment = "Roots stand in the place of NVIDIA's, as if this were hardware; every verdict says so."
    yield replaced.accepted("roots replaced", comment, roots=both, warnings=(F.ROOT,))
    for edge, roots in (("of devices", both[:1]), ("of manifests", both[1:])):
        comment = "A root of one hierarchy is never taken for another's."
        yield replaced.unverified(f"only the root {edge} replaced", comment, E.CHAIN_ROOT, roots=roots)
