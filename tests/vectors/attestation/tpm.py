"""Cases of TPM quotes, in the container that docs/attestation-tpm.md describes."""

from __future__ import annotations

import dataclasses
import functools
import struct
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.errors import EvidenceCode as E
from attestation.errors import FindingCode as F
from attestation.eventlog.errors import EventLogCode
from attestation.eventlog.log import EventType
from attestation.roots import SIMULATION_EXTENSION
from attestation.sim.eventlog import BOOT, make_log
from attestation.sim.pki import Authority, Lifetimes
from attestation.sim.rsa_key import derive_rsa_key
from attestation.sim.tpm import FIRMWARE, SimulatedTpm, boot_values, sign
from attestation.sim.tpm_pki import TpmProfile, authority, certify_key
from attestation.tpm.algorithms import Hash, Scheme
from attestation.tpm.attest import PcrSelection
from attestation.tpm.errors import TpmCode, TpmFinding
from attestation.tpm.public import Attributes
from manifests import canonical
from manifests.errors import ErrorCode
from tests.vectors.attestation.intel import flip, put
from tests.vectors.attestation.scene import CREATED, DAY, LAST, NOW, REPORT_DATA, SEED, YEAR, Scene, edges, merged
from tests.vectors.attestation.vector import Vector

END: Final = CREATED + 10 * YEAR
SELECTION: Final = 6 + 2 + 34 + 2 + 32 + 8 + 4 + 4 + 1 + 8
"""Where pcrSelect begins in a message with SHA-256 names and qualifying data of 32 bytes."""
HEADER: Final = len(make_log([]))


@functools.lru_cache(maxsize=8)
def machine(scheme: Scheme = Scheme.ECDSA) -> SimulatedTpm:
    return SimulatedTpm(SEED, CREATED, scheme)


TPM: Final = machine()
HEALTHY: Final = TPM.evidence(REPORT_DATA)
ROOTS: Final = (("simulated", TPM.root_pem.decode("ascii")),)
VALUES: Final = boot_values(make_log())


def policy(**tpm: Any) -> dict[str, Any]:
    value = VALUES[Hash.SHA256, 7].hex()
    base: dict[str, Any] = {
        "version": 1,
        "evidence": {"simulation": True, "simulated_root": TPM.root_fingerprint.hex(), "tcb_status": ["UpToDate"]},
        "tpm": {"pcrs": {"sha256": {"pcr7": [value]}}},
    }
    return merged(base, tpm=tpm)


SCENE: Final = Scene(tee="tpm", version=1, evidence=HEALTHY, roots=ROOTS, policy=policy())


def opened(data: bytes = HEALTHY) -> dict[str, Any]:
    value: dict[str, Any] = canonical.decode(data, max_size=1 << 20)
    return value


def rebuilt(data: bytes = HEALTHY, **changes: Any) -> bytes:
    """The container with other fields, which nothing signs again."""
    return canonical.encode(opened(data) | changes)


def chained(*chain: bytes) -> bytes:
    return rebuilt(key_chain=list(chain))


def cases() -> Iterator[Vector]:
    yield from healthy()
    yield from containers()
    yield from messages()
    yield from keys()
    yield from logs()
    yield from chains()
    yield from signatures()
    yield from checks()
    yield from evidence_policy()


