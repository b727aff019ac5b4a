"""Seal and open, against AES-256-GCM over the same bytes in memory: one core, no format, no digest, no disk."""

from __future__ import annotations

import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from benchmarks.timing import repeat
from manifests.sealed import FileSource, RecipientKey, SealedReader, inspect_sealed, recover_dek, seal
from manifests.signing import Signer
from tests.deployment.small import linear

SIZE = 256 * 1024 * 1024


def measure(folder: Path | None = None) -> dict[str, object]:
    """Return throughputs in GB/s for a part of 256 MiB, on the file system of `folder` or the temporary one."""
    with tempfile.TemporaryDirectory(dir=folder) as home:
        return _measure(Path(home))


def _measure(home: Path) -> dict[str, object]:
    content = bytearray(SIZE)
    sealed, owner, recipient = home / "model.sealed", Signer.generate(), RecipientKey.generate()
    out = bytearray(SIZE + 16)
    cipher = AESGCM(AESGCM.generate_key(256))
    raw = repeat(lambda: cipher.encrypt_into(bytes(12), content, None, out), least=3, warm_up=1)

    def make() -> None:
        sealed.unlink(missing_ok=True)
        seal(
            linear(),
            sealed,
            name="large",
            owner_key=owner,
            recipients=[recipient.public],
            extra_parts={"table": bytes(content)},
        )

    sealing = repeat(make, least=3, warm_up=1)
    digest = inspect_sealed(sealed).digest
    dek = recover_dek(sealed, recipient)
    buffer = bytearray(SIZE)

    def read() -> None:
        with FileSource(sealed) as source:
            reader = SealedReader(source, owner=owner.public, digest=digest)
            reader.open(dek)
            reader.read_part(len(reader.core.parts) - 1, buffer)

    opening = repeat(read, least=3, warm_up=1)
    assert buffer == content
    speed = {name: SIZE / t.median / 1e9 for name, t in (("raw", raw), ("seal", sealing), ("open", opening))}
    return {
        "bytes": SIZE,
        "aesgcm_gb_per_s": speed["raw"],
        "seal_gb_per_s": speed["seal"],
        "open_gb_per_s": speed["open"],
        "seal_ratio": speed["seal"] / speed["raw"],
        "open_ratio": speed["open"] / speed["raw"],
    }
