"""Cases of SEV-SNP reports, versions 2 to 5, of Milan, Genoa and Turin, under VCEK and VLEK."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec

from attestation.amd.abi import GuestPolicy, PlatformInfo, SigningKey
from attestation.amd.certificates import BASIC_CONSTRAINTS, KEY_USAGE, SIMULATION
from attestation.amd.collateral import SnpCollateral
from attestation.amd.endorsement import CSP_ID, HWID, PRODUCT_NAME, RESERVED_SPL, SPL, STRUCT_VERSION
from attestation.amd.errors import SnpCode, SnpFinding
from attestation.amd.tcb import Product, Tcb
from attestation.errors import EvidenceCode as E
from attestation.errors import FindingCode as F
from attestation.intel import pem
from attestation.sim.amd_keys import AmdKeys
from attestation.sim.extension import element
from attestation.sim.snp import CSP, SimulatedSnp, SnpState
from attestation.strict_x509 import encode_oid
from manifests.errors import ErrorCode
from tests.vectors.attestation.intel import flip, put
from tests.vectors.attestation.scene import CREATED, LAST, NOW, OF_LISTS, REPORT_DATA, Scene, edges, merged
from tests.vectors.attestation.vector import FOLDER, Vector

MEASUREMENT: Final = bytes([7]) * 48
CRL_RULE: Final = "The nextUpdate of the revocation list is exclusive."
P256: Final = ec.derive_private_key(7, ec.SECP256R1())
KEY_FILE: Final = FOLDER / "simulated-amd.key"
"""The authorities' RSA keys: for tests alone, and known to everybody."""


@functools.lru_cache(maxsize=1)
def keys() -> AmdKeys:
    return AmdKeys.parse(KEY_FILE.read_bytes())


@functools.lru_cache(maxsize=64)
def machine(product: Product = Product.MILAN, key: SigningKey = SigningKey.VCEK, **state: Any) -> SimulatedSnp:
    return SimulatedSnp(keys(), product, key, SnpState(**state))


def report(simulated: SimulatedSnp, **fields: Any) -> bytes:
    return simulated.evidence(**{"measurement": MEASUREMENT, "report_data": REPORT_DATA} | fields)


def roots(simulated: SimulatedSnp) -> tuple[tuple[str, str], ...]:
    return (("simulated", simulated.root_pem.decode("ascii")),)


def _policy(simulated: SimulatedSnp) -> dict[str, Any]:
    lent = simulated.signing_key is SigningKey.VLEK
    table: dict[str, Any] = {
        "measurement": [MEASUREMENT.hex()],
        "reported_tcb_min": {"milan": {"snp": 20}, "genoa": {"snp": 20}, "turin": {"snp": 1}},
        "policy_allowed": ["SMT"],
    }
    evidence = {"simulation": True, "simulated_root": simulated.root_fingerprint.hex(), "tcb_status": ["UpToDate"]}
    lent_table = {"signing_keys": ["vlek"], "csp_id": [CSP]} if lent else {}
    return {"version": 1, "evidence": evidence, "snp": table | lent_table}


def scene(simulated: SimulatedSnp, version: int = 5) -> Scene:
    return Scene(
        tee="snp",
        version=version,
        evidence=report(simulated, version=version),
        collateral=simulated.collateral(NOW).to_json(),
        roots=roots(simulated),
        policy=_policy(simulated),
        tcb_status="UpToDate",
    )


MILAN: Final = machine()
SCENE: Final = scene(MILAN)
LENT: Final = scene(machine(key=SigningKey.VLEK))


def cases() -> Iterator[Vector]:
    yield from healthy()
    yield from bytes_of_a_report()
    yield from endorsement()
    yield from certificates()
    yield from chains()
    yield from lists()
    yield from dates()
    yield from states()
    yield from machine_checks()
    yield from guest_checks()
    yield from permitted()
    yield from evidence_policy()


def healthy() -> Iterator[Vector]:
    for product in Product:
        for key in (SigningKey.VCEK, SigningKey.VLEK):
            simulated = machine(product, key)
            name = f"healthy {product} {key.name.lower()}"
            yield scene(simulated).accepted(name, f"A healthy report of {product.label}, signed by its {key.name}.")
    for version in (2, 3, 4):
        for product in (Product.MILAN, Product.GENOA) if version == 2 else Product:
            yield scene(machine(product), version).accepted(
                f"healthy {product} version {version}", f"A healthy report of version {version}, of {product.label}."
            )


