"""Stand-ins for the kernel interfaces of the attesters, which behave as its documentation says."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from enclave.attesters.files import KernelFiles
from enclave.attesters.nitro import NSM_IOCTL_RAW


class FakeGramine(KernelFiles):
    """/dev/attestation: each write replaces the report data, short ones padded with zeros; errors are EACCES."""

    def __init__(self, kind: bytes = b"dcap", aesmd: bool = True) -> None:
        self.kind, self.aesmd, self.user_report_data = kind, aesmd, bytes(64)

    def read(self, path: Path, limit: int) -> bytes:
        if path.parent != Path("/dev/attestation"):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if path.name == "attestation_type":
            return self.kind
        if path.name == "quote" and self.kind == b"dcap" and self.aesmd:
            return b"quote over " + self.user_report_data
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def write(self, path: Path, data: bytes) -> None:
        assert path == Path("/dev/attestation/user_report_data")
        self.user_report_data = data[:64].ljust(64, b"\0")


class FakeTsm(KernelFiles):
    """configfs-tsm: mkdir makes the attributes, each write raises `generation`, rmdir takes all away."""

    def __init__(self, provider: bytes = b"tdx_guest\n", evidence: Callable[[bytes], bytes] = bytes) -> None:
        self.provider, self.evidence = provider, evidence
        self.reports: dict[Path, dict[str, bytes | int]] = {}
        self.interfere: Callable[[Path], None] = lambda _folder: None

    def make_folder(self, path: Path) -> None:
        if path in self.reports:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        self.reports[path] = {"generation": 0}

    def remove_folder(self, path: Path) -> None:
        del self.reports[path]

    def write(self, path: Path, data: bytes) -> None:
        report = self._report(path)
        if path.name != "inblob" or not 0 < len(data) <= 64:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        report["inblob"] = data
        report["generation"] = int(report["generation"]) + 1

    def read(self, path: Path, limit: int) -> bytes:
        report = self._report(path)
        if path.name == "outblob":
            if "inblob" not in report:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            self.interfere(path.parent)
            return self.evidence(bytes(report["inblob"]))
        return {"provider": self.provider, "generation": b"%d\n" % int(report["generation"])}[path.name]

    def _report(self, path: Path) -> dict[str, Any]:
        if path.parent not in self.reports:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return self.reports[path.parent]


def tdx_quote(version: int, size: int = 100) -> bytes:
    head = version.to_bytes(2, "little").ljust(48, b"\1")
    body = b"\2" * 584 if version == 4 else (3).to_bytes(2, "little") + (648).to_bytes(4, "little") + b"\2" * 648
    return head + body + size.to_bytes(4, "little") + b"\3" * size


class FakeNsm:
    """The security module: takes one request of the form that AWS's library sends, and answers as it does."""

    def __init__(self, answer: Callable[[bytes], bytes] | None = None) -> None:
        self.answer = answer or self.attest
        self.requests: list[bytes] = []

    @staticmethod
    def attest(request: bytes) -> bytes:
        start = request.index(b"\x69user_data\x58\x40") + 12
        document = b"document over " + request[start : start + 64] + bytes(300)
        return b"\xa1\x6bAttestation\xa1\x68document\x59" + len(document).to_bytes(2, "big") + document

    def __call__(self, descriptor: int, command: int, message: ctypes.Structure) -> int:
        os.fstat(descriptor)
        assert command == NSM_IOCTL_RAW
        assert ctypes.sizeof(message) == 32
        fields: Any = message
        request = ctypes.string_at(fields.request.address, fields.request.length)
        self.requests.append(request)
        response = self.answer(request)
        assert len(response) <= fields.response.length == 0x3000
        ctypes.memmove(fields.response.address, response, len(response))
        fields.response.length = len(response)
        return 0


class FakeTpm:
    """Gives prepared answers; what a TPM answers in truth is tested with a software TPM (tests/tpm)."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)

    def exchange(self, command: bytes) -> bytes:
        assert int.from_bytes(command[2:6], "big") == len(command)
        return self.answers.pop(0)


def answer(body: bytes, tag: int = 0x8001, code: int = 0) -> bytes:
    return tag.to_bytes(2, "big") + (10 + len(body)).to_bytes(4, "big") + code.to_bytes(4, "big") + body


def sized(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(2, "big") + part for part in parts)


PUBLIC = answer(sized(b"public", b"name", b"qualified"))
SELECTION = b"\0\0\0\1\0\x0b\3\x81\0\0"


def pcrs(fill: int, size: int = 32) -> bytes:
    return answer(bytes(4) + SELECTION + b"\0\0\0\2" + sized(bytes([fill]) * size, bytes([fill + 1]) * size))


QUOTE = answer((21).to_bytes(4, "big") + sized(b"message") + b"a signature!", tag=0x8002)
