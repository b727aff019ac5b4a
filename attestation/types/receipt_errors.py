"""Codes of receipts."""

from __future__ import annotations

from manifests.errors import ErrorCode, Fault, StrongroomError

_WHOLE = "get the file again from whoever holds it; a receipt has one form, and nothing of it may be changed"


class ReceiptCode(ErrorCode):
    """Codes of receipts and of the files that keep them."""

    MALFORMED = "receipt-malformed", Fault.MALFORMED, "the bytes are not a receipt, or not in its one form", _WHOLE
    ALGORITHM = (
        "receipt-algorithm",
        Fault.UNSUPPORTED,
        "the receipt is signed by an algorithm that is not handled",
        "use a newer release, if the enclave was one",
    )
    BUNDLE = "receipt-bundle-malformed", Fault.MALFORMED, "the file is not a receipt's bundle", _WHOLE
    DAMAGED = (
        "receipt-bundle-damaged",
        Fault.MALFORMED,
        "the bundle is not what was written: its checksum does not match",
        "get the file again from whoever holds it",
    )
    REFUSED = (
        "receipt-refused",
        Fault.REFUSED,
        "the receipt does not say what it should, or is not the enclave's",
        "look at each finding: it names the field, and what was expected and found",
    )
    MISSING = (
        "receipt-missing",
        Fault.REFUSED,
        "the enclave gave no receipt where one was asked for",
        "use an enclave of this release, or do without the receipt",
    )
    WITHHELD = (
        "receipt-withheld",
        Fault.USAGE,
        "the bundle has not what is to be shown or compared",
        "take the bundle that the client saved; `strongroom receipt show` lists what a bundle opens",
    )


class ReceiptFinding(ErrorCode):
    """Codes of the checks of a receipt, beside those of the evidence; one for each field that a receipt binds."""

    SIGNATURE = "receipt-signature", Fault.REFUSED, "the receipt is signed by the key that the enclave's claims carry"
    EVIDENCE = "receipt-evidence", Fault.REFUSED, "the receipt names the evidence that is given"
    ORIGIN = "receipt-origin", Fault.REFUSED, "the receipt descends from the session that the evidence was made for"
    SESSION = "receipt-session", Fault.REFUSED, "the receipt is of the session that is expected"
    BOOT = "receipt-boot", Fault.REFUSED, "the receipt and the claims are of one start of the enclave process"
    SERIAL = "receipt-serial", Fault.REFUSED, "the receipt has the serial number that is expected"
    REQUEST = "receipt-request", Fault.REFUSED, "the receipt is of the request that is expected"
    MODEL = "receipt-model", Fault.REFUSED, "the model that answered is the one that is expected"
    STAGES = "receipt-stages", Fault.REFUSED, "the further models that answered are those that are expected"
    OWNER = "receipt-owner", Fault.REFUSED, "the model is of an owner that is expected"
    EPOCH = "receipt-epoch", Fault.REFUSED, "the model's epoch is the one that is expected, and not below the floor"
    BROKER_TIME = "receipt-broker-time", Fault.REFUSED, "the broker's sign of life is the one that is expected"
    BROKER_EPOCH = "receipt-broker-epoch", Fault.REFUSED, "the owner's epoch is the expected one, and none before it"
    VERDICT = "receipt-verdict", Fault.REFUSED, "the request passed the checks that are expected"
    FORM = (
        "receipt-form",
        Fault.REFUSED,
        "the answer left in the form that is expected, and the verdict agrees with itself",
    )
    INPUT = "receipt-input", Fault.REFUSED, "the input is what the receipt commits to"
    OUTPUT = "receipt-output", Fault.REFUSED, "the output is what the receipt commits to"
    ADMITS = "receipt-admitted", Fault.REFUSED, "the enclave admits the owner, and no more than the policy accepts"


class ReceiptError(StrongroomError):
    """Raised for receipts and their bundles."""
