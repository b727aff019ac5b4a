"""What SGX and TDX cases share: a machine of either kind, and the cases about certificates, collateral and TCB."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.errors import EvidenceCode as E
from attestation.errors import FindingCode as F
from attestation.intel import pem
from attestation.intel.certificates import SGX_EXTENSION
from attestation.intel.collateral import IntelCollateral
from attestation.intel.quote import Quote
from attestation.sim import issue
from attestation.sim.extension import element, encode_extension
from attestation.sim.pki import Authority, Lifetimes, Pki, Profile, certify, derive_key, revocation_list
from attestation.sim.state import UNLISTED, State
from tests.vectors.attestation.scene import CREATED, DAY, LAST, NOW, SEED, YEAR, Scene, edges, merged
from tests.vectors.attestation.vector import Vector

SERIAL: Final = 4711
CERTIFICATES: Final = {"root": "root CA", "pck_ca": "PCK CA", "tcb_signing": "TCB signing", "pck": "PCK"}
LISTS: Final = {
    "root-crl": ("root CA's revocation list", E.CRL_EARLY, E.CRL_EXPIRED, 0),
    "pck-crl": ("PCK CA's revocation list", E.CRL_EARLY, E.CRL_EXPIRED, 0),
    "tcb-info": ("TCB info", E.TCB_INFO_EARLY, E.TCB_INFO_EXPIRED, 1),
    "qe-identity": ("QE identity", E.QE_IDENTITY_EARLY, E.QE_IDENTITY_EXPIRED, 1),
}
"""Document: its name, its codes, and for how many seconds it still counts from its nextUpdate on."""
STATUSES: Final = (
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
)


@dataclass(frozen=True)
class Machine:
    """One kind of simulated Intel machine.

    make: from a state's fields, time of making and lifetimes to the platform.  quote: its healthy quote.  sign: a quote
    with fields of itself and of its QE report changed, signed again wherever something signs.  publish: collateral from
    a platform, dates, and fields to change in TCB info and QE identity, and another signer.
    """

    scene: Scene
    make: Callable[..., Any]
    quote: Callable[[Any], Quote]
    resign: Callable[[Any, Quote], bytes]
    publish: Callable[..., IntelCollateral]

    @functools.cached_property
    def platform(self) -> Any:
        return self.make()

    @property
    def pki(self) -> Pki:
        pki: Pki = self.platform.pki
        return pki

    def at(self, platform: Any, scene: Scene | None = None) -> dict[str, Any]:
        """Changes of a scene for another platform: its evidence, roots, collateral and policy."""
        text = self.publish(platform).to_json()
        return {
            "evidence": self.quote(platform).serialize(),
            "roots": simulated(platform),
            "collateral": text,
            "policy": merged(
                (scene or self.scene).policy, evidence={"simulated_root": platform.root_fingerprint.hex()}
            ),
        }

    def state(self, **state: Any) -> dict[str, Any]:
        """Changes of a scene for the same platform in another state."""
        platform = self.make(**state)
        return {"evidence": self.quote(platform).serialize(), "collateral": self.publish(platform).to_json()}

    def collateral(self, **parts: bytes) -> dict[str, Any]:
        """Changes of a scene for collateral with other parts."""
        return {"collateral": dataclasses.replace(self.publish(self.platform), **parts).to_json()}

    def chain(self, *certificates: bytes, tail: bytes = b"\0") -> dict[str, Any]:
        """Changes of a scene for a quote with another PCK chain."""
        text = pem.encode_chain(*certificates) + tail
        return {"evidence": dataclasses.replace(self.quote(self.platform), certification_data=text).serialize()}

    def enclave(self, **report: Any) -> dict[str, Any]:
        """Changes of a scene for a quoting enclave with other fields, certified by the PCK."""
        quote = self.quote(self.platform)
        body = dataclasses.replace(quote.qe_report, **report)
        signature = self.pki.pck.sign_raw(body.serialize())
        return {"evidence": dataclasses.replace(quote, qe_report=body, qe_report_signature=signature).serialize()}


def simulated(platform: Any) -> tuple[tuple[str, str], ...]:
    return (("simulated", platform.root_pem.decode("ascii")),)


def spans(state: State | None = None, **changed: issue.Span) -> dict[str, issue.Span]:
    """Healthy dates, with those of the named documents replaced."""
    return issue.spans(state or State(), NOW) | {name.replace("_", "-"): span for name, span in changed.items()}


def documents(publication: issue.Publication, info: Mapping[str, Any], qe: Mapping[str, Any]) -> issue.Publication:
    """A publication with fields replaced; None takes one out."""

    def changed(document: Mapping[str, Any], by: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in {**document, **by}.items() if value is not None}

    identity = changed(publication.qe_identity, qe)
    return dataclasses.replace(publication, tcb_info=changed(publication.tcb_info, info), qe_identity=identity)


def shared_cases(machine: Machine) -> Iterator[Vector]:
    yield from certificate_dates(machine)
    yield from revocations(machine)
    yield from levels(machine)
    yield from published(machine)
    yield from chains(machine)
    yield from signatures(machine)
    yield from evidence_policy(machine)


# ------------------------------------------------------------------------------------------ dates and revocations


def dated_cases(machine: Machine, scene: Scene, wrap: Callable[[Any], bytes], prefix: str = "") -> Iterator[Vector]:
    """The four edges of every certificate, list and document, and the revocation of whatever a list can revoke.

    wrap: from a platform to the evidence of `scene` that holds its quote.  prefix: of the edges' names.
    """
    for name, (title, early, expired, grace) in LISTS.items():
        held = machine.publish(machine.platform, dates={name.replace("-", "_"): (NOW, LAST)})
        rule = "inclusive, as Intel's library has it" if grace else "exclusive"
        rule = f"The {title} counts from the second of its issue on, and its nextUpdate is {rule}."
        last = LAST - 1 + grace
        yield from edges(scene, f"{prefix}{name}", rule, (early, expired), last, collateral=held.to_json())
    for name, title in CERTIFICATES.items():
        platform = machine.make(lifetimes=Lifetimes(**{name: LAST - CREATED}, begins={name: NOW - CREATED}))
        rule = f"Dates of the {title} certificate are inclusive (RFC 5280, 4.1.2.5)."
        changes = machine.at(platform, scene) | {"evidence": wrap(platform)}
        yield from edges(scene, f"{prefix}{name.replace('_', '-')} certificate", rule, **changes)
    for name, title in (("pck", "PCK"), ("pck-ca", "PCK CA"), ("tcb-signing", "TCB signing")):
        yield scene.unverified(
            f"{prefix}{name} certificate revoked",
            f"The {title} certificate is on its issuer's revocation list.",
            E.CERTIFICATE_REVOKED,
            collateral=machine.publish(machine.make(revoked=(name,))).to_json(),
        )


def certificate_dates(machine: Machine) -> Iterator[Vector]:
    """All certificates at once, and those that are not the hierarchy's own."""
    scene, pki = machine.scene, machine.pki
    yield from dated_cases(machine, scene, lambda platform: machine.quote(platform).serialize())
    late = machine.at(machine.make(created=NOW + DAY))
    yield scene.accepted("certificates first second", "The notBefore of every certificate is inclusive.", **late)
    yield scene.unverified(
        "certificates not valid yet",
        "The certificates are valid from the next second on, though the collateral is valid now.",
        E.CERTIFICATE_EARLY,
        **machine.at(machine.make(created=NOW + DAY + 1)),
    )
    signer = second_signer(machine, NOW, LAST)
    for name, title, changes in (
        ("pck-ca of the quote", "of the PCK CA that the quote carries",
         machine.chain(pki.pck.der, renewed_ca(machine, NOW, LAST).der, pki.root.der)),
        ("tcb-info signer", "of the TCB info's own signer", machine.collateral(**info_signed_by(machine, signer))),
        ("qe-identity signer", "of the QE identity's own signer",
         machine.collateral(**identity_signed_by(machine, signer))),
    ):  # fmt: skip
        rule = f"Dates of the certificate {title} are inclusive, though another of its role is valid for longer."
        yield from edges(scene, name, rule, **changes)


