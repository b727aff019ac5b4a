"""How an enclave, and the host in front of it, say no."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from attestation.client.errors import ClientCode, ClientError
from attestation.errors import WireCode
from attestation.wire.frames import parse_error
from attestation.wire.stream import Buffer
from manifests import fields
from manifests.errors import Fault, ManifestCode, ManifestError

MAX_TEXT = 512
"""A sentence; a refusal with longer texts is malformed."""

_FAULTS: dict[str, Fault] = {str(code): code.fault for table in (ManifestCode, WireCode) for code in table} | {
    "enclave-internal": Fault.INTERNAL,
    "enclave-start-failed": Fault.UNAVAILABLE,
    "host-stream-broken": Fault.UNAVAILABLE,
    "arena-full": Fault.UNAVAILABLE,
    "enclave-stopping": Fault.UNAVAILABLE,
    "enclave-busy": Fault.UNAVAILABLE,
    "quote-unavailable": Fault.UNAVAILABLE,
    "provision-limit": Fault.UNAVAILABLE,
    "fetch-failed": Fault.UNAVAILABLE,
    "budget-pending": Fault.UNAVAILABLE,
    "operation-unknown": Fault.UNSUPPORTED,
    "operation-unfit": Fault.UNSUPPORTED,
    "model-full": Fault.UNAVAILABLE,
    "request-malformed": Fault.MALFORMED,
    "tensor-name": Fault.MALFORMED,
    "tensor-dtype": Fault.MALFORMED,
    "tensor-shape": Fault.MALFORMED,
    "image-malformed": Fault.MALFORMED,
    "audio-malformed": Fault.MALFORMED,
}
"""Whose fault an enclave's code is, where it is no plain refusal.  A client does not import the enclave; a test holds
this table against the enclave's own."""

_INTERFACE = "`strongroom infer --list` shows each model's inputs with their dtypes and shapes"
_REPORT = "ask the enclave's operator to look at `strongroom host status`, and report it"
_LATER = "try again in a moment"
_ANEW = "connect again; a new session attests the enclave anew"
_ROOM = "ask for less at once, or have the operator raise the enclave's limits (docs/enclave.md)"
_DELEGATION = "have the owner sign a delegation that covers this, and add the model with it"
_GRANT = "have the broker release the key anew: `strongroom broker serve`"
_SEALED = "on the host, `strongroom inspect FILE` tells whether the sealed file is whole; put a whole one in its place"

