"""Codes of trust domains (TDX), beside those that all of Intel's evidence shares in `attestation.errors`."""

from __future__ import annotations

from manifests.errors import ErrorCode, Fault


class TdxCode(ErrorCode):
    """Codes of TDX quotes and of the TDX module's standing."""

    TEE_TYPE = "tdx-tee-type", Fault.UNSUPPORTED, "a quote of version 4 or 5 is not of a trust domain"
    BODY_TYPE = "tdx-body-type", Fault.UNSUPPORTED, "the quote's body is neither a TD report 1.0 nor a TD report 1.5"
    MODULE_UNKNOWN = "tdx-module-unknown", Fault.REFUSED, "the TCB info has no identity for this TDX module's version"
    MODULE_SIGNER = "tdx-module-signer", Fault.REFUSED, "the TDX module's signer is not the one in the TCB info"
    MODULE_ATTRIBUTES = "tdx-module-attributes", Fault.REFUSED, "the TDX module's attributes differ from the TCB info's"
    MODULE_NO_MATCH = "tdx-module-no-match", Fault.REFUSED, "the TDX module is below every level of its identity"


class TdxFinding(ErrorCode):
    """Codes of the checks of a TDX appraisal; each shows as passed or failed."""

    MRTD = "tdx-mrtd", Fault.REFUSED, "the TD's initial contents are what the policy names"
    RTMR0 = "tdx-rtmr0", Fault.REFUSED, "RTMR0 is one that the policy names"
    RTMR1 = "tdx-rtmr1", Fault.REFUSED, "RTMR1 is one that the policy names"
    RTMR2 = "tdx-rtmr2", Fault.REFUSED, "RTMR2 is one that the policy names"
    RTMR3 = "tdx-rtmr3", Fault.REFUSED, "RTMR3 is one that the policy names"
    MRCONFIGID = "tdx-mrconfigid", Fault.REFUSED, "MRCONFIGID is zero, or one that the policy names"
    MROWNER = "tdx-mrowner", Fault.REFUSED, "MROWNER is zero, or one that the policy names"
    MROWNERCONFIG = "tdx-mrownerconfig", Fault.REFUSED, "MROWNERCONFIG is zero, or one that the policy names"
    MRSERVICETD = "tdx-mrservicetd", Fault.REFUSED, "no service TD is bound, or only those that the policy names"
    MRSEAM = "tdx-mrseam", Fault.REFUSED, "the TDX module is one that the policy names"
    MRSIGNERSEAM = "tdx-mrsignerseam", Fault.REFUSED, "the TDX module is Intel's: its signer is zero"
    SEAM_ATTRIBUTES = "tdx-seam-attributes", Fault.REFUSED, "the TDX module has no attributes"
    DEBUG = "tdx-debug", Fault.REFUSED, "the TD is not under debug or profiling, unless the policy says so"
    SEPT_VE = "tdx-sept-ve", Fault.REFUSED, "the host cannot cause #VE on the TD's own pages, unless the policy says so"
    MIGRATABLE = "tdx-migratable", Fault.REFUSED, "the TD cannot be migrated, unless the policy says so"
    ATTRIBUTES = "tdx-attributes", Fault.REFUSED, "no attribute is set that neither rule nor policy knows"
    XFAM = "tdx-xfam", Fault.REFUSED, "the enabled processor features are as the policy says"