def second_signer(machine: Machine, start: int = CREATED, end: int = CREATED + YEAR) -> Authority:
    key = derive_key(SEED, "second signer")
    profile = Profile("TCB Signing", authority=False)
    return certify(profile, key, machine.pki.root, serial=SERIAL, start=start, end=end)


def info_signed_by(machine: Machine, authority: Authority) -> dict[str, bytes]:
    good = machine.publish(machine.platform)
    chain = pem.encode_chain(authority.der, machine.pki.root.der)
    return {"tcb_info_issuer_chain": chain, "tcb_info_signature": authority.sign_raw(good.tcb_info)}


def identity_signed_by(machine: Machine, authority: Authority) -> dict[str, bytes]:
    good = machine.publish(machine.platform)
    chain = pem.encode_chain(authority.der, machine.pki.root.der)
    return {"qe_identity_issuer_chain": chain, "qe_identity_signature": authority.sign_raw(good.qe_identity)}


def renewed_ca(machine: Machine, start: int = CREATED, end: int = CREATED + YEAR) -> Authority:
    pki = machine.pki
    return certify(Profile("PCK Processor CA"), pki.pck_ca.key, pki.root, serial=SERIAL, start=start, end=end)


def revocations(machine: Machine) -> Iterator[Vector]:
    scene, pki = machine.scene, machine.pki
    signer = second_signer(machine)
    crl = revocation_list(pki.root, [SERIAL], *spans()["root-crl"])
    for edge, title, parts in (
        ("tcb-info signer", "TCB info", info_signed_by(machine, signer)),
        ("qe-identity signer", "QE identity", identity_signed_by(machine, signer)),
    ):
        yield scene.accepted(
            f"{edge} of its own", f"The {title} has a signer of its own.", **machine.collateral(**parts)
        )
        yield scene.unverified(
            f"{edge} revoked",
            f"The {title} has a signer of its own, which the root CA has revoked.",
            E.CERTIFICATE_REVOKED,
            **machine.collateral(**parts, root_ca_crl=crl),
        )
    chain = machine.chain(pki.pck.der, renewed_ca(machine).der, pki.root.der)
    yield scene.accepted("pck-ca renewed", "The quote carries a renewed certificate of the same PCK CA.", **chain)
    yield scene.unverified(
        "pck-ca renewed and revoked",
        "The quote's own certificate of the PCK CA is revoked, and that in the collateral is not.",
        E.CERTIFICATE_REVOKED,
        **chain | machine.collateral(root_ca_crl=crl),
    )
    short = renewed_ca(machine, end=NOW - 1)
    yield scene.unverified(
        "pck-ca renewed and expired",
        "The quote's own certificate of the PCK CA has expired, and that in the collateral has not.",
        E.CERTIFICATE_EXPIRED,
        **machine.chain(pki.pck.der, short.der, pki.root.der),
    )


