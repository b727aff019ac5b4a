r"""Measuring a manifest, and holding the files on disk against it.

    simulated MRENCLAVE = SHA-256("strongroom simulated enclave v1\0" || exact bytes of the manifest)

The manifest names every trusted file with its SHA-256, so the measurement covers program, libraries and settings.
As under Gramine, any byte of the text counts: a comment changes the measurement too.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path

from manifests.gramine.errors import GramineCode, GramineError
from manifests.gramine.manifest import EnclaveManifest, TrustedFile
from manifests.signing import label

_LABEL = label("simulated enclave")

Admit = Callable[[int], None]
"""Takes the descriptor of a trusted file whose hash is right."""


def measure(data: bytes) -> bytes:
    """Return the simulated MRENCLAVE (32 bytes) of a manifest's exact bytes."""
    return hashlib.sha256(_LABEL + data).digest()


def file_sha256(path: Path) -> bytes:
    """Return SHA-256 of a file's content; raises GramineError `trusted-file-missing`."""
    with _opened(path) as file:
        return hashlib.file_digest(file, "sha256").digest()


def check_trusted_files(manifest: EnclaveManifest, *, base: Path | None = None, admit: Admit | None = None) -> None:
    """Hash every trusted file; relative paths are taken from `base`.

    `admit` is called with the descriptor of each file that is as it should be, and may not keep it: so a launcher
    lets in the very file that was hashed, and not what takes its name later.  Raises GramineError
    `trusted-file-changed` or `trusted-file-missing` for the first file that is not as the manifest has it, by name.
    A pass says what the files held when they were read; nothing keeps their owner from writing to them afterwards.
    """
    for trusted in manifest.trusted_files:
        path = resolve(trusted, base)
        with _opened(path) as file:
            _check(trusted, path, hashlib.file_digest(file, "sha256").digest())
            if admit is not None:
                admit(file.fileno())


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise GramineError(
            GramineCode.FILE_MISSING,
            f"trusted file {path} cannot be read",
            found=error.strerror,
            remedy="restore the file, or render the manifest anew",
        ) from None


def resolve(file: TrustedFile, base: Path | None) -> Path:
    """Return where a trusted file lies; raises GramineError `trusted-file-missing` for one relative to nothing."""
    path = Path(file.path)
    if path.is_absolute():
        return path
    if base is None:
        raise GramineError(GramineCode.FILE_MISSING, f"trusted file {path} is relative, and no folder was named")
    return base / path


def _check(file: TrustedFile, path: Path, found: bytes) -> None:
    if not hmac.compare_digest(found, file.sha256):
        raise GramineError(
            GramineCode.FILE_CHANGED,
            f"trusted file {path} has changed since the manifest was rendered",
            expected=file.sha256.hex(),
            found=found.hex(),
            remedy="restore the file; or render the manifest anew, which changes its measurement",
        )
