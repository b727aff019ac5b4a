"""Noise handshake patterns as data (revision 34, sections 7 and 18.1), with psk (9) and hfs modifiers.

hfs is the draft extension "hybrid forward secrecy": `e1` sends a fresh KEM public key after `e`, and `ekem1`
sends a ciphertext for it after the first `ee`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_ONE_WAY = """
N:    <- s | -> e es
K:    -> s | <- s | -> e es ss
X:    <- s | -> e es s ss
"""

_INTERACTIVE = """
NN:   -> e | <- e ee
NK:   <- s | -> e es | <- e ee
NX:   -> e | <- e ee s es
KN:   -> s | -> e | <- e ee se
KK:   -> s | <- s | -> e es ss | <- e ee se
KX:   -> s | -> e | <- e ee se s es
XN:   -> e | <- e ee | -> s se
XK:   <- s | -> e es | <- e ee | -> s se
XX:   -> e | <- e ee s es | -> s se
IN:   -> e s | <- e ee se
IK:   <- s | -> e es s ss | <- e ee se
IX:   -> e s | <- e ee se s es
NK1:  <- s | -> e | <- e ee es
NX1:  -> e | <- e ee s | -> es
X1N:  -> e | <- e ee | -> s | <- se
X1K:  <- s | -> e es | <- e ee | -> s | <- se
XK1:  <- s | -> e | <- e ee es | -> s se
X1K1: <- s | -> e | <- e ee es | -> s | <- se
X1X:  -> e | <- e ee s es | -> s | <- se
XX1:  -> e | <- e ee s | -> es s se
X1X1: -> e | <- e ee s | -> es s | <- se
K1N:  -> s | -> e | <- e ee | -> se
K1K:  -> s | <- s | -> e es | <- e ee | -> se
KK1:  -> s | <- s | -> e | <- e ee se es
K1K1: -> s | <- s | -> e | <- e ee es | -> se
K1X:  -> s | -> e | <- e ee s es | -> se
KX1:  -> s | -> e | <- e ee se s | -> es
K1X1: -> s | -> e | <- e ee s | -> se es
I1N:  -> e s | <- e ee | -> se
I1K:  <- s | -> e es s | <- e ee | -> se
IK1:  <- s | -> e s | <- e ee se es
I1K1: <- s | -> e s | <- e ee es | -> se
I1X:  -> e s | <- e ee s es | -> se
IX1:  -> e s | <- e ee se s | -> es
I1X1: -> e s | <- e ee s | -> se es
"""

_NAME = re.compile(r"(?P<base>[A-Z][A-Z0-9]*)(?P<modifiers>(?:[a-z][a-z0-9]*(?:\+[a-z][a-z0-9]*)*)?)")


@dataclass(frozen=True)
class Pattern:
    """A handshake: whose static keys are known beforehand, and the tokens of each message in turn.

    The initiator writes messages 0, 2, 4 ...; `one_way` patterns end after the first.
    """

    initiator_known: bool
    responder_known: bool
    messages: tuple[tuple[str, ...], ...]
    one_way: bool

    @property
    def psk_count(self) -> int:
        """The number of psk tokens; if there are any, `e` tokens mix the key too (section 9.2)."""
        return sum(message.count("psk") for message in self.messages)


def _read(line: str, *, one_way: bool) -> tuple[str, Pattern]:
    name, _, steps = line.partition(":")
    known: set[str] = set()
    messages: list[tuple[str, ...]] = []
    for step in steps.split("|"):
        arrow, *tokens = step.split()
        if tokens == ["s"] and not messages:  # no pattern starts its messages with a lone `s`
            known.add(arrow)
        else:
            messages.append(tuple(tokens))
    return name, Pattern("->" in known, "<-" in known, tuple(messages), one_way)


BASE_PATTERNS: dict[str, Pattern] = dict(
    [_read(line, one_way=True) for line in _ONE_WAY.split("\n") if line]
    + [_read(line, one_way=False) for line in _INTERACTIVE.split("\n") if line]
)
"""The one-way, fundamental and deferred patterns of sections 7.4, 7.5 and 18.1."""


def pattern(name: str) -> Pattern:
    """Return the pattern that a name such as `XXpsk3` or `NNhfs+psk0` stands for; raises ValueError."""
    match = _NAME.fullmatch(name)
    if match is None or match["base"] not in BASE_PATTERNS:
        raise ValueError(f"unknown Noise pattern {name!r}")
    base = BASE_PATTERNS[match["base"]]
    messages = [list(message) for message in base.messages]
    for modifier in filter(None, match["modifiers"].split("+")):
        _modify(messages, modifier)
    return Pattern(base.initiator_known, base.responder_known, tuple(map(tuple, messages)), base.one_way)


def _modify(messages: list[list[str]], modifier: str) -> None:
    if modifier == "hfs":
        _add_hfs(messages)
    elif re.fullmatch(r"psk[0-9]", modifier) and int(modifier[3:]) <= len(messages):
        position = int(modifier[3:])
        if position == 0:
            messages[0].insert(0, "psk")
        else:
            messages[position - 1].append("psk")
    else:
        raise ValueError(f"unknown Noise pattern modifier {modifier!r}")


def _add_hfs(messages: list[list[str]]) -> None:
    """Put `e1` after the initiator's `e` and `ekem1` after the responder's `ee`."""
    if len(messages) < 2 or "ee" not in messages[1]:
        raise ValueError("the hfs modifier needs an interactive pattern")
    messages[0].insert(messages[0].index("e") + 1, "e1")
    messages[1].insert(messages[1].index("ee") + 1, "ekem1")