# --------------------------------------------------------------------------------------------------------------- TCB


def levels(machine: Machine) -> Iterator[Vector]:
    scene = machine.scene
    policy = scene.policy
    for status in STATUSES:
        changes = machine.state(tcb_status=status) | {"tcb_status": status}
        edge = f"tcb {status}"
        yield scene.refused(edge, f"The platform is {status}, which the policy does not name.", F.TCB_STATUS, **changes)
        named = merged(policy, evidence={"tcb_status": ["UpToDate", status]})
        yield scene.accepted(
            f"{edge} permitted",
            f"The platform is {status}, which the policy names.",
            warnings=(F.TCB_STATUS,),
            **changes | {"policy": named},
        )
    for edge, comment, code, state in (
        ("tcb Revoked", "The platform's level is revoked.", E.TCB_REVOKED, {"tcb_status": "Revoked"}),
        ("tcb below every level", "The platform reaches no level.", E.TCB_NO_MATCH, {"tcb_status": UNLISTED}),
        ("qe Revoked", "The quoting enclave's level is revoked.", E.TCB_REVOKED, {"qe_status": "Revoked"}),
        ("qe below every level", "The quoting enclave reaches no level.", E.QE_TCB_NO_MATCH, {"qe_status": UNLISTED}),
    ):
        yield scene.unverified(edge, comment, code, **machine.state(**state))
    merges = {"UpToDate": "OutOfDate", "ConfigurationNeeded": "OutOfDateConfigurationNeeded"}
    for status, result in merges.items():
        yield scene.refused(
            f"qe OutOfDate under {status}",
            f"The platform is {status}, and its quoting enclave is out of date: the worse of the two counts.",
            F.TCB_STATUS,
            **machine.state(tcb_status=status, qe_status="OutOfDate") | {"tcb_status": result},
        )
    advised = machine.state(tcb_status="SWHardeningNeeded", advisories=("INTEL-SA-00334", "INTEL-SA-00615"))
    advised["tcb_status"] = "SWHardeningNeeded"
    base = {"tcb_status": ["SWHardeningNeeded"]}
    for edge, accepted, refused in (
        ("advisory not accepted", ["INTEL-SA-00334"], None),
        ("advisory refused by name", ["*"], ["INTEL-SA-00615"]),
    ):
        fields = base | {"advisories_accepted": accepted, "advisories_refused": refused}
        yield scene.refused(
            edge,
            "One of the two advisories that apply is not accepted.",
            F.ADVISORIES,
            **advised | {"policy": merged(policy, evidence=fields)},
        )
    for edge, accepted in (("all", ["*"]), ("both", ["INTEL-SA-00334", "INTEL-SA-00615"])):
        yield scene.accepted(
            f"advisories accepted {edge}",
            "Every advisory that applies is accepted.",
            warnings=(F.ADVISORIES, F.TCB_STATUS),
            **advised | {"policy": merged(policy, evidence=base | {"advisories_accepted": accepted})},
        )