def healthy() -> Iterator[Vector]:
    yield SCENE.accepted("healthy ecdsa", "A healthy quote with an attestation key on P-256 is accepted.")
    for scheme in (Scheme.RSASSA, Scheme.RSAPSS):
        tpm = machine(scheme)
        yield SCENE.accepted(
            f"healthy {scheme.name.lower()}",
            f"A healthy quote with an attestation key for {scheme.name} is accepted.",
            evidence=tpm.evidence(REPORT_DATA),
        )
    middle = intermediate()
    chain = (TPM.certificate(middle), middle.der, TPM.root.der)
    yield SCENE.accepted("longer chain", "An authority stands between root and key.", evidence=chained(*chain))
    pinned = SCENE.but(evidence=rebuilt(key_chain=[]), roots=(("vendor", ""), ("tpm", TPM.ak_fingerprint.hex())))
    hardware = merged(policy(ak=[TPM.ak_fingerprint.hex()]), evidence={"simulation": None, "simulated_root": None})
    yield pinned.accepted("key pinned", "The policy names the key itself, and no chain is carried.", policy=hardware)
    log = rebuilt(log=b"")
    yield SCENE.accepted("no log", "Without a log nothing is explained, and the policy does not ask.", evidence=log)
    several = (PcrSelection(Hash.SHA1, ()), PcrSelection(Hash.SHA256, tuple(index for _, index in VALUES)))
    data = TPM.evidence(REPORT_DATA, pcr_select=several)
    yield SCENE.accepted("empty bank beside one", "A bank without PCRs stands beside one with some.", evidence=data)


def containers() -> Iterator[Vector]:
    bad = TpmCode.EVIDENCE_MALFORMED
    other = b"\x89" + b"".join(
        canonical.encode(name) + canonical.encode(value) for name, value in sorted(opened().items())[::-1]
    )
    for edge, comment, code, data in (
        ("container version 2", "The container is of version 2.", TpmCode.EVIDENCE_VERSION, rebuilt(version=2)),
        ("container version 0", "There is no version 0.", bad, rebuilt(version=0)),
        ("container with another field", "The container has nine fields.", bad, rebuilt(zeal=b"")),
        ("container with text for bytes", "The message is bytes.", bad, rebuilt(message="text")),
        ("message too long", "A message has a bound.", bad, rebuilt(message=bytes(1025))),
        ("parent too long", "A name has a bound.", bad, rebuilt(parent=bytes(67))),
        ("too many values", "PCR values have a bound.", bad, rebuilt(pcrs=[b""] * 257)),
        ("certificate too long", "A certificate has a bound.", bad, rebuilt(key_chain=[bytes(9000)])),
        ("container with trailing byte", "A byte follows the container.", bad, HEALTHY + b"\0"),
        ("container cut", "The container lacks its last byte.", bad, HEALTHY[:-1]),
        ("container in another order", "The map's keys stand in another order.", E.EVIDENCE_UNKNOWN, other),
        ("bare message", "A message without its container.", E.EVIDENCE_UNKNOWN, opened()["message"]),
    ):
        yield SCENE.unparsed(edge, comment, code, data)


