"""Checks of what is to be deployed: folders, models, the enclave's manifest, listening addresses."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from attestation.wire.address import Address
from host.errors import GuardCode, HostError
from host.guard.finding import Finding, Severity
from host.listeners import is_loopback, open_listener
from host.models import ModelFolder
from manifests.errors import StrongroomError
from manifests.files import read_bounded
from manifests.gramine.manifest import parse_manifest
from manifests.gramine.measure import check_trusted_files, measure

MAX_MANIFEST = 4 * 1024 * 1024


def folder_findings(home: Path, platform: Path) -> Iterator[Finding]:
    """Check that the agent's folders are private; one that does not exist yet will be made so."""
    yield _private(GuardCode.HOME_FOLDER, home, "it names the running agent and takes its orders")
    yield _private(GuardCode.PLATFORM_FOLDER, platform, "it holds the private keys of the simulated platform")


def model_findings(folder: Path, models: ModelFolder | None) -> Iterator[Finding]:
    """Check the folder of sealed models; `models` is its scan, None if it is no folder."""
    yield _models_folder(folder, models)
    if models is not None:
        yield _models_present(models)
        yield _models_sealed(models)
        yield _models_unique(models)


def _private(code: GuardCode, folder: Path, why: str) -> Finding:
    complaint = _complaint(folder, others=0o077)
    return Finding(
        code,
        Severity.BLOCKING,
        complaint is None,
        found=complaint or "private, or not made yet",
        needed=f"{folder} belongs to this user alone: {why}",
        remedy=f"chown it to this user and chmod 0700 {folder}",
    )


def _complaint(folder: Path, *, others: int) -> str | None:
    """Return what is wrong with a folder's owner or mode, if it exists."""
    try:
        status = folder.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"cannot be looked at: {error.strerror}"
    if not stat.S_ISDIR(status.st_mode):
        return "not a folder"
    if status.st_uid not in {os.geteuid(), 0}:
        return f"belongs to user {status.st_uid}"
    if status.st_mode & others:
        return f"mode {stat.S_IMODE(status.st_mode):04o}"
    return None


def _models_folder(folder: Path, models: ModelFolder | None) -> Finding:
    complaint = "no such folder" if models is None else _complaint(folder, others=0o022)
    return Finding(
        GuardCode.MODELS_FOLDER,
        Severity.BLOCKING,
        complaint is None,
        found=complaint or str(folder),
        needed="a folder that this user alone writes to; what is in it is sealed, but may be taken away",
        remedy=f"make the folder, or chmod go-w {folder}",
    )


def _models_present(models: ModelFolder) -> Finding:
    return Finding(
        GuardCode.MODELS_PRESENT,
        Severity.WARNING,
        bool(models.models),
        found=f"{len(models.models)} in {models.folder}",
        needed="a sealed model at least, or the enclave has nothing to serve",
        remedy="put the owner's .sealed files into the folder; later is early enough",
    )


def _models_sealed(models: ModelFolder) -> Finding:
    bad = [f"{one.path.name}: {one.message}" for one in models.rejected]
    return Finding(
        GuardCode.MODELS_SEALED,
        Severity.WARNING,
        not bad,
        found="; ".join(bad[:5]) or f"{len(models.models)} verified, chunk by chunk",
        needed="every .sealed file is whole, and signed by its owner",
        remedy="copy the file anew from its owner; strongroom inspect FILE shows what is wrong",
    )


def _models_unique(models: ModelFolder) -> Finding:
    copies = [f"{copy.path.name} is the same model as {copy.served.name}" for copy in models.duplicates]
    return Finding(
        GuardCode.MODELS_UNIQUE,
        Severity.WARNING,
        not copies,
        found="; ".join(copies[:5]) or "each once",
        needed="one file for each model: the others take room and are never served",
        remedy="move the copies out of the folder",
    )


def manifest_finding(manifest: Path) -> Finding:
    """Check that the manifest parses and that every trusted file is as it says."""
    try:
        data = read_bounded(manifest, MAX_MANIFEST)
        parsed = parse_manifest(data)
        check_trusted_files(parsed, base=manifest.parent)
        found, passed = f"{len(parsed.trusted_files)} files unchanged, MRENCLAVE {measure(data).hex()}", True
    except StrongroomError as error:
        found, passed = error.message, False
    return Finding(
        GuardCode.MANIFEST,
        Severity.BLOCKING,
        passed,
        found=found,
        needed=f"{manifest} is a manifest of this version, and its trusted files are as it was rendered",
        remedy="restore the file, or render the manifest anew: its measurement changes, and policies must name it",
    )


def listener_findings(addresses: Sequence[Address]) -> Iterator[Finding]:
    """Check that each address can be listened on, and who can reach it.  A free one is bound and let go."""
    for address in addresses:
        yield _free(address)
        yield Finding(
            GuardCode.LISTENER_LOCAL,
            Severity.WARNING,
            is_loopback(address),
            found=f"{address}",
            needed="a Unix socket or a loopback address, unless clients are on other machines",
            remedy="listen on unix:/path or tcp:127.0.0.1:PORT, or put a firewall before it",
        )


def _free(address: Address) -> Finding:
    try:
        _try(address)
        found, passed = f"{address} is free", True
    except HostError as error:
        found, passed = error.message, False
    return Finding(
        GuardCode.LISTENER_FREE,
        Severity.BLOCKING,
        passed,
        found=found,
        needed="an address that no other program listens on",
        remedy="stop the other program, or choose another address with --listen",
    )


def _try(address: Address) -> None:
    listener, _ = open_listener(address)
    path = listener.getsockname()
    listener.close()
    if isinstance(path, str):
        Path(path).unlink(missing_ok=True)