def published(machine: Machine) -> Iterator[Vector]:
    """Signed documents that say something else than they may."""
    scene = machine.scene
    family = {"fmspc": "00906ED50000"}
    for edge, comment, code, info, qe in (
        ("tcb-info of another family", "The TCB info is of another FMSPC.", E.TCB_INFO_FMSPC, family, {}),
        ("tcb-info of another pce", "The TCB info is for another PCE.", E.TCB_INFO_PCE, {"pceId": "0001"}, {}),
        ("tcb-info of version 2", "The TCB info is of version 2.", E.TCB_INFO_UNSUPPORTED, {"version": 2}, {}),
        ("tcb-info without levels", "The TCB info has no tcbLevels.", E.TCB_INFO_MALFORMED, {"tcbLevels": None}, {}),
        ("tcb-info of another order", "Only tcbType 0 is defined.", E.TCB_INFO_MALFORMED, {"tcbType": 1}, {}),
        ("tcb-info with no level", "There is no level to reach.", E.TCB_NO_MATCH, {"tcbLevels": []}, {}),
        ("qe-identity of version 3", "The QE identity is of version 3.", E.QE_IDENTITY_UNSUPPORTED, {}, {"version": 3}),
        ("qe-identity of a qve", "The identity is of the QvE.", E.QE_IDENTITY_UNSUPPORTED, {}, {"id": "QVE"}),
        ("qe-identity short signer", "MRSIGNER lacks a byte.", E.QE_IDENTITY_MALFORMED, {}, {"mrsigner": "00" * 31}),
        ("qe-identity of another signer", "The QE is another's.", E.QE_REPORT_IDENTITY, {}, {"mrsigner": "11" * 32}),
        (
            "qe-identity without levels",
            "Without a level the QE is rated by none.",
            E.QE_TCB_NO_MATCH,
            {},
            {"tcbLevels": []},
        ),
    ):
        text = machine.publish(machine.platform, info=info, qe=qe).to_json()
        yield scene.unverified(edge, comment, code, collateral=text)
    yield from _numbers(machine)
    yield from _texts(machine)


def _numbers(machine: Machine) -> Iterator[Vector]:
    scene = machine.scene
    for edge, info, qe in (("tcb-info", 16, 17), ("qe-identity", 17, 16)):
        fields = [{"tcbEvaluationDataNumber": number} for number in (info, qe)]
        text = machine.publish(machine.platform, info=fields[0], qe=fields[1]).to_json()
        yield scene.refused(
            f"evaluation number of {edge} too low",
            "The lower tcbEvaluationDataNumber of the two documents is held against the policy's floor.",
            F.TCB_EVALUATION,
            collateral=text,
            policy=merged(scene.policy, evidence={"tcb_evaluation_min": 17}),
        )
    yield scene.accepted(
        "evaluation number at its floor",
        "The tcbEvaluationDataNumber equals the policy's floor.",
        policy=merged(scene.policy, evidence={"tcb_evaluation_min": 17}),
    )


def _texts(machine: Machine) -> Iterator[Vector]:
    """Authentic bytes that are no document."""
    scene, pki = machine.scene, machine.pki
    good = machine.publish(machine.platform)
    for edge, comment, body in (
        ("tcb-info repeats a name", "A name that comes twice says two things.", b'{"id":"SGX",' + good.tcb_info[1:]),
        ("tcb-info with trailing text", "Something follows the JSON.", good.tcb_info + b"{}"),
        ("tcb-info with a constant", "NaN is no JSON.", good.tcb_info[:-1] + b',"x":NaN}'),
    ):
        parts = {"tcb_info": body, "tcb_info_signature": pki.tcb_signing.sign_raw(body)}
        yield scene.unverified(edge, comment, E.JSON_MALFORMED, **machine.collateral(**parts))
    swapped = {"tcb_info": good.qe_identity, "tcb_info_signature": good.qe_identity_signature}
    yield scene.unverified(
        "qe-identity as tcb-info",
        "The QE identity, authentic, stands in the place of the TCB info.",
        E.TCB_INFO_UNSUPPORTED,
        **machine.collateral(**swapped),
    )


# ------------------------------------------------------------------------------------------------------------ chains


def issued(machine: Machine, profile: Profile, issuer: Authority | None = None, key: str = "fresh") -> Authority:
    start, end = CREATED, CREATED + YEAR
    return certify(profile, derive_key(SEED, key), issuer or machine.pki.root, serial=77, start=start, end=end)


def ca_of(
    machine: Machine, *extensions: tuple[x509.ExtensionType, bool], key: Any = None, algorithm: Any = None
) -> bytes:
    """A PCK CA of the simulated root with exactly these extensions besides the mark."""
    root = machine.pki.root
    key = key or derive_key(SEED, "built")
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Strongroom Simulated SGX PCK Processor CA")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(root.certificate.subject)
        .public_key(key.public_key())
        .serial_number(5)
        .not_valid_before(datetime.fromtimestamp(CREATED, UTC))
        .not_valid_after(datetime.fromtimestamp(CREATED + YEAR, UTC))
    )
    mark = x509.UnrecognizedExtension(MARK, b"\x05\x00")
    for value, critical in ((mark, False), *extensions):
        builder = builder.add_extension(value, critical)
    signed = builder.sign(root.key, algorithm or hashes.SHA256(), ecdsa_deterministic=True)
    return signed.public_bytes(Encoding.DER)


MARK: Final = x509.ObjectIdentifier("2.25.119772707208057421482615936699027391313")
UNKNOWN: Final = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), False)
AUTHORITY: Final = (x509.BasicConstraints(True, 0), True)