def messages() -> Iterator[Vector]:
    """TPMS_ATTEST and TPMT_SIGNATURE."""
    data, signature = bytes(opened()["message"]), bytes(opened()["signature"])
    twice = (PcrSelection(Hash.SHA256, (0,)), PcrSelection(Hash.SHA256, (1,)))
    for edge, comment, code, changed in (
        ("magic", "TPM_GENERATED_VALUE begins what only a TPM makes.", TpmCode.MAGIC, put(data, 0, b"\0")),
        ("attestation of another type", "The message certifies a key.", TpmCode.ATTEST_TYPE, put(data, 4, b"\x80\x17")),
        ("message cut", "The message lacks its last byte.", TpmCode.TRUNCATED, data[:-1]),
        ("message with trailing byte", "A byte follows the message.", TpmCode.TRAILING_BYTES, data + b"\0"),
        ("name too long", "A name has the size of its digest.", TpmCode.SIZE, put(data, 6, b"\xff\xff")),
        ("safe is two", "TPMI_YES_NO is 0 or 1.", TpmCode.RESERVED, put(data, 92, b"\2")),
        ("no selection", "A quote selects something.", TpmCode.PCR_SELECTION,
         put(data, SELECTION, struct.pack(">I", 0))),
        ("too many selections", "TPML_PCR_SELECTION has a bound.", TpmCode.PCR_SELECTION,
         put(data, SELECTION, struct.pack(">I", 1 << 31))),
        ("unknown bank", "The bank is SM3.", TpmCode.ALGORITHM, put(data, SELECTION + 4, b"\x00\x12")),
        ("bitmap of two bytes", "A selection has at least three bytes.", TpmCode.PCR_SELECTION,
         put(data, SELECTION + 6, b"\2")),
        ("nothing selected", "No PCR is selected at all.", TpmCode.PCR_SELECTION, put(data, SELECTION + 7, bytes(3))),
        ("bank twice", "A bank is selected twice.", TpmCode.PCR_SELECTION,
         TPM.attest(bytes(32), {}, pcr_select=twice).serialize()),
    ):  # fmt: skip
        yield SCENE.unparsed(edge, comment, code, rebuilt(message=changed))
    for edge, comment, code, changed in (
        ("signature of another scheme", "The scheme is unknown.", TpmCode.ALGORITHM, put(signature, 0, b"\x00\x1a")),
        ("signature with sha-1", "SHA-1 is too weak.", TpmCode.ALGORITHM, put(signature, 2, b"\x00\x04")),
        ("signature with an empty half", "A half of the signature is empty.", TpmCode.SIZE, put(signature, 4, b"\0\0")),
        ("signature cut", "The signature lacks its last byte.", TpmCode.TRUNCATED, signature[:-1]),
        ("signature with trailing byte", "A byte follows the signature.", TpmCode.TRAILING_BYTES, signature + b"\0"),
    ):
        yield SCENE.unparsed(edge, comment, code, rebuilt(signature=changed))
    values = opened()["pcrs"]
    for edge, comment, wrong in (
        ("no values", "No value is carried.", []),
        ("a value missing", "A value is missing.", values[:-1]),
        ("a value too many", "A value is not selected.", [*values, bytes(32)]),
        ("a value of another size", "A value is of another bank.", [bytes(48), *values[1:]]),
    ):
        yield SCENE.unparsed(edge, comment, TpmCode.PCR_VALUES, rebuilt(pcrs=wrong))


def keys() -> Iterator[Vector]:
    """TPM2B_PUBLIC: what the attestation key may be."""
    data = TPM.public.serialize()
    rsa = machine(Scheme.RSASSA).public.serialize()
    for edge, comment, code, changed in (
        ("keyed hash", "The key is no asymmetric one.", TpmCode.KEY_KIND, put(data, 2, b"\x00\x08")),
        ("named by sha-1", "SHA-1 is too weak for a name.", TpmCode.ALGORITHM, put(data, 4, b"\x00\x04")),
        ("reserved attribute", "A reserved attribute is set.", TpmCode.RESERVED, put(data, 6, b"\x80")),
        ("storage key", "The key encrypts.", TpmCode.KEY_KIND, put(data, 12, b"\x00\x06")),
        ("rsassa on a curve", "The scheme does not fit the key.", TpmCode.ALGORITHM, put(data, 14, b"\x00\x14")),
        ("key for sha-1", "SHA-1 is too weak to sign with.", TpmCode.ALGORITHM, put(data, 16, b"\x00\x04")),
        ("key on p-192", "The curve is too small.", TpmCode.ALGORITHM, put(data, 18, b"\x00\x01")),
        ("key derivation", "The key has a derivation scheme.", TpmCode.KEY_KIND, put(data, 20, b"\x00\x20")),
        ("ecdsa with rsa", "The scheme does not fit the key.", TpmCode.ALGORITHM, put(rsa, 14, b"\x00\x18")),
        ("rsa exponent 3", "The exponent is 65537.", TpmCode.KEY_KIND, put(rsa, 20, struct.pack(">I", 3))),
        ("rsa size contradicted", "The modulus has another size than it says.", TpmCode.SIZE,
         put(rsa, 18, struct.pack(">H", 3072))),
        ("rsa modulus too small", "The modulus begins with zeros.", TpmCode.KEY_SIZE, put(rsa, 26, bytes(32))),
        ("key cut", "The public area lacks its last byte.", TpmCode.TRUNCATED, data[:-1]),
        ("key with trailing byte", "A byte follows the public area.", TpmCode.TRAILING_BYTES, data + b"\0"),
        ("key empty", "The public area is empty.", TpmCode.SIZE, b"\0\0"),
    ):  # fmt: skip
        yield SCENE.unparsed(edge, comment, code, rebuilt(key=changed))
    off = put(data, len(data) - 32, bytes(32))
    yield SCENE.unverified(
        "point off its curve", "The key is no point.", TpmCode.KEY_INVALID, evidence=rebuilt(key=off)
    )
    good = TPM.public.attributes
    for edge, attributes in (
        ("key not fixed to its tpm", good & ~Attributes.FIXED_TPM),
        ("key not fixed to its parent", good & ~Attributes.FIXED_PARENT),
        ("key not restricted", good & ~Attributes.RESTRICTED),
        ("key made outside", good & ~Attributes.SENSITIVE_DATA_ORIGIN),
        ("key that decrypts", good | Attributes.DECRYPT),
    ):
        tpm = SimulatedTpm(SEED, CREATED, attributes=attributes)
        comment = "Only a restricted signing key that never leaves its TPM attests."
        data = tpm.evidence(REPORT_DATA)
        yield SCENE.unverified(edge, comment, TpmCode.KEY_ATTRIBUTES, evidence=data)


