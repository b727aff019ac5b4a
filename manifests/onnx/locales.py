"""Locales: ONNX Runtime loads no StringNormalizer whose locale the machine lacks; an enclave has those of C alone."""

from __future__ import annotations

from manifests.onnx.attributes import STRING
from manifests.onnx.errors import OnnxCode
from manifests.onnx.findings import Findings
from manifests.onnx.messages import Attribute, Node
from manifests.onnx.operators import plain_domain

LOCALES = ("C", "C.UTF-8", "POSIX")
"""Locales that every system has that an enclave is measured on; of them C.UTF-8 alone knows letters beyond ASCII."""
_DEFAULT = "en_US"
"""ONNX Runtime 1.32 asks for this one where a node names none (string_normalizer.cc)."""


def check_locale(node: Node, place: str, findings: Findings) -> None:
    """Note a StringNormalizer that needs a locale other than those that are there."""
    if node.op_type != "StringNormalizer" or plain_domain(node.domain):
        return
    given = {attribute.name: attribute for attribute in node.attribute}
    if not _needs_locale(given):
        return
    locale = given.get("locale")
    name = _DEFAULT if locale is None else _text(locale)
    if name not in LOCALES:
        findings.add(OnnxCode.LOCALE, OnnxCode.LOCALE.meaning, place, LOCALES, name or "one that is not named")


def _needs_locale(given: dict[str, Attribute]) -> bool:
    """Tell whether the runtime makes the locale: to change texts, or to compare stopwords in whatever case."""
    action = given.get("case_change_action")
    if action is not None and _text(action) != "NONE":
        return True
    words, sensitive = given.get("stopwords"), given.get("is_case_sensitive")
    has_words = words is not None and bool(words.strings or words.ref_attr_name)
    return has_words and (sensitive is None or sensitive.i != 1)


def _text(attribute: Attribute) -> str:
    """Return an attribute's text; nothing where a function's caller gives it."""
    return "" if attribute.s is None or attribute.type != STRING else bytes(attribute.s).decode("utf-8", "replace")