def usage(*names: str) -> x509.KeyUsage:
    every = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    every += ("key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**{name: name in names for name in every})


SIGNS: Final = (usage("key_cert_sign", "crl_sign"), True)


def chains(machine: Machine) -> Iterator[Vector]:
    yield from _roots(machine)
    yield from _orders(machine)
    yield from _profiles(machine)
    yield from _collateral_chains(machine)
    yield from _lists(machine)


def _roots(machine: Machine) -> Iterator[Vector]:
    scene = machine.scene
    yield scene.unverified(
        "simulated root not trusted", "Only the vendors' roots are trusted.", E.CHAIN_ROOT, roots=(("vendor", ""),)
    )
    root = machine.platform.root_pem.decode("ascii")
    yield scene.unverified(
        "simulated root taken for hardware",
        "The root stands in the vendor's place, and its certificates say that they are simulated.",
        E.CHAIN_SIMULATED,
        roots=(("replacement-intel", root),),
    )
    yield scene.unverified(
        "root of another vendor",
        "The root is trusted as AMD's, and not as Intel's.",
        E.CHAIN_ROOT,
        roots=(("replacement-amd", root),),
    )


def _orders(machine: Machine) -> Iterator[Vector]:
    scene, pki = machine.scene, machine.pki
    leaf, ca, root = pki.pck.der, pki.pck_ca.der, pki.root.der
    flipped = root[:-1] + bytes([root[-1] ^ 1])
    for edge, code, chain in (
        ("quote chain of two", E.CHAIN_LENGTH, (leaf, ca)),
        ("quote chain of four", E.CHAIN_LENGTH, (leaf, ca, root, root)),
        ("quote chain in another order", E.CHAIN_SIGNATURE, (ca, leaf, root)),
        ("quote chain ends in the ca", E.CHAIN_ROOT, (leaf, root, ca)),
        ("quote chain has the root as ca", E.CHAIN_ROLE, (leaf, root, root)),
        ("quote chain with a corrupted root", E.CHAIN_ROOT, (leaf, ca, flipped)),
    ):
        comment = "The quote's PCK chain is leaf, CA and the pinned root, bit for bit, in this order."
        yield scene.unverified(edge, comment, code, **machine.chain(*chain))
    text = pem.encode_chain(leaf, ca, root)
    for edge, changed in (
        ("quote chain with carriage returns", text.replace(b"\n", b"\r\n") + b"\0"),
        ("quote chain with text before it", b"Subject: PCK\n" + text + b"\0"),
        ("quote chain with text behind it", text + b"\0\0"),
    ):
        quote = dataclasses.replace(machine.quote(machine.platform), certification_data=changed)
        yield scene.unverified(edge, "PEM has one form, whoever wrote it.", E.PEM_MALFORMED, evidence=quote.serialize())


def _profiles(machine: Machine) -> Iterator[Vector]:
    """Certificates of the pinned root, or of the PCK CA, that are none of the role that they play."""
    scene, pki = machine.scene, machine.pki
    root = pki.root.der
    platform = issued(machine, Profile("PCK Platform CA"), key="x")
    stranger = issued(machine, Profile("PCK Processor CA"))
    extension = ((SGX_EXTENSION, encode_extension(pki.extension)),)
    leaf = issued(machine, Profile("PCK Certificate", authority=False, extra=extension), stranger, "leaf")
    yield scene.unverified(
        "pck of another ca with the same name",
        "The quote's CA is genuine, and not the one whose revocation list was consulted.",
        E.CRL_ISSUER,
        **machine.chain(leaf.der, stranger.der, root),
    )
    leaf = issued(machine, Profile("PCK Certificate", authority=False, extra=extension), platform, "leaf")
    yield scene.unverified(
        "pck of the platform ca",
        "The PCK is the platform CA's, and the collateral is the processor CA's.",
        E.CRL_ISSUER,
        **machine.chain(leaf.der, platform.der, root),
    )
    bare = Profile("PCK Certificate", authority=False)
    broken = dataclasses.replace(bare, extra=((SGX_EXTENSION, element(0x30, b"\x02\x01\x00")),))
    other = dataclasses.replace(bare, name="TCB Signing", extra=extension)
    for edge, comment, code, profile in (
        ("pck without its extension", "The PCK lacks the SGX extension.", E.PCK_EXTENSION, bare),
        ("pck with a broken extension", "The PCK's SGX extension is not its profile's.", E.PCK_EXTENSION, broken),
        ("pck is an authority", "The PCK may certify others.", E.CHAIN_ROLE, dataclasses.replace(bare, authority=True)),
        ("pck of another name", "A certificate of another name is none of a PCK.", E.CHAIN_ROLE, other),
        (
            "pck unmarked",
            "The PCK lacks the mark of simulation.",
            E.CHAIN_NOT_SIMULATED,
            dataclasses.replace(bare, marked=False),
        ),
    ):
        der = issued(machine, profile, pki.pck_ca, "leaf").der
        yield scene.unverified(edge, comment, code, **machine.chain(der, pki.pck_ca.der, root))


def _collateral_chains(machine: Machine) -> Iterator[Vector]:
    scene, pki = machine.scene, machine.pki
    root = pki.root.der
    renamed = dataclasses.replace(issued(machine, Profile("Other Root CA"), None, "x"), key=pki.root.key)
    cas: tuple[tuple[str, str, E, bytes], ...] = (
        ("is no authority", "its basic constraints say no authority", E.CHAIN_ROLE,
         issued(machine, Profile("PCK Processor CA", authority=False)).der),
        ("has a longer name", "its name only begins as a PCK CA's", E.CHAIN_ROLE,
         issued(machine, Profile("PCK Processor CA of somebody")).der),
        ("is unmarked", "it lacks the mark of simulation", E.CHAIN_NOT_SIMULATED,
         issued(machine, Profile("PCK Processor CA", marked=False)).der),
        ("names another issuer", "the root signed it under another name", E.CHAIN_NAMES,
         issued(machine, Profile("PCK Processor CA"), renamed).der),
        ("is of a strange root", "another root of the same name signed it", E.CHAIN_SIGNATURE,
         issued(machine, Profile("PCK Processor CA"), issued(machine, Profile("Root CA"), None, "y")).der),
        ("has an unknown extension", "it has an extension that nobody knows", E.CERTIFICATE_MALFORMED,
         ca_of(machine, AUTHORITY, SIGNS, UNKNOWN)),
        ("lacks key usage", "it lacks its key usage", E.CERTIFICATE_MALFORMED, ca_of(machine, AUTHORITY)),
        ("lacks basic constraints", "it lacks its basic constraints", E.CERTIFICATE_MALFORMED, ca_of(machine, SIGNS)),
        ("may sign no lists", "its key usage lacks cRLSign", E.CHAIN_ROLE,
         ca_of(machine, AUTHORITY, (usage("key_cert_sign"), True))),
        ("has uncritical key usage", "its key usage is not critical", E.CHAIN_ROLE,
         ca_of(machine, AUTHORITY, (SIGNS[0], False))),
        ("has a key on p-384", "its key is on another curve", E.CERTIFICATE_MALFORMED,
         ca_of(machine, AUTHORITY, SIGNS, key=ec.derive_private_key(5, ec.SECP384R1()))),
        ("is signed with sha-384", "it is signed with another algorithm", E.CERTIFICATE_MALFORMED,
         ca_of(machine, AUTHORITY, SIGNS, algorithm=hashes.SHA384())),
        ("is a revocation list", "it is a revocation list", E.CERTIFICATE_MALFORMED,
         revocation_list(pki.root, [], NOW, LAST)),
    )  # fmt: skip
    for edge, why, code, der in cas:
        parts = {"pck_crl_issuer_chain": pem.encode_chain(der, root)}
        yield scene.unverified(
            f"pck-ca {edge}", f"The collateral's PCK CA is none: {why}.", code, **machine.collateral(**parts)
        )
    swapped = pem.encode_chain(pki.pck_ca.der, root)
    for edge, field, code, chain in (
        ("tcb-info signed by the pck-ca", "tcb_info_issuer_chain", E.CHAIN_ROLE, swapped),
        ("qe-identity signed by the pck-ca", "qe_identity_issuer_chain", E.CHAIN_ROLE, swapped),
        ("qe-identity chain of one", "qe_identity_issuer_chain", E.CHAIN_LENGTH, pem.encode_chain(root)),
        ("tcb-info chain that is none", "tcb_info_issuer_chain", E.PEM_MALFORMED, b"none"),
        ("tcb-info chain ends elsewhere", "tcb_info_issuer_chain", E.CHAIN_ROOT,
         pem.encode_chain(pki.tcb_signing.der, pki.pck_ca.der)),
    ):  # fmt: skip
        comment = "The issuer chain of a document is a TCB signing certificate and the pinned root."
        yield scene.unverified(edge, comment, code, **machine.collateral(**{field: chain}))


def _lists(machine: Machine) -> Iterator[Vector]:
    scene, pki = machine.scene, machine.pki
    good = machine.publish(machine.platform)

    def builder(issuer: Authority = pki.pck_ca) -> x509.CertificateRevocationListBuilder:
        dates = [datetime.fromtimestamp(time, UTC) for time in (NOW, LAST)]
        builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.certificate.subject)
        return builder.last_update(dates[0]).next_update(dates[1])

    def signed(builder: x509.CertificateRevocationListBuilder) -> bytes:
        return builder.sign(pki.pck_ca.key, hashes.SHA256(), ecdsa_deterministic=True).public_bytes(Encoding.DER)

    broken = signed(builder())
    for edge, comment, code, der in (
        ("pck-crl empty", "There is no revocation list.", E.CRL_MALFORMED, b""),
        ("pck-crl with trailing bytes", "A byte follows the list.", E.CRL_MALFORMED, broken + b"\0"),
        ("pck-crl is a delta", "The list is only a difference.", E.CRL_MALFORMED,
         signed(builder().add_extension(x509.DeltaCRLIndicator(1), True))),
        ("pck-crl corrupted", "The list's signature was altered.", E.CRL_SIGNATURE,
         broken[:-1] + bytes([broken[-1] ^ 1])),
        ("pck-crl is that of the root", "The root's own list stands in its place.", E.CRL_SIGNATURE, good.root_ca_crl),
        ("pck-crl names the root", "The CA signed a list in the root's name.", E.CRL_ISSUER,
         signed(builder(pki.root))),
    ):  # fmt: skip
        yield scene.unverified(edge, comment, code, **machine.collateral(pck_crl=der))
    yield scene.unverified(
        "root-crl is that of the pck-ca",
        "The PCK CA's list stands in the place of the root's.",
        E.CRL_SIGNATURE,
        **machine.collateral(root_ca_crl=good.pck_crl),
    )