_REMEDIES = {str(code): code.remedy for table in (ManifestCode, WireCode) for code in table} | {
    **{str(code): _SEALED for code in ManifestCode if code.startswith("sealed-")},
    "version-unsupported": "use a client, a broker and an enclave of the same release",
    "enclave-internal": _REPORT,
    "enclave-start-failed": _REPORT,
    "host-stream-broken": _ANEW,
    "arena-full": _ROOM,
    "enclave-stopping": "wait until the enclave is up again, or ask another host",
    "enclave-busy": _LATER,
    "session-overrun": "read the answers while they come, and send less at once",
    "session-revoked": "connect again: a model of this owner was revoked",
    "session-unattested": "connect without a ticket",
    "quote-unavailable": _REPORT,
    "credential-refused": "have a broker that this enclave serves sign a credential for this very key",
    "operation-unknown": "compare the versions of client and enclave",
    "request-malformed": "compare the versions of client and enclave",
    "stream-cancelled": "ask again, and read the answer to its last part",
    "stream-stalled": "read the answer's parts while they come",
    "owner-refused": "render the enclave's manifest for this owner: `strongroom manifest render --owner CARD`",
    "owner-unknown": _GRANT,
    "right-missing": _DELEGATION,
    "delegation-scope": _DELEGATION,
    "delegation-mismatch": _DELEGATION,
    "grant-other-session": _GRANT,
    "grant-replayed": _GRANT,
    "grant-other-class": "set a release policy for the enclave's class of platform",
    "grant-other-model": _SEALED,
    "epoch-old": "seal the model under a higher epoch: this enclave has seen a newer one",
    "model-revoked": "seal the model under a higher epoch: a revocation is for good",
    "nonce-refused": "run one `strongroom broker serve` for this home, and let it begin anew",
    "heartbeat-old": "run one `strongroom broker serve` for this home, and let it begin anew",
    "provision-limit": "revoke models that nobody needs, or have the enclave's limits raised (docs/enclave.md)",
    "model-unknown": "`strongroom infer --list` shows the models that this enclave serves",
    "model-unusable": "try the ONNX file with onnxruntime, and a tokenizer with the library `tokenizers`;"
    " correct them or the manifest, and seal anew",
    "component-missing": "render the enclave's manifest with --component: docs/enclave.md lists the components",
    "fetch-failed": "on the host, `strongroom host models` tells whether the sealed file is there, and"
    " `strongroom inspect FILE` whether it is whole",
    "model-full": _LATER,
    "lease-exhausted": "ask the model's owner to have its broker renew the lease, and try again",
    "privacy-exhausted": "ask the model's owner: a larger budget takes another release of the model",
    "stage-missing": "ask the model's owner: `strongroom broker add` gives the broker the model that the message names",
    "stage-revoked": "ask the model's owner: the model that the message names takes a release of a higher epoch",
    "stage-other-owner": "ask the model's owner: all models of a pipeline are of one owner, in the care of its broker",
    "stage-epoch-old": "ask the model's owner: the model that the message names must be sealed under a higher epoch",
    "stage-depth": "ask the model's owner: a model that a stage names may have no stages in its own manifest",
    "stage-unfit": "ask the model's owner: the stage's `to` and `crop` must be what the named model's manifest takes",
    "boxes-invalid": "send a clearer picture; the model's owner can correct what its graph gives as boxes",
    "boxes-too-many": "send a part of the picture; the model's manifest bounds what is read in one",
    "request-memory": "send less at once, or ask the model's owner for a higher max_request_memory",
    "budget-exhausted": "wait for the next period, or ask the model's owner for a larger budget",
    "budget-pending": _LATER,
    "rate-exceeded": "ask less often",
    "tensor-name": _INTERFACE,
    "tensor-dtype": _INTERFACE,
    "tensor-shape": _INTERFACE,
    "tensor-value": "keep the values within the range that the model's manifest declares",
    "tensor-not-finite": "replace NaN and infinities before sending",
    "tensor-subnormal": "set numbers that are too small for full precision to zero before sending",
    "tensor-category": "send one of the values that the message names; the model's manifest has the set",
    "tensor-text": "remove control characters, or what is no ASCII or UTF-8, as the message says",
    "abuse-slowed": "wait as long as the message says; ask the model's owner if your use is what it is meant for",
    "abuse-refused": "ask the model's owner: its detectors took your requests for probing or copying",
    "abuse-revoked": "ask the model's owner: its detectors took your requests for probing or copying",
    "text-too-long": "send a shorter text, or its parts one by one",
    "text-refused": "try the same text with the library `tokenizers`; the model's owner can correct the tokenizer",
    "image-format": "save the picture as PNG or JPEG, whichever the model takes",
    "image-malformed": "open the file in another program; if it can, save it anew from there",
    "image-too-large": "scale the picture down before sending",
    "image-frames": "send one frame of the animation, or save the picture anew",
    "image-transparent": "lay the picture on a ground of your choice, and save it without transparency",
    "audio-malformed": "save the recording as a WAV file of PCM, 8 to 32 bits",
    "audio-rate": "save the recording with between 8,000 and 48,000 samples a second",
    "audio-too-long": "send a shorter recording, or its parts one by one",
    "operation-unfit": "use `infer` for models that answer, `generate` for language models, `reset` for stateful ones",
    "prompt-refused": "shorten the prompt, or send tokens of the model's own vocabulary",
    "sampling-refused": "ask for what the model's manifest admits; without a temperature the answer is greedy",
    "request-too-large": "send fewer rows at once; the model's manifest bounds a request",
    "response-too-large": "send fewer rows at once; the model's manifest bounds an answer",
    "inference-failed": "try the same input with onnxruntime; the model's owner can correct model or manifest",
    "inference-memory": "send fewer rows at once; the model's manifest and the enclave's settings bound the memory",
    "inference-timeout": "send fewer rows at once; the model's manifest bounds the time",
}
"""What to do about an enclave's code.  A test holds this table, too, against the enclave's own."""


_MOST = "max_new_tokens"
"""A number that the model's manifest bounds: beyond it a request is well-formed, and refused."""


