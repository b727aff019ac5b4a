"""One target for each parser of foreign bytes.

The contract of each: the documented error, or a value whose serialisation is the input; nothing else is raised, and
time and memory are bounded.  What has to be signed before a parser sees it is signed here, by a simulated authority.
"""

from __future__ import annotations

import base64
import functools
import json
from pathlib import Path
from typing import Any, Final

from attestation import evidence, strict_json, strict_x509
from attestation.amd.abi import parse_report
from attestation.amd.certificates import read_root
from attestation.amd.collateral import SnpCollateral
from attestation.amd.crl import read_crl as read_amd_crl
from attestation.amd.signatures import PSS_ALGORITHMS, split_signed
from attestation.azure.abi import parse_evidence as parse_azure
from attestation.azure.hcl import HclReport
from attestation.azure.runtime import RuntimeClaims
from attestation.binding import InclusionProof
from attestation.collateral import held
from attestation.collateral.bundle import Bundle
from attestation.collateral.errors import FetchError
from attestation.collateral.key import CollateralKey
from attestation.der import BIT_STRING, OCTET_STRING, SEQUENCE, DerReader
from attestation.ear import jws
from attestation.ear.check import open_token
from attestation.ear.errors import EarError
from attestation.errors import EvidenceCode, EvidenceError, PolicyError, WireError
from attestation.eventlog.log import parse_event_log
from attestation.intel import pem, tcb_documents
from attestation.intel.abi import parse_quote
from attestation.intel.certificates import PCK, PCK_CA, read_issued
from attestation.intel.certificates import read_root as read_intel_root
from attestation.intel.collateral import IntelCollateral
from attestation.intel.crl import read_crl
from attestation.intel.pck import parse_extension
from attestation.intel.td_abi import parse_td_quote
from attestation.nitro.document import parse_document
from attestation.nvidia import container, opaque, rim, spdm, strict_xml
from attestation.nvidia.sdk_json import from_sdk_json
from attestation.policy import load_policy
from attestation.policy.feed import CONTEXT, normalise, open_feed
from attestation.ratls.certificate import parse_certificate
from attestation.roots import Roots
from attestation.sim.extension import element, encode_extension
from attestation.sim.pki import Authority
from attestation.tpm.abi import parse_evidence as parse_tpm
from attestation.tpm.attest import Attest
from attestation.tpm.public import Public
from attestation.tpm.signature import Signature
from attestation.types import Claims, EvidenceRecord, OwnerState, cbor, cose
from attestation.wire.address import parse_address
from attestation.wire.frames import Frame, FrameDecoder, encode_frame, parse_error
from attestation.wire.messages import MessageType, decode_body, encode_body
from attestation.wire.records import RecordReader, RecordWriter, padded_room
from attestation.wire.session import ClientSession, ServerSession
from attestation.wrapping import unwrap
from manifests import canonical
from manifests.abuse.errors import AbuseError
from manifests.abuse.profile import Profile, blank
from manifests.errors import ManifestError
from manifests.model import ModelManifest
from manifests.sealed.core import Core
from manifests.signing import Signer
from tests.fuzz import (
    seeds,
    targets_attesters,
    targets_budgets,
    targets_collateral,
    targets_content,
    targets_models,
    targets_receipts,
    targets_tpm,
)
from tests.fuzz.target import BrokenContractError, Target, check
from tests.vectors.attestation import nitro, sgx, snp, tpm
from tests.vectors.attestation.ratls import KEY as RATLS_KEY
from tests.vectors.attestation.ratls import healthy
from tests.vectors.attestation.scene import NOW

NOWHERE: Final = Path("/nonexistent/strongroom-fuzz")
"""Where relative names in a mutated policy lead."""
ROOT: Final = Path(__file__).resolve().parents[2]
MAX: Final = 64 * 1024
_KEY: Final = bytes(range(32))
_SIGNER: Final = Signer.from_seed(bytes([5]) * 32)
_ALGORITHM: Final = bytes.fromhex("300a06082a8648ce3d040302")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _serialized(value: Any) -> bytes:
    return bytes(value.serialize())


# ------------------------------------------------------------------------------------------------- signed on the way


@functools.lru_cache(maxsize=1)
def _intel() -> tuple[Any, Any, Any]:
    root, anchor = read_intel_root(sgx.MACHINE.pki.root.der, Roots.simulated(sgx.MACHINE.pki.root.der))
    return root, anchor, read_issued(sgx.MACHINE.pki.pck_ca.der, root, PCK_CA, anchor)


