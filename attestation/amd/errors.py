"""Codes of SEV-SNP evidence; those of chains, certificates and revocation lists in general are EvidenceCode's."""

from __future__ import annotations

from manifests.errors import ErrorCode, Fault


class SnpCode(ErrorCode):
    """Codes of SEV-SNP reports: format, endorsement key, signature."""

    LENGTH = (
        "snp-length",
        Fault.MALFORMED,
        "a report does not have the 1184 bytes that reports have",
        "get the report whole, and nothing around it: neither a status before it nor certificates after it",
    )
    VERSION = (
        "snp-version",
        Fault.UNSUPPORTED,
        "the report is of a version that is not handled",
        "use a newer release, or a platform whose firmware makes reports of versions 2 to 5",
    )
    RESERVED = (
        "snp-reserved",
        Fault.MALFORMED,
        "a field that AMD reserves does not have its one value",
        "use a newer release: AMD may have given the field a meaning that this one does not know",
    )
    SIGNATURE_ALGORITHM = (
        "snp-signature-algorithm",
        Fault.UNSUPPORTED,
        "the report is not signed with ECDSA on P-384 and SHA-384",
        "use a newer release: AMD has published no other algorithm so far",
    )
    PRODUCT = (
        "snp-cpuid",
        Fault.UNSUPPORTED,
        "the report is of a processor that is not handled",
        "use a newer release, or a processor of Milan, Genoa or Turin",
    )
    UNSIGNED = (
        "snp-unsigned",
        Fault.REFUSED,
        "the firmware signed the report with no key",
        "the host masks the chip's key: ask it to unmask the key, or to load a VLEK",
    )

    VEK_EXTENSION = (
        "snp-vek-extension",
        Fault.MALFORMED,
        "an extension of the endorsement key's certificate is not AMD's",
        "use a newer release: AMD signed what this one does not know",
    )
    VEK_KIND = (
        "snp-vek-kind",
        Fault.REFUSED,
        "the certificate is of the other kind of key than the one that signed",
        "use the certificate of the kind of key that the report names, with its chain",
    )
    VEK_PRODUCT = (
        "snp-vek-product",
        Fault.REFUSED,
        "the certificate is of another product than the report",
        "use the certificate of the machine that made the report",
    )
    VEK_CHIP = (
        "snp-vek-chip",
        Fault.REFUSED,
        "the certificate is of another chip than the report",
        "use the VCEK certificate of the machine that made the report; for one that masks its id there is none",
    )
    VEK_TCB = (
        "snp-vek-tcb",
        Fault.REFUSED,
        "the certificate is of another TCB version than the report",
        "fetch the certificate for the TCB version that the report names: firmware was updated, or is held back",
    )

    SIGNATURE = (
        "snp-signature",
        Fault.REFUSED,
        "the report is not signed by its endorsement key",
        "treat the report as forged",
    )
    TCB_ORDER = (
        "snp-tcb-order",
        Fault.REFUSED,
        "the report's TCB versions contradict each other",
        "treat the platform's firmware as broken",
    )


class SnpFinding(ErrorCode):
    """Codes of the checks of an SEV-SNP appraisal; each shows as passed or failed."""

    PRODUCT = "snp-product", Fault.REFUSED, "the product is one that the policy sets floors for"
    SIGNING_KEY = "snp-signing-key", Fault.REFUSED, "the kind of key that signed is one that the policy names"
    CHIP_ID = "snp-chip-id", Fault.REFUSED, "the chip is one that the policy names"
    CSP_ID = "snp-csp-id", Fault.REFUSED, "the cloud provider that the VLEK is lent to is one that the policy names"
    REVOCATION = "snp-revocation", Fault.REFUSED, "a revocation list was consulted, unless the policy waives it"
    REPORTED_TCB = "snp-reported-tcb", Fault.REFUSED, "the reported TCB reaches the policy's floors"
    COMMITTED_TCB = "snp-committed-tcb", Fault.REFUSED, "the committed TCB reaches the policy's floors"
    LAUNCH_TCB = "snp-launch-tcb", Fault.REFUSED, "the TCB at launch reaches the policy's floors"
    FIRMWARE = "snp-firmware", Fault.REFUSED, "the committed firmware reaches the policy's floor"
    PROVISIONAL = "snp-provisional", Fault.REFUSED, "what runs is what is committed, unless the policy says so"
    MITIGATIONS = "snp-mitigations", Fault.REFUSED, "the mitigations that the policy requires are in place"
    PLATFORM_REQUIRED = "snp-platform-required", Fault.REFUSED, "the platform has what the policy requires"
    PLATFORM_INFO = "snp-platform-info", Fault.REFUSED, "the platform shows nothing that the policy does not know"
    REPORT_VERSION = "snp-report-version", Fault.REFUSED, "the report's version reaches the policy's floor"

    MEASUREMENT = "snp-measurement", Fault.REFUSED, "the launch measurement is one that the policy names"
    DEBUG = "snp-debug", Fault.REFUSED, "the guest cannot be debugged, unless the policy says so"
    MIGRATION = "snp-migration", Fault.REFUSED, "the guest admits no migration agent, unless the policy says so"
    MIGRATION_AGENT = "snp-migration-agent", Fault.REFUSED, "the guest has no migration agent but one that is named"
    SMT = "snp-smt", Fault.REFUSED, "the guest does not share cores with others, unless the policy says so"
    CXL = "snp-cxl", Fault.REFUSED, "the guest admits no CXL memory, unless the policy says so"
    POLICY_REQUIRED = "snp-policy-required", Fault.REFUSED, "the guest's policy demands what this policy requires"
    POLICY_UNKNOWN = "snp-policy-unknown", Fault.REFUSED, "the guest's policy has no bit that nothing here knows"
    POLICY_ABI = "snp-policy-abi", Fault.REFUSED, "the guest's policy demands a firmware interface that is new enough"
    VMPL = "snp-vmpl", Fault.REFUSED, "the report was asked for at a privilege level that the policy admits"
    GUEST_SVN = "snp-guest-svn", Fault.REFUSED, "the guest's security version reaches the policy's floor"
    HOST_DATA = "snp-host-data", Fault.REFUSED, "HOST_DATA is zero, or one that the policy names"
    FAMILY_ID = "snp-family-id", Fault.REFUSED, "FAMILY_ID is zero, or one that the policy names"
    IMAGE_ID = "snp-image-id", Fault.REFUSED, "IMAGE_ID is zero, or one that the policy names"
    ID_KEY = "snp-id-key", Fault.REFUSED, "no key signed the ID block, or one that the policy names"
    AUTHOR_KEY = "snp-author-key", Fault.REFUSED, "no key vouches for the ID key, or one that the policy names"
    REPORT_ID = "snp-report-id", Fault.REFUSED, "the guest is the one that the policy names"