class RemoteError(ClientError):
    """The enclave's typed refusal of one request.

    remote_code: the enclave's stable code.  fault: whose fault that code says it is; an unknown code is a refusal.
    field: the tensor or field at fault, or None.  retry_after: seconds after which the request may succeed, or None.
    """

    def __init__(self, code: str, message: str, field: str | None, retry_after: float | None) -> None:
        """Keep the enclave's words; they are bounded and printable, and come from inside the session."""
        super().__init__(
            ClientCode.REMOTE_REFUSED,
            f"the enclave refused: {message}" + (f" (field {field!r})" if field else "") + f" [{code}]",
            remedy=_remedy(code, retry_after),
        )
        named = re.search(r"^field '(\w+)'", message) if field is None and code == "field-invalid" else None
        field = named[1] if named else field
        self.remote_code = code
        self.fault = _FAULTS.get(code, Fault.REFUSED)
        self.remote_message = message
        self.field = field
        self.retry_after = retry_after
        if named and field == _MOST:
            self.fault, self.remedy = Fault.REFUSED, "ask for fewer tokens: --max-tokens, in Python max_new_tokens"

    @property
    def exit_code(self) -> int:
        """Exit status for a command that ends with this error: that of the enclave's own code."""
        return int(self.fault)

    def to_dict(self) -> dict[str, Any]:
        """Give the machine-readable form, with the enclave's own code and its fault."""
        remote = {"remote_code": self.remote_code, "field": self.field, "retry_after": self.retry_after}
        return {**super().to_dict(), "fault": self.fault.name.lower(), **remote}


class UnsentError(RemoteError):
    """What the enclave would refuse, and what cannot travel to it: raised before anything is sent.

    remote_code: the code that the enclave has for it.
    """

    def __init__(self, code: str, message: str, field: str, remedy: str | None = None) -> None:
        """Say so in words of our own."""
        super().__init__(code, message, field, None)
        self.remedy = remedy or self.remedy
        self.message = f"nothing was sent: {message} (field {field!r}) [{code}]"
        self.args = (self.message,)


def check_text(text: object, code: str, field: str) -> None:
    """Refuse a text that is not UTF-8, such as the shell's bytes of another encoding; raises UnsentError."""
    try:
        str(text).encode("utf-8")
    except UnicodeEncodeError as error:
        raise UnsentError(code, f"the text is not UTF-8: character {error.start + 1} is none", field) from None


def check_texts(tensors: Mapping[str, npt.NDArray[Any]]) -> None:
    """Refuse tensors of texts that are not UTF-8; raises UnsentError `tensor-text`."""
    for name, tensor in tensors.items():
        if getattr(tensor, "dtype", np.dtype(float)).kind in "UO":
            for text in tensor.ravel().tolist():
                if isinstance(text, str):
                    check_text(text, "tensor-text", name)


def _remedy(code: str, retry_after: float | None) -> str | None:
    """Return what to do next: the enclave's own hint of when, before what is known of its code."""
    return _REMEDIES.get(code) if retry_after is None else f"try again in {retry_after:g} s"


def closed() -> ClientError:
    """Return the error for a session that is over."""
    return ClientError(
        ClientCode.CLIENT_CLOSED, "the session is over", remedy="connect again; a new session attests the enclave anew"
    )


def remote_error(header: dict[str, Any]) -> RemoteError:
    """Read the header of an ERROR message; raises ClientError `response-unexpected`."""
    names = ("code", "message", "field", "retry_after")
    try:
        value = fields.closed_map(header, "error", names)
        field = None if value["field"] is None else fields.text(value["field"], "field", MAX_TEXT)
        retry = None if value["retry_after"] is None else fields.of_type(value["retry_after"], "retry_after", float)
        code, message = (fields.text(value[name], name, MAX_TEXT) for name in ("code", "message"))
    except ManifestError as error:
        raise ClientError(
            ClientCode.RESPONSE_UNEXPECTED, f"the enclave's refusal is malformed: {error.message}"
        ) from None
    return RemoteError(code, message, field, retry)


def host_error(body: Buffer) -> ClientError:
    """Return the error for a host's "!error" frame; raises WireError `frame-malformed` for an unreadable one."""
    code, message = parse_error(body)
    return ClientError(
        ClientCode.HOST_REFUSED,
        "the host refused; its words are not authenticated",
        found=f"{code}: {message}",
        remedy="check the route, and on the host `strongroom host status`",
    )
