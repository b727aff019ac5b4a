"""Bodies of control frames, whose routes begin with "!" (docs/wire.md).

Everything here is bounded and total: a body decodes to its value or raises HostError.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from host.errors import HostCode, HostError
from manifests import canonical, fields
from manifests.errors import ManifestError

MAX_FETCH: Final = 1024 * 1024
"""Bytes that one fetch may ask for."""
MAX_CONTROL: Final = 4096
"""Bytes of a control body that the host reads; a fetch request takes about 100."""
MAX_REPORT: Final = 64 * 1024
"""Bytes of what an enclave says of itself; telemetry of 256 codes and as many models takes 20 KiB."""

FETCH_OK: Final = b"\x00"
FETCH_REFUSED: Final = b"\x01"


@dataclass(frozen=True)
class FetchRequest:
    """An enclave's wish for `length` bytes at `offset` of the sealed model with that 64-byte digest.

    A length of 0 asks for the size of the file instead; the answer is a u64, big-endian.
    """

    digest: bytes
    offset: int
    length: int

    @classmethod
    def decode(cls, body: bytes | bytearray | memoryview) -> FetchRequest:
        """Decode canonical {digest, offset, length}; raises HostError `fetch-malformed` or `fetch-range`."""
        try:
            value = fields.closed_map(
                canonical.decode(body, max_size=MAX_CONTROL), "fetch", ("digest", "offset", "length")
            )
            request = cls(
                fields.fixed_bytes(value["digest"], "digest", 64),
                fields.number(value["offset"], "offset", 0),
                fields.number(value["length"], "length", 0),
            )
        except ManifestError as error:
            raise HostError(HostCode.FETCH_MALFORMED, error.message, expected=error.expected) from None
        if request.length > MAX_FETCH:
            raise HostError(
                HostCode.FETCH_RANGE, "a fetch asks for more than 1 MiB", expected=MAX_FETCH, found=request.length
            )
        return request


def fetch_refusal(error: HostError) -> bytes:
    """Encode the reply to a fetch that is refused: a status byte, then canonical {code, message}."""
    return FETCH_REFUSED + canonical.encode({"code": str(error.code), "message": error.message})


def decode_report(body: bytes | bytearray | memoryview) -> dict[str, canonical.Value]:
    """Decode what an enclave says of itself in "!ready" and "!stats"; raises HostError `enclave-protocol`.

    The host believes none of it.  It shows it to the operator, and ends a process that says a run is stuck in it.
    """
    try:
        return fields.of_type(canonical.decode(body, max_size=MAX_REPORT, max_depth=5), "report", dict)
    except ManifestError as error:
        raise HostError(HostCode.ENCLAVE_PROTOCOL, f"the enclave's report is malformed: {error.message}") from None
