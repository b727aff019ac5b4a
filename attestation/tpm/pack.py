"""A container of TPM evidence from what tpm2-tools write: message, signature, PCR values, and the key's public area.

    tpm2_quote -m MESSAGE -s SIGNATURE -o PCRS      TPMS_ATTEST; TPMT_SIGNATURE, or "plain"; PCR values in two forms
    tpm2_readpublic -f tss -o KEY -q NAME           TPM2B_PUBLIC; a qualified name

`pack` makes only what verifies but for trust and dates: parts that are not of one quote, and certificates that would
not do under any root, are refused here, where they can still be got again.  Sources: tpm2-tools, `lib/files.c` and
`lib/pcr.c`; tpm2-tss, `tss2_tpm2_types.h`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from attestation.errors import EvidenceError
from attestation.eventlog.log import MAX_LOG
from attestation.tpm.abi import FORMAT, VERSION, SignedQuote, TpmEvidence, parse_evidence
from attestation.tpm.attest import Attest
from attestation.tpm.certificates import check_certificates
from attestation.tpm.errors import PackCode, TpmCode
from attestation.tpm.public import Public, fingerprint
from attestation.tpm.signature import MAX_ECC, PublicKey, Signature
from attestation.tpm.verify import HIERARCHIES, check_itself, check_quote
from manifests import canonical

MAX_PART: Final = 64 * 1024
"""Of one file but the log: PCR values of every bank take 17 KiB."""
MAX_LOG_FILE: Final = MAX_LOG

_DIGESTS: Final = 8
"""Most digests in a TPML_DIGEST."""
_DIGEST: Final = 2 + 64
"""A TPM2B_DIGEST in memory: its size, little-endian, and room for SHA-512."""
_LIST: Final = 4 + _DIGESTS * _DIGEST
_SELECTION: Final = 4 + 16 * 8
"""A TPML_PCR_SELECTION in memory: a count, and sixteen banks of 2 + 1 + 4 bytes with one of padding."""
_PEM: Final = b"-----BEGIN PUBLIC KEY-----"


@dataclass(frozen=True)
class Parts:
    """What a container is made of, each as its file has it.

    key: TPM2B_PUBLIC.  parent: qualified name of the key's parent; empty: the key is a primary key, of whichever
    hierarchy the quote names.  chain: DER certificates, the key's first.  log: empty if there is none.  names: the file
    of each certificate, for errors; empty: they are counted.
    """

    message: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    pcrs: bytes = field(repr=False)
    key: bytes = field(repr=False)
    parent: bytes = b""
    chain: tuple[bytes, ...] = ()
    log: bytes = field(default=b"", repr=False)
    names: tuple[str, ...] = ()


def pack(parts: Parts) -> TpmEvidence:
    """Return the evidence; its `serialize` is the container.

    Raises EvidenceError: a `tpm-...` or `eventlog-...` code of whatever part does not parse, or is of another quote; or
    as `check_certificates` does.
    """
    try:
        return _pack(parts)
    except EvidenceError as error:
        swapped = _swapped(parts)
        if swapped:
            error.remedy = f"the files look swapped: {swapped}"
        raise


def _pack(parts: Parts) -> TpmEvidence:
    attest = Attest.parse(parts.message)
    values = read_pcrs(parts.pcrs, attest)
    if parts.key.lstrip().startswith(_PEM):
        raise _bare(attest, parts, values)
    key = Public.parse(parts.key)
    fields = {
        "format": FORMAT,
        "version": VERSION,
        "key": parts.key,
        "key_chain": list(parts.chain),
        "log": parts.log,
        "message": parts.message,
        "parent": parts.parent or _hierarchy(key, attest),
        "pcrs": values,
        "signature": read_signature(parts.signature, key).serialize(),
    }
    packed = parse_evidence(canonical.encode(fields))
    check_itself(packed)
    names = parts.names or [f"certificate {place}" for place in range(1, len(parts.chain) + 1)]
    check_certificates(parts.chain, names, key.key())
    return packed


def _swapped(parts: Parts) -> str:
    """Say which files begin as what another option takes; empty where none does."""
    told = []
    for given in ("message", "signature", "pcrs", "key"):
        data = getattr(parts, given)
        kinds = [kind for kind, reads in _LOOKS.items() if _succeeds(reads, data)]
        if given not in kinds and len(kinds) == 1:
            told.append(f"--{given} has what belongs to --{kinds[0]}")
    return ", ".join(told)


def _succeeds(reads: Callable[[bytes], object], data: bytes) -> bool:
    try:
        return bool(reads(data))
    except EvidenceError:
        return False


def read_pcrs(data: bytes, attest: Attest) -> list[bytes]:
    """Return the PCR values of a file, in either form that tpm2-tools write, in the order of the quote's selection.

    `values`: one after the other.  `serialized`, the default of tpm2_quote: the structures as they lie in the memory of
    a little-endian machine.  Whether they are the quoted ones is not looked at.  Raises EvidenceError `tpm-pcr-file`.
    """
    sizes = [selection.bank.size for selection in attest.pcr_select for _ in selection.indices]
    values = _cut(data, sizes) if len(data) == sum(sizes) else _from_memory(data)
    if [len(value) for value in values] != sizes:
        raise _pcr_file(f"{len(sizes)} values, {sum(sizes)} bytes in all", f"{len(values)} values in {len(data)} bytes")
    return values


def _cut(data: bytes, sizes: list[int]) -> list[bytes]:
    values = []
    for size in sizes:
        values.append(data[:size])
        data = data[size:]
    return values


def _from_memory(data: bytes) -> list[bytes]:
    """Return the values of a TPML_PCR_SELECTION, a count, and that many TPML_DIGEST."""
    count, lists = int.from_bytes(data[_SELECTION:][:4], "little"), data[_SELECTION + 4 :]
    if count == 0 or len(lists) != count * _LIST:
        raise _pcr_file("values alone, or the structures of tpm2-tools", f"{len(data)} bytes that are neither")
    return [value for at in range(0, len(lists), _LIST) for value in _digests(lists[at : at + _LIST])]


def _digests(data: bytes) -> list[bytes]:
    count = int.from_bytes(data[:4], "little")
    if count > _DIGESTS:
        raise _pcr_file(f"at most {_DIGESTS} digests in a list", count)
    found = [data[4 + _DIGEST * index :][:_DIGEST] for index in range(count)]
    return [digest[2:][: int.from_bytes(digest[:2], "little")] for digest in found]


def read_signature(data: bytes, key: Public) -> Signature:
    """Return a signature in either form of tpm2-tools: TPMT_SIGNATURE, or "plain", which leaves the scheme to the key.

    Raises EvidenceError with a `tpm-...` code.
    """
    if key.curve is None and len(data) == len(key.unique[0]):
        return Signature(key.scheme, key.hash, (data,))
    if key.curve is not None and data[:1] == b"\x30":
        return Signature(key.scheme, key.hash, _plain_ecdsa(data))
    return Signature.parse(data)


def _plain_ecdsa(data: bytes) -> tuple[bytes, ...]:
    try:
        numbers = decode_dss_signature(data)
        return tuple(number.to_bytes((number.bit_length() + 7) // 8 or 1, "big") for number in _bounded(numbers))
    except ValueError:
        raise EvidenceError(
            TpmCode.SIZE, "the signature is no ECDSA signature in DER", expected="SEQUENCE of r and s", found="another"
        ) from None


def _bounded(numbers: tuple[int, int]) -> tuple[int, int]:
    if any(number < 0 or number.bit_length() > 8 * MAX_ECC for number in numbers):
        raise ValueError("no number of a curve")
    return numbers


def _hierarchy(key: Public, attest: Attest) -> bytes:
    """Return the handle of the hierarchy that the quote says the key is a primary key of (Part 1, "Names")."""
    for handle in HIERARCHIES:
        parent = handle.to_bytes(4, "big")
        if key.qualified_name(parent) == attest.qualified_signer:
            return parent
    raise EvidenceError(
        TpmCode.SIGNER_NAME,
        "the quote is not of this key as a primary key",
        expected=f"the parent's qualified name, or a primary key of: {', '.join(HIERARCHIES.values())}",
        found="no name of a parent",
        remedy="give --parent, as `tpm2_readpublic -c PARENT -q FILE` writes it; or --key of the key that quoted",
    )


def _bare(attest: Attest, parts: Parts, values: list[bytes]) -> EvidenceError:
    """Return the error for a key in PEM, once its signature over the quote and the PCR values have been checked.

    Raises EvidenceError where they do not hold.
    """
    key = _pem_key(parts.key)
    quote = SignedQuote.parse(attest.serialize(), Signature.parse(parts.signature), values)
    check_quote(quote, key)
    return EvidenceError(
        PackCode.KEY_BARE,
        "the key's signature over the quote holds, and so do the PCR values; but it comes without its public area, so "
        "that nothing tells what else it may sign",
        expected="TPM2B_PUBLIC of the key that quoted",
        found=f"a public key in PEM, {fingerprint(key).hex()}",
    )


def _pem_key(data: bytes) -> PublicKey:
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise EvidenceError(TpmCode.KEY_INVALID, "the key in PEM is neither an RSA key nor one on a curve")
    return key


def _pcr_file(expected: object, found: object) -> EvidenceError:
    return EvidenceError(PackCode.PCR_FILE, PackCode.PCR_FILE.meaning, expected=expected, found=found)


_LOOKS: Final[dict[str, Callable[[bytes], object]]] = {
    "message": Attest.parse,
    "signature": Signature.parse,
    "pcrs": _from_memory,
    "key": Public.parse,
}
"""What each file is, where that shows: PCR values alone and a plain signature may be anything."""
