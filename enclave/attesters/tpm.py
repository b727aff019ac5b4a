"""A TPM 2.0: quotes over PCRs by an attestation key that rests in the TPM.

Source: TCG TPM 2.0 Library, Part 3: TPM2_ReadPublic (12.4), TPM2_PCR_Read (22.4), TPM2_Quote (18.4); Part 1, section
19.4, for the password session.  The qualifying data is SHA-256 of the report data.  Evidence is the container that
docs/attestation-tpm.md describes, with the firmware's event log where the settings ask for it, as the kernel shows it
(Linux, drivers/char/tpm/eventlog).
"""

from __future__ import annotations

import errno
import hashlib
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from attestation.types import PlatformClass
from attestation.types.claims import MAX_EVENT_LOG, MAX_QUOTE
from enclave.attesters.base import Attester, missing
from enclave.attesters.files import KernelFiles
from enclave.errors import EnclaveCode, EnclaveError
from manifests import canonical
from manifests.gramine.settings import TpmSettings

DEVICE = Path("/dev/tpmrm0")
"""The kernel's resource manager: several programs share the TPM through it."""
EVENT_LOG = Path("/sys/kernel/security/tpm0/binary_bios_measurements")
"""What firmware has measured until it handed over to the kernel; it grows no more."""
MAX_ANSWER = 4096
FORMAT, VERSION = "strongroom tpm evidence", 1

_NO_SESSIONS, _SESSIONS = 0x8001, 0x8002
_READ_PUBLIC, _PCR_READ, _QUOTE = 0x173, 0x17E, 0x158
_HEAD = struct.Struct(">HII")
_EMPTY_PASSWORD = struct.pack(">IIHBH", 9, 0x40000009, 0, 0, 0)
"""authorizationSize, TPM_RS_PW, no nonce, no attributes, an empty password."""
_KEYS_OWN_SCHEME = struct.pack(">H", 0x0010)
"""TPM_ALG_NULL as inScheme: a restricted key signs with the one scheme that it has."""
_BANKS = {"sha256": (0x000B, 32), "sha384": (0x000C, 48), "sha512": (0x000D, 64)}
_PCRS_AT_ONCE = 8
"""TPML_DIGEST has room for eight."""
_PERMANENT = 0x40
"""Most significant byte of a hierarchy's handle; a primary key's parent is the hierarchy itself."""
_TRIES = 3
"""A PCR that is extended between reading and quoting makes both anew; more often, something is wrong."""

TRY_AGAIN = {0x908, 0x90A, 0x922}
"""TPM_RC_YIELDED, TPM_RC_TESTING and TPM_RC_RETRY (Part 2, section 6.6): send the same command once more."""
_RETRIES, _PAUSE = 50, 0.02
"""A TPM that tests itself takes up to a second."""


class Tpm(Protocol):
    """Something that takes a command and gives its answer."""

    def exchange(self, command: bytes) -> bytes:
        """Return the answer; raises OSError."""


class DeviceTpm:
    """The kernel's TPM device: one write is a command, and what is read after it the answer."""

    def __init__(self, path: Path = DEVICE) -> None:
        """Open the device for the process's life; raises OSError."""
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def exchange(self, command: bytes) -> bytes:
        """Return the answer; raises OSError, EIO where the kernel took a part of the command.

        The kernel may give an answer in pieces; the size in its head says when it is whole.
        """
        if os.write(self._descriptor, command) != len(command):
            raise OSError(errno.EIO, "a part of the command was written")
        answer = os.read(self._descriptor, MAX_ANSWER)
        while len(answer) < min(_declared(answer), MAX_ANSWER):
            piece = os.read(self._descriptor, MAX_ANSWER - len(answer))
            if not piece:
                break
            answer += piece
        return answer


def _declared(answer: bytes) -> int:
    """Return the size that an answer's head claims; that of a head where not even that has come."""
    return int.from_bytes(answer[2:6], "big") if len(answer) >= _HEAD.size else _HEAD.size * bool(answer)


