"""Codes of fetching collateral from a vendor's service, and of keeping it."""

from __future__ import annotations

from manifests.errors import ErrorCode, Fault, StrongroomError


class FetchCode(ErrorCode):
    """Codes of fetching collateral, and of the folder that holds it."""

    ADDRESS = "fetch-address", Fault.USAGE, "the address is not one that collateral is fetched from"
    UNREACHABLE = "fetch-unreachable", Fault.UNAVAILABLE, "the service cannot be reached, or breaks off"
    TIMED_OUT = "fetch-timed-out", Fault.UNAVAILABLE, "the service does not answer in time"
    TLS = "fetch-tls", Fault.REFUSED, "the service's certificate is not trusted"
    REDIRECTED = "fetch-redirected", Fault.REFUSED, "the service sends elsewhere"
    LIMITED = "fetch-limited", Fault.UNAVAILABLE, "the service asks to wait longer than the caller will"
    STATUS = "fetch-status", Fault.UNAVAILABLE, "the service answers with an error"
    NOT_FOUND = "fetch-not-found", Fault.UNAVAILABLE, "the service does not have the document"
    TOO_LARGE = "fetch-too-large", Fault.MALFORMED, "the answer is longer than such a document can be"
    CONTENT = "fetch-content", Fault.MALFORMED, "the answer is not the document that was asked for"
    NOT_SERVED = "fetch-not-served", Fault.UNSUPPORTED, "no service publishes this: the machine has it"

    MISFILED = "collateral-misfiled", Fault.REFUSED, "the file's name is not that of its content"
    OLDER = "collateral-older", Fault.REFUSED, "what is held is newer"
    BUNDLE_MALFORMED = "bundle-malformed", Fault.MALFORMED, "the file is not a bundle of evidence and collateral"


class FetchError(StrongroomError):
    """Raised by fetching, importing and inspecting collateral."""
