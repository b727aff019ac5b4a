r"""Measuring a manifest, and holding the files on disk against it.

    simulated MRENCLAVE = SHA-256("strongroom simulated enclave v1\0" || exact bytes of the manifest)

The manifest names every trusted file with its SHA-256, so the measurement covers program, libraries and settings.
As under Gramine, any byte of the text counts: a comment changes the measurement too.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from manifests.gramine.errors import GramineCode, GramineError
from manifests.gramine.manifest import EnclaveManifest, TrustedFile
from manifests.signing import label

_LABEL = label("simulated enclave")


def measure(data: bytes) -> bytes:
    """Return the simulated MRENCLAVE (32 bytes) of a manifest's exact bytes."""
    return hashlib.sha256(_LABEL + data).digest()


def file_sha256(path: Path) -> bytes:
    """Return SHA-256 of a file's content; raises GramineError `trusted-file-missing`."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise GramineError(
            GramineCode.FILE_MISSING,
            f"trusted file {path} cannot be read",
            found=error.strerror,
            remedy="restore the file, or render the manifest anew",
        ) from None


def check_trusted_files(manifest: EnclaveManifest, *, base: Path | None = None) -> None:
    """Hash every trusted file; relative paths are taken from `base`.

    Raises GramineError `trusted-file-changed` or `trusted-file-missing` for the first file that is not as the
    manifest has it, by name.  A pass says what the files were when they were read; a launcher must keep them so.
    """
    for file in manifest.trusted_files:
        _check(file, _resolve(file, base))


def _resolve(file: TrustedFile, base: Path | None) -> Path:
    path = Path(file.path)
    if path.is_absolute():
        return path
    if base is None:
        raise GramineError(GramineCode.FILE_MISSING, f"trusted file {path} is relative, and no folder was named")
    return base / path


def _check(file: TrustedFile, path: Path) -> None:
    found = file_sha256(path)
    if not hmac.compare_digest(found, file.sha256):
        raise GramineError(
            GramineCode.FILE_CHANGED,
            f"trusted file {path} has changed since the manifest was rendered",
            expected=file.sha256.hex(),
            found=found.hex(),
            remedy="restore the file; or render the manifest anew, which changes its measurement",
        )
