"""Manifests: a closed subset of XML, one form of signature, and nothing that is read but not digested."""

from __future__ import annotations

import base64
import functools
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import EvidenceCode, EvidenceError
from attestation.nvidia import strict_xml
from attestation.nvidia.errors import NvidiaCode
from attestation.nvidia.rim import MAX_RIM, parse_rim
from attestation.nvidia.strict_xml import MAX_DECLARED, MAX_DEPTH, MAX_ELEMENTS, MAX_SCOPE
from attestation.sim.chains import Profile384, enrol
from attestation.sim.nvidia import Device
from manifests.errors import ErrorCode
from tests.attestation.kit import outcome, refused
from tests.nvidia import kit

# ------------------------------------------------------------------------------------------------------- XML


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("<a/>", "<a></a>"),
        ("<a>text\n</a>\n\n", "<a>text\n</a>"),
        ('<a z="1" b="2"/>', '<a b="2" z="1"></a>'),
        ('<a xmlns:z="u" xmlns="v" xmlns:b="w"/>', '<a xmlns="v" xmlns:b="w" xmlns:z="u"></a>'),
        ('<a xmlns:z="a" xmlns:b="y" b:c="1" z:d="2" e="3"/>', '<a xmlns:b="y" xmlns:z="a" e="3" z:d="2" b:c="1"></a>'),
        ('<a xmlns="u"><b xmlns="u"/></a>', '<a xmlns="u"><b></b></a>'),
        ('<a xmlns="u"><b xmlns="v"><c xmlns="u"/></b></a>', '<a xmlns="u"><b xmlns="v"><c xmlns="u"></c></b></a>'),
        ('<a xmlns:p="u"><p:b p:c="1>2"/></a>', '<a xmlns:p="u"><p:b p:c="1>2"></p:b></a>'),
    ],
)
def test_the_canonical_form_is_that_of_the_standard(text: str, canonical: str) -> None:
    """Canonical XML 1.1, section 2.3: end tags, namespaces before attributes, both in order, none repeated."""
    assert strict_xml.canonical(strict_xml.parse(text.encode())).decode() == canonical


def test_an_inner_element_writes_the_namespaces_that_it_inherits() -> None:
    """Section 2.4: the canonical form of a part, as SignedInfo is one."""
    tree = strict_xml.parse(b'<a xmlns="u" xmlns:x="v"><x:b><c/></x:b></a>')
    assert strict_xml.canonical(tree.elements[0]) == b'<x:b xmlns="u" xmlns:x="v"><c></c></x:b>'
    assert strict_xml.canonical(tree, without=tree.elements[0]) == b'<a xmlns="u" xmlns:x="v"></a>'


def declarations(count: int, prefix: str = "p") -> str:
    """Namespace declarations, each with a prefix of its own."""
    return "".join(f' xmlns:{prefix}{number}="u"' for number in range(count))


