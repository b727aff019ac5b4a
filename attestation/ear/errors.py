"""Codes of attestation result tokens."""

from __future__ import annotations

from manifests.errors import ErrorCode, Fault, StrongroomError


class EarCode(ErrorCode):
    """Codes of attestation result tokens: their making, their form, their signature, and what they say."""

    UNISSUABLE = "ear-unissuable", Fault.REFUSED, "there is nothing that a token could vouch for"
    REQUEST = (
        "ear-request",
        Fault.USAGE,
        "a token cannot have such a nonce, audience or lifetime",
        "give a nonce of 8 to 64 bytes in hex, an audience of up to 256 printable characters, a lifetime within a day",
    )

    MALFORMED = "ear-malformed", Fault.MALFORMED, "the text is not a token of the expected profile"
    ALGORITHM = "ear-algorithm", Fault.REFUSED, "the token is signed by another algorithm than EdDSA, or not at all"
    KEY = "ear-key", Fault.REFUSED, "the token names a key that is not trusted"
    SIGNATURE = "ear-signature", Fault.REFUSED, "the token is not signed by the key that it names"
    PROFILE = "ear-profile", Fault.UNSUPPORTED, "the token is of a profile or version that is not handled"
    EARLY = "ear-early", Fault.REFUSED, "the token is not valid yet"
    EXPIRED = "ear-expired", Fault.REFUSED, "the token is no longer valid"
    AUDIENCE = "ear-audience", Fault.REFUSED, "the token is meant for somebody else"
    NONCE = "ear-nonce", Fault.REFUSED, "the token does not answer this nonce"
    SIMULATED = "ear-simulated", Fault.REFUSED, "hardware or simulated, as the caller demands"
    STATUS = "ear-status", Fault.REFUSED, "the token says that the evidence was not accepted"


class EarError(StrongroomError):
    """Raised by making and checking attestation result tokens."""
