"""Reference integrity manifests (RIMs): the measurements that NVIDIA expects of a driver, VBIOS or switch firmware.

Sources: TCG Reference Integrity Manifest Information Model 1.01; ISO/IEC 19770-2:2015 (SWID tags); XML Signature Syntax
and Processing 1.1 (W3C), sections 4 and 6; NVIDIA attestation SDK, `rim.cpp`, for the attributes of measurements.

    SoftwareIdentity(tagId) = Entity, Meta(product, colloquialVersion), Payload(Resource...), Signature

The one form of signature that NVIDIA uses is required: enveloped, over the whole document, Canonical XML 1.1, SHA-384,
ECDSA on P-384, with the chain of the signer beside it.  What is read is what is digested: one tree serves both.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.x509.oid import ExtensionOID

from attestation.chains import RAW_SIGNATURE, Chain, Profile, read_chain, verify_raw
from attestation.errors import EvidenceError
from attestation.intel import pem
from attestation.nvidia import strict_xml
from attestation.nvidia.errors import NvidiaCode
from attestation.nvidia.strict_xml import Element, refusal
from attestation.roots import Hierarchy, Roots

MAX_RIM: Final = 128 * 1024
"""Manifests of 64 measurements have 20 to 26 KiB."""
MAX_INDEX: Final = 254
DIGEST_SIZE: Final = 48

_SWID = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd"
_TCG = "https://trustedcomputinggroup.org/resource/tcg-reference-integrity-manifest-rim-information-model/"
_SHA384 = "http://www.w3.org/2001/04/xmlenc#sha384"
_DSIG = "http://www.w3.org/2000/09/xmldsig#"
_C14N = "http://www.w3.org/2006/12/xml-c14n11"
_NVIDIA = "5703"
"""NVIDIA's private enterprise number (IANA)."""

_PROFILE = Profile(
    "RIM",
    Hierarchy.NVIDIA_RIM,
    shortest=2,
    longest=6,
    extensions=frozenset({ExtensionOID.AUTHORITY_INFORMATION_ACCESS}),
    renewal="fetch the reference manifest anew",
)
_SIGNED_INFO = (
    ("CanonicalizationMethod", _C14N, ()),
    ("SignatureMethod", "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384", ()),
    (
        "Reference",
        None,
        (
            ("Transforms", None, (("Transform", f"{_DSIG}enveloped-signature", ()), ("Transform", _C14N, ()))),
            ("DigestMethod", "http://www.w3.org/2001/04/xmldsig-more#sha384", ()),
            ("DigestValue", None, ()),
        ),
    ),
)
"""Local name, algorithm and children of everything below SignedInfo."""


@dataclass(frozen=True)
class Golden:
    """The expected values of one measurement, any of which will do.  index: counted from 0."""

    index: int
    values: tuple[bytes, ...]


@dataclass(frozen=True)
class Rim:
    """A parsed manifest; nothing in it is verified.

    tag_id: 48 bytes that name the manifest.  product: the chip, such as "GH100".  version: of the component, as its
    report shows it.  golden: the active measurements.  chain: DER certificates of the signer, root first.
    """

    raw: bytes = field(repr=False)
    tag_id: bytes
    product: str
    version: str
    golden: tuple[Golden, ...] = field(repr=False)
    chain: tuple[bytes, ...] = field(repr=False)
    digest: str = field(repr=False)
    signature: bytes = field(repr=False)
    _tree: Element = field(repr=False, compare=False)
    _signature_element: Element = field(repr=False, compare=False)

    def verify(self, roots: Roots, known: Chain | None = None) -> Chain:
        """Return the signer's chain if digest, signature and chain hold; raises EvidenceError.

        Its dates are still to be held against a time.
        """
        chain = read_chain(self.chain, _PROFILE, roots, known)
        content = strict_xml.canonical(self._tree, without=self._signature_element)
        found = base64.b64encode(hashlib.sha384(content).digest()).decode("ascii")
        if found != self.digest:
            raise EvidenceError(
                NvidiaCode.RIM_DIGEST,
                f"the reference manifest of {self.product} {self.version} was changed after it was signed",
                expected=self.digest,
                found=found,
                remedy="fetch the manifest anew",
            )
        signed = strict_xml.canonical(self._signature_element.elements[0])
        verify_raw(chain.leaf.key, self.signature, signed, NvidiaCode.RIM_SIGNATURE)
        return chain

    def to_dict(self) -> dict[str, Any]:
        """Return what identifies the manifest, for programs."""
        return {"tag_id": self.tag_id.hex(), "product": self.product, "version": self.version}