def _tbs(der: bytes) -> bytes:
    return DerReader(der, EvidenceCode.CERTIFICATE_MALFORMED).inside(SEQUENCE).element(SEQUENCE)


def _signed(tbs: bytes, authority: Authority) -> bytes:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    signature = authority.key.sign(tbs, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    return element(SEQUENCE, tbs + _ALGORITHM + element(BIT_STRING, b"\0" + signature))


def _intel_certificate(tbs: bytes) -> Any:
    """Read what the PCK CA signed; the signed part is what is fuzzed."""
    _, anchor, ca = _intel()
    return read_issued(_signed(tbs, sgx.MACHINE.pki.pck_ca), ca, PCK, anchor)


def _intel_crl(tbs: bytes) -> Any:
    return read_crl(_signed(tbs, sgx.MACHINE.pki.pck_ca), _intel()[2])


def _self_signed(tbs: bytes) -> Any:
    """Read a certificate for RA-TLS that its own key signed, whatever it says."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    signature = RATLS_KEY.sign(tbs, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    return parse_certificate(element(SEQUENCE, tbs + _ALGORITHM + element(BIT_STRING, b"\0" + signature)))


def _tpm_certificate(tbs: bytes) -> Any:
    root = tpm.TPM.root
    chain = [_signed(tbs, root), root.der]
    parsed = parse_tpm(tpm.rebuilt(key_chain=chain))
    return evidence.verify(parsed, None, Roots.simulated(root.der), NOW)


def _nitro_certificate(tbs: bytes) -> Any:
    """Verify a document whose zone's certificate is fuzzed, and signed by the region."""
    root, region, _, instance = nitro.MACHINE.authorities
    from attestation.sim.chains import _DETERMINISTIC

    algorithm = bytes.fromhex("300a06082a8648ce3d040303")
    signature = region.key.sign(tbs, _DETERMINISTIC)
    der = element(SEQUENCE, tbs + algorithm + element(BIT_STRING, b"\0" + signature))
    document = parse_document(nitro.rebuilt(cabundle=[root.der, region.der, der[:1024], instance.der]))
    return evidence.verify(document, None, Roots.simulated(root.der), NOW)


@functools.lru_cache(maxsize=1)
def _ark() -> Any:
    held_ = snp.MILAN.collateral(NOW)
    return read_root(pem.decode_chain(held_.chain, 2)[1], Roots.simulated(snp.MILAN.root_pem))[0]


def _amd_crl(tbs: bytes) -> Any:
    algorithm = PSS_ALGORITHMS[0]
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    form = padding.PSS(padding.MGF1(hashes.SHA384()), 48)
    signature = element(BIT_STRING, b"\0" + snp.keys().ark.sign(tbs, form, hashes.SHA384()))
    return read_amd_crl(element(SEQUENCE, tbs + algorithm + signature), _ark())


def _amd_certificate(tbs: bytes) -> Any:
    return strict_x509.parse_certificate(tbs, PSS_ALGORITHMS[0])


def _feed_body(text: bytes) -> Any:
    plain = text.decode("ascii", "replace").encode("ascii", "replace")
    signature = _SIGNER.sign(CONTEXT, plain).hex()
    return open_feed(json.dumps({"feed": plain.decode(), "signature": signature}), _SIGNER.public)


def _token(payload: bytes) -> Any:
    head = {"alg": jws.ALGORITHM, "kid": jws.key_id(_SIGNER.public), "typ": jws.TYPE}
    parts = [jws.encode_base64url(json.dumps(head, sort_keys=True, separators=(",", ":")).encode())]
    parts.append(jws.encode_base64url(payload))
    signature = _SIGNER.sign(b"", ".".join(parts).encode())
    return open_token(".".join([*parts, jws.encode_base64url(signature)]), [_SIGNER.public], NOW)


# --------------------------------------------------------------------------------------------------------- session


def _frames(data: bytes) -> Any:
    """Feed bytes in two pieces, as a network would."""
    decoder, half = FrameDecoder(), len(data) // 2
    return [*decoder.feed(data[:half]), *decoder.feed(data[half:])]


def _hello(data: bytes) -> Any:
    return ServerSession().receive(data)


def _answer(data: bytes) -> Any:
    client = ClientSession()
    client.start()
    return client.receive(data)


def _record(plaintext: bytes) -> Any:
    record = RecordWriter(_KEY)._record(plaintext[: 1 << 16] or b"\0")
    return RecordReader(_KEY, max_message=1 << 20).open(bytes(record[4:]))


def _plaintexts() -> list[bytes]:
    head = bytes([MessageType.REQUEST, 1])
    return [
        head + size.to_bytes(4, "big") + bytes([7]) * size + bytes(padded_room(size) - size) for size in (0, 5, 900)
    ]


def _answers() -> list[bytes]:
    """What a server sends first."""
    server, client = ServerSession(), ClientSession()
    server.receive(client.start())
    return [bytes(server.data_to_send())]


def _hello_seed() -> list[bytes]:
    return [bytes(ClientSession().start())]


def _bodies() -> list[bytes]:
    import numpy as np

    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "t": np.array(["x", "yz"], dtype=object)}
    return [encode_body({"model": "m", "n": 1}), encode_body({"model": "m"}, tensors)]


