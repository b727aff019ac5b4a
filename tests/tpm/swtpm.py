"""A real software TPM (swtpm) for tests: started on sockets in a folder, driven by tpm2-tools, ended by its pid."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from attestation.tpm.abi import FORMAT, VERSION
from attestation.tpm.attest import Attest
from manifests import canonical

PROGRAMS = ("swtpm", "tpm2_createek", "tpm2_createak", "tpm2_createprimary", "tpm2_quote", "tpm2_pcrextend")
_SECONDS = 20


@dataclasses.dataclass(frozen=True)
class Key:
    """An attestation key inside the TPM: its context, its public area and its parent's qualified name."""

    context: str
    public: bytes
    parent: bytes
    scheme: str
    hash: str


class SoftwareTpm:
    """One swtpm and the folder of its files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._env = {**os.environ, "TPM2TOOLS_TCTI": f"swtpm:path={folder / 'tpm'}"}

    def start(self) -> subprocess.Popen[bytes]:
        state = self.folder / "state"
        state.mkdir(exist_ok=True)  # it is that of a TPM which ran here before, if one did
        socket = self.folder / "tpm"
        for name in (socket, Path(f"{socket}.ctrl")):
            name.unlink(missing_ok=True)
        process = subprocess.Popen(
            [
                *("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--flags", "not-need-init,startup-clear"),
                *("--server", f"type=unixio,path={socket}", "--ctrl", f"type=unixio,path={socket}.ctrl"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + _SECONDS
        while not (socket.exists() and Path(f"{socket}.ctrl").exists()):
            assert process.poll() is None, "swtpm ended at once"
            assert time.monotonic() < deadline, "swtpm does not listen"
            time.sleep(0.01)
        return process

    def run(self, program: str, *arguments: str) -> bytes:
        """Run one of tpm2-tools in the folder, and free the transient objects that it leaves."""
        done = subprocess.run(
            [program, *arguments], cwd=self.folder, env=self._env, capture_output=True, timeout=_SECONDS, check=False
        )
        assert done.returncode == 0, f"{program}: {done.stderr.decode(errors='replace')}"
        return done.stdout

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def free(self) -> None:
        self.run("tpm2_flushcontext", "--transient-object")

    def extend(self, index: int, bank: str, digest: bytes) -> None:
        self.run("tpm2_pcrextend", f"{index}:{bank}={digest.hex()}")

    def key(self, kind: str, scheme: str, hash_: str = "sha256") -> Key:
        """Make an attestation key under a new endorsement key, as a machine is set up with."""
        name = f"{kind}-{scheme}-{hash_}"
        self.run("tpm2_createek", "-c", "ek.ctx", "-G", "rsa")
        self.run(
            *("tpm2_createak", "-C", "ek.ctx", "-c", f"{name}.ctx", "-G", kind, "-s", scheme, "-g", hash_),
            *("-u", f"{name}.pub", "-n", f"{name}.name", "-q", f"{name}.qname"),
        )
        self.free()
        self.run("tpm2_readpublic", "-c", "ek.ctx", "-q", "ek.qname")
        self.free()
        return Key(f"{name}.ctx", self.read(f"{name}.pub"), self.read("ek.qname"), scheme, hash_)

    def primary_key(self, algorithm: str, attributes: str) -> Key:
        """Make an attestation key as a primary key of the owner hierarchy."""
        self.run("tpm2_createprimary", "-C", "o", "-G", algorithm, "-c", "primary.ctx", "-a", attributes)
        self.free()
        self.run("tpm2_readpublic", "-c", "primary.ctx", "-f", "tss", "-o", "primary.pub")
        self.free()
        return Key("primary.ctx", self.read("primary.pub"), bytes.fromhex("40000001"), "ecdsa", "sha256")

    def quote(self, key: Key, selection: str, qualifying: bytes) -> tuple[bytes, bytes]:
        """Return (TPMS_ATTEST, TPMT_SIGNATURE)."""
        self.run(
            *("tpm2_quote", "-c", key.context, "-l", selection, "-q", qualifying.hex(), "-m", "m", "-s", "s"),
            *("-g", key.hash, "--scheme", key.scheme),
        )
        self.free()
        return self.read("m"), self.read("s")

    def pcrs(self, message: bytes) -> list[bytes]:
        """Read the PCRs that a quote is over, in the order of its selection."""
        values = []
        for selection in Attest.parse(message).pcr_select:
            for index in selection.indices:
                self.run("tpm2_pcrread", f"{selection.bank.bank}:{index}", "-o", "value")
                values.append(self.read("value"))
        return values

    def evidence(self, key: Key, selection: str, qualifying: bytes, log: bytes = b"") -> bytes:
        """Return a container with a fresh quote."""
        message, signature = self.quote(key, selection, qualifying)
        return container(key, message, signature, self.pcrs(message), log=log)


def container(
    key: Key, message: bytes, signature: bytes, pcrs: list[bytes], *, log: bytes = b"", chain: Sequence[bytes] = ()
) -> bytes:
    return canonical.encode(
        {
            "format": FORMAT,
            "version": VERSION,
            "key": key.public,
            "key_chain": list(chain),
            "log": log,
            "message": message,
            "parent": key.parent,
            "pcrs": pcrs,
            "signature": signature,
        }
    )


@functools.lru_cache(maxsize=1)
def missing() -> tuple[str, ...]:
    return tuple(program for program in PROGRAMS if shutil.which(program) is None)


@contextlib.contextmanager
def software_tpm(folder: Path, *, power_fails: bool = False) -> Iterator[SoftwareTpm]:
    """Run a TPM for the length of a block; skips where the programs are not installed.

    power_fails: it is killed; else it shuts down in order (TPM2_Shutdown) when it is told to end.
    """
    if missing():
        pytest.skip(f"no software TPM here: {', '.join(missing())} (Debian: swtpm, swtpm-tools, tpm2-tools)")
    tpm = SoftwareTpm(folder)
    process = tpm.start()
    try:
        yield tpm
    finally:
        process.kill() if power_fails else process.terminate()
        process.wait(_SECONDS)