def logs() -> Iterator[Vector]:
    log = make_log()
    for edge, comment, code, changed in (
        ("log cut", "The log ends within an event.", EventLogCode.MALFORMED, log[:-1]),
        ("log with trailing byte", "A byte follows the log.", EventLogCode.MALFORMED, log + b"\0"),
        ("log of the old format", "The header's signature is another.", EventLogCode.FORMAT,
         put(log, 32, b"Spec ID Event02\0")),
        ("log without a header", "The first event is another.", EventLogCode.FORMAT, put(log, 4, b"\4")),
        ("log with nine banks", "Algorithms have a bound.", EventLogCode.MALFORMED, put(log, 56, struct.pack("<I", 9))),
        ("log with a digest of another bank", "An event has a digest that the header does not name.",
         EventLogCode.MALFORMED, put(log, HEADER + 12, b"\x0c\x00")),
        ("event of an endless size", "An event is longer than the log.", EventLogCode.MALFORMED,
         put(log, HEADER + 46, b"\xff\xff\xff\xff")),
    ):  # fmt: skip
        yield SCENE.unparsed(edge, comment, code, rebuilt(log=changed))
    locality = (0, EventType.EV_NO_ACTION, b"StartupLocality\0\x01")
    for edge, comment, code, entries, banks in (
        ("event for register 24", "There is no such register.", EventLogCode.REGISTER,
         [*BOOT, (24, EventType.EV_ACTION, b"")], (Hash.SHA256,)),
        ("startup locality 1", "No platform starts from this locality.", EventLogCode.MALFORMED,
         [locality, *BOOT[1:]], (Hash.SHA256,)),
    ):  # fmt: skip
        yield SCENE.unverified(edge, comment, code, evidence=rebuilt(log=make_log(entries, banks)))
    other = SCENE.but(evidence=rebuilt(log=make_log(BOOT, (Hash.SHA384,))))
    yield other.refused(
        "log of another bank", "The log explains nothing of what is quoted in the bank that the policy names.",
        TpmFinding.EVENT_LOG,
    )  # fmt: skip
    yield other.refused(
        "log of another bank to explain a pcr",
        "The policy wants PCR 7 explained, and the log has SHA-384 alone.",
        TpmFinding.EVENT_LOG,
        TpmFinding.EVENT_LOG_PCRS,
        policy=policy(event_log_pcrs=[7]),
    )


# ------------------------------------------------------------------------------------------------------------ chains


def intermediate(**changes: Any) -> Authority:
    profile = TpmProfile("Intermediate CA", CREATED - DAY, END, authority=True)
    return authority(SEED, dataclasses.replace(profile, **changes), TPM.root)