def test_as_many_namespaces_as_are_allowed_are_read_and_share_one_map() -> None:
    text = f"<a{declarations(MAX_DECLARED)}><b{declarations(MAX_SCOPE - MAX_DECLARED, 'q')}><q0:c/><p0:d/></b></a>"
    (inner,) = strict_xml.parse(text.encode()).elements
    assert len(inner.scope) == MAX_SCOPE
    assert all(child.scope is inner.scope for child in inner.elements)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "text",
        "<a>",
        "</a>",
        "<a></b>",
        "<a><b></a></b>",
        "<a/><a/>",
        "<a/>text",
        "text<a/>",
        " <a/>",
        '<?xml version="1.0"?><a/>',
        "<!DOCTYPE a><a/>",
        '<!DOCTYPE a [<!ENTITY e "x">]><a>&e;</a>',
        "<a>&amp;</a>",
        "<a>&#65;</a>",
        '<a b="&lt;"/>',
        "<a><!-- comment --></a>",
        "<a><![CDATA[x]]></a>",
        "<a><?pi x?></a>",
        "<a b='1'/>",
        '<a  b="1"/>',
        '<a b ="1"/>',
        '<a b="1" />',
        '<a b="1"c="2"/>',
        '<a b="<"/>',
        '<a b="1\n2"/>',
        "<a >x</a>",
        "<a></a >",
        '<a></a b="1">',
        "<a></a/>",
        "<a>></a>",
        "<a>\t</a>",
        "<a>\r\n</a>",
        "<a>\u00fc</a>",
        "<a>\0</a>",
        '<a b="1" b="2"/>',
        '<a xmlns:p="u" xmlns:q="u" p:b="1" q:b="2"/>',
        '<a xmlns="u" xmlns="u"/>',
        '<a xmlns=""/>',
        '<a xmlns:p=""/>',
        '<a xmlns:xml="u"/>',
        '<a xml:lang="en"/>',
        "<p:a/>",
        '<a p:b="1"/>',
        "<1/>",
        "<a:b:c/>",
        "<a>" * (MAX_DEPTH + 1) + "</a>" * (MAX_DEPTH + 1),
        "<a>" + "<b/>" * MAX_ELEMENTS + "</a>",
        f"<a{declarations(MAX_DECLARED + 1)}/>",
        f'<a{declarations(8)}><b{declarations(8, "q")}><c xmlns="u"/></b></a>',
    ],
)
def test_xml_outside_the_subset_is_refused(text: str) -> None:
    with refused(NvidiaCode.RIM_MALFORMED):
        strict_xml.parse(text.encode("utf-8"))


@given(st.text("<>/ab=\"' &;!?x:mlns\n", max_size=60))
def test_reading_xml_is_total_and_its_canonical_form_is_stable(text: str) -> None:
    tree = outcome(lambda: strict_xml.parse(text.encode()))
    if not isinstance(tree, ErrorCode):
        once = strict_xml.canonical(tree)
        assert strict_xml.canonical(strict_xml.parse(once)) == once


# ------------------------------------------------------------------------------------------------ manifests


@functools.cache
def manifest(**changes: Any) -> bytes:
    return kit.platform().rim(Device(), driver=True, **changes)


def refusal(data: bytes) -> ErrorCode | None:
    try:
        parse_rim(data).verify(kit.sim_roots())
    except EvidenceError as error:
        return error.code
    return None


def test_a_simulated_manifest_passes_the_same_steps() -> None:
    rim = parse_rim(manifest())
    assert rim.verify(kit.sim_roots()).anchor.simulated
    assert [golden.index for golden in rim.golden] == [7, 32, 33, 34, 35, 36, 37, 38]