# -------------------------------------------------------------------------------------------------------- signatures


def flip(data: bytes, at: int = -1) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def signatures(machine: Machine) -> Iterator[Vector]:
    scene, quote = machine.scene, machine.quote(machine.platform)
    good = machine.publish(machine.platform)
    for field, code in (
        ("tcb_info_signature", E.TCB_INFO_SIGNATURE),
        ("qe_identity_signature", E.QE_IDENTITY_SIGNATURE),
    ):
        edge = field.replace("_", " ")
        changed = machine.collateral(**{field: flip(getattr(good, field))})
        yield scene.unverified(f"{edge} altered", "A bit of the document's signature differs.", code, **changed)
    yield scene.unverified(
        "tcb info altered",
        "A level was raised after the TCB info was signed.",
        E.TCB_INFO_SIGNATURE,
        **machine.collateral(tcb_info=good.tcb_info.replace(b'"tcbType":0', b'"tcbType": 0')),
    )
    for edge, comment, code, fields in (
        ("quote signature altered", "A bit of the quote's signature differs.", E.QUOTE_SIGNATURE,
         {"signature": flip(quote.signature)}),
        ("qe report signature altered", "A bit of the PCK's signature differs.", E.QE_REPORT_SIGNATURE,
         {"qe_report_signature": flip(quote.qe_report_signature)}),
        ("qe authentication data altered", "The QE vouches for other authentication data.", E.QE_REPORT_BINDING,
         {"qe_auth_data": flip(quote.qe_auth_data)}),
        ("attestation key exchanged", "The QE vouches for another key.", E.QE_REPORT_BINDING,
         {"attestation_key": flip(quote.attestation_key)}),
        ("quote signature of zeros", "No signature has a half of zero.", E.QUOTE_SIGNATURE, {"signature": bytes(64)}),
    ):  # fmt: skip
        yield scene.unverified(edge, comment, code, evidence=dataclasses.replace(quote, **fields).serialize())
    report = quote.qe_report
    for edge, code, changes in (
        ("qe of another signer", E.QE_REPORT_IDENTITY, {"mr_signer": bytes(32)}),
        ("qe of another product", E.QE_REPORT_IDENTITY, {"isv_prod_id": report.isv_prod_id + 5}),
        ("qe with extended frames", E.QE_REPORT_IDENTITY, {"misc_select": 1}),
        ("qe under debug", E.QE_REPORT_IDENTITY, {"flags": report.flags | 2}),
        ("qe report data without zeros", E.QE_REPORT_BINDING,
         {"report_data": report.report_data[:32] + b"\1" + bytes(31)}),
    ):  # fmt: skip
        comment = "The PCK certified another enclave than the vendor's quoting enclave."
        yield scene.unverified(edge, comment, code, **machine.enclave(**changes))
    yield scene.unverified(
        "quote altered after signing",
        "A bit of the user data in the header differs.",
        E.QUOTE_SIGNATURE,
        evidence=flip(quote.serialize(), 30),
    )