def _der_tree(data: bytes, depth: int = 0) -> int:
    """Walk DER as its readers do: sequences, octet and bit strings."""
    reader, count = DerReader(data, EvidenceCode.CERTIFICATE_MALFORMED), 0
    while reader.more and count < 10_000:
        tag = reader.next_tag()
        content = reader.content(tag)
        count += 1
        if tag in {SEQUENCE, 0x31, 0xA0, 0xA3, OCTET_STRING} and depth < 12:
            try:
                count += _der_tree(content, depth + 1)
            except EvidenceError:
                continue
    return count


def _sealed() -> list[bytes]:
    """The cores of the sealed vectors' files."""
    found = []
    for path in sorted((ROOT / "tests" / "vectors" / "sealed").glob("*.json")):
        data = base64.b64decode(json.loads(path.read_text(encoding="utf-8"))["file"])
        found.append(data[16 : 16 + int.from_bytes(data[12:16], "big")])
    return found


def _manifests() -> list[bytes]:
    value = json.loads((ROOT / "tests/vectors/sealed/one-chunk.json").read_text(encoding="utf-8"))
    return [base64.b64decode(value["parts"]["manifest"])]


def _containers() -> list[bytes]:
    from attestation.sim.nvidia import Device, SimulatedNvidia

    machine = SimulatedNvidia(bytes(32), NOW)
    devices = [Device(), Device(1, "GB100", flags=("debug",))]
    return [machine.evidence(bytes(64)), machine.evidence(bytes(64), *devices)]


def _parsed_containers() -> list[container.NvidiaEvidence]:
    return [container.parse_evidence(data) for data in _containers()]


def _reports() -> list[bytes]:
    return [device.report.serialize() for each in _parsed_containers() for device in each.devices] + seeds.reports()


def _opaques() -> list[bytes]:
    return [device.report.opaque.raw for each in _parsed_containers() for device in each.devices]


def _rims() -> list[bytes]:
    return [each.raw for held_ in _parsed_containers() for each in held_.rims] + seeds.captured("rim")


def _sdk_json() -> list[bytes]:
    texts = []
    for each in _parsed_containers():
        devices = [(device.report.serialize(), pem.encode_chain(*device.chain)) for device in each.devices]
        encoded = [[base64.b64encode(part).decode() for part in device] for device in devices]
        texts.append(json.dumps([{"evidence": a, "certificate": b} for a, b in encoded]).encode())
    return texts


def _claims() -> list[bytes]:
    owners = (OwnerState(_SIGNER.public, 3, b"", b""),)
    texts = [Claims(_SIGNER.public, bytes(1216), bytes(16), "first", owners, bytes(size)) for size in (0, 64)]
    return [claims.encode() for claims in texts]


def _records() -> list[bytes]:
    return [EvidenceRecord(_claims()[0], b"quote", InclusionProof(1, 2, (bytes(64),)), "sgx").encode()]


def _manifest_texts() -> list[bytes]:
    return [ModelManifest.decode(data).to_toml().encode() for data in _manifests()]


def _bundles() -> list[bytes]:
    vector = seeds.accepted("sgx")[0]
    collateral = held.decode((vector.collateral or "").encode())
    return [Bundle(vector.evidence, {CollateralKey("sgx", "53494d000000", "processor"): collateral}).to_json().encode()]


def _recorded(folder: str, ending: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((ROOT / "tests/vectors" / folder).glob(f"*{ending}"))]


def _payloads() -> list[bytes]:
    return [jws.decode_base64url(_text(data).strip().split(".")[1]) for data in _recorded("ear/v1", ".jwt")]