def built(public: Any, key: Any, algorithm: Any, *extensions: tuple[x509.ExtensionType, bool]) -> bytes:
    """The key's certificate, built in any way, with the name of the root as its issuer."""
    name = TPM.root.certificate.subject
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(public).serial_number(1)
    builder = builder.not_valid_before(datetime.fromtimestamp(CREATED, UTC))
    builder = builder.not_valid_after(datetime.fromtimestamp(END, UTC))
    mark = x509.UnrecognizedExtension(SIMULATION_EXTENSION, b"\x05\x00")
    for extension, critical in ((mark, False), *extensions):
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(key, algorithm, ecdsa_deterministic=True).public_bytes(Encoding.DER)


def chains() -> Iterator[Vector]:
    root, own = TPM.root.der, TPM.certificate()
    middle, leaf = intermediate(), authority(SEED, TpmProfile("Leaf", CREATED - DAY, END), TPM.root)
    narrow = intermediate(path_length=0)
    second = authority(SEED, TpmProfile("Second CA", CREATED - DAY, END, authority=True), narrow)
    renamed = Authority(
        TPM.root.key, authority(SEED, TpmProfile("Other CA", CREATED - DAY, END, authority=True), TPM.root).certificate
    )
    other = certify_key(SEED, TPM.profile, machine(Scheme.RSASSA).key.public_key(), TPM.root)
    endorsement = x509.ObjectIdentifier("2.23.133.8.1")
    unknown = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)
    own_key, root_key = TPM.key.public_key(), TPM.root.key
    table: tuple[tuple[str, str, ErrorCode, tuple[bytes, ...]], ...] = (
        ("chain without the key", "The chain has no certificate of the key.", E.CHAIN_LENGTH, (root,)),
        ("chain reversed", "The root stands first.", E.CHAIN_ROOT, (root, own)),
        ("chain with a corrupted root", "The root differs by a bit.", E.CHAIN_ROOT, (own, flip(root))),
        ("chain with a corrupted leaf", "The key's certificate differs by a bit.", E.CHAIN_SIGNATURE,
         (flip(own), root)),
        ("chain with a stranger between", "The authority between has signed nothing.", E.CHAIN_SIGNATURE,
         (own, middle.der, root)),
        ("chain with text", "The certificate is none.", E.CERTIFICATE_MALFORMED, (b"none", root)),
        ("chain with a trailing byte", "A byte follows the certificate.", E.CERTIFICATE_MALFORMED, (own + b"\0", root)),
        ("key that certifies", "The key's certificate is an authority's.", E.CHAIN_ROLE,
         (TPM.certificate(authority=True), root)),
        ("endorsement key", "The certificate is an endorsement key's.", E.CHAIN_ROLE,
         (TPM.certificate(purpose=endorsement), root)),
        ("certificate without a purpose", "Nothing says that the key attests.", E.CHAIN_ROLE,
         (TPM.certificate(purpose=None), root)),
        ("certificate of another key", "The certificate is of another key than the quote's.", TpmCode.KEY_CERTIFICATE,
         (other, root)),
        ("leaf as an authority", "A leaf certified the key.", E.CHAIN_ROLE, (TPM.certificate(leaf), leaf.der, root)),
        ("path length exceeded", "An authority may have none below it.", E.CHAIN_ROLE,
         (TPM.certificate(second), second.der, narrow.der, root)),
        ("issuer of another name", "The root signed under another name.", E.CHAIN_NAMES,
         (TPM.certificate(renamed), root)),
        ("certificate unmarked", "The certificate lacks the mark of simulation.", E.CHAIN_NOT_SIMULATED,
         (TPM.certificate(marked=False), root)),
        ("certificate signed with sha-224", "SHA-224 is too weak.", TpmCode.ALGORITHM,
         (built(own_key, root_key, hashes.SHA224()), root)),
        ("certificate without key usage", "The certificate has no key usage.", E.CERTIFICATE_MALFORMED,
         (built(own_key, root_key, hashes.SHA256()), root)),
        ("unknown critical extension", "Nobody knows the extension.", E.CERTIFICATE_MALFORMED,
         (built(own_key, root_key, hashes.SHA256(), unknown), root)),
        ("certificate on secp256k1", "The curve is none of the TPM's.", E.CERTIFICATE_MALFORMED,
         (built(ec.derive_private_key(9, ec.SECP256K1()).public_key(), root_key, hashes.SHA256()), root)),
        ("certificate of a small rsa key", "The key has 1024 bits.", TpmCode.KEY_SIZE,
         (built(derive_rsa_key(SEED, "weak", 1024).public_key(), root_key, hashes.SHA256()), root)),
    )  # fmt: skip
    for edge, comment, code, chain in table:
        yield SCENE.unverified(edge, comment, code, evidence=chained(*chain))
    vendor, pem = ("vendor", ""), ROOTS[0][1]
    for edge, comment, code, trusted, data in (
        ("key that nobody names", "No chain is carried, and the key is not pinned.", E.CHAIN_ROOT, ROOTS,
         rebuilt(key_chain=[])),
        ("chain to an unknown root", "The key is pinned, and the chain that is carried leads elsewhere.", E.CHAIN_ROOT,
         (vendor, ("tpm", TPM.ak_fingerprint.hex())), HEALTHY),
        ("simulated root taken for hardware", "The certificates say that they are simulated.", E.CHAIN_SIMULATED,
         (vendor, ("tpm", TPM.root_fingerprint.hex())), HEALTHY),
        ("root of a vendor", "No vendor's root is taken for a TPM's.", E.CHAIN_ROOT, (("replacement-intel", pem),),
         HEALTHY),
    ):  # fmt: skip
        yield SCENE.unverified(edge, comment, code, roots=trusted, evidence=data)
    rule = "Dates of the key's certificate are inclusive."
    begin, end = CREATED - DAY, CREATED + 7 * YEAR
    yield SCENE.accepted("certificate first second", rule, now=begin)
    yield SCENE.unverified("certificate not valid yet", rule, E.CERTIFICATE_EARLY, now=begin - 1)
    yield SCENE.accepted("certificate last second", rule, now=end)
    yield SCENE.unverified("certificate just expired", rule, E.CERTIFICATE_EXPIRED, now=end + 1)
    yield from dates()


