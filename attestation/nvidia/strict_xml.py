"""The XML of NVIDIA's reference manifests: a closed subset, and its canonical form.

Source: Extensible Markup Language 1.0 (fifth edition); Namespaces in XML 1.0; Canonical XML 1.1 (W3C, 2008), sections
2.3 and 2.4.

The subset is printable ASCII and line feeds; elements, double-quoted attributes with one space before each, namespace
declarations, and text.  There are no entities or character references, no comments, processing instructions, CDATA
sections or declarations, so that nothing is expanded, fetched or dropped.  Elements, their depth and the namespaces in
scope are few, so that what is read takes little more room than the text.  Canonical XML of such a document differs from
the document in two things alone: the order of namespaces and attributes, and that empty elements have an end tag.

General libraries read all of XML, by a large parser in C that would see bytes of strangers; what they would be needed
for, inclusive canonicalisation, the standard library does not have (`xml.etree` has the exclusive kind of version 2.0).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from attestation.errors import EvidenceError
from attestation.nvidia.errors import NvidiaCode

MAX_DEPTH = 8
"""Manifests nest 5 levels."""
MAX_ELEMENTS = 1024
"""Manifests have some 90."""

MAX_DECLARED = 8
"""Namespaces that one element declares; manifests declare 3 at once."""
MAX_SCOPE = 16
"""Namespaces that are in scope anywhere; manifests have 4.  Every element that declares any keeps a map of its own."""

Name: TypeAlias = tuple[str, str]
"""Namespace and local name; the namespace is empty for an attribute without a prefix."""

_NAME = r"[A-Za-z_][A-Za-z0-9_.-]*"
_QNAME = rf"{_NAME}(?::{_NAME})?"
_TOKEN = re.compile(rf'<(/?)({_QNAME})((?: {_QNAME}="[^"<&\n]*")*)(/?)>|([^<>&]+)')
_ATTRIBUTE = re.compile(rf' ({_QNAME})="([^"]*)"')
_TEXT = re.compile(rb"[\n\x20-\x7e]*")


@dataclass
class Element:
    """One element: its names as written and as resolved, the namespaces in scope, and its children in order."""

    tag: str
    scope: Mapping[str, str]
    declared: tuple[tuple[str, str], ...]
    written: tuple[tuple[str, str], ...]
    children: list[Element | str] = field(default_factory=list)

    @property
    def name(self) -> Name:
        """Namespace and local name."""
        return _resolve(self.tag, self.scope, self.scope.get("", ""))

    @functools.cached_property
    def attributes(self) -> dict[Name, str]:
        """Values by namespace and local name."""
        return {_resolve(name, self.scope, ""): value for name, value in self.written}

    @property
    def elements(self) -> list[Element]:
        """The children that are elements."""
        return [child for child in self.children if isinstance(child, Element)]

    @property
    def text(self) -> str:
        """The text, of an element that has no other children."""
        if self.elements:
            raise refusal(f"{self.tag} has elements where text belongs")
        return "".join(child for child in self.children if isinstance(child, str))


def parse(data: bytes) -> Element:
    """Return the root element of a document; line feeds may follow it.

    Raises EvidenceError `nvidia-rim-malformed`.
    """
    if _TEXT.fullmatch(data) is None:
        raise refusal("it is not printable ASCII")
    root: Element | None = None
    open_elements: list[Element] = []
    count = 0
    for match in _tokens(data.decode("ascii").rstrip("\n")):
        closing, tag, attributes, empty, text = match.groups()
        if text is not None or closing:
            _inside(open_elements, None if attributes or empty else tag, text)
            continue
        count += 1
        if (root is not None and not open_elements) or len(open_elements) >= MAX_DEPTH or count > MAX_ELEMENTS:
            raise refusal("it has several roots, is nested too deeply, or has too many elements")
        element = _element(tag, attributes, open_elements[-1].scope if open_elements else {})
        if open_elements:
            open_elements[-1].children.append(element)
        root = root or element
        if not empty:
            open_elements.append(element)
    if root is None or open_elements:
        raise refusal("an element is not closed")
    return root


def canonical(element: Element, *, without: Element | None = None) -> bytes:
    """Return the Canonical XML 1.1 of an element, as if it were the whole document, leaving out one descendant.

    Namespaces that it inherits are in scope, and are written on the element itself (section 2.4).
    """
    return "".join(_canonical(element, {}, without)).encode("ascii")


def refusal(why: str, expected: object = None, found: object = None) -> EvidenceError:
    """Return the error for a manifest that is not usable."""
    return EvidenceError(
        NvidiaCode.RIM_MALFORMED, f"the reference manifest is not usable: {why}", expected=expected, found=found
    )


def _tokens(text: str) -> Iterator[re.Match[str]]:
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise refusal(f"it leaves the subset of XML at byte {at}")
        yield match
        at = match.end()


def _inside(open_elements: list[Element], tag: str | None, text: str | None) -> None:
    """Take text, or an end tag."""
    if not open_elements:
        raise refusal("something stands outside of its root")
    if text is not None:
        open_elements[-1].children.append(text)
    elif open_elements.pop().tag != tag:
        raise refusal("elements overlap")


def _element(tag: str, attributes: str, outer: Mapping[str, str]) -> Element:
    pairs = _ATTRIBUTE.findall(attributes)
    declared = tuple((name[6:], uri) for name, uri in pairs if name == "xmlns" or name.startswith("xmlns:"))
    written = tuple((name, value) for name, value in pairs if name.partition(":")[0] != "xmlns")
    if any(not uri or prefix in {"xml", "xmlns"} for prefix, uri in declared):
        raise refusal("a namespace is undeclared, or a reserved one is declared")
    if len(declared) > MAX_DECLARED:
        raise refusal(f"{tag} declares too many namespaces", f"at most {MAX_DECLARED}", len(declared))
    scope = {**outer, **dict(declared)} if declared else outer
    if len(scope) > MAX_SCOPE:
        raise refusal(f"too many namespaces are in scope in {tag}", f"at most {MAX_SCOPE}", len(scope))
    element = Element(tag, scope, declared, written)
    if len(dict(declared)) != len(declared) or len(element.attributes) != len(written):
        raise refusal(f"an attribute of {tag} is repeated")
    _ = element.name  # its prefix must be declared, too
    return element


def _resolve(name: str, scope: Mapping[str, str], default: str) -> Name:
    prefix, colon, local = name.rpartition(":")
    if not colon:
        return default, name
    if prefix not in scope:
        raise refusal(f"the prefix {prefix} is not declared")
    return scope[prefix], local


def _canonical(element: Element, rendered: Mapping[str, str], without: Element | None) -> Iterator[str]:
    """Write one element; `rendered` are the namespaces that its ancestors have written."""
    new = sorted((prefix, uri) for prefix, uri in element.scope.items() if rendered.get(prefix) != uri)
    ordered = sorted(element.written, key=lambda pair: _resolve(pair[0], element.scope, ""))
    yield f"<{element.tag}"
    yield from (f' xmlns:{prefix}="{uri}"' if prefix else f' xmlns="{uri}"' for prefix, uri in new)
    yield from (f' {name}="{value}"' for name, value in ordered)
    yield ">"
    for child in element.children:
        if isinstance(child, str):
            yield child
        elif child is not without:
            yield from _canonical(child, element.scope, without)
    yield f"</{element.tag}>"