# ------------------------------------------------------------------------------------------------------ bytes, policy


def put(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def layout_cases(machine: Machine, length_at: int) -> Iterator[Vector]:
    """Quotes that do not parse; `length_at`: where the signature data's length stands."""
    scene, data = machine.scene, machine.quote(machine.platform).serialize()
    size = int.from_bytes(data[length_at : length_at + 4], "little")
    for edge, comment, code, changed in (
        ("cut in its header", "The quote ends within its header.", E.QUOTE_TRUNCATED, data[:40]),
        ("cut before its last byte", "The quote lacks its last byte.", E.QUOTE_TRUNCATED, data[:-1]),
        ("trailing byte", "A byte that nothing signs follows the quote.", E.QUOTE_TRAILING_BYTES, data + b"\1"),
        ("trailing zeros", "Zeros that nothing signs follow the quote.", E.QUOTE_TRAILING_BYTES, data + bytes(64)),
        ("larger than any quote", "The quote has more than 16 KiB.", E.QUOTE_TOO_LARGE, data + bytes(16384)),
        ("unknown key type", "The attestation key is of type 3.", E.QUOTE_KEY_TYPE, put(data, 2, b"\3\0")),
        ("another qe vendor", "The quoting enclave is of an unknown vendor.", E.QUOTE_QE_VENDOR, put(data, 12, b"\0")),
        ("certification of another type", "The PCK is named by its id, and not carried.", E.QUOTE_CERTIFICATION,
         put(data, data.index(b"-----BEGIN") - 6, b"\1\0")),
        ("signature data too short", "The outer length is a byte less than what is inside.", E.QUOTE_TRUNCATED,
         put(data, length_at, (size - 1).to_bytes(4, "little"))[:-1]),
        ("signature data with a tail", "The outer length covers a byte that no field has.", E.QUOTE_LENGTHS,
         put(data, length_at, (size + 1).to_bytes(4, "little")) + b"\0"),
    ):  # fmt: skip
        yield scene.unparsed(edge, comment, code, changed)


def evidence_policy(machine: Machine) -> Iterator[Vector]:
    scene = machine.scene
    policy, name = scene.policy, scene.tee
    other = {key: value for key, value in policy.items() if key != name}
    nitro = {"nitro": {"pcrs": {"pcr0": ["11" * 48]}}}
    hardware = merged(policy, evidence={"simulation": None, "simulated_root": None})
    fmspc, ppid = machine.pki.extension.fmspc.hex(), machine.pki.extension.ppid.hex()
    for edge, comment, codes, changed in (
        ("no table for this tee", "The policy has no table for this TEE.", (F.TEE,), other | nitro),
        ("policy for hardware", "The policy is for hardware, and the evidence is simulated.", (F.CLASS,), hardware),
        ("policy for another root", "The policy names another simulated root.", (F.ROOT,),
         merged(policy, evidence={"simulated_root": "11" * 32})),
        ("collateral too old", "The collateral is a second older than the policy allows.", (F.COLLATERAL_AGE,),
         merged(policy, evidence={"max_collateral_age": 3599})),
        ("tcb of an older date", "The TCB level is of 2024-11-13.", (F.TCB_DATE,),
         merged(policy, evidence={"tcb_date_min": "2024-11-13T00:00:01Z"})),
        ("fmspc not named", "The platform's family is none that the policy names.", (F.FMSPC,),
         merged(policy, **{name: {"fmspc": ["00906ed50000"]}})),
        ("ppid not named", "The platform is none that the policy names.", (F.PPID,),
         merged(policy, **{name: {"ppid": ["11" * 16]}})),
        ("fmspc denied", "The policy refuses the family by name.", (F.DENIED,),
         merged(policy, evidence={"platforms_denied": {"fmspc": [fmspc]}})),
        ("ppid denied", "The policy refuses the platform by name.", (F.DENIED,),
         merged(policy, evidence={"platforms_denied": {"ppid": [ppid]}})),
        ("component below its floor", "The first component is one below the policy's floor.", (F.TCB_COMPONENTS,),
         merged(policy, **{name: {"tcb_components_min": {"sgxtcbcomp01svn": 8}}})),
        ("pcesvn below its floor", "PCESVN is one below the policy's floor.", (F.TCB_COMPONENTS,),
         merged(policy, **{name: {"tcb_components_min": {"pcesvn": 14}}})),
        ("qe below its floor", "The QE's ISVSVN is one below the policy's floor.", (F.QE_ISV_SVN,),
         merged(policy, **{name: {"qe_isv_svn_min": 9}})),
    ):  # fmt: skip
        yield scene.refused(edge, comment, *codes, policy=changed)
    floors = {"tcb_components_min": {"sgxtcbcomp01svn": 7, "pcesvn": 13}, "qe_isv_svn_min": 8}
    limits = {"max_collateral_age": 3600, "tcb_date_min": "2024-11-13T00:00:00Z"}
    named = {"fmspc": [fmspc], "ppid": ["11" * 16, ppid]}
    yield scene.accepted(
        "everything at its limit",
        "Every floor is just reached, every age just allowed, and the platform named.",
        policy=merged(policy, evidence=limits, **{name: floors | named}),
    )
    yield scene.refused(
        "other report data", "The evidence is bound to something else.", F.REPORT_DATA, report_data=bytes(64)
    )
    yield scene.accepted("report data left open", "Nothing is said of report data.", report_data=None)
    yield scene.unverified("no collateral", "There is no collateral.", E.COLLATERAL_MISSING, collateral=None)


def compact(text: str) -> str:
    """The same collateral in another layout of its JSON."""
    return json.dumps(json.loads(text), separators=(",", ":"))