def dates() -> Iterator[Vector]:
    """Each certificate of the chain has dates of its own."""
    for edge, name, title in (("key", "pck", "key's"), ("root", "root", "root's")):
        begins = {name: NOW - CREATED}
        tpm = SimulatedTpm(SEED, CREATED, lifetimes=Lifetimes(**{name: LAST - CREATED}, begins=begins))
        trusted = merged(SCENE.policy, evidence={"simulated_root": tpm.root_fingerprint.hex()})  # type: ignore[arg-type]
        changes = {"evidence": chained(*tpm.chain), "roots": (("simulated", tpm.root_pem.decode("ascii")),)}
        rule = f"Dates of the {title} certificate are inclusive (RFC 5280, 4.1.2.5)."
        yield from edges(SCENE, f"{edge} certificate", rule, policy=trusted, **changes)
    middle = intermediate(start=NOW, end=LAST)
    data = chained(TPM.certificate(middle), middle.der, TPM.root.der)
    rule = "Dates of an authority between root and key are inclusive (RFC 5280, 4.1.2.5)."
    yield from edges(SCENE, "authority certificate", rule, evidence=data)


def signatures() -> Iterator[Vector]:
    stranger = ec.derive_private_key(4242, ec.SECP256R1())
    rsa = machine(Scheme.RSASSA)
    signed = sign(rsa.key, Scheme.RSAPSS, opened(rsa.evidence(REPORT_DATA))["message"])
    pss = rsa.evidence(REPORT_DATA, container={"signature": signed})
    table: tuple[tuple[str, str, ErrorCode, bytes], ...] = (
        ("signed by another key", "Another key signed.", TpmCode.SIGNATURE, TPM.evidence(REPORT_DATA, signer=stranger)),
        ("signature altered", "A bit of the signature differs.", TpmCode.SIGNATURE,
         rebuilt(signature=flip(opened()["signature"]))),
        ("clock altered", "The clock was altered after the message was signed.", TpmCode.SIGNATURE,
         rebuilt(message=flip(opened()["message"], 83))),
        ("another pcr digest", "The digest is of other values.", TpmCode.PCR_DIGEST,
         TPM.evidence(REPORT_DATA, pcr_digest=bytes(32))),
        ("a value altered", "A value that is carried was altered.", TpmCode.PCR_DIGEST,
         rebuilt(log=b"", pcrs=[flip(opened()["pcrs"][0]), *opened()["pcrs"][1:]])),
        ("signature of another kind of key", "The signature is RSA's.", TpmCode.SCHEME,
         rebuilt(signature=opened(rsa.evidence(REPORT_DATA))["signature"])),
        ("signature in pss", "The key's public area says RSASSA.", TpmCode.SCHEME, pss),
        ("parent empty", "A primary key's parent is its hierarchy.", TpmCode.SIGNER_NAME, rebuilt(parent=b"")),
        ("parent null", "The null hierarchy is no parent.", TpmCode.SIGNER_NAME,
         rebuilt(parent=bytes.fromhex("40000007"))),
        ("parent of another hierarchy", "The key is the owner's.", TpmCode.SIGNER_NAME,
         rebuilt(parent=bytes.fromhex("4000000b"))),
    )  # fmt: skip
    for edge, comment, code, data in table:
        yield SCENE.unverified(edge, comment, code, evidence=data)