def parse_rim(data: bytes) -> Rim:
    """Parse a manifest; raises EvidenceError `nvidia-rim-malformed` or `pem-malformed`."""
    if len(data) > MAX_RIM:
        raise refusal("it is too large", MAX_RIM, len(data))
    tree = strict_xml.parse(data)
    _expect_name(tree, (_SWID, "SoftwareIdentity"))
    entity, meta, payload, signature = _children(tree, 4)
    _expect_empty(entity, (_SWID, "Entity"))
    _expect_name(signature, (_DSIG, "Signature"))
    product, version = _meta(meta)
    return Rim(
        raw=data,
        tag_id=_hex(_attribute(tree, "tagId"), "tagId"),
        product=product,
        version=version,
        golden=_golden(payload),
        _tree=tree,
        _signature_element=signature,
        **_signature(signature),
    )


def _meta(meta: Element) -> tuple[str, str]:
    """Return product and version of the component."""
    _expect_empty(meta, (_SWID, "Meta"))
    manufacturer = meta.attributes.get((_TCG, "PlatformManufacturerId"))
    if manufacturer != _NVIDIA or _attribute(meta, "PayloadType") != "direct":
        raise refusal("it is not a direct manifest of NVIDIA's", _NVIDIA, manufacturer)
    return _attribute(meta, "product"), _attribute(meta, "colloquialVersion")


def _golden(payload: Element) -> tuple[Golden, ...]:
    _expect_name(payload, (_SWID, "Payload"))
    found: dict[int, Golden | None] = {}
    for resource in payload.elements:
        index, golden = _resource(resource)
        if index in found:
            raise refusal(f"measurement {index} is there twice")
        found[index] = golden
    return tuple(golden for golden in found.values() if golden is not None)


def _resource(resource: Element) -> tuple[int, Golden | None]:
    """Return index and values of one measurement; None for one that is not active."""
    _expect_empty(resource, (_SWID, "Resource"))
    if _attribute(resource, "type") != "Measurement" or _attribute(resource, "size") != str(DIGEST_SIZE):
        raise refusal("a resource is no measurement of 48 bytes")
    index, count = (_number(_attribute(resource, name), name) for name in ("index", "alternatives"))
    hashes = {name: value for (space, name), value in resource.attributes.items() if space == _SHA384}
    if not count or hashes.keys() != {f"Hash{number}" for number in range(count)}:
        raise refusal(f"measurement {index} does not have its {count} alternatives")
    active = _attribute(resource, "active")
    if active not in {"True", "False"}:
        raise refusal(f"measurement {index} is neither active nor inactive", "True or False", active)
    values = tuple(_hex(hashes[f"Hash{number}"], f"a value of measurement {index}") for number in range(count))
    return index, Golden(index, values) if active == "True" else None


def _signature(element: Element) -> dict[str, Any]:
    """Return digest, signature and chain of an XML signature of the one form that is used."""
    info, value, key = _children(element, 3)
    _expect_name(info, (_DSIG, "SignedInfo"))
    _expect_name(value, (_DSIG, "SignatureValue"))
    _expect_name(key, (_DSIG, "KeyInfo"))
    if _shapes(info) != _SIGNED_INFO:
        raise refusal("its signature is of another form than NVIDIA's")
    reference = info.elements[2]
    if reference.attributes != {("", "URI"): ""}:
        raise refusal("its signature does not cover the whole document")
    (data,) = _children(key, 1)
    _expect_name(data, (_DSIG, "X509Data"))
    return {
        "digest": reference.elements[2].text,
        "signature": _signature_value(value.text),
        "chain": tuple(_certificate(certificate) for certificate in reversed(data.elements)),
    }