@pytest.mark.parametrize("content", ["text", "<a/>", "\n"])
@pytest.mark.parametrize("name", ["Entity", "Meta", "Resource"])
def test_what_nothing_reads_is_not_carried_along(name: str, content: str) -> None:
    """SWID tags may have more below an Entity; NVIDIA's have nothing there."""
    text = manifest().decode()
    (found, *_) = re.findall(rf"<ns0:{name} [^>]*/>|<ns0:{name} [^>]*></ns0:{name}>", text)
    start = found[: found.index(">")].removesuffix("/")
    with refused(NvidiaCode.RIM_MALFORMED) as caught:
        parse_rim(text.replace(found, f"{start}>{content}</ns0:{name}>", 1).encode())
    assert "has content" in caught.value.message


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("SoftwareIdentity", "SoftwareEntity"),
        ("SoftwareIdentity", "ns2:SoftwareIdentity"),
        (' tagId="', ' tagID="'),
        ("ns0:Entity", "ns0:Link"),
        ("ns0:Meta", "ns0:Beta"),
        ("ns0:Payload", "ns2:Payload"),
        ("ns0:Payload", "Playload"),
        (' product="GH100" P', ' product="" P'),
        (' colloquialVersion="580.00"', ""),
        ('index="0"', 'index="00"'),
        ('index="0"', 'index="1"'),
        ('index="0"', 'index="255"'),
        ('index="0"', 'index="x"'),
        ('active="False" alternatives="1"', 'active="false" alternatives="1"'),
        ('alternatives="1"', 'alternatives="0"'),
        ('alternatives="1"', 'alternatives="2"'),
        ("ns2:Hash0", "ns2:Hash1"),
        ('size="48"', 'size="32"'),
        ('type="Measurement"', 'type="Opaque"'),
        ("ns0:Resource", "ns0:Evidence"),
        ("ds:SignedInfo", "ds:Signed"),
        ("ds:SignatureValue", "ds:Signature"),
        ("ds:KeyInfo", "ds:Key"),
        ("ds:X509Data", "ds:PGPData"),
        ('URI=""', 'URI="#x"'),
        (' URI=""', ""),
        ("2006/12/xml-c14n11", "2001/10/xml-exc-c14n#"),
        ("#ecdsa-sha384", "#ecdsa-sha256"),
        ("xmldsig-more#sha384", "xmldsig-more#sha224"),
        ("#enveloped-signature", "#base64"),
        ("<ds:DigestValue>", "<ds:DigestValue><ds:x/>"),
        ("</ds:Transforms>", "<ds:Transform/></ds:Transforms>"),
        ("<ds:SignatureValue>", "<ds:SignatureValue> "),
        ("<ds:SignatureValue>", "<ds:SignatureValue>AAAA"),
        ("</ds:Signature><", "</ds:Signature><ns0:Link/><"),
        ("<ds:SignatureValue>", "<ds:SignatureValue><ds:x/>"),
    ],
)
def test_a_manifest_of_another_shape_is_refused_before_its_signature_is_looked_at(old: str, new: str) -> None:
    text = manifest().decode()
    everywhere = re.fullmatch(r"[\w:]+", old) is not None  # the name of an element: its end tag has it, too
    altered = text.replace(old, new, -1 if everywhere else 1)
    assert altered != text
    assert refusal(altered.encode()) is NvidiaCode.RIM_MALFORMED


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"tag_id": "ab"}, NvidiaCode.RIM_MALFORMED),
        ({"tag_id": "AB" * 48}, NvidiaCode.RIM_MALFORMED),
        ({"manufacturer": "9999"}, NvidiaCode.RIM_MALFORMED),
        ({"payload_type": "indirect"}, NvidiaCode.RIM_MALFORMED),
        ({"broken": True}, NvidiaCode.RIM_SIGNATURE),
    ],
    ids=str,
)
def test_a_manifest_that_says_something_else_is_refused(changes: dict[str, Any], code: ErrorCode) -> None:
    assert refusal(manifest(**changes)) is code


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('active="False"', 'active="True"'),
        ('version="1.0"', 'version="1.1"'),
        ("Measurement_0", "Measurement_9"),
        ("        <ns0", "       <ns0"),
        ('role="softwareCreator tagCreator"', 'role="tagCreator"'),
    ],
)
def test_a_manifest_that_was_changed_is_refused_by_its_digest(old: str, new: str) -> None:
    altered = manifest().decode().replace(old, new, 1).encode()
    assert altered != manifest()
    assert refusal(altered) is NvidiaCode.RIM_DIGEST


def test_a_digest_that_was_changed_to_fit_breaks_the_signature() -> None:
    """Who changes the content and the digest, too, has no key to sign the digest with."""
    other = kit.platform().rim(Device(driver_version="590.00"), driver=True)
    own, foreign = (re.search(rb"<ds:SignatureValue>.*</ds:SignatureValue>", data) for data in (manifest(), other))
    assert own is not None
    assert foreign is not None
    assert refusal(manifest().replace(own.group(), foreign.group())) is NvidiaCode.RIM_SIGNATURE


