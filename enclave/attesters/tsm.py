"""Confidential virtual machines (Intel TDX, AMD SEV-SNP): the kernel's configfs-tsm reports, since Linux 6.7.

Source: Linux, Documentation/ABI/testing/configfs-tsm-report.  A folder is a request: its `inblob` takes the report
data, its `outblob` gives the evidence, and `generation` counts what was written, so that evidence made from somebody
else's options is noticed.
"""

from __future__ import annotations

import itertools
import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Self

from attestation.types import PlatformClass
from enclave.attesters.base import Attester, missing
from enclave.attesters.files import KernelFiles
from enclave.errors import EnclaveCode, EnclaveError

FOLDER = Path("/sys/kernel/config/tsm/report")
PROVIDERS = {"tdx": b"tdx_guest", "snp": b"sev_guest"}
"""What the kernel calls the two."""
MAX_OUTBLOB = 32 * 1024
"""The kernel's own bound (TSM_OUTBLOB_MAX, later TSM_REPORT_OUTBLOB_MAX)."""

_BODY_V4 = 48 + 584
"""TDX quote version 4: header and TD report 1.0, before the length of the signature data."""
_HEAD_V5 = struct.Struct("<HI")
"""TDX quote version 5: body type and body size behind the header."""


class TsmAttester(Attester):
    """Asks the kernel's driver for the machine's TEE."""

    platform = PlatformClass.HARDWARE

    def __init__(self, tee: str, files: KernelFiles | None = None, folder: Path = FOLDER) -> None:
        """Make sure that the driver is there and is of `tee`; raises EnclaveError `enclave-start-failed`."""
        self.hint = tee
        self._files = files or KernelFiles()
        self._folder = folder
        self._provider = PROVIDERS[tee]
        self._names = itertools.count()
        try:
            with _Report(self._files, self._next()) as report:
                found = report.read("provider", 64).strip()
        except OSError as error:
            raise missing(
                tee,
                f"{folder} gives no reports: {error.strerror}",
                "use Linux 6.7 or newer inside the confidential machine, load its guest driver (tdx_guest or "
                "sev-guest), and mount configfs",
            ) from None
        if found != self._provider:
            raise missing(
                tee,
                f"this machine's reports come from {found.decode('ascii', 'replace')!r}",
                f"run on a machine whose provider is {self._provider.decode()}, or name the other attester",
            )

    def _next(self) -> Path:
        return self._folder / f"strongroom-{os.getpid()}-{next(self._names)}"

    def _quote(self, report_data: bytes) -> bytes:
        with _Report(self._files, self._next()) as report:
            report.write("inblob", report_data)
            written = report.read("generation", 32)
            evidence = report.read("outblob", MAX_OUTBLOB)
            if report.read("generation", 32) != written or report.read("provider", 64).strip() != self._provider:
                raise EnclaveError(EnclaveCode.QUOTE_UNAVAILABLE, "another process has changed the report's options")
        return exact_quote(evidence) if self.hint == "tdx" else evidence


class _Report:
    """One folder below configfs, removed when the block ends."""

    def __init__(self, files: KernelFiles, folder: Path) -> None:
        self._files = files
        self._folder = folder

    def __enter__(self) -> Self:
        self._files.make_folder(self._folder)
        return self

    def __exit__(self, *_error: object) -> None:
        with suppress(OSError):  # it is of no use any more, and the kernel keeps few
            self._files.remove_folder(self._folder)

    def write(self, name: str, data: bytes) -> None:
        self._files.write(self._folder / name, data)

    def read(self, name: str, limit: int) -> bytes:
        return self._files.read(self._folder / name, limit)


def exact_quote(data: bytes) -> bytes:
    """Return a TDX quote without the zeros that some quoting services leave behind it; other bytes stay.

    Verifiers take no byte that nothing signs.  The length is in the quote: A.3 of Intel's "TDX DCAP Quote Generation
    Library" (version 4: after header and body; version 5: body type and size stand before the body).
    """
    version = int.from_bytes(data[:2], "little")
    at = _BODY_V4
    if version == 5 and len(data) >= 48 + _HEAD_V5.size:
        at = 48 + _HEAD_V5.size + _HEAD_V5.unpack_from(data, 48)[1]
    end = at + 4 + int.from_bytes(data[at : at + 4], "little")
    return data if end > len(data) or any(data[end:]) else data[:end]