def _shapes(element: Element) -> tuple[tuple[str, str | None, Any], ...]:
    """Return (local name, algorithm, children) of the signature elements below one; others have no name."""
    return tuple(
        (
            child.name[1] if child.name[0] == _DSIG else "",
            child.attributes.get(("", "Algorithm")),
            _shapes(child),
        )
        for child in element.elements
    )


def _signature_value(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise refusal("its signature is not base64") from None
    if len(raw) != RAW_SIGNATURE or base64.b64encode(raw).decode("ascii") != text:
        raise refusal("its signature is not the one base64 form of 96 bytes")
    return raw


def _certificate(element: Element) -> bytes:
    """Return the DER of a certificate, whose text is the body of its one PEM form."""
    _expect_name(element, (_DSIG, "X509Certificate"))
    text = f"-----BEGIN CERTIFICATE-----\n{element.text}-----END CERTIFICATE-----\n"
    return pem.decode_chain(text.encode("ascii"), 1)[0]


def _expect_name(element: Element, name: strict_xml.Name) -> None:
    if element.name != name:
        raise refusal("it has another element than expected", name[1], element.tag)


def _expect_empty(element: Element, name: strict_xml.Name) -> None:
    """Refuse another element, and content that nothing here would read (the schema of SWID tags allows Entity some)."""
    _expect_name(element, name)
    if element.children:
        raise refusal(f"{element.tag} has content")


def _children(element: Element, count: int) -> list[Element]:
    if len(element.elements) != count:
        raise refusal(f"{element.tag} has another number of elements", count, len(element.elements))
    return element.elements


def _attribute(element: Element, name: str) -> str:
    value = element.attributes.get(("", name), "")
    if not value:
        raise refusal(f"{element.tag} has no {name}")
    return value


def _number(text: str, name: str) -> int:
    if re.fullmatch(r"0|[1-9][0-9]{0,2}", text) is None or int(text) > MAX_INDEX:
        raise refusal(f"{name} is no number up to {MAX_INDEX}")
    return int(text)


def _hex(text: str, name: str) -> bytes:
    if re.fullmatch(rf"[0-9a-f]{{{2 * DIGEST_SIZE}}}", text) is None:
        raise refusal(
            f"{name} is not {DIGEST_SIZE} bytes in lower-case hex",
            f"{2 * DIGEST_SIZE} lower-case hex digits, as NVIDIA's manifests have them",
            _other_form(text),
        )
    return bytes.fromhex(text)


def _other_form(text: str) -> str:
    """Say in which form a digest is that is not in the one that is read: one meaning has one encoding here."""
    if re.fullmatch(rf"[0-9a-fA-F]{{{2 * DIGEST_SIZE}}}", text):
        return "hex with capitals"
    if re.fullmatch(rf"[A-Za-z0-9+/]{{{4 * DIGEST_SIZE // 3}}}", text):
        return "base64, as other vendors' manifests have it"
    return f"{len(text)} other characters"


def named(rims: tuple[Rim, ...]) -> Mapping[tuple[str, str], Rim]:
    """Return manifests by product and version; raises EvidenceError `nvidia-rim-twice`."""
    found = {(rim.product, rim.version): rim for rim in rims}
    if len(found) != len(rims):
        raise EvidenceError(
            NvidiaCode.RIM_TWICE,
            NvidiaCode.RIM_TWICE.meaning,
            expected="one manifest for each product and version",
            found=[f"{rim.product} {rim.version}" for rim in rims],
        )
    return found
