"""Codes of the enclave: what it tells a client or a broker, and what ends a session."""

from __future__ import annotations

from manifests.errors import ErrorCode, Fault, StrongroomError


class EnclaveCode(ErrorCode):
    """Codes of the enclave process, its sessions, provisioning, requests and models."""

    # The process.
    INTERNAL = "enclave-internal", Fault.INTERNAL, "the enclave met a defect of its own; the request was dropped"
    START_FAILED = "enclave-start-failed", Fault.UNAVAILABLE, "the enclave process cannot start as it was asked to"
    HOST_STREAM = "host-stream-broken", Fault.UNAVAILABLE, "the stream to the host ended or carries no frames"
    ARENA_FULL = "arena-full", Fault.UNAVAILABLE, "the locked memory for secrets is used up"
    STOPPING = "enclave-stopping", Fault.UNAVAILABLE, "the enclave is being drained"
    # Sessions.
    BUSY = "enclave-busy", Fault.UNAVAILABLE, "a bound on sessions, handshakes or waiting work is reached; try later"
    SESSION_OVERRUN = "session-overrun", Fault.REFUSED, "the peer sent more than the enclave keeps for one session"
    SESSION_REVOKED = "session-revoked", Fault.REFUSED, "a revocation ended this session"
    SESSION_UNATTESTED = "session-unattested", Fault.REFUSED, "the operation needs a session with evidence of its own"
    QUOTE_UNAVAILABLE = "quote-unavailable", Fault.UNAVAILABLE, "the platform gave no quote"
    CREDENTIAL_REFUSED = "credential-refused", Fault.REFUSED, "the client's credential is not one of an admitted issuer"
    # Requests in general.
    STREAM_CANCELLED = "stream-cancelled", Fault.REFUSED, "the client gave up the stream before its last part"
    STREAM_STALLED = "stream-stalled", Fault.REFUSED, "the client did not take the stream's parts in time"
    OPERATION_UNKNOWN = "operation-unknown", Fault.UNSUPPORTED, "the request asks for an operation that is not known"
    REQUEST_MALFORMED = "request-malformed", Fault.MALFORMED, "the request's header does not follow its format"
    # Provisioning and control.
    OWNER_REFUSED = "owner-refused", Fault.REFUSED, "this enclave does not admit the owner"
    OWNER_UNKNOWN = "owner-unknown", Fault.REFUSED, "this enclave has served nothing for the owner yet"
    RIGHT_MISSING = "right-missing", Fault.REFUSED, "the delegation does not give the broker this right"
    DELEGATION_SCOPE = "delegation-scope", Fault.REFUSED, "the delegation does not cover this model or epoch"
    DELEGATION_MISMATCH = "delegation-mismatch", Fault.REFUSED, "the document names another owner or delegation"
    GRANT_SESSION = "grant-other-session", Fault.REFUSED, "the grant was made for another session"
    GRANT_REPLAYED = "grant-replayed", Fault.REFUSED, "the grant's serial was used before"
    GRANT_CLASS = "grant-other-class", Fault.REFUSED, "the grant is for another class of platform"
    GRANT_MODEL = "grant-other-model", Fault.REFUSED, "the sealed model is not the one that the grant describes"
    EPOCH_OLD = "epoch-old", Fault.REFUSED, "the epoch lies below one that this enclave has seen"
    MODEL_REVOKED = "model-revoked", Fault.REFUSED, "the model was revoked"
    NONCE_REFUSED = "nonce-refused", Fault.REFUSED, "the heartbeat does not answer a fresh nonce of this session"
    HEARTBEAT_OLD = "heartbeat-old", Fault.REFUSED, "a heartbeat that answers a later challenge was seen already"
    PROVISION_LIMIT = "provision-limit", Fault.UNAVAILABLE, "a bound on owners, models, memory or claims is reached"
    # Models.
    MODEL_UNKNOWN = "model-unknown", Fault.REFUSED, "no model of this digest, or owner, name and epoch, is loaded"
    MODEL_UNUSABLE = (
        "model-unusable",
        Fault.REFUSED,
        "the runtime cannot load the model, or it differs from its manifest",
    )
    COMPONENT_MISSING = (
        "component-missing",
        Fault.REFUSED,
        "the model needs an optional component that this enclave's manifest does not name",
    )
    MODEL_FULL = "model-full", Fault.UNAVAILABLE, "the model holds as many caches or states as its manifest admits"
    FETCH_FAILED = "fetch-failed", Fault.UNAVAILABLE, "the host did not deliver the sealed model"
    LEASE_EXHAUSTED = "lease-exhausted", Fault.REFUSED, "the model's lease is used up; its broker must renew it"
    PRIVACY_EXHAUSTED = (
        "privacy-exhausted",
        Fault.REFUSED,
        "the client has had all the answers that the model's privacy budget allows it",
    )
    # Pipelines.
    STAGE_MISSING = "stage-missing", Fault.REFUSED, "a model that a stage of the pipeline names is not loaded"
    STAGE_REVOKED = "stage-revoked", Fault.REFUSED, "a model that a stage of the pipeline names was revoked"
    STAGE_OWNER = "stage-other-owner", Fault.REFUSED, "a model that a stage names is here, but of another owner"
    STAGE_EPOCH = "stage-epoch-old", Fault.REFUSED, "a model that a stage names has a lower epoch than it admits"
    STAGE_DEPTH = "stage-depth", Fault.REFUSED, "a model that a stage names has stages itself; one level is admitted"
    STAGE_UNFIT = "stage-unfit", Fault.REFUSED, "a model that a stage names does not take what the stage makes"
    BOXES_INVALID = "boxes-invalid", Fault.REFUSED, "the model found boxes that are none, or lie outside of the picture"
    BOXES_TOO_MANY = "boxes-too-many", Fault.REFUSED, "the model found more in the picture than its manifest admits"
    # Abuse.
    ABUSE_SLOWED = "abuse-slowed", Fault.REFUSED, "the model's detectors have slowed this client down; try later"
    ABUSE_REFUSED = "abuse-refused", Fault.REFUSED, "the model's detectors have spoken: this client is not answered"
    ABUSE_REVOKED = "abuse-revoked", Fault.REFUSED, "the model's detectors have shut this client out for good"
    # Budgets of client identities.
    BUDGET_EXHAUSTED = "budget-exhausted", Fault.REFUSED, "the client's budget of this model is used up for this period"
    BUDGET_PENDING = "budget-pending", Fault.UNAVAILABLE, "the client's next slice of its budget has not come yet"
    RATE_EXCEEDED = "rate-exceeded", Fault.REFUSED, "the client asks more often than the model's owner admits"
    # Requests for inference.
    TENSOR_NAME = "tensor-name", Fault.MALFORMED, "an input is missing, or is none of the model's"
    TENSOR_DTYPE = "tensor-dtype", Fault.MALFORMED, "an input has another element type than the model's"
    TENSOR_SHAPE = "tensor-shape", Fault.MALFORMED, "an input has a rank or axis that the model does not admit"
    TENSOR_VALUE = "tensor-value", Fault.REFUSED, "an input holds values outside the model's declared range"
    TENSOR_NAN = "tensor-not-finite", Fault.REFUSED, "an input holds NaN or an infinity"
    TENSOR_SUBNORMAL = "tensor-subnormal", Fault.REFUSED, "an input holds a number too small for full precision"
    TENSOR_CATEGORY = "tensor-category", Fault.REFUSED, "an input holds a value that is none of the model's set"
    TENSOR_TEXT = "tensor-text", Fault.REFUSED, "an input holds a text with characters that the model does not take"
    TEXT_TOO_LONG = "text-too-long", Fault.REFUSED, "a text has more tokens than the model admits"
    TEXT_REFUSED = "text-refused", Fault.REFUSED, "the model's tokenizer cannot split a text"
    IMAGE_FORMAT = "image-format", Fault.REFUSED, "the file is no picture of a format that the model admits"
    IMAGE_MALFORMED = "image-malformed", Fault.MALFORMED, "the file is no whole picture that can be decoded"
    IMAGE_TOO_LARGE = "image-too-large", Fault.REFUSED, "the picture has more pixels than the model or its file admits"
    IMAGE_FRAMES = "image-frames", Fault.REFUSED, "the file holds an animation, or more scans than a picture has"
    IMAGE_TRANSPARENT = "image-transparent", Fault.REFUSED, "one can see through the picture, and what shows is unsaid"
    AUDIO_MALFORMED = "audio-malformed", Fault.MALFORMED, "the file is no whole WAV file with samples of PCM"
    AUDIO_RATE = "audio-rate", Fault.REFUSED, "the recording has a rate that is not resampled"
    AUDIO_TOO_LONG = "audio-too-long", Fault.REFUSED, "the recording is longer than the model admits"
    OPERATION_UNFIT = (
        "operation-unfit",
        Fault.UNSUPPORTED,
        "the model is one that generates, or the operation is for such",
    )
    PROMPT_REFUSED = (
        "prompt-refused",
        Fault.REFUSED,
        "the prompt, or what is to end the answer, is none that the model takes",
    )
    SAMPLING_REFUSED = "sampling-refused", Fault.REFUSED, "the model does not admit this way of drawing tokens"
    REQUEST_TOO_LARGE = "request-too-large", Fault.REFUSED, "the request is larger than the model admits"
    RESPONSE_TOO_LARGE = "response-too-large", Fault.REFUSED, "the answer would be larger than the model admits"
    INFERENCE_FAILED = "inference-failed", Fault.REFUSED, "the model cannot be run on this input"
    REQUEST_MEMORY = (
        "request-memory",
        Fault.REFUSED,
        "a request of these shapes may need more memory than the model admits",
    )
    INFERENCE_MEMORY = "inference-memory", Fault.REFUSED, "the request needs more memory than the model may take"
    INFERENCE_TIMEOUT = "inference-timeout", Fault.REFUSED, "the request took longer than the model admits"


class EnclaveError(StrongroomError):
    """Raised by `enclave`.

    field: the tensor or header field that was refused, a name of the model's own interface.  retry_after: seconds
    after which trying again makes sense.
    """

    def __init__(
        self,
        code: EnclaveCode,
        message: str,
        *,
        expected: object = None,
        found: object = None,
        remedy: str | None = None,
        field: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        """Keep what the peer is told; none of it is content of a request."""
        super().__init__(code, message, expected=expected, found=found, remedy=remedy)
        self.field = field
        self.retry_after = retry_after
