"""Codes of NVIDIA device evidence, beside those that all evidence shares in `attestation.errors`."""

from __future__ import annotations

from manifests.errors import ErrorCode, Fault


class NvidiaCode(ErrorCode):
    """Codes of reports, reference values and their container."""

    CONTAINER = "nvidia-container", Fault.MALFORMED, "the device evidence does not follow its container's format"
    VERSION = "nvidia-version", Fault.UNSUPPORTED, "the container of device evidence is of a later version"
    NONCES = "nvidia-nonces", Fault.REFUSED, "the devices answered to different nonces"
    DEVICE_TWICE = "nvidia-device-twice", Fault.REFUSED, "two reports are of the same device"

    REPORT_TRUNCATED = "nvidia-report-truncated", Fault.MALFORMED, "a report ends before its fields do"
    REPORT_RESERVED = "nvidia-report-reserved", Fault.MALFORMED, "a reserved byte of a report is not zero"
    REPORT_MALFORMED = "nvidia-report-malformed", Fault.MALFORMED, "a report does not follow the SPDM format"
    REPORT_UNSUPPORTED = "nvidia-report-unsupported", Fault.UNSUPPORTED, "a report is of an SPDM exchange not handled"
    OPAQUE_MALFORMED = "nvidia-opaque-malformed", Fault.MALFORMED, "a report's opaque data do not follow their format"
    OPAQUE_UNSUPPORTED = (
        "nvidia-opaque-unsupported",
        Fault.UNSUPPORTED,
        "a report's opaque data have a field or version that is not known",
    )

    PRODUCT = "nvidia-product-unknown", Fault.UNSUPPORTED, "the certificates are of a product that is not handled"
    SIGNATURE = "nvidia-signature", Fault.REFUSED, "a report is not signed by its device's key"
    FWID = "nvidia-fwid-mismatch", Fault.REFUSED, "a report is of other firmware than its certificate"
    FWID_MALFORMED = "nvidia-fwid-malformed", Fault.MALFORMED, "a certificate's DICE extension breaks its profile"

    RIM_MALFORMED = "nvidia-rim-malformed", Fault.MALFORMED, "a reference manifest does not follow its format"
    RIM_DIGEST = "nvidia-rim-digest", Fault.REFUSED, "a reference manifest was changed after it was signed"
    RIM_SIGNATURE = "nvidia-rim-signature", Fault.REFUSED, "a reference manifest is not signed by its certificate's key"
    RIM_UNUSED = "nvidia-rim-unused", Fault.REFUSED, "a reference manifest is for none of the devices"
    RIM_TWICE = "nvidia-rim-twice", Fault.REFUSED, "two reference manifests are for the same component"
    ROOTS_MIXED = "nvidia-roots-mixed", Fault.REFUSED, "reports and reference values are of different classes"


class NvidiaFinding(ErrorCode):
    """Codes of the checks of a device's appraisal; each shows as passed or failed."""

    PRODUCT = "nvidia-product", Fault.REFUSED, "the device is of a product that the policy names"
    DRIVER_VERSION = "nvidia-driver-version", Fault.REFUSED, "the driver's version is one that the policy names"
    VBIOS_VERSION = "nvidia-vbios-version", Fault.REFUSED, "the VBIOS version is one that the policy names"
    MODE = "nvidia-mode", Fault.REFUSED, "the device runs in a confidential mode that the policy names"
    FLAGS = "nvidia-flags", Fault.REFUSED, "the firmware has no flag set, such as debug, but those the policy names"
    FWID = "nvidia-fwid", Fault.REFUSED, "the report shows the firmware of its certificate, unless the policy says so"
    DRIVER_RIM = "nvidia-driver-rim", Fault.REFUSED, "the driver's reference values are there"
    VBIOS_RIM = "nvidia-vbios-rim", Fault.REFUSED, "the VBIOS' reference values are there"
    RIM_TAG = "nvidia-rim-tag", Fault.REFUSED, "the reference manifests are ones that the policy names"
    RIM_CONFLICT = "nvidia-rim-conflict", Fault.REFUSED, "no measurement is claimed by both reference manifests"
    MEASUREMENTS = "nvidia-measurements", Fault.REFUSED, "every measurement has a reference value"