def test_the_signers_chain_is_held_to_its_root_and_its_places() -> None:
    root, value, third, signer = kit.platform().rim_chain
    assert refusal(manifest(chain=(root, value, signer))) is EvidenceCode.CHAIN_SIGNATURE
    assert refusal(manifest(chain=(value, third, signer))) is EvidenceCode.CHAIN_ROOT
    assert refusal(manifest(chain=(root,))) is EvidenceCode.CHAIN_LENGTH
    authority = enrol(kit.SEED, Profile384("no signer"), third, kit.CREATED, kit.NOW + 1)
    assert refusal(manifest(chain=(root, value, third, authority))) is EvidenceCode.CHAIN_ROLE
    below = enrol(kit.SEED, Profile384("below L3", authority=False), signer, kit.CREATED, kit.NOW + 1)
    assert refusal(manifest(chain=(root, value, third, signer, below))) is EvidenceCode.CHAIN_ROLE


def test_a_certificate_is_in_the_one_form_of_its_bytes() -> None:
    text = manifest().decode()
    place = text.index("<ds:X509Certificate>") + 40
    assert refusal((text[:place] + "\n" + text[place:]).encode()) is EvidenceCode.PEM_MALFORMED


def test_an_expired_signer_is_refused_with_the_evidence() -> None:
    root, value, third, _ = kit.platform().rim_chain
    late = enrol(kit.SEED, Profile384("late", authority=False), third, kit.CREATED, kit.NOW - 1)
    early = enrol(kit.SEED, Profile384("early", authority=False), third, kit.NOW + 1, kit.NOW + 2)
    for signer, code in ((late, EvidenceCode.CERTIFICATE_EXPIRED), (early, EvidenceCode.CERTIFICATE_EARLY)):
        data = kit.simulated(manifests=[manifest(chain=(root, value, third, signer))])
        with refused(code):
            kit.verify_sim(data)


def test_each_manifest_is_there_once_and_for_a_device_that_is() -> None:
    driver, vbios = kit.rims(Device())
    with refused(NvidiaCode.RIM_TWICE):
        kit.verify_sim(kit.simulated(manifests=[driver, driver, vbios]))
    other = kit.platform().rim(Device(driver_version="590.00"), driver=True)
    with refused(NvidiaCode.RIM_UNUSED):
        kit.verify_sim(kit.simulated(manifests=[driver, other]))
    blackwell = kit.platform().rim(Device(product="GB100"), driver=True)
    with refused(NvidiaCode.RIM_UNUSED):
        kit.verify_sim(kit.simulated(manifests=[driver, blackwell]))


def test_a_manifest_that_is_too_large_is_refused_before_it_is_read() -> None:
    with refused(NvidiaCode.RIM_MALFORMED):
        parse_rim(bytes(MAX_RIM + 1))


@given(st.integers(0, 30_000), st.binary(min_size=1, max_size=3))
def test_parsing_manifests_is_total(place: int, data: bytes) -> None:
    genuine = manifest()
    place %= len(genuine)
    altered = genuine[:place] + data + genuine[place + len(data) :]
    assert altered == genuine or refusal(altered) is not None


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (lambda digest: base64.b64encode(digest).decode(), "base64, as other vendors' manifests have it"),
        (lambda digest: digest.hex().upper(), "hex with capitals"),
        (lambda digest: digest.hex()[:-2], "94 other characters"),
    ],
)
def test_a_digest_in_another_form_is_refused_and_called_so(form: Callable[[bytes], str], said: str) -> None:
    found = re.search(rb'Hash0="([0-9a-f]{96})"', manifest())
    assert found is not None
    altered = manifest().replace(found[1], form(bytes([0xAB]) + bytes.fromhex(found[1].decode())[1:]).encode(), 1)
    with refused(NvidiaCode.RIM_MALFORMED) as caught:
        parse_rim(altered)
    assert caught.value.found == said