class TpmAttester(Attester):
    """Asks a TPM for quotes by one key over the PCRs of one bank, as the measured settings name them."""

    platform = PlatformClass.HARDWARE
    hint = "tpm"
    limit = MAX_QUOTE

    def __init__(
        self,
        settings: TpmSettings,
        tpm: Tpm | None = None,
        files: KernelFiles | None = None,
        event_log: Path = EVENT_LOG,
    ) -> None:
        """Read the key's public area, its parent's name, and the event log that the settings ask for.

        Raises EnclaveError `enclave-start-failed`.
        """
        self._settings = settings
        self._log = _event_log(files or KernelFiles(), event_log) if settings.event_log else b""
        try:
            self._tpm = tpm or DeviceTpm()
            self._key, _ = self._read_public(settings.key)
            self._parent = self._name_of(settings.parent)
        except (OSError, EnclaveError) as error:
            found = error.strerror if isinstance(error, OSError) else f"{error.message} ({error.found})"
            raise missing(
                "tpm",
                f"no key 0x{settings.key:08x} below 0x{settings.parent:08x} in {DEVICE}: {found}",
                "load the attestation key at that persistent handle (tpm2_evictcontrol), or correct [tpm] in the "
                "settings; the process must be allowed to use the device",
            ) from None

    def _quote(self, report_data: bytes) -> bytes:
        for _ in range(_TRIES):
            before = self._read_pcrs()
            message, signature = self._sign(hashlib.sha256(report_data).digest())
            if self._read_pcrs() == before:
                return self._evidence(message, signature, before)
        raise EnclaveError(EnclaveCode.QUOTE_UNAVAILABLE, "the PCRs change faster than they can be quoted")

    def _evidence(self, message: bytes, signature: bytes, pcrs: list[bytes]) -> bytes:
        return canonical.encode(
            {
                "format": FORMAT,
                "version": VERSION,
                "key": self._key,
                "key_chain": [],
                "log": self._log,
                "message": message,
                "parent": self._parent,
                "pcrs": pcrs,
                "signature": signature,
            }
        )

    def _name_of(self, parent: int) -> bytes:
        """Return a parent's qualified name, which for a hierarchy is its handle (Part 1, section 16)."""
        return struct.pack(">I", parent) if parent >> 24 == _PERMANENT else self._read_public(parent)[1]

    def _read_public(self, handle: int) -> tuple[bytes, bytes]:
        """Return (TPM2B_PUBLIC, qualified name)."""
        answer = _Answer(self._run(_NO_SESSIONS, _READ_PUBLIC, struct.pack(">I", handle)))
        public, _name, qualified = (answer.sized() for _ in range(3))
        return struct.pack(">H", len(public)) + public, qualified

    def _read_pcrs(self) -> list[bytes]:
        """Return the selected PCRs' values, upwards."""
        indices, size = self._settings.pcrs, _BANKS[self._settings.bank][1]
        values: list[bytes] = []
        for start in range(0, len(indices), _PCRS_AT_ONCE):
            wanted = self._selection(indices[start : start + _PCRS_AT_ONCE])
            answer = _Answer(self._run(_NO_SESSIONS, _PCR_READ, wanted))
            answer.take(4)  # pcrUpdateCounter
            if answer.take(len(wanted)) != wanted:
                raise EnclaveError(EnclaveCode.QUOTE_UNAVAILABLE, "the TPM lacks a selected PCR or bank")
            values += answer.digests(size)
        return values

    def _sign(self, qualifying: bytes) -> tuple[bytes, bytes]:
        """Return (TPMS_ATTEST, TPMT_SIGNATURE)."""
        parameters = struct.pack(">H", len(qualifying)) + qualifying + _KEYS_OWN_SCHEME
        parameters += self._selection(self._settings.pcrs)
        handle = struct.pack(">I", self._settings.key)
        answer = _Answer(self._run(_SESSIONS, _QUOTE, handle + _EMPTY_PASSWORD + parameters))
        body = _Answer(answer.take(answer.number(4)))
        return body.sized(), body.rest()

    def _selection(self, indices: tuple[int, ...]) -> bytes:
        """Return a TPML_PCR_SELECTION of one bank, with a mask of 24 bits."""
        mask = sum(1 << index for index in indices).to_bytes(3, "little")
        return struct.pack(">IHB", 1, _BANKS[self._settings.bank][0], 3) + mask

    def _run(self, tag: int, code: int, body: bytes) -> bytes:
        """Return what follows the head of a good answer; raises EnclaveError `quote-unavailable`, or OSError."""
        answer, status = b"", 0
        for _ in range(_RETRIES):
            answer = self._tpm.exchange(_HEAD.pack(tag, _HEAD.size + len(body), code) + body)
            status = int.from_bytes(answer[6:10], "big")
            if status not in TRY_AGAIN:
                break
            time.sleep(_PAUSE)
        if status:
            found = f"TPM_RC 0x{status:x}"
            raise EnclaveError(EnclaveCode.QUOTE_UNAVAILABLE, "the TPM refused a command", found=found)
        if answer[:6] != struct.pack(">HI", tag, len(answer)) or len(answer) < _HEAD.size:
            raise _malformed()
        return answer[_HEAD.size :]


def _event_log(files: KernelFiles, path: Path) -> bytes:
    """Return the firmware's event log, 1 byte to 256 KiB; raises EnclaveError `enclave-start-failed`."""
    try:
        log = files.read(path, MAX_EVENT_LOG)
    except OSError as error:
        raise missing(
            "tpm",
            f"the event log {path} cannot be read: {error.strerror}",
            f"mount securityfs and let the process read the log, of at most {MAX_EVENT_LOG} bytes; or leave event_log "
            "out of [tpm] in the settings",
        ) from None
    if not log:
        raise missing(
            "tpm", f"the event log {path} is empty", "use firmware that logs, or leave event_log out of [tpm]"
        )
    return log


class _Answer:
    """Reads the parameters of an answer from front to back."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def take(self, size: int) -> bytes:
        if size > len(self._data):
            raise _malformed()
        taken, self._data = self._data[:size], self._data[size:]
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def sized(self) -> bytes:
        """Read a TPM2B: a length of two bytes, and so many bytes."""
        return self.take(self.number(2))

    def digests(self, size: int) -> Iterator[bytes]:
        """Read a TPML_DIGEST, each of `size` bytes."""
        for _ in range(self.number(4)):
            digest = self.sized()
            if len(digest) != size:
                raise _malformed()
            yield digest

    def rest(self) -> bytes:
        return self.take(len(self._data))


def _malformed() -> EnclaveError:
    return EnclaveError(EnclaveCode.QUOTE_UNAVAILABLE, "the TPM's answer is not of its form")
