"""Intel SGX under Gramine: /dev/attestation.

Source: Gramine's documentation, "Attestation and Secret Provisioning", "Low-level /dev/attestation interface".  64
bytes go to user_report_data in one write; reading `quote` then has the quoting enclave make one.
"""

from __future__ import annotations

from pathlib import Path

from attestation.types import PlatformClass
from enclave.attesters.base import MAX_QUOTE, Attester, missing
from enclave.attesters.files import KernelFiles

FOLDER = Path("/dev/attestation")
DCAP = b"dcap"


class GramineAttester(Attester):
    """Asks Gramine.  Its files are of the whole process and not thread-safe: the quoter asks for one at a time."""

    platform = PlatformClass.HARDWARE
    hint = "sgx"

    def __init__(self, files: KernelFiles | None = None, folder: Path = FOLDER) -> None:
        """Make sure that Gramine attests by DCAP; raises EnclaveError `enclave-start-failed`."""
        self._files = files or KernelFiles()
        self._folder = folder
        try:
            kind = self._files.read(folder / "attestation_type", 64).rstrip(b"\0\n")
        except OSError as error:
            raise missing(
                "gramine",
                f"{folder}/attestation_type cannot be read: {error.strerror}",
                "run the enclave under gramine-sgx; gramine-direct has no attestation",
            ) from None
        if kind != DCAP:
            raise missing(
                "gramine",
                f"Gramine's attestation type is {kind.decode('ascii', 'replace')!r}",
                'set sgx.remote_attestation = "dcap" in the manifest, and sign it anew',
            )

    def _quote(self, report_data: bytes) -> bytes:
        self._files.write(self._folder / "user_report_data", report_data)
        return self._files.read(self._folder / "quote", MAX_QUOTE)
