"""Codes of the enclave's manifest and settings."""

from __future__ import annotations

from manifests.errors import ErrorCode, Fault, StrongroomError

_RENDER = "render the manifest with this release: `strongroom manifest render --output DIR`"


class GramineCode(ErrorCode):
    """Codes of the enclave's manifest, its settings and its trusted files."""

    MANIFEST_MALFORMED = (
        "enclave-manifest-malformed",
        Fault.MALFORMED,
        "the text is not a manifest of this format",
        _RENDER,
    )
    OPTION_UNKNOWN = (
        "enclave-option-unknown",
        Fault.MALFORMED,
        "the manifest uses an option that is not known here",
        _RENDER,
    )
    OPTION_REFUSED = (
        "enclave-option-refused",
        Fault.REFUSED,
        "the manifest uses an option that is insecure or was removed from Gramine",
        "remove the option; docs/enclave.md says which ones are refused, and why",
    )
    OPTION_INVALID = (
        "enclave-option-invalid",
        Fault.MALFORMED,
        "an option is missing or its value is not usable",
        _RENDER,
    )
    SETTINGS_INVALID = (
        "enclave-settings-invalid",
        Fault.USAGE,
        "the enclave's settings file is not usable",
        "docs/enclave.md explains each setting; give an owner as 64 hex digits or as its card",
    )
    FILE_CHANGED = "trusted-file-changed", Fault.REFUSED, "a trusted file differs from its hash in the manifest"
    FILE_MISSING = (
        "trusted-file-missing",
        Fault.UNAVAILABLE,
        "a trusted file cannot be read",
        "restore the file, or render the manifest anew: its measurement changes",
    )
    LIBPAL_MALFORMED = (
        "libpal-malformed",
        Fault.MALFORMED,
        "the file is not an object that Gramine loads into an enclave",
        "give the file sgx/libpal.so of the installed Gramine: /usr/lib/x86_64-linux-gnu/gramine/sgx/libpal.so",
    )
    ENCLAVE_TOO_SMALL = (
        "enclave-too-small",
        Fault.REFUSED,
        "sgx.enclave_size leaves no room for the enclave's own parts",
        "render the manifest with a larger enclave, or with fewer threads",
    )
    SIGNING_KEY_INVALID = (
        "signing-key-invalid",
        Fault.USAGE,
        "the key cannot sign an SGX enclave",
        "make one: `gramine-sgx-gen-private-key FILE`, or `openssl genrsa -3 -out FILE 3072`",
    )
    SIGSTRUCT_INVALID = (
        "sigstruct-invalid",
        Fault.REFUSED,
        "the file is not a SIGSTRUCT whose signature and fields are right",
        "sign the manifest anew: `strongroom manifest sign`",
    )
    CLOSURE_FAILED = (
        "closure-failed",
        Fault.UNAVAILABLE,
        "the enclave could not record which files it loads",
        "check that this installation can import the `enclave` package",
    )


class GramineError(StrongroomError):
    """Raised by `manifests.gramine`."""
