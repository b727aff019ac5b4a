"""Simulated reference manifests: SWID tags with the one form of XML signature that NVIDIA uses."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from attestation.intel.pem import encode_chain
from attestation.nvidia import strict_xml
from attestation.sim.chains import Authority384

_SWID = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd"
_TCG = "https://trustedcomputinggroup.org/resource/tcg-reference-integrity-manifest-rim-information-model/"
_HASHES = "http://www.w3.org/2001/04/xmlenc#sha384"
_DSIG = "http://www.w3.org/2000/09/xmldsig#"
_C14N = "http://www.w3.org/2006/12/xml-c14n11"
_MORE = "http://www.w3.org/2001/04/xmldsig-more#"


@dataclass(frozen=True)
class RimProfile:
    """What one manifest says.

    values: the alternatives of each measurement, by index from 0.  active: the indices that count.  tag_id: 48 bytes in
    hex; None: it follows from product and version.  broken: whether the signature is one over something else.
    """

    product: str
    version: str
    values: Mapping[int, tuple[bytes, ...]]
    active: Collection[int]
    tag_id: str | None = None
    manufacturer: str = "5703"
    payload_type: str = "direct"
    broken: bool = False


def issue_rim(profile: RimProfile, chain: Sequence[Authority384]) -> bytes:
    """Return a manifest that the last authority of a chain (root first) has signed."""
    digest = hashlib.sha384(_canonical_content(profile, chain)).digest()
    info = _document(profile, chain, base64.b64encode(digest).decode("ascii"), "")
    tree = strict_xml.parse(info.encode("ascii"))
    signed = strict_xml.canonical(tree.elements[-1].elements[0])
    signature = chain[-1].sign_raw(b"something else" if profile.broken else signed)
    text = _document(
        profile, chain, base64.b64encode(digest).decode("ascii"), base64.b64encode(signature).decode("ascii")
    )
    return text.encode("ascii")


def _canonical_content(profile: RimProfile, chain: Sequence[Authority384]) -> bytes:
    tree = strict_xml.parse(_document(profile, chain, "", "").encode("ascii"))
    return strict_xml.canonical(tree, without=tree.elements[-1])


def _document(profile: RimProfile, chain: Sequence[Authority384], digest: str, signature: str) -> str:
    tag = profile.tag_id or hashlib.sha384(f"{profile.product} {profile.version}".encode("ascii")).hexdigest()
    resources = "\n".join(
        _resource(index, values, active=index in profile.active) for index, values in profile.values.items()
    )
    return (
        f'<SoftwareIdentity xmlns="{_SWID}" xmlns:ns0="{_SWID}" xmlns:ns2="{_HASHES}" name="{profile.product}"'
        f' tagId="{tag}" version="1.0" tagVersion="0">\n'
        '    <ns0:Entity name="Simulated" role="softwareCreator tagCreator"/>\n'
        f'    <ns0:Meta xmlns:ns1="{_TCG}" colloquialVersion="{profile.version}" product="{profile.product}"'
        f' PayloadType="{profile.payload_type}" ns1:PlatformManufacturerId="{profile.manufacturer}"/>\n'
        f'    <ns0:Payload xmlns:SHA384="{_HASHES}">\n{resources}\n    </ns0:Payload>\n'
        f"{_signature(chain, digest, signature)}</SoftwareIdentity>\n"
    )


def _resource(index: int, values: tuple[bytes, ...], *, active: bool) -> str:
    hashes = "".join(f' ns2:Hash{number}="{value.hex()}"' for number, value in enumerate(values))
    return (
        f'        <ns0:Resource type="Measurement" index="{index}" active="{active}" alternatives="{len(values)}"'
        f'{hashes} name="Measurement_{index}" size="48"/>'
    )


def _signature(chain: Sequence[Authority384], digest: str, signature: str) -> str:
    certificates = "".join(f"<ds:X509Certificate>{_body(each.der)}</ds:X509Certificate>" for each in reversed(chain))
    return (
        f'<ds:Signature xmlns:ds="{_DSIG}"><ds:SignedInfo><ds:CanonicalizationMethod Algorithm="{_C14N}"/>'
        f'<ds:SignatureMethod Algorithm="{_MORE}ecdsa-sha384"/><ds:Reference URI=""><ds:Transforms>'
        f'<ds:Transform Algorithm="{_DSIG}enveloped-signature"/><ds:Transform Algorithm="{_C14N}"/></ds:Transforms>'
        f'<ds:DigestMethod Algorithm="{_MORE}sha384"/><ds:DigestValue>{digest}</ds:DigestValue></ds:Reference>'
        f"</ds:SignedInfo><ds:SignatureValue>{signature}</ds:SignatureValue>"
        f"<ds:KeyInfo><ds:X509Data>{certificates}</ds:X509Data></ds:KeyInfo></ds:Signature>"
    )


def _body(der: bytes) -> str:
    """Return the base64 lines of a certificate's PEM form, without its frame."""
    return "".join(line + "\n" for line in encode_chain(der).decode("ascii").splitlines()[1:-1])