def bytes_of_a_report() -> Iterator[Vector]:
    data = SCENE.evidence
    for edge, comment, code, changed in (
        ("a byte short", "A report has 1184 bytes.", SnpCode.LENGTH, data[:-1]),
        ("a byte long", "A report has 1184 bytes, and none behind them.", SnpCode.LENGTH, data + b"\0"),
        ("version 6", "Reports of version 6 are not handled.", SnpCode.VERSION, put(data, 0, b"\6")),
        ("version 1", "Reports of version 1 are not handled.", SnpCode.VERSION, put(data, 0, b"\1")),
        ("reserved byte after key info", "Reserved bytes are zero.", SnpCode.RESERVED, put(data, 0x4C, b"\1")),
        ("reserved byte after the versions", "Reserved bytes are zero.", SnpCode.RESERVED, put(data, 0x1EB, b"\1")),
        ("reserved byte before the signature", "Reserved bytes are zero.", SnpCode.RESERVED, put(data, 0x29F, b"\1")),
        ("last byte", "What follows the signature is zero.", SnpCode.RESERVED, put(data, 1183, b"\1")),
        ("r above 384 bits", "The format has room for 576 bits, and the curve for 384.", SnpCode.RESERVED,
         put(data, 0x2D0, b"\1")),
        ("policy without its fixed bit", "Bit 17 of POLICY is one.", SnpCode.RESERVED,
         put(data, 0x0A, bytes([data[0x0A] & ~2]))),
        ("unknown bit beside the signing key", "Bits 5 to 31 beside it are zero.", SnpCode.RESERVED,
         put(data, 0x48, b"\x20")),
        ("signing key 2", "SIGNING_KEY is 0, 1 or 7.", SnpCode.RESERVED, put(data, 0x48, b"\x08")),
        ("signature algorithm 2", "Only ECDSA on P-384 with SHA-384 is defined.", SnpCode.SIGNATURE_ALGORITHM,
         put(data, 0x34, b"\2")),
    ):  # fmt: skip
        yield SCENE.unparsed(edge, comment, code, changed)
    old = report(MILAN, version=2)
    yield SCENE.unparsed(
        "version 2 with mitigations",
        "What later versions use is reserved in version 2.",
        SnpCode.RESERVED,
        put(old, 0x1F8, b"\1"),
        version=2,
    )


def endorsement() -> Iterator[Vector]:
    """What the certificate says, held against the report."""
    genoa = machine(Product.GENOA)
    turin_cpuid = {"cpuid_fam_id": 0x1A, "cpuid_mod_id": 0x02}
    for edge, comment, code, fields in (
        ("no key", "The firmware signed with no key.", SnpCode.UNSIGNED, {"key_info": 7 << 2}),
        ("vlek says the report", "The report says VLEK, and the certificate is a VCEK.", SnpCode.VEK_KIND,
         {"key_info": 1 << 2}),
        ("unknown processor", "CPUID is of a processor that is not handled.", SnpCode.PRODUCT, {"cpuid_fam_id": 0x20}),
        ("another processor", "CPUID says Turin, and the certificate Milan.", SnpCode.VEK_PRODUCT, turin_cpuid),
        ("another chip", "CHIP_ID is another than the certificate's.", SnpCode.VEK_CHIP, {"chip_id": b"\1" * 64}),
        ("masked chip", "CHIP_ID is masked, and the certificate names a chip.", SnpCode.VEK_CHIP,
         {"chip_id": bytes(64)}),
        ("another reported tcb", "REPORTED_TCB is another than the certificate's.", SnpCode.VEK_TCB,
         {"reported_tcb": Tcb(Product.MILAN, (4, 0, 24, 218)).serialize()}),
        ("reported above committed", "More is reported than is committed.", SnpCode.TCB_ORDER,
         {"committed_tcb": Tcb(Product.MILAN, (4, 0, 23, 219)).serialize()}),
        ("committed above current", "More is committed than runs.", SnpCode.TCB_ORDER,
         {"current_tcb": Tcb(Product.MILAN, (3, 0, 24, 219)).serialize()}),
        ("reserved byte of a tcb", "Bytes 2 to 5 of Milan's TCB version are zero.", SnpCode.RESERVED,
         {"launch_tcb": bytes.fromhex("0400010000001800")}),
    ):  # fmt: skip
        yield SCENE.unverified(edge, comment, code, evidence=report(MILAN, **fields))
    yield LENT.unverified(
        "vcek says the report",
        "The report says VCEK, and the certificate is a VLEK.",
        SnpCode.VEK_KIND,
        evidence=report(machine(key=SigningKey.VLEK), key_info=0),
    )
    yield SCENE.unverified(
        "certificates of another product",
        "Chain and certificate are Genoa's, and trusted.",
        SnpCode.VEK_PRODUCT,
        collateral=genoa.collateral(NOW).to_json(),
        roots=roots(genoa),
    )
    yield from _signatures()


