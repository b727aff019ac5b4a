"""A stand-in for the simulated platform, as a real process: `platform_child.py MODE HOST_FD READY_FD`.

It sets its own parent-death signal as the simulator does, and speaks frames on the host's stream.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import time

from attestation.wire.frames import Frame, FrameDecoder, encode_frame
from manifests import canonical

LAST_LINE = '{"event": "stopping", "counts": ' + "7" * 300 + "}"


def ready(stream: socket.socket) -> None:
    report = {"boot_id": b"\x07" * 16, "class": "simulated", "max_sessions": 64}
    stream.sendall(encode_frame(Frame("!ready", 0, canonical.encode(report))))


def frames(stream: socket.socket):
    decoder = FrameDecoder()
    while data := stream.recv(1 << 16):
        yield from decoder.feed(data)


def echo(stream: socket.socket, *, obeys: bool = True, answers: bool = True) -> None:
    for frame in frames(stream):
        if frame.route == "!stop":
            print(LAST_LINE, flush=True)
            if obeys:
                return
        elif frame.route == "!stats":
            stream.sendall(encode_frame(Frame("!stats", 0, canonical.encode({"open": 5, "text": "no count"}))))
        elif answers:
            stream.sendall(encode_frame(frame))
            if bytes(frame.body) == b"get stuck":
                stream.sendall(encode_frame(Frame("!stats", 0, canonical.encode({"stuck": 1}))))
    while not obeys:
        time.sleep(1)


def main() -> int:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    mode, stream = sys.argv[1], socket.socket(fileno=int(sys.argv[2]))
    os.write(int(sys.argv[3]), b'{"enclave_pid": 4711, "mrenclave": "ab"}\n')
    print(f"this is {mode}", flush=True)
    if mode == "refuse":
        print("error: a trusted file has changed", flush=True)
        return 10
    if mode == "crash":
        return 1
    if mode == "mute":
        echo(stream)
        return 0
    if mode == "babble":
        stream.sendall(b"\xff" * 64)
        time.sleep(60)
    if mode == "liar":
        stream.sendall(encode_frame(Frame("!ready", 0, b"\xc1")))
        time.sleep(60)
    ready(stream)
    if mode == "brief":
        time.sleep(0.2)
        return 3
    if mode == "hang-up":
        stream.close()
        time.sleep(0.2)
        return 5
    if mode == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        echo(stream, obeys=False, answers=False)
    if mode == "polite":  # heeds SIGTERM but no "!stop"
        echo(stream, obeys=False)
    if mode == "fetch":
        stream.sendall(encode_frame(Frame("!fetch", 1, b"no request")))
        stream.sendall(encode_frame(Frame("!novelty", 1, b"")))
    echo(stream, answers=mode != "silent")
    return 0


if __name__ == "__main__":
    sys.exit(main())