def _tcb_infos() -> list[bytes]:
    return [sgx.publish(sgx.MACHINE.platform).tcb_info, seeds.intel_collateral().tcb_info]


def _identities() -> list[bytes]:
    return [sgx.publish(sgx.MACHINE.platform).qe_identity, seeds.intel_collateral().qe_identity]


def _chains() -> list[bytes]:
    return [seeds.snp_collateral().chain, seeds.intel_collateral().tcb_info_issuer_chain]


def _logs() -> list[bytes]:
    return [data for each in seeds.tpm() if (data := each.log.serialize() if each.log else b"")] + seeds.captured(
        "eventlog"
    )


def _rebuilt_policy(policy: Any) -> bytes:
    """A policy comes back as it was from its own form."""
    if load_policy(policy.to_dict(), base=NOWHERE) != policy:
        raise BrokenContractError("a policy's own form is another policy")
    return b""


def _policy(data: bytes) -> Any:
    loaded = load_policy(data, base=NOWHERE)
    _rebuilt_policy(loaded)
    return loaded


COSE_MAX: Final = 16 * 1024
_SNP = snp.MILAN.collateral(NOW)
_FETCH = (EvidenceError, FetchError, ManifestError)

TARGETS: Final = (
    Target("sgx-quote", parse_quote, lambda: seeds.evidence("sgx"), remade=_serialized),
    Target("tdx-quote", parse_td_quote, lambda: seeds.evidence("tdx"), remade=_serialized),
    Target("snp-report", parse_report, lambda: seeds.evidence("snp"), remade=_serialized),
    Target("nitro-document", parse_document, lambda: seeds.evidence("nitro"), remade=_serialized),
    Target("tpm-evidence", parse_tpm, lambda: seeds.evidence("tpm"), remade=_serialized),
    Target("tpm-attest", Attest.parse, lambda: [each.quote.attest.serialize() for each in seeds.tpm()],
           remade=_serialized),
    Target("tpm-signature", Signature.parse, lambda: [each.quote.signature.serialize() for each in seeds.tpm()],
           remade=_serialized),
    Target("tpm-public", Public.parse, lambda: [each.key.serialize() for each in seeds.tpm()], remade=_serialized),
    Target("event-log", parse_event_log, _logs, remade=_serialized),
    Target("event-log-padded", lambda data: parse_event_log(data, padded=True), _logs, remade=_serialized),
    Target("azure-evidence", parse_azure, lambda: seeds.evidence("azure-snp") + seeds.evidence("azure-tdx"),
           remade=_serialized),
    Target("azure-hcl", HclReport.parse, lambda: [each.hcl.serialize() for each in seeds.azure()], remade=_serialized),
    Target("azure-runtime", RuntimeClaims.parse, lambda: [each.hcl.runtime_data for each in seeds.azure()]),
    Target("ratls-certificate", parse_certificate, lambda: [healthy(), *seeds.evidence("ratls")], remade=_serialized),
    Target("nvidia-container", container.parse_evidence, _containers, remade=_serialized),
    Target("nvidia-report", spdm.parse_report, _reports, remade=_serialized),
    Target("nvidia-opaque", opaque.parse_opaque, _opaques),
    Target("nvidia-rim", rim.parse_rim, _rims),
    Target("nvidia-xml", lambda data: strict_xml.canonical(strict_xml.parse(data)), _rims),
    Target("nvidia-sdk-json", lambda data: from_sdk_json(_text(data)), _sdk_json),
    Target("cbor", lambda data: cbor.decode(data, max_size=MAX), lambda: [*seeds.cose(), *seeds.evidence("nitro")],
           remade=cbor.encode),
    Target("cbor-indefinite", lambda data: cbor.decode(data, max_size=MAX, indefinite=True), seeds.cose),
    Target("cose", lambda data: cose.parse(data, max_size=COSE_MAX), lambda: seeds.evidence("nitro"),
           remade=_serialized),
    Target("der", _der_tree, lambda: [_SNP.vek, _SNP.crl, sgx.MACHINE.pki.pck.der, nitro.MACHINE.root.der]),
    Target("pem", lambda data: pem.decode_chain(data, 2), _chains,
           remade=None),
    Target("pck-extension", parse_extension, lambda: [encode_extension(sgx.MACHINE.pki.extension)]),
    Target("intel-certificate", _intel_certificate, lambda: [_tbs(sgx.MACHINE.pki.pck.der)]),
    Target("intel-crl", _intel_crl, lambda: [_tbs(seeds.intel_collateral().pck_crl)]),
    Target("ratls-signed", _self_signed, lambda: [_tbs(healthy())]),
    Target("tpm-certificate", _tpm_certificate, lambda: [_tbs(tpm.TPM.certificate())]),
    Target("nitro-certificate", _nitro_certificate, lambda: [_tbs(nitro.MACHINE.authorities[2].der)]),
    Target("amd-certificate", _amd_certificate,
           lambda: [split_signed(_SNP.vek, EvidenceCode.CERTIFICATE_MALFORMED)[0]]),
    Target("amd-crl", _amd_crl, lambda: [split_signed(_SNP.crl, EvidenceCode.CERTIFICATE_MALFORMED)[0]]),
    Target("json", lambda data: strict_json.loads(_text(data), max_size=MAX), lambda: [*_tcb_infos(), *_bundles()]),
    Target("tcb-info", tcb_documents.parse_tcb_info, _tcb_infos),
    Target("qe-identity", tcb_documents.parse_qe_identity, _identities),
    Target("collateral", held.decode, seeds.collateral_texts),
    Target("intel-collateral", IntelCollateral.from_json, seeds.collateral_texts),
    Target("snp-collateral", SnpCollateral.from_json, seeds.collateral_texts),
    Target("bundle", Bundle.from_json, _bundles, _FETCH),
    Target("unwrap", unwrap, seeds.any_evidence, _FETCH),
    Target("policy", _policy, seeds.policies, (PolicyError, EvidenceError, ManifestError)),
    Target("hardware-feed", lambda data: normalise(_text(data)), seeds.feeds, (PolicyError,)),
    Target("hardware-feed-signed", _feed_body, lambda: [json.loads(d)["feed"].encode() for d in seeds.feeds()],
           (PolicyError,)),
    Target("ear-token", lambda data: open_token(_text(data), [_SIGNER.public], NOW),
           lambda: _recorded("ear/v1", ".jwt"),
           (EarError,)),
    Target("ear-payload", _token, _payloads, (EarError,)),
    Target("collateral-key", lambda data: CollateralKey.parse(_text(data)), lambda: [b"sgx-53494d000000-processor"],
           remade=lambda key: str(key).encode()),
    Target("session-frames", _frames, lambda: [encode_frame(Frame("r", 1, b"body")) * 2], (WireError,)),
    Target("session-error-frame", parse_error, lambda: [canonical.encode({"code": "c", "message": "m"})], (WireError,)),
    Target("session-hello", _hello, _hello_seed, (WireError,)),
    Target("session-answer", _answer, _answers, (WireError,)),
    Target("session-record", _record, _plaintexts, (WireError,)),
    Target("session-body", decode_body, _bodies, (WireError,)),
    Target("session-claims", Claims.decode, _claims, (ManifestError,), remade=lambda claims: claims.encode()),
    Target("session-evidence", EvidenceRecord.decode, _records, (ManifestError,),
           remade=lambda record: record.encode()),
    Target("address", lambda data: parse_address(_text(data)),
           lambda: [b"tcp:host:1", b"unix:/run/x", b"tcp:[::1]:9"], (WireError,)),
    Target("canonical", lambda data: canonical.decode(data, max_size=MAX), lambda: [*seeds.evidence("tpm"), *_sealed()],
           (ManifestError,), remade=canonical.encode),
    Target("sealed-core", Core.decode, _sealed, (ManifestError,), remade=lambda core: core.encode()),
    Target("model-manifest", ModelManifest.decode, _manifests, (ManifestError,), remade=lambda value: value.encode()),
    Target("model-manifest-toml", lambda data: ModelManifest.from_toml(_text(data)),
           _manifest_texts, (ManifestError,)),
    Target("detector-profile", Profile.decode, lambda: [blank(2, 2).encode(), blank(5, 3).encode()],
           (AbuseError, ManifestError), remade=lambda profile: profile.encode()),
    *targets_collateral.TARGETS,
    *targets_attesters.TARGETS,
    *targets_receipts.TARGETS,
    *targets_content.TARGETS,
    *targets_models.TARGETS,
    *targets_tpm.TARGETS,
    *targets_budgets.TARGETS,
)  # fmt: skip
BY_NAME: Final = {target.name: target for target in TARGETS}


__all__ = ["BY_NAME", "TARGETS", "BrokenContractError", "Target", "check"]
