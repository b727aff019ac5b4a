"""Codes of the client library."""

from __future__ import annotations

from manifests.errors import ErrorCode, Fault, StrongroomError


class ClientCode(ErrorCode):
    """Codes of the client library."""

    ADDRESS_UNREACHABLE = (
        "address-unreachable",
        Fault.UNAVAILABLE,
        "nothing answers at the address",
        "check the address, and on that machine `strongroom host status`",
    )
    TIMED_OUT = (
        "timed-out",
        Fault.UNAVAILABLE,
        "the peer did not answer in the time that the caller allows",
        "look at `strongroom host status` on the machine, or allow more time",
    )
    TIMEOUT_INVALID = (
        "timeout-invalid",
        Fault.USAGE,
        "a time-out is not a positive number of seconds",
        "give seconds above 0; a day at most",
    )
    RETRIES_INVALID = (
        "retries-invalid",
        Fault.USAGE,
        "the bounds of retries are none",
        "give 1 to 100 attempts, and seconds above 0; a day at most",
    )
    HOST_REFUSED = (
        "host-refused",
        Fault.UNAVAILABLE,
        "the host, which nobody trusts, says it cannot serve this",
        "check the route, and on the host `strongroom host status`",
    )
    FRAME_UNEXPECTED = (
        "frame-unexpected",
        Fault.MALFORMED,
        "a frame for another session or deployment arrived",
        "connect again; if it stays so, the host mixes up sessions",
    )
    RESPONSE_UNEXPECTED = (
        "response-unexpected",
        Fault.MALFORMED,
        "a response does not answer the request",
        "connect again; if it stays so, compare the versions of client and enclave",
    )
    ANSWER_TRUNCATED = (
        "answer-truncated",
        Fault.UNAVAILABLE,
        "an answer that comes in parts ended before its last one",
        "take what came as unfinished, and ask again",
    )
    REMOTE_REFUSED = (
        "remote-refused",
        Fault.REFUSED,
        "the enclave refused the request; it names its own code",
        "docs/codes.md explains the enclave's code",
    )
    CLIENT_CLOSED = (
        "client-closed",
        Fault.USAGE,
        "the session was closed, or ended by an earlier error",
        "connect again; a new session attests the enclave anew",
    )
    COLLATERAL_UNNAMED = "collateral-unnamed", Fault.USAGE, "no source of collateral was given"
    POLICY_UNSUITABLE = "policy-unsuitable", Fault.USAGE, "the policy has no table for what it is used for"
    ADMITS_ANY_OWNER = "admits-any-owner", Fault.REFUSED, "the enclave serves any owner and the policy does not"
    OWNER_NOT_SERVED = "owner-not-served", Fault.UNAVAILABLE, "the enclave holds no model of an accepted owner yet"
    OWNER_NOT_ACCEPTED = (
        "owner-not-accepted",
        Fault.REFUSED,
        "a response comes under an owner not in the policy",
        "name the owner in [service] owners if you trust it, or ask for a model of an owner that is there",
    )
    BEAT_INVALID = (
        "beat-invalid",
        Fault.REFUSED,
        "the broker's heartbeat or its delegation does not verify",
        "ask the model's owner: its broker must be put right, and nothing on your side",
    )
    BEAT_STALE = "beat-stale", Fault.REFUSED, "the broker's newest heartbeat is older than the policy accepts"
    EPOCH_ROLLBACK = (
        "epoch-rollback",
        Fault.REFUSED,
        "an epoch is lower than the policy's or one seen before",
        (
            "ask the owner for the current epoch: an older model is served than one that you have used, or than "
            "min_epoch"
        ),
    )
    MODEL_NAME_INVALID = "model-name-invalid", Fault.USAGE, "the model is named in no way that can be resolved"
    MODEL_NOT_ALLOWED = (
        "model-not-allowed",
        Fault.REFUSED,
        "the model's digest is not in the policy's list",
        (
            "name the digest in [service] models if its owner confirms it; `strongroom infer --list` shows what "
            "is served"
        ),
    )
    TENSOR_INVALID = (
        "tensor-invalid",
        Fault.USAGE,
        "an input cannot be read, or cannot travel as a tensor",
        "give a .npy file, or JSON of one shape; `strongroom infer --list` shows each input's dtype and shape",
    )
    CONTENT_UNFIT = (
        "content-unfit",
        Fault.USAGE,
        "the model takes no content of this kind",
        "`strongroom infer --list` shows what each model takes; give tensors by name where it takes those",
    )
    ANSWER_UNLABELLED = (
        "answer-unlabelled",
        Fault.USAGE,
        "the model's answer has no labels",
        "ask with `infer` for its tensors; its owner adds labels by a step `label` or `label_only`",
    )


class ClientError(StrongroomError):
    """Raised by `attestation.client`."""
