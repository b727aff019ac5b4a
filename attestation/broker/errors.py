"""Codes of the key broker."""

from __future__ import annotations

from manifests.errors import ErrorCode, Fault, StrongroomError

_RESTORE = "restore the database from a backup; `strongroom broker audit verify` tells how far its log is sound"
_LOG = "restore the database from a backup, or export the log anew; the rows before this one are sound"


class BrokerCode(ErrorCode):
    """Codes of the key broker: its home, its store, its audit log, its decisions, and its talk with enclaves."""

    HOME_EXISTS = "broker-home-exists", Fault.USAGE, "the folder already holds something"
    HOME_INVALID = (
        "broker-home-invalid",
        Fault.USAGE,
        "the folder is not a broker's home, or its making was cut short",
        "make a home with `strongroom broker init --home DIR`, or name the right folder",
    )
    HOME_VERSION = (
        "broker-home-version",
        Fault.UNSUPPORTED,
        "another version of the program made this home",
        "use the version of the program that made it",
    )
    HOME_EXPOSED = "broker-home-exposed", Fault.REFUSED, "others than its owner may enter the broker's home"

    STORE_UNAVAILABLE = (
        "store-unavailable",
        Fault.UNAVAILABLE,
        "the database cannot be opened, read or written",
        "check the disk and the folder's permissions",
    )
    STORE_BUSY = "store-busy", Fault.UNAVAILABLE, "another process holds the database for too long"
    STORE_FULL = "store-full", Fault.UNAVAILABLE, "no space is left for the database, so nothing was released"
    STORE_VERSION = (
        "store-version",
        Fault.UNSUPPORTED,
        "the database has a schema that this program does not know",
        "use the version of the program that made it",
    )
    STORE_ALTERED = (
        "store-altered",
        Fault.REFUSED,
        "the database was changed by something else than the broker",
        _RESTORE,
    )
    STORE_ROLLED_BACK = (
        "store-rolled-back",
        Fault.REFUSED,
        "the database is older than what the broker remembers",
        "restore the newest database; after a restore from a backup, `strongroom broker audit accept`",
    )
    ANCHOR_BEHIND = (
        "anchor-behind",
        Fault.UNAVAILABLE,
        "the change is recorded and in force, but the anchor could not be written: no key was released for it",
    )
    KEY_UNWRAP_FAILED = "key-unwrap-failed", Fault.REFUSED, "a wrapped key does not belong to its owner and model"

    AUDIT_MALFORMED = (
        "audit-malformed",
        Fault.MALFORMED,
        "an audit row or an exported log does not follow its format",
        _LOG,
    )
    AUDIT_VERSION = (
        "audit-version",
        Fault.UNSUPPORTED,
        "a newer version of the program wrote this row or log",
        "use a newer release",
    )
    AUDIT_ORDER = "audit-order", Fault.REFUSED, "an audit row is missing, moved or repeated", _LOG
    AUDIT_ALTERED = "audit-altered", Fault.REFUSED, "an audit row does not carry the broker's signature", _LOG
    AUDIT_FORKED = "audit-forked", Fault.REFUSED, "an audit row was signed for another history than this one", _LOG
    AUDIT_TOO_LARGE = (
        "audit-too-large",
        Fault.REFUSED,
        "an event does not fit an audit row, so nothing was recorded",
        "name fewer things at once",
    )
    AUDIT_HEAD = (
        "audit-head",
        Fault.REFUSED,
        "the log does not contain the head it is held against: its end was cut",
        "restore the newest database, or export the log anew; a head has 128 hexadecimal digits",
    )

    MODEL_UNKNOWN = (
        "model-not-held",
        Fault.USAGE,
        "the broker holds no such model",
        "see `strongroom broker list`; `strongroom broker add` takes in a sealed model",
    )
    MODEL_HELD = (
        "model-held",
        Fault.USAGE,
        "the broker already holds this model",
        "nothing is to be done; add it with another delegation to change what may be done with it",
    )
    POLICY_MISSING = "policy-missing", Fault.USAGE, "no release policy is set, so nothing is released"
    ENCLAVE_UNKNOWN = "enclave-not-known", Fault.USAGE, "the broker has given no key to such an enclave"
    CLIENT_UNKNOWN = (
        "client-unknown",
        Fault.USAGE,
        "the command names no client that the broker knows",
        "give its key in hexadecimal, its card, or its name in a credential: `strongroom broker budgets`",
    )
    BUDGETS_UNTOUCHED = (
        "budgets-untouched",
        Fault.USAGE,
        "there is no budget to reset",
        "`strongroom broker budgets` shows what was granted in the present period",
    )
    REVOCATION_VACUOUS = "revocation-vacuous", Fault.USAGE, "the revocation would change nothing"

    RELEASE_REFUSED = (
        "release-refused",
        Fault.REFUSED,
        "an enclave does not meet what the policy expects",
        "`strongroom broker audit show --kind refusal` lists every expectation that was not met",
    )
    PLATFORM_MIXED = (
        "platform-mixed",
        Fault.REFUSED,
        "the platform is of another class than the policy is for",
        "set a policy for this class of platform; the two are never mixed",
    )
    EVIDENCE_EXPIRED = (
        "evidence-expired",
        Fault.REFUSED,
        "the evidence or its collateral is no longer valid",
        "fetch fresh collateral; the broker then attests the enclave anew",
    )
    POLICY_CHANGED = (
        "policy-changed",
        Fault.REFUSED,
        "the evidence was appraised under another policy than the one in force",
        "attest the enclave again, under the policy in force",
    )
    OWNER_NOT_ADMITTED = (
        "owner-not-admitted",
        Fault.REFUSED,
        "the enclave does not admit this model's owner",
        "render the enclave's manifest for this owner: `strongroom manifest render --owner CARD`",
    )
    MODEL_NOT_IN_POLICY = (
        "model-not-in-policy",
        Fault.REFUSED,
        "the release policy does not name this model",
        "name the model in [release] models, and set the policy again",
    )
    MODEL_REVOKED = (
        "release-revoked",
        Fault.REFUSED,
        "this model was revoked",
        "seal the model anew under a higher epoch and add that: a revocation is for good",
    )
    EPOCH_BELOW_POLICY = (
        "epoch-below-policy",
        Fault.REFUSED,
        "the model is older than the policy's floor",
        "seal the model under a higher epoch, or lower [release] min_epoch",
    )
    EPOCH_BELOW_DELEGATION = (
        "epoch-below-delegation",
        Fault.REFUSED,
        "the model is older than the delegation's floor",
        "seal the model under a higher epoch, or have the owner sign a lower --epoch-floor",
    )
    EPOCH_REVOKED = (
        "epoch-revoked",
        Fault.REFUSED,
        "the model is older than a revocation's floor",
        "seal the model under an epoch that is not revoked",
    )
    EPOCH_SUPERSEDED = (
        "epoch-superseded",
        Fault.REFUSED,
        "the broker holds a newer epoch of this model",
        "let the newer one serve, or seal this one under a higher epoch, or allow [release] older_epochs",
    )
    EPOCH_BEHIND_ENCLAVE = (
        "epoch-behind-enclave",
        Fault.REFUSED,
        "the enclave holds a newer heartbeat of this very broker: the broker's state was rolled back",
        "restore the broker's newest database and anchor: they are older than what it has said",
    )
    DELEGATION_BROKER = (
        "delegation-broker",
        Fault.REFUSED,
        "the delegation names another broker",
        "have the owner delegate to this broker's card: `strongroom broker delegate --broker CARD`",
    )
    DELEGATION_OWNER = (
        "delegation-owner",
        Fault.REFUSED,
        "the delegation was not signed by the model's owner",
        "give the delegation that the model's owner signed",
    )
    DELEGATION_RIGHT = (
        "delegation-right",
        Fault.REFUSED,
        "the delegation does not give this right",
        "have the owner sign a delegation with this --right, and add the model with it",
    )
    DELEGATION_MODEL = (
        "delegation-model",
        Fault.REFUSED,
        "the delegation does not cover this model",
        "have the owner sign a delegation with --model NAME or '*', and add the model with it",
    )
    ENCLAVES_EXHAUSTED = (
        "enclaves-exhausted",
        Fault.REFUSED,
        "as many enclaves as the policy allows hold this model",
        ("`strongroom broker forget BOOT_ID` for each enclave that has ended (`broker list`), or raise max_enclaves"),
    )
    SESSION_USED = (
        "session-used",
        Fault.REFUSED,
        "this model was already released in this session",
        "wait for the next session, in which the key is released anew",
    )
    LEASE_UNKNOWN = (
        "lease-unknown",
        Fault.REFUSED,
        "the enclave asks to renew a lease that it was never granted",
        "restore the broker's newest database, or restart the enclave",
    )

    ENCLAVE_UNEXPECTED = "enclave-unexpected", Fault.MALFORMED, "the enclave's answer is not what the broker asked for"


class BrokerError(StrongroomError):
    """Raised by `attestation.broker`."""