# ------------------------------------------------------------------------------------------------------------ policy


def checks() -> Iterator[Vector]:
    ak, root = TPM.ak_fingerprint.hex(), TPM.root_fingerprint.hex()
    value = VALUES[Hash.SHA256, 7].hex()
    for edge, comment, code, fields in (
        ("pcr not named", "PCR 7 has another value.", TpmFinding.PCR, {"pcrs": {"sha256": {"pcr7": ["11" * 32]}}}),
        ("pcr not quoted", "PCR 7 of the SHA-384 bank is not quoted.", TpmFinding.PCR,
         {"pcrs": {"sha384": {"pcr7": ["11" * 48]}}}),
        ("key not named", "The attestation key is another.", TpmFinding.AK, {"ak": ["11" * 32]}),
        ("root not named", "The key's root is another.", TpmFinding.AK, {"roots": ["11" * 32]}),
        ("firmware below its floor", "The firmware is one below the floor.", TpmFinding.FIRMWARE,
         {"firmware_min": FIRMWARE + 1}),
        ("pcr never extended", "The log does not extend PCR 16.", TpmFinding.EVENT_LOG_PCRS,
         {"event_log_pcrs": [7, 16]}),
    ):  # fmt: skip
        yield SCENE.refused(edge, comment, code, policy=policy(**fields))
    unsafe = TPM.evidence(REPORT_DATA, safe=False)
    yield SCENE.refused("clock not safe", "The TPM lost power without a shutdown.", TpmFinding.CLOCK, evidence=unsafe)
    yield SCENE.accepted(
        "clock not safe permitted", "The policy permits it.", warnings=(TpmFinding.CLOCK,), evidence=unsafe,
        policy=policy(unsafe_clock=True),
    )  # fmt: skip
    longer = make_log([*BOOT, (7, EventType.EV_EFI_VARIABLE_AUTHORITY, b"another key")])
    yield SCENE.refused(
        "log does not replay", "The log has an event that PCR 7 lacks.", TpmFinding.EVENT_LOG,
        evidence=rebuilt(log=longer),
    )  # fmt: skip
    extended: Mapping[Any, bytes] = {**VALUES, (Hash.SHA256, 9): Hash.SHA256.digest(VALUES[Hash.SHA256, 9], bytes(32))}
    partial = TPM.evidence(REPORT_DATA, pcrs=extended)
    yield SCENE.refused(
        "pcr extended without the log", "PCR 9 has more than the log.", TpmFinding.EVENT_LOG, evidence=partial
    )
    yield SCENE.accepted(
        "pcr extended without the log permitted", "The policy names PCR 9.", warnings=(TpmFinding.EVENT_LOG,),
        evidence=partial, policy=policy(event_log_partial=[9]),
    )  # fmt: skip
    yield SCENE.refused(
        "no log to explain a pcr", "The policy wants PCR 7 explained, and there is no log.", TpmFinding.EVENT_LOG_PCRS,
        evidence=rebuilt(log=b""), policy=policy(event_log_pcrs=[7]),
    )  # fmt: skip
    yield from _banks()
    limits = {"ak": [ak], "roots": [root], "firmware_min": FIRMWARE, "event_log_pcrs": [0, 7]}
    yield SCENE.accepted(
        "everything at its limit", "Key, root, firmware and log are as named.", policy=policy(**limits)
    )
    both = {"pcrs": {"sha256": {"pcr0": ["11" * 32], "pcr7": [value]}}, "firmware_min": FIRMWARE + 1}
    yield SCENE.refused(
        "two checks at once", "All failing checks are reported together.", TpmFinding.PCR, TpmFinding.FIRMWARE,
        policy=policy(**both),
    )  # fmt: skip