def _signatures() -> Iterator[Vector]:
    data = SCENE.evidence
    for edge, comment, changed in (
        ("signature altered", "A bit of r differs.", flip(data, 0x2A0)),
        ("report altered", "A bit of MEASUREMENT differs.", flip(data, 0x90)),
        ("signature of zeros", "No signature has a half of zero.", put(data, 0x2A0, bytes(48))),
        ("halves exchanged", "r stands in the place of s.",
         data[:0x2A0] + data[0x2E8:0x318] + bytes(24) + data[0x2A0:0x2D0] + data[0x318:]),
    ):  # fmt: skip
        yield SCENE.unverified(edge, comment, SnpCode.SIGNATURE, evidence=changed)
    other = ec.derive_private_key(99, ec.SECP384R1())
    yield SCENE.unverified(
        "signed by another key",
        "The report is signed by a key that no certificate names.",
        SnpCode.SIGNATURE,
        evidence=MILAN.sign(data[:672], other),
    )


# ------------------------------------------------------------------------------------------------------ certificates


def integer(number: int) -> bytes:
    return element(2, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def text(value: bytes) -> bytes:
    return element(0x16, value)


def extension(oid: bytes, value: bytes, *, critical: bool = False) -> dict[str, Any]:
    return {"extensions": {oid: (critical, value)}}


X: Final = SnpCode.VEK_EXTENSION
ANY_AUTHORITY: Final = bytes.fromhex("30030101ff")
LAST_AUTHORITY: Final = bytes.fromhex("30060101ff020100")

VEK: Final[Mapping[str, tuple[ErrorCode, dict[str, Any]]]] = {
    "is of version 1": (E.CERTIFICATE_MALFORMED, {"version": 0}),
    "has a key on P-256": (E.CERTIFICATE_MALFORMED, {"key": P256}),
    "has an unknown extension": (E.CERTIFICATE_MALFORMED, extension(encode_oid("2.5.29.37"), b"\x30\x00")),
    "has a critical extension": (E.CHAIN_ROLE, extension(HWID, bytes(64), critical=True)),
    "is an authority": (E.CHAIN_ROLE, extension(BASIC_CONSTRAINTS, ANY_AUTHORITY, critical=True)),
    "has the name of another role": (E.CHAIN_ROLE, {"name": "SEV-VLEK"}),
    "names another issuer": (E.CHAIN_NAMES, {"issuer": "SEV-Genoa"}),
    "names an issuer of another organisation": (E.CHAIN_NAMES, {"issuer_organisation": "another"}),
    "lacks the mark": (E.CHAIN_NOT_SIMULATED, {"without": (SIMULATION,)}),
    "is of another product": (SnpCode.VEK_PRODUCT, extension(PRODUCT_NAME, text(b"Genoa"))),
    "has a longer product name": (SnpCode.VEK_PRODUCT, extension(PRODUCT_NAME, text(b"MilanX"))),
    "has a product name of another type": (X, extension(PRODUCT_NAME, element(0x0C, b"Milan"))),
    "has an empty product name": (X, extension(PRODUCT_NAME, text(b""))),
    "has bytes after its product name": (X, extension(PRODUCT_NAME, text(b"Milan") + b"\0")),
    "lacks its product name": (X, {"without": (PRODUCT_NAME,)}),
    "lacks its structure version": (X, {"without": (STRUCT_VERSION,)}),
    "is of an unknown structure": (X, extension(STRUCT_VERSION, integer(2))),
    "lacks a component": (X, {"without": (SPL["tee"],)}),
    "has a component of another product": (X, extension(SPL["fmc"], integer(0))),
    "has an unknown component": (X, extension(SPL["fmc"][:-1] + b"\x0a", integer(0))),
    "has a component above 255": (X, extension(SPL["tee"], integer(256))),
    "has a negative component": (X, extension(SPL["tee"], element(2, b"\xff"))),
    "has a component in a longer form": (X, extension(SPL["tee"], element(2, b"\0\1"))),
    "has a reserved component": (X, extension(RESERVED_SPL[0], integer(1))),
    "lacks its chip": (X, {"without": (HWID,)}),
    "has a chip id of 63 bytes": (X, extension(HWID, bytes(63))),
    "has a chip id of another size": (X, extension(HWID, bytes(8))),
    "is a chip and lent": (X, extension(CSP_ID, text(b"CN=cloud"))),
}
SIGNER: Final[Mapping[str, tuple[ErrorCode, dict[str, Any]]]] = {
    "has the name of another product": (E.CHAIN_ROLE, {"name": "SEV-Genoa"}),
    "has the name of the root": (E.CHAIN_ROLE, {"name": "ARK-Milan"}),
    "names another issuer": (E.CHAIN_NAMES, {"issuer": "ARK-Genoa"}),
    "may sign lists": (E.CHAIN_ROLE, extension(KEY_USAGE, bytes.fromhex("03020106"), critical=True)),
    "has uncritical constraints": (E.CHAIN_ROLE, extension(BASIC_CONSTRAINTS, LAST_AUTHORITY)),
    "may have authorities below it": (E.CHAIN_ROLE, extension(BASIC_CONSTRAINTS, ANY_AUTHORITY, critical=True)),
    "lacks its key usage": (E.CHAIN_ROLE, {"without": (KEY_USAGE,)}),
    "lacks the mark": (E.CHAIN_NOT_SIMULATED, {"without": (SIMULATION,)}),
    "has an extension of a chip": (E.CERTIFICATE_MALFORMED, extension(HWID, bytes(64))),
    "has a key on a curve": (E.CERTIFICATE_MALFORMED, {"key": P256}),
}
VLEK: Final[Mapping[str, tuple[ErrorCode, dict[str, Any]]]] = {
    "has the name of a chip": (E.CHAIN_ROLE, {"name": "SEV-VCEK"}),
    "says not whom it is lent to": (X, {"without": (CSP_ID,)}),
    "is a chip too": (X, extension(HWID, bytes(64))),
    "is lent to an empty name": (X, extension(CSP_ID, text(b""))),
    "is lent to a name too long": (X, extension(CSP_ID, text(b"x" * 129))),
}


def certificates() -> Iterator[Vector]:
    lent = machine(key=SigningKey.VLEK)
    for subject, base, name, title, table in (
        (MILAN, SCENE, "vek", "VCEK", VEK),
        (MILAN, SCENE, "signer", "ASK", SIGNER),
        (lent, LENT, "vek", "VLEK", VLEK),
    ):
        for why, (code, changes) in table.items():
            held = subject.collateral(NOW, changes={name: changes})
            yield base.unverified(
                f"{title.lower()} {why}", f"The {title} certificate {why}.", code, collateral=held.to_json()
            )
    wrapped = MILAN.collateral(NOW, changes={"vek": extension(HWID, element(4, MILAN.hwid))})
    yield SCENE.accepted(
        "wrapped chip id", "The specification wants an OCTET STRING around hwID.", collateral=wrapped.to_json()
    )
    zero = MILAN.collateral(NOW, changes={"vek": {"serial": 0}})
    yield SCENE.accepted("serial number zero", "AMD gives every VCEK the serial number 0.", collateral=zero.to_json())


def changed(collateral: SnpCollateral, **parts: bytes) -> str:
    return dataclasses.replace(collateral, **parts).to_json()


def chains() -> Iterator[Vector]:
    good = MILAN.collateral(NOW)
    signer, ark = pem.decode_chain(good.chain, 2)
    for edge, comment, code, chain in (
        ("chain reversed", "The ARK stands before the ASK.", E.CHAIN_ROOT, pem.encode_chain(ark, signer)),
        ("chain of one", "There is no ASK.", E.CHAIN_LENGTH, pem.encode_chain(ark)),
        ("chain of three", "The VCEK is in the chain, too.", E.CHAIN_LENGTH, pem.encode_chain(good.vek, signer, ark)),
        ("chain of two roots", "The ARK plays the ASK.", E.CHAIN_ROLE, pem.encode_chain(ark, ark)),
        ("chain with carriage returns", "PEM has one form.", E.PEM_MALFORMED, good.chain.replace(b"\n", b"\r\n")),
        ("chain with a comment", "PEM has one form.", E.PEM_MALFORMED, good.chain + b"#"),
        ("corrupted root", "The ARK differs by a bit.", E.CHAIN_ROOT, pem.encode_chain(signer, flip(ark))),
    ):
        yield SCENE.unverified(edge, comment, code, collateral=changed(good, chain=chain))
    for name, code in (("ark", E.CHAIN_ROOT), ("signer", E.CHAIN_SIGNATURE), ("vek", E.CHAIN_SIGNATURE)):
        held = MILAN.collateral(NOW, signers={name: keys().asvk})
        comment = f"The {name} is signed by another key than its issuer's."
        yield SCENE.unverified(f"{name} signed by another key", comment, code, collateral=held.to_json())
    for edge, comment, code, der in (
        ("vek empty", "Chain and list are there, and the certificate is not.", E.COLLATERAL_MISSING, b""),
        ("vek with trailing byte", "A byte follows the certificate.", E.CERTIFICATE_MALFORMED, good.vek + b"\0"),
        ("vek is the signer", "The ASK stands in the place of the VCEK.", E.CHAIN_SIGNATURE, signer),
    ):
        yield SCENE.unverified(edge, comment, code, collateral=changed(good, vek=der))
    for edge, comment, code, changes in (
        ("root of no product", "The root is named after no product.", E.CHAIN_ROLE,
         {"name": "ARK-Venice", "issuer": "ARK-Venice"}),
        ("root of another issuer", "The root names another issuer.", E.CHAIN_NAMES, {"issuer": "ARK-Genoa"}),
    ):  # fmt: skip
        held = MILAN.collateral(NOW, changes={"ark": changes})
        yield SCENE.unverified(edge, comment, code, collateral=held.to_json(), roots=pinned(held))
    root = MILAN.root_pem.decode("ascii")
    for edge, comment, code, trusted in (
        ("root not trusted", "Only the vendors' roots are trusted.", E.CHAIN_ROOT, ("vendor", "")),
        ("root taken for hardware", "The certificates say that they are simulated.", E.CHAIN_SIMULATED,
         ("replacement-amd", root)),
        ("root of another vendor", "The root is trusted as Intel's.", E.CHAIN_ROOT, ("replacement-intel", root)),
    ):  # fmt: skip
        yield SCENE.unverified(edge, comment, code, roots=(trusted,))


def pinned(held: SnpCollateral) -> tuple[tuple[str, str], ...]:
    """The root that a collateral's chain ends in."""
    return (("simulated", pem.encode_chain(pem.decode_chain(held.chain, 2)[1]).decode("ascii")),)


def lists() -> Iterator[Vector]:
    part = encode_oid("2.5.29.28")
    for edge, comment, code, changes in (
        ("crl of another authority", "The list names Genoa's root.", E.CRL_ISSUER, {"issuer": "ARK-Genoa"}),
        ("crl without end", "The list has no nextUpdate.", E.CRL_MALFORMED, {"end": None}),
        ("crl is a part", "The list is a part of one.", E.CRL_MALFORMED,
         {"extensions": {part: (True, bytes.fromhex("30038401ff"))}}),
        ("crl is a delta", "The list is only a difference.", E.CRL_MALFORMED,
         {"extensions": {encode_oid("2.5.29.27"): (True, integer(1))}}),
        ("crl with an unknown critical extension", "Nobody knows the extension.", E.CRL_MALFORMED,
         {"extensions": {encode_oid("1.2.3.4"): (True, b"\x05\x00")}}),
    ):  # fmt: skip
        held = MILAN.collateral(NOW, changes={"crl": changes})
        yield SCENE.unverified(edge, comment, code, collateral=held.to_json())
    loose = {"extensions": {encode_oid("1.2.3.4"): (False, b"\x05\x00")}}
    yield SCENE.accepted(
        "crl with an uncritical extension",
        "An uncritical extension of a list changes nothing.",
        collateral=MILAN.collateral(NOW, changes={"crl": loose}).to_json(),
    )
    good = MILAN.collateral(NOW)
    signed = MILAN.collateral(NOW, signers={"crl": keys().ask})
    for edge, comment, code, crl in (
        ("crl corrupted", "A bit of the list's signature differs.", E.CRL_SIGNATURE, flip(good.crl)),
        ("crl signed by the ask", "The ASK signed the list.", E.CRL_SIGNATURE, signed.crl),
        ("crl with a trailing byte", "A byte follows the list.", E.CRL_MALFORMED, good.crl + b"\0"),
        ("crl is a certificate", "A certificate of the ARK is no list.", E.CRL_MALFORMED,
         pem.decode_chain(good.chain, 2)[0]),
    ):  # fmt: skip
        yield SCENE.unverified(edge, comment, code, collateral=changed(good, crl=crl))


def dates() -> Iterator[Vector]:
    lent = machine(key=SigningKey.VLEK)
    for subject, base, names in (
        (MILAN, SCENE, {"ark": "ARK", "signer": "ASK", "vek": "VCEK"}),
        (lent, LENT, {"signer": "ASVK", "vek": "VLEK"}),
    ):
        for name, title in names.items():
            held = subject.collateral(NOW, dates={name: (NOW, LAST)})
            rule = f"Dates of the {title} certificate are inclusive (RFC 5280, 4.1.2.5)."
            edge = name if subject is MILAN else title.lower()
            yield from edges(base, edge, rule, **trusting(held, base), collateral=held.to_json())
    held = MILAN.collateral(NOW, dates={"crl": (NOW, LAST)})
    yield from edges(SCENE, "crl", CRL_RULE, OF_LISTS, LAST - 1, collateral=held.to_json())
    late = MILAN.collateral(NOW, dates={"vek": (CREATED, 2_600_000_000)})
    yield SCENE.accepted("date after 2049", "From 2050 on, dates have four digits of year.", collateral=late.to_json())


def trusting(held: SnpCollateral, base: Scene) -> dict[str, Any]:
    """Changes of a scene whose root is that of this collateral."""
    return {"roots": pinned(held), "policy": merged(base.policy, evidence={"simulated_root": _fingerprint(held)})}


def _fingerprint(held: SnpCollateral) -> str:
    import hashlib

    return hashlib.sha256(pem.decode_chain(held.chain, 2)[1]).hexdigest()


def states() -> Iterator[Vector]:
    for key in (SigningKey.VCEK, SigningKey.VLEK):
        base = scene(machine(key=key))
        for name in ("signer", "vek"):
            held = machine(key=key, revoked=(name,)).collateral(NOW)
            title = {"signer": "authority above it"}.get(name, "endorsement key")
            yield base.unverified(
                f"{key.name.lower()} {name} revoked",
                f"The {title} is on the ARK's revocation list ({key.name}).",
                E.CERTIFICATE_REVOKED,
                collateral=held.to_json(),
            )
    old = scene(machine(tcb_status="OutOfDate")).but(tcb_status="OutOfDate", roots=SCENE.roots)
    yield old.refused("out of date", "Less is reported than is committed.", F.TCB_STATUS)
    named = merged(SCENE.policy, evidence={"tcb_status": ["UpToDate", "OutOfDate"]})
    yield old.accepted("out of date permitted", "The policy names it.", warnings=(F.TCB_STATUS,), policy=named)
    provisional = scene(machine(provisional=True))
    yield provisional.refused("provisional firmware", "What runs is not committed.", SnpFinding.PROVISIONAL)
    yield provisional.accepted(
        "provisional firmware permitted",
        "What runs is not committed, and the policy permits it.",
        warnings=(SnpFinding.PROVISIONAL,),
        policy=merged(SCENE.policy, snp={"provisional_firmware": True}),
    )
    bare = scene(machine(crl=False))
    yield bare.refused("no revocation list", "Nothing says what is revoked.", SnpFinding.REVOCATION)
    yield bare.accepted(
        "no revocation list permitted",
        "Nothing says what is revoked, and the policy takes the danger.",
        warnings=(SnpFinding.REVOCATION,),
        policy=merged(SCENE.policy, snp={"dangerous_crl_absent": True}),
    )


# ------------------------------------------------------------------------------------------------------------ policy


def table(**fields: Any) -> dict[str, Any]:
    return merged(SCENE.policy, snp=fields)


def machine_checks() -> Iterator[Vector]:
    floors = {"milan": {"snp": 20, "microcode": 220}}
    for edge, comment, code, fields in (
        ("product without floors", "The policy sets no floor for Milan.", SnpFinding.PRODUCT,
         {"reported_tcb_min": {"genoa": {"snp": 20}}}),
        ("chip not named", "The chip is none that the policy names.", SnpFinding.CHIP_ID, {"chip_id": ["11" * 64]}),
        ("reported tcb below its floor", "The reported microcode is one below the floor.", SnpFinding.REPORTED_TCB,
         {"reported_tcb_min": floors}),
        ("committed tcb below its floor", "The committed microcode is one below the floor.", SnpFinding.COMMITTED_TCB,
         {"committed_tcb_min": floors}),
        ("launch tcb below its floor", "The launch's microcode is one below the floor.", SnpFinding.LAUNCH_TCB,
         {"launch_tcb_min": floors}),
        ("firmware below its floor", "The committed firmware is one build below the floor.", SnpFinding.FIRMWARE,
         {"firmware_min": "1.55.50"}),
        ("mitigation missing", "A mitigation that the policy requires is not in place.", SnpFinding.MITIGATIONS,
         {"mitigations_required": 0x0F}),
        ("platform lacks iommu", "The platform lacks what the policy requires.", SnpFinding.PLATFORM_REQUIRED,
         {"platform_info_required": ["IOMMU_WRITE_SAFE"]}),
        ("platform has smt", "SMT is enabled, which the policy does not know.", SnpFinding.PLATFORM_INFO,
         {"platform_info_allowed": int(PlatformInfo.ECC_EN | PlatformInfo.ALIAS_CHECK_COMPLETE)}),
    ):  # fmt: skip
        yield SCENE.refused(edge, comment, code, policy=table(**fields))
    io = report(MILAN, platform_info=int(PlatformInfo.SMT_EN | PlatformInfo.TIO_EN))
    yield SCENE.refused(
        "platform with trusted io", "Devices may reach the guest.", SnpFinding.PLATFORM_INFO, evidence=io
    )
    yield SCENE.refused(
        "version below its floor",
        "The report is of version 4, and the policy wants 5.",
        SnpFinding.REPORT_VERSION,
        version=4,
        evidence=report(MILAN, version=4),
        policy=table(report_version_min=5),
    )
    yield SCENE.refused(
        "mitigations of an older version",
        "Reports of version 3 do not show mitigations.",
        SnpFinding.MITIGATIONS,
        version=3,
        evidence=report(MILAN, version=3),
        policy=table(mitigations_required=1),
    )
    yield LENT.refused(
        "lent key not permitted",
        "The policy admits the chip's own keys alone.",
        SnpFinding.SIGNING_KEY,
        SnpFinding.CSP_ID,
        policy=merged(LENT.policy, snp={"signing_keys": None, "csp_id": None}),
    )
    yield LENT.refused(
        "lent to another provider",
        "The key is lent to another cloud provider than the policy names.",
        SnpFinding.CSP_ID,
        policy=merged(LENT.policy, snp={"csp_id": ["CN=another"]}),
    )


def guest_checks() -> Iterator[Vector]:
    base = MILAN.report().policy
    other = b"\1" * 48
    for edge, comment, code, fields, policy in (
        ("measurement not named", "The guest is another.", SnpFinding.MEASUREMENT, {"measurement": other}, None),
        ("debug", "The guest can be debugged.", SnpFinding.DEBUG, {"policy": base | GuestPolicy.DEBUG}, None),
        ("migratable", "An agent may move the guest.", SnpFinding.MIGRATION,
         {"policy": base | GuestPolicy.MIGRATE_MA}, None),
        ("migration agent", "The guest has an agent.", SnpFinding.MIGRATION_AGENT, {"report_id_ma": b"\1" * 32}, None),
        ("smt not permitted", "The guest may share cores.", SnpFinding.SMT, {}, table(policy_allowed=None)),
        ("cxl not permitted", "The guest admits CXL memory.", SnpFinding.CXL,
         {"policy": base | GuestPolicy.CXL_ALLOW}, None),
        ("single socket required", "The guest's policy does not demand it.", SnpFinding.POLICY_REQUIRED, {},
         table(policy_required=["SINGLE_SOCKET"])),
        ("unknown bit of the policy", "Nobody knows the bit.", SnpFinding.POLICY_UNKNOWN, {"policy": base | 1 << 40},
         None),
        ("interface below its floor", "The guest's policy demands an older interface.", SnpFinding.POLICY_ABI, {},
         table(policy_abi_min="0.32")),
        ("vmpl 1", "The report was asked for at VMPL 1.", SnpFinding.VMPL, {"vmpl": 1}, None),
        ("asked for by the host", "The host asked for the report.", SnpFinding.VMPL, {"vmpl": 0xFFFFFFFF},
         table(vmpl_max=3)),
        ("guest svn below its floor", "The guest's SVN is below the floor.", SnpFinding.GUEST_SVN, {"guest_svn": 4},
         table(guest_svn_min=5)),
        ("host data", "HOST_DATA is set.", SnpFinding.HOST_DATA, {"host_data": b"\1" * 32}, None),
        ("family id", "FAMILY_ID is set.", SnpFinding.FAMILY_ID, {"family_id": b"\1" * 16}, None),
        ("image id", "IMAGE_ID is set.", SnpFinding.IMAGE_ID, {"image_id": b"\1" * 16}, None),
        ("id key", "A key signed the ID block.", SnpFinding.ID_KEY, {"id_key_digest": other}, None),
        ("author key", "A key vouches for the ID key.", SnpFinding.AUTHOR_KEY,
         {"author_key_digest": other, "key_info": 1}, None),
        ("author key without its flag", "A digest stands there, and the flag says that none vouches.",
         SnpFinding.AUTHOR_KEY, {"author_key_digest": other}, table(author_key_digest=[other.hex()])),
        ("another guest", "The guest's id is none that the policy names.", SnpFinding.REPORT_ID, {},
         table(report_id=["11" * 32])),
    ):  # fmt: skip
        data = report(MILAN, **fields)
        yield SCENE.refused(edge, comment, code, evidence=data, policy=policy or SCENE.policy)


def permitted() -> Iterator[Vector]:
    base, other = MILAN.report().policy, b"\2" * 48
    agent = b"\3" * 32
    yield SCENE.accepted(
        "dangers permitted",
        "Debug and a named migration agent are permitted, and show as warnings.",
        warnings=(SnpFinding.DEBUG, SnpFinding.MIGRATION, SnpFinding.MIGRATION_AGENT),
        evidence=report(MILAN, policy=base | GuestPolicy.DEBUG | GuestPolicy.MIGRATE_MA, report_id_ma=agent),
        policy=table(debug=True, migration_agent=True, report_id_ma=[agent.hex()]),
    )
    fields = {"host_data": b"\4" * 32, "family_id": b"\5" * 16, "image_id": b"\6" * 16, "vmpl": 1, "guest_svn": 5}
    keys_ = {"id_key_digest": other, "author_key_digest": other, "key_info": 1}
    named = {name: [value.hex()] for name, value in (fields | keys_).items() if isinstance(value, bytes)}
    yield SCENE.accepted(
        "owner named",
        "Ids, keys and host data are as the policy names them; level (with a warning) and SVN are just reached.",
        warnings=(SnpFinding.VMPL,),
        evidence=report(MILAN, **fields | keys_),
        policy=table(**named, vmpl_max=1, guest_svn_min=5),
    )
    yield SCENE.accepted(
        "everything at its limit",
        "Every floor is just reached, and the chip and the guest are named.",
        policy=table(
            reported_tcb_min={"milan": {"bootloader": 4, "snp": 24, "microcode": 219}},
            committed_tcb_min={"milan": {"microcode": 219}},
            launch_tcb_min={"milan": {"microcode": 219}},
            firmware_min="1.55.49",
            policy_abi_min="0.31",
            mitigations_required=0x0B,
            chip_id=[MILAN.chip_id.hex()],
            report_id=[MILAN.report().report_id.hex()],
            report_version_min=5,
        ),
    )


def evidence_policy() -> Iterator[Vector]:
    policy = SCENE.policy
    other = {key: value for key, value in dict(policy).items() if key != "snp"}
    nitro = {"nitro": {"pcrs": {"pcr0": ["11" * 48]}}}
    for edge, comment, code, changed_policy in (
        ("no table for this tee", "The policy has no table for this TEE.", F.TEE, other | nitro),
        ("policy for hardware", "The evidence is simulated.", F.CLASS,
         merged(policy, evidence={"simulation": None, "simulated_root": None})),
        ("policy for another root", "The policy names another root.", F.ROOT,
         merged(policy, evidence={"simulated_root": "11" * 32})),
        ("collateral too old", "The revocation list is a second too old.", F.COLLATERAL_AGE,
         merged(policy, evidence={"max_collateral_age": 3599})),
        ("chip denied", "The policy refuses the chip by name.", F.DENIED,
         merged(policy, evidence={"platforms_denied": {"chip_id": [MILAN.chip_id.hex()]}})),
        ("product denied", "The policy refuses the product by name.", F.DENIED,
         merged(policy, evidence={"platforms_denied": {"product": ["milan"]}})),
    ):  # fmt: skip
        yield SCENE.refused(edge, comment, code, policy=changed_policy)
    hidden = merged(LENT.policy, evidence={"platforms_denied": {"chip_id": ["11" * 64]}})
    yield LENT.refused(
        "chip denied and hidden", "The report hides its chip, which could be the one.", F.DENIED, policy=hidden
    )
    yield SCENE.refused(
        "other report data", "The evidence is bound to something else.", F.REPORT_DATA, report_data=bytes(64)
    )
    yield SCENE.accepted("report data left open", "Nothing is said of report data.", report_data=None)
    yield SCENE.unverified("no collateral", "There is no certificate.", E.COLLATERAL_MISSING, collateral=None)
    from tests.vectors.attestation.sgx import SCENE as SGX  # for its collateral alone

    yield SCENE.unverified(
        "collateral of Intel", "The collateral is Intel's.", E.COLLATERAL_TEE, collateral=SGX.collateral
    )
