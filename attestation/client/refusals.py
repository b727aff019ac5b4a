"""How an enclave, and the host in front of it, say no."""

from __future__ import annotations

from typing import Any

from attestation.errors import ClientCode, ClientError
from attestation.wire.frames import parse_error
from attestation.wire.stream import Buffer
from manifests import fields
from manifests.errors import ManifestError

MAX_TEXT = 512
"""A sentence; a refusal with longer texts is malformed."""


class RemoteError(ClientError):
    """The enclave's typed refusal of one request.

    remote_code: the enclave's stable code.  field: the tensor or field at fault, or None.  retry_after: seconds
    after which the request may succeed, or None.
    """

    def __init__(self, code: str, message: str, field: str | None, retry_after: float | None) -> None:
        """Keep the enclave's words; they are bounded and printable, and come from inside the session."""
        super().__init__(
            ClientCode.REMOTE_REFUSED,
            f"{code}: {message}" + (f" (field {field!r})" if field else ""),
            remedy=None if retry_after is None else f"try again in {retry_after:g} s",
        )
        self.remote_code = code
        self.remote_message = message
        self.field = field
        self.retry_after = retry_after

    def to_dict(self) -> dict[str, Any]:
        """Give the machine-readable form, with the enclave's own code."""
        remote = {"remote_code": self.remote_code, "field": self.field, "retry_after": self.retry_after}
        return {**super().to_dict(), **remote}


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