def _banks() -> Iterator[Vector]:
    """What a log says in a bank that the policy does not name can be extended into that bank afterwards."""
    named = {at: value for at, value in VALUES.items() if at[1] == 7}
    for bank in (Hash.SHA1, Hash.SHA384):
        log = make_log(banks=(bank,))
        yield SCENE.refused(
            f"log of the {bank.bank} bank alone", "PCR 4 is explained in a bank that the policy does not name.",
            TpmFinding.EVENT_LOG, TpmFinding.EVENT_LOG_PCRS,
            evidence=TPM.evidence(REPORT_DATA, log=log, pcrs={**named, **boot_values(log, bank)}),
            policy=policy(event_log_pcrs=[4, 7]),
        )  # fmt: skip
    silent = make_log([event for event in BOOT if event[0] != 4])
    yield SCENE.refused(
        "pcr without an event", "Something has extended PCR 4, and the log does not say what.", TpmFinding.EVENT_LOG,
        evidence=TPM.evidence(REPORT_DATA, log=silent, pcrs=VALUES),
    )  # fmt: skip


def evidence_policy() -> Iterator[Vector]:
    base = policy()
    sgx = {"sgx": {"mrenclave": ["11" * 32]}}
    other = {key: value for key, value in base.items() if key != "tpm"}
    for edge, comment, code, changed in (
        ("no table for this tee", "The policy has no table for this TEE.", F.TEE, other | sgx),
        ("policy for hardware", "The evidence is simulated.", F.CLASS,
         merged(base, evidence={"simulation": None, "simulated_root": None})),
        ("policy for another root", "The policy names another root.", F.ROOT,
         merged(base, evidence={"simulated_root": "11" * 32})),
        ("key denied", "The policy refuses the key by name.", F.DENIED,
         merged(base, evidence={"platforms_denied": {"ak": [TPM.ak_fingerprint.hex()]}})),
    ):  # fmt: skip
        yield SCENE.refused(edge, comment, code, policy=changed)
    yield SCENE.refused(
        "other report data", "The quote is bound to something else.", F.REPORT_DATA, report_data=bytes(64)
    )
    yield SCENE.accepted("report data left open", "Nothing is said of report data.", report_data=None)
    raw = TPM.evidence(REPORT_DATA, extra_data=REPORT_DATA)
    yield SCENE.refused(
        "report data not digested", "Qualifying data are SHA-256 of the report data.", F.REPORT_DATA, evidence=raw
    )
