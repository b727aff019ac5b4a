"""Codes of NVIDIA device evidence, beside those that all evidence shares in `attestation.errors`."""

from __future__ import annotations

from manifests.errors import ErrorCode, Fault

_AGAIN = "collect the evidence again, with NVIDIA's tools, and give it whole"
_NEWER = "use a newer release, if NVIDIA's firmware is newer than this one"
_FETCH = "fetch the manifest anew from NVIDIA's RIM service"


class NvidiaCode(ErrorCode):
    """Codes of reports, reference values and their container."""

    CONTAINER = (
        "nvidia-container",
        Fault.MALFORMED,
        "the device evidence does not follow its container's format",
        _AGAIN,
    )
    VERSION = (
        "nvidia-version",
        Fault.UNSUPPORTED,
        "the container of device evidence is of a later version",
        "use a newer release",
    )
    NONCES = (
        "nvidia-nonces",
        Fault.REFUSED,
        "the devices answered to different nonces",
        "ask all devices with the same nonce",
    )
    DEVICE_TWICE = (
        "nvidia-device-twice",
        Fault.REFUSED,
        "two reports are of the same device",
        "give the report of each device once",
    )

    REPORT_TRUNCATED = ("nvidia-report-truncated", Fault.MALFORMED, "a report ends before its fields do", _AGAIN)
    REPORT_RESERVED = ("nvidia-report-reserved", Fault.MALFORMED, "a reserved byte of a report is not zero", _AGAIN)
    REPORT_MALFORMED = ("nvidia-report-malformed", Fault.MALFORMED, "a report does not follow the SPDM format", _AGAIN)
    REPORT_UNSUPPORTED = (
        "nvidia-report-unsupported",
        Fault.UNSUPPORTED,
        "a report is of an SPDM exchange not handled",
        "ask for all measurements, signed, with SPDM 1.1 and slot 0, as NVIDIA's tools do",
    )
    OPAQUE_MALFORMED = (
        "nvidia-opaque-malformed",
        Fault.MALFORMED,
        "a report's opaque data do not follow their format",
        _AGAIN,
    )
    OPAQUE_UNSUPPORTED = (
        "nvidia-opaque-unsupported",
        Fault.UNSUPPORTED,
        "a report's opaque data have a field or version that is not known",
        _NEWER,
    )

    PRODUCT = (
        "nvidia-product-unknown",
        Fault.UNSUPPORTED,
        "the certificates are of a product that is not handled",
        _NEWER,
    )
    SIGNATURE = (
        "nvidia-signature",
        Fault.REFUSED,
        "a report is not signed by its device's key",
        "check that report and chain are of the same device; otherwise treat the report as forged",
    )
    FWID = (
        "nvidia-fwid-mismatch",
        Fault.REFUSED,
        "a report is of other firmware than its certificate",
        "check that report and chain are of the same start of the device",
    )
    FWID_MALFORMED = (
        "nvidia-fwid-malformed",
        Fault.MALFORMED,
        "a certificate's DICE extension breaks its profile",
        _NEWER,
    )

    RIM_MALFORMED = ("nvidia-rim-malformed", Fault.MALFORMED, "a reference manifest does not follow its format", _FETCH)
    RIM_DIGEST = ("nvidia-rim-digest", Fault.REFUSED, "a reference manifest was changed after it was signed", _FETCH)
    RIM_SIGNATURE = (
        "nvidia-rim-signature",
        Fault.REFUSED,
        "a reference manifest is not signed by its certificate's key",
        _FETCH,
    )
    RIM_UNUSED = (
        "nvidia-rim-unused",
        Fault.REFUSED,
        "a reference manifest is for none of the devices",
        "leave the manifest out, and add the one for the version that the device runs",
    )
    RIM_TWICE = (
        "nvidia-rim-twice",
        Fault.REFUSED,
        "two reference manifests are for the same component",
        "give each manifest once",
    )
    ROOTS_MIXED = (
        "nvidia-roots-mixed",
        Fault.REFUSED,
        "reports and reference values are of different classes",
        "use reference values of the class that the devices are of",
    )


class NvidiaFinding(ErrorCode):
    """Codes of the checks of a device's appraisal; each shows as passed or failed."""

    PRODUCT = "nvidia-product", Fault.REFUSED, "the device is of a product that the policy names"
    DEVICE_SERIAL = "nvidia-device-serial", Fault.REFUSED, "the device's serial number is one that the policy names"
    DEVICE_KEY = "nvidia-device-key", Fault.REFUSED, "the device's own key is one that the policy names"
    FIRMWARE_ID = "nvidia-firmware-id", Fault.REFUSED, "the firmware that holds the leaf's key is one the policy names"
    FIRMWARE_SVN = "nvidia-firmware-svn", Fault.REFUSED, "the firmware's security version reaches the policy's floor"
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
