"""Cases of Nitro attestation documents."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from attestation.errors import EvidenceCode as E
from attestation.errors import FindingCode as F
from attestation.intel import pem
from attestation.nitro.document import MAX_DOCUMENT, NitroDocument, parse_document
from attestation.nitro.errors import NitroCode, NitroFinding
from attestation.sim.chains import Authority384, Profile384, certify, enrol
from attestation.sim.nitro import MODULE_ID, NitroState, SimulatedNitro
from attestation.types import cbor, cose
from tests.vectors.attestation.intel import flip
from tests.vectors.attestation.scene import CREATED, DAY, LAST, NOW, REPORT_DATA, SEED, Scene, edges, merged
from tests.vectors.attestation.vector import Vector

IMAGE: Final = bytes([7]) * 48
MACHINE: Final = SimulatedNitro(SEED, NOW - 10 * DAY)
LEAF: Final = Profile384(f"{MODULE_ID}.simulated.aws", authority=False)
ZONE: Final = "simulated.nitro-enclaves"
"""Of the simulated root."""
REGION: Final = Profile384("region")


def document(**changes: Any) -> bytes:
    return MACHINE.evidence({0: IMAGE}, REPORT_DATA, NOW, **changes)


POLICY: Final[dict[str, Any]] = {
    "version": 1,
    "evidence": {
        "simulation": True,
        "simulated_root": MACHINE.root_fingerprint.hex(),
        "tcb_status": ["UpToDate"],
    },
    "nitro": {"pcrs": {"pcr0": [IMAGE.hex()]}},
}
ROOTS: Final = (("simulated", MACHINE.root_pem.decode("ascii")),)
SCENE: Final = Scene(tee="nitro", version=1, evidence=document(), roots=ROOTS, policy=POLICY)


def cases() -> Iterator[Vector]:
    yield SCENE.accepted("healthy", "A healthy document is accepted.")
    yield SCENE.accepted("tagged", "The COSE_Sign1 message carries its tag, 18.", evidence=document(tagged=True))
    yield from fields()
    yield from messages()
    yield from chains()
    yield from profiles()
    yield from dates()
    yield from checks()
    yield from evidence_policy()


def fields() -> Iterator[Vector]:
    """Fields outside their bounds (section 3.1 of AWS's description)."""
    chain = (*MACHINE.authorities, MACHINE.leaf(NOW))
    for edge, comment, changes in (
        ("module id empty", "module_id is not empty.", {"module_id": ""}),
        ("module id too long", "module_id has a bound.", {"module_id": "x" * 129}),
        ("module id with a control character", "module_id is printable.", {"module_id": "a\nb"}),
        ("module id of bytes", "module_id is text.", {"module_id": b"i-0"}),
        ("timestamp zero", "timestamp is greater than zero.", {"timestamp": 0}),
        ("timestamp of text", "timestamp is a number.", {"timestamp": "now"}),
        ("no registers", "There is at least one register.", {"pcrs": {}}),
        ("register 32", "Registers have the indices 0 to 31.", {"pcrs": {32: bytes(48)}}),
        ("register of a text index", "Registers have numbers.", {"pcrs": {"0": bytes(48)}}),
        ("register of 32 bytes", "A register of SHA-384 has 48 bytes.", {"pcrs": {0: bytes(32)}}),
        ("certificate empty", "The certificate is not empty.", {"certificate": b""}),
        ("certificate too long", "The certificate has at most 1024 bytes.", {"certificate": bytes(1025)}),
        ("bundle empty", "The bundle is not empty.", {"cabundle": []}),
        ("bundle with an empty entry", "Entries are not empty.", {"cabundle": [b""]}),
        ("bundle of nine", "The bundle has a bound.", {"cabundle": [b"x"] * 9}),
        ("public key empty", "A public key, if there is one, is not empty.", {"public_key": b""}),
        ("public key too long", "A public key has at most 1024 bytes.", {"public_key": bytes(1025)}),
        ("user data too long", "User data have at most 512 bytes.", {"user_data": bytes(513)}),
        ("user data of a number", "User data are bytes.", {"user_data": 7}),
        ("nonce too long", "A nonce has at most 512 bytes.", {"nonce": bytes(513)}),
        ("unknown field", "No other fields are known.", {"extra": None}),
        ("without module id", "module_id is required.", {"omit": ("module_id",)}),
        ("without registers", "pcrs is required.", {"omit": ("pcrs",)}),
        ("without a bundle", "cabundle is required.", {"omit": ("cabundle",)}),
    ):
        yield SCENE.unparsed(edge, comment, NitroCode.MALFORMED, document(**{"chain": chain} | changes))
    yield SCENE.unparsed("digest SHA512", "Registers are of SHA-384.", NitroCode.DIGEST, document(digest="SHA512"))
    full = document(public_key=bytes(1024), user_data=REPORT_DATA, nonce=bytes(512))
    yield SCENE.accepted("fields at their limits", "Every optional field is as long as it may be.", evidence=full)
    bare = document(omit=("public_key", "user_data", "nonce"))
    yield SCENE.refused("no user data", "The document is bound to nothing.", F.REPORT_DATA, evidence=bare)


def messages() -> Iterator[Vector]:
    message = parsed().message
    payload = bytearray(message.payload)
    payload[0] += 1
    twice = cose.Sign1(cose.ES384, bytes(payload) + cbor.encode("nonce") + cbor.encode(None), message.signature)
    loose = cbor.encode([message.protected, {4: b"kid"}, message.payload, message.signature])
    for edge, comment, code, data in (
        ("repeated key", "A key that comes twice says two things.", E.CBOR_MALFORMED, twice.serialize()),
        ("unsigned header", "A header that nothing signs is refused.", E.COSE_MALFORMED, loose),
        ("larger than any document", "The document has more bytes than the module makes.", NitroCode.TOO_LARGE,
         document() + bytes(MAX_DOCUMENT)),
        ("trailing byte", "A byte follows the message.", E.CBOR_MALFORMED, document() + b"\0"),
        ("cut", "The message lacks its last byte.", E.CBOR_MALFORMED, document()[:-1]),
        ("algorithm es256", "Documents are signed with ES384 alone.", E.EVIDENCE_UNKNOWN,
         document(algorithm=-7)),
    ):  # fmt: skip
        yield SCENE.unparsed(edge, comment, code, data)
    other = enrolled(Profile384("other"))
    short = cose.Sign1(cose.ES384, message.payload, message.signature[:-1])
    for edge, comment, data in (
        ("signed by another key", "The certificate is of another key.", document(signer=other)),
        ("signature a byte short", "A signature of ES384 has 96 bytes.", short.serialize()),
        ("signature altered", "A bit of the signature differs.", flip(document())),
        ("payload altered", "A bit of the user data differs.", document().replace(REPORT_DATA, flip(REPORT_DATA))),
    ):
        yield SCENE.unverified(edge, comment, NitroCode.SIGNATURE, evidence=data)


def parsed(**changes: Any) -> NitroDocument:
    return parse_document(document(**changes))


def rebuilt(**changes: Any) -> bytes:
    """A document whose fields were altered after it was signed."""
    message = parsed().message
    payload = cbor.decode(message.payload, max_size=MAX_DOCUMENT) | changes
    return cose.Sign1(cose.ES384, cbor.encode(payload), message.signature).serialize()


def enrolled(profile: Profile384, issuer: Authority384 | None = None, **span: int) -> Authority384:
    start, end = span.get("start", CREATED), span.get("end", NOW + 3 * DAY)
    return enrol(SEED, profile, issuer, start, end)


def under(*profiles: Profile384, **span: int) -> tuple[Authority384, ...]:
    """A chain below the simulated root; the last profile is the leaf's."""
    chain = [MACHINE.root]
    for profile in profiles:
        chain.append(enrolled(profile, chain[-1], **span))
    return tuple(chain)


def chains() -> Iterator[Vector]:
    root, region, zone, instance = MACHINE.authorities
    leaf = MACHINE.leaf(NOW)
    renamed = certify(Profile384("other"), region.key, root, serial=5, start=CREATED, end=NOW + DAY)
    p256 = ec.derive_private_key(5, ec.SECP256R1())
    small = certify(REGION, p256, root, serial=5, start=CREATED, end=NOW + DAY)
    for edge, comment, code, chain in (
        ("bundle out of order", "Zone and region are exchanged.", E.CHAIN_SIGNATURE,
         (root, zone, region, instance, leaf)),
        ("bundle begins with the region", "The first certificate is the root.", E.CHAIN_ROOT,
         (region, root, zone, instance, leaf)),
        ("bundle lacks the instance", "The leaf's issuer is missing.", E.CHAIN_SIGNATURE, (root, region, zone, leaf)),
        ("issuer of another name", "The key is right, and the name is not.", E.CHAIN_NAMES,
         (root, renamed, enrolled(LEAF, region))),
        ("authority on p-256", "Every key is on P-384.", E.CERTIFICATE_MALFORMED, (root, small, leaf)),
    ):  # fmt: skip
        yield SCENE.unverified(edge, comment, code, evidence=document(chain=chain))
    for edge, comment, code, data in (
        ("certificate is no der", "The certificate is none.", E.CERTIFICATE_MALFORMED, rebuilt(certificate=b"x")),
        ("certificate of indefinite length", "BER is no DER.", E.CERTIFICATE_MALFORMED,
         rebuilt(certificate=b"\x30\x80\x00\x00")),
        ("certificate signed with sha-256", "The signature algorithm is another.", E.CERTIFICATE_MALFORMED,
         rebuilt(certificate=leaf.der.replace(bytes.fromhex("2a8648ce3d040303"), bytes.fromhex("2a8648ce3d040302")))),
        ("root corrupted", "The root differs by a bit.", E.CHAIN_ROOT,
         rebuilt(cabundle=[flip(root.der), region.der, zone.der, instance.der])),
        ("leaf corrupted", "The leaf differs by a bit.", E.CHAIN_SIGNATURE, rebuilt(certificate=flip(leaf.der))),
    ):  # fmt: skip
        yield SCENE.unverified(edge, comment, code, evidence=data)
    for edge, comment, code, trusted in (
        ("root not trusted", "Only the vendors' roots are trusted.", E.CHAIN_ROOT, ("vendor", "")),
        ("root taken for hardware", "The certificates say that they are simulated.", E.CHAIN_SIMULATED,
         ("replacement-nitro", ROOTS[0][1])),
        ("root of another vendor", "The root is trusted as AMD's.", E.CHAIN_ROOT, ("replacement-amd", ROOTS[0][1])),
    ):  # fmt: skip
        yield SCENE.unverified(edge, comment, code, roots=(trusted,))


def but(profile: Profile384, **changes: Any) -> Profile384:
    return dataclasses.replace(profile, **changes)


def profiles() -> Iterator[Vector]:
    """Basic constraints, path lengths and key usage of each place."""
    unknown = ((x509.ObjectIdentifier("1.2.3"), b"\5\0"),)
    zone = Profile384("zone")
    for edge, comment, line in (
        ("chain of two", "The root itself signed the leaf.", (LEAF,)),
        ("leaf without constraints", "A leaf needs no basic constraints.", (REGION, but(LEAF, constrained=False))),
        ("path length zero above a leaf", "No authority is below it.", (but(REGION, path_length=0), LEAF)),
        ("path length one above an authority", "One authority is below it.", (but(REGION, path_length=1), zone, LEAF)),
        ("longest chain", "As many certificates as AWS's bundles may have.",
         (*(Profile384(f"authority {index}") for index in range(7)), LEAF)),
    ):  # fmt: skip
        yield SCENE.accepted(edge, comment, evidence=document(chain=under(*line)))
    for edge, comment, code, line in (
        ("path length zero above an authority", "An authority is below it.", E.CHAIN_ROLE,
         (but(REGION, path_length=0), zone, LEAF)),
        ("authority without constraints", "An authority says that it is one.", E.CHAIN_ROLE,
         (but(REGION, constrained=False), LEAF)),
        ("authority that may not certify", "Its key usage lacks keyCertSign.", E.CHAIN_ROLE,
         (but(REGION, usages=("digital_signature",)), LEAF)),
        ("leaf as an authority", "A leaf certified the next one.", E.CHAIN_ROLE,
         (Profile384("region", authority=False), LEAF)),
        ("leaf that is an authority", "The leaf may certify others.", E.CHAIN_ROLE,
         (REGION, but(LEAF, authority=True))),
        ("leaf that may not sign", "Its key usage lacks digitalSignature.", E.CHAIN_ROLE,
         (REGION, but(LEAF, usages=("key_agreement",)))),
        ("leaf that may sign lists", "Its key usage has cRLSign.", E.CHAIN_ROLE,
         (REGION, but(LEAF, usages=("digital_signature", "crl_sign")))),
        ("leaf unmarked", "The leaf lacks the mark of simulation.", E.CHAIN_NOT_SIMULATED,
         (REGION, but(LEAF, marked=False))),
        ("authority unmarked", "The authority lacks the mark of simulation.", E.CHAIN_NOT_SIMULATED,
         (but(REGION, marked=False), LEAF)),
        ("certificate of another module", "The certificate names another module.", NitroCode.MODULE,
         (REGION, Profile384("i-1-enc1.aws", authority=False))),
        ("unknown extension", "Nobody knows the leaf's extension.", E.CERTIFICATE_MALFORMED,
         (REGION, but(LEAF, extra=unknown))),
    ):  # fmt: skip
        yield SCENE.unverified(edge, comment, code, evidence=document(chain=under(*line)))


def dates() -> Iterator[Vector]:
    last = NOW + 3 * 3600
    rule = "The document's certificate lives for three hours, and its dates are inclusive."
    yield SCENE.accepted("leaf last second", rule, now=last)
    yield SCENE.unverified("leaf just expired", rule, E.CERTIFICATE_EXPIRED, now=last + 1)
    good = under(REGION, LEAF)
    for edge, comment, code, span in (
        ("authority not valid yet", "The region's certificate is valid from the next second.", E.CERTIFICATE_EARLY,
         {"start": NOW + 1}),
        ("authority just expired", "The region's certificate expired a second ago.", E.CERTIFICATE_EXPIRED,
         {"end": NOW - 1}),
    ):  # fmt: skip
        chain = (good[0], enrolled(REGION, good[0], **span), good[2])
        yield SCENE.unverified(edge, comment, code, evidence=document(chain=chain))
    for edge, span in (("first", {"start": NOW}), ("last", {"end": NOW})):
        chain = (good[0], enrolled(REGION, good[0], **span), good[2])
        comment = f"This is the {edge} second of the region's certificate."
        yield SCENE.accepted(f"authority {edge} second", comment, evidence=document(chain=chain))
    yield from places()
    start = 1000 * (NOW - 3)
    yield SCENE.accepted("made at once", "Made in the certificate's first second.", evidence=document(timestamp=start))
    for edge, code, timestamp in (
        ("made before its certificate", NitroCode.TIMESTAMP, start - 1),
        ("made after its certificate", NitroCode.TIMESTAMP, 1000 * (last + 1)),
        ("made in the future", NitroCode.EARLY, 1000 * (NOW + 1)),
    ):
        comment = "A document is made while its certificate is valid, and not in the future."
        yield SCENE.unverified(edge, comment, code, evidence=document(timestamp=timestamp))
    yield SCENE.accepted(
        "made in the last millisecond",
        "The certificate's last second has a thousand milliseconds.",
        evidence=document(timestamp=1000 * last + 999),
        now=last,
    )


def places() -> Iterator[Vector]:
    """Every place of the longest chain, with dates of its own.

    A document is made while its leaf is valid, so that before the leaf's first second it is from the future, too.
    """
    line = (*(Profile384(f"authority {index}") for index in range(1, 8)), LEAF)
    for place, profile in enumerate((Profile384(ZONE), *line)):
        chain: list[Authority384] = []
        for index, each in enumerate((Profile384(ZONE), *line)):
            span = {"start": NOW, "end": LAST} if index == place else {}
            above = chain[-1] if chain else None
            chain.append(MACHINE.root if index == 0 != place else enrolled(each, above, **span))
        leaf = profile is LEAF
        name = "root" if place == 0 else "leaf" if leaf else f"authority {place}"
        data = document(chain=tuple(chain), timestamp=1000 * (NOW if leaf else NOW - 1))
        root = chain[0]
        named = merged(POLICY, evidence={"simulated_root": hashlib.sha256(root.der).hexdigest()})
        trusted = (("simulated", pem.encode_chain(root.der).decode("ascii")),)
        rule = f"Dates of the certificate of the {name} are inclusive (RFC 5280, 4.1.2.5)."
        codes = (NitroCode.EARLY if leaf else E.CERTIFICATE_EARLY, E.CERTIFICATE_EXPIRED)
        yield from edges(SCENE, f"{name} of nine", rule, codes, evidence=data, roots=trusted, policy=named)


def checks() -> Iterator[Vector]:
    debug = SimulatedNitro(SEED, NOW - 10 * DAY, NitroState(debug=True)).evidence({0: IMAGE}, REPORT_DATA, NOW)
    yield SCENE.refused("debug", "Image registers are zero.", NitroFinding.DEBUG, NitroFinding.PCR, evidence=debug)
    zero = MACHINE.evidence({0: IMAGE, 2: bytes(48)}, REPORT_DATA, NOW)
    yield SCENE.refused("one image register zero", "PCR2 alone is zero.", NitroFinding.DEBUG, evidence=zero)
    yield SCENE.accepted(
        "debug permitted",
        "Debug mode is permitted, and its zeros are named.",
        warnings=(NitroFinding.DEBUG,),
        evidence=debug,
        policy=merged(POLICY, nitro={"debug": True, "pcrs": {"pcr0": ["00" * 48]}}),
    )
    for edge, comment, code, table in (
        ("image not named", "PCR0 is another.", NitroFinding.PCR, {"pcrs": {"pcr0": ["11" * 48]}}),
        ("another register not named", "PCR3 is another.", NitroFinding.PCR,
         {"pcrs": {"pcr0": [IMAGE.hex()], "pcr3": ["11" * 48]}}),
        ("register not in the document", "PCR31 is not shown.", NitroFinding.PCR,
         {"pcrs": {"pcr0": [IMAGE.hex()], "pcr31": ["11" * 48]}}),
        ("module not named", "The module is another.", NitroFinding.MODULE_ID, {"module_ids": [MODULE_ID[:-1]]}),
    ):  # fmt: skip
        yield SCENE.refused(edge, comment, code, policy=merged(POLICY, nitro=table))
    yield SCENE.accepted(
        "module named", "The module is the one.", policy=merged(POLICY, nitro={"module_ids": [MODULE_ID]})
    )
    signed = MACHINE.evidence({8: b"\x88" * 48}, REPORT_DATA, NOW)
    signer = merged(POLICY, nitro={"pcrs": {"pcr8": ["88" * 48]}})
    yield SCENE.accepted("signer named", "PCR8 names the signer of the image.", evidence=signed, policy=signer)
    yield SCENE.refused("image without a signer", "PCR8 is zero.", NitroFinding.PCR, policy=signer)


def evidence_policy() -> Iterator[Vector]:
    sgx = {"sgx": {"mrenclave": ["11" * 32]}}
    other = {key: value for key, value in POLICY.items() if key != "nitro"}
    for edge, comment, code, policy in (
        ("no table for this tee", "The policy has no table for this TEE.", F.TEE, other | sgx),
        ("policy for hardware", "The evidence is simulated.", F.CLASS,
         merged(POLICY, evidence={"simulation": None, "simulated_root": None})),
        ("policy for another root", "The policy names another root.", F.ROOT,
         merged(POLICY, evidence={"simulated_root": "11" * 32})),
        ("module denied", "The policy refuses the module by name.", F.DENIED,
         merged(POLICY, evidence={"platforms_denied": {"module_id": [MODULE_ID]}})),
    ):  # fmt: skip
        yield SCENE.refused(edge, comment, code, policy=policy)
    aged = merged(POLICY, evidence={"max_collateral_age": 60})
    yield SCENE.accepted("document of a minute", "The document is just young enough.", policy=aged, now=NOW + 60)
    yield SCENE.refused(
        "document too old", "The document is a second too old.", F.COLLATERAL_AGE, policy=aged, now=NOW + 61
    )
    yield SCENE.refused(
        "other report data", "The document is bound to something else.", F.REPORT_DATA, report_data=bytes(64)
    )
    yield SCENE.accepted("report data left open", "Nothing is said of report data.", report_data=None)
