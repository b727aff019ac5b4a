"""How an enclave, and the host in front of it, say no."""

from __future__ import annotations

from typing import Any

from attestation.errors import ClientCode, ClientError, WireCode
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
    "operation-unknown": Fault.UNSUPPORTED,
    "request-malformed": Fault.MALFORMED,
    "tensor-name": Fault.MALFORMED,
    "tensor-dtype": Fault.MALFORMED,
    "tensor-shape": Fault.MALFORMED,
}
"""Whose fault an enclave's code is, where it is no plain refusal.  A client does not import the enclave; a test holds
this table against the enclave's own."""

_INTERFACE = "`strongroom infer --list` shows each model's inputs with their dtypes and shapes"
_REMEDIES = {
    "version-unsupported": "use a client, a broker and an enclave of the same release",
    "model-unknown": "`strongroom infer --list` shows the models that this enclave serves",
    "lease-exhausted": "ask the model's owner to have its broker renew the lease, and try again",
    "tensor-name": _INTERFACE,
    "tensor-dtype": _INTERFACE,
    "tensor-shape": _INTERFACE,
    "tensor-value": "keep the values within the range that the model's manifest declares",
    "tensor-not-finite": "replace NaN and infinities before sending",
}


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
        self.remote_code = code
        self.fault = _FAULTS.get(code, Fault.REFUSED)
        self.remote_message = message
        self.field = field
        self.retry_after = retry_after

    @property
    def exit_code(self) -> int:
        """Exit status for a command that ends with this error: that of the enclave's own code."""
        return int(self.fault)

    def to_dict(self) -> dict[str, Any]:
        """Give the machine-readable form, with the enclave's own code and its fault."""
        remote = {"remote_code": self.remote_code, "field": self.field, "retry_after": self.retry_after}
        return {**super().to_dict(), "fault": self.fault.name.lower(), **remote}


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
