"""Targets for what services and folders hold, and for what certificates and reports say of a platform."""

from __future__ import annotations

import base64
import dataclasses
import functools
import urllib.parse
from datetime import UTC, datetime
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from attestation import chains, strict_x509
from attestation.amd.abi import SigningKey
from attestation.amd.certificates import ASK, ASVK, VCEK, VLEK, Certificate, read_issued, read_root
from attestation.amd.endorsement import endorsement_of
from attestation.amd.signatures import split_signed
from attestation.amd.tcb import Product
from attestation.azure.hcl import HARDWARE_REPORT
from attestation.azure.td_report import check_td_report
from attestation.collateral import documents
from attestation.collateral.cache import Entry
from attestation.collateral.errors import FetchError
from attestation.errors import EvidenceCode, EvidenceError
from attestation.intel import pem
from attestation.intel.td_abi import TdQuote, parse_td_quote
from attestation.loose import LooseFiles
from attestation.nvidia.container import parse_evidence
from attestation.nvidia.fwid import COMPOSITE_DEVICE_ID, TCB_INFO, read_firmware
from attestation.roots import Roots
from attestation.sim.azure import td_report_of
from attestation.sim.chains import Authority384
from attestation.sim.nvidia import Device, SimulatedNvidia
from attestation.sim.snp import SimulatedSnp
from attestation.sim.tdx import SimulatedTdx
from attestation.validity import Validity
from manifests.errors import ManifestError
from tests.fuzz import seeds
from tests.fuzz.target import Target
from tests.vectors.attestation import sgx, snp
from tests.vectors.attestation.scene import CREATED, NOW

URL: Final = "https://service.example/document"
_SPAN: Final = Validity("fuzzed", 0, NOW, EvidenceCode.CERTIFICATE_EARLY, EvidenceCode.CERTIFICATE_EXPIRED)
_MILAN: Final = snp.MILAN.collateral(NOW)
_INTEL: Final = sgx.publish(sgx.MACHINE.platform)
_HEADER: Final = {"issuers": urllib.parse.quote(_INTEL.tcb_info_issuer_chain.decode())}

# ---------------------------------------------------------------------------- answers of services

LIST: Final = documents.revocation_list(URL)
ISSUED_LIST: Final = documents.revocation_list(URL, "Issuers")
SIGNED: Final = documents.signed_json(URL, "tcbInfo", "Issuers")


def _issuers(data: bytes) -> documents.Fetched:
    return ISSUED_LIST.read(_INTEL.pck_crl, {"issuers": data.decode("utf-8", "replace")})


def _lists() -> list[bytes]:
    crl = _INTEL.pck_crl
    text = b"-----BEGIN X509 CRL-----\n%s-----END X509 CRL-----\n" % base64.encodebytes(crl)
    return [crl, crl.hex().encode(), text, _MILAN.crl]


def _signed_texts() -> list[bytes]:
    held = _INTEL
    return [b'{"tcbInfo":%s,"signature":"%s"}' % (held.tcb_info, held.tcb_info_signature.hex().encode())]


def _entries() -> list[bytes]:
    return [
        Entry(URL, NOW, {"etag": '"1"'}, b"body").serialize(),
        Entry(URL, NOW, {}, _INTEL.pck_crl).serialize(),
    ]


# ---------------------------------------------------------------------------- loose files


def _loose(data: bytes) -> Any:
    """Look for the collateral of a chip among its certificates and a file that says anything."""
    files = LooseFiles((data, *pem.decode_chain(_MILAN.chain, 2)), (), Roots.simulated(snp.MILAN.root_pem))
    return files.fetch(snp.MILAN.collateral_key)


def _completed(data: bytes) -> Any:
    return LooseFiles((data,), (), Roots.vendor()).complete(_device()[0])


@functools.lru_cache(maxsize=1)
def _device() -> tuple[bytes, bytes]:
    """A device's report and the PEM of its chain."""
    machine = SimulatedNvidia(bytes(32), NOW)
    (device,) = parse_evidence(machine.evidence(bytes(64))).devices
    return device.report.serialize(), pem.encode_chain(*device.chain)


# ---------------------------------------------------------------------------- what certificates say


@functools.lru_cache(maxsize=8)
def _vek(product: Product, kind: SigningKey) -> tuple[Certificate, bytes]:
    """A verified certificate of an endorsement key, and its to-be-signed part."""
    simulated: SimulatedSnp = snp.machine(product, kind)
    held, roots = simulated.collateral(NOW), Roots.simulated(simulated.root_pem)
    signer_der, root_der = pem.decode_chain(held.chain, 2)
    root, anchor = read_root(root_der, roots)
    signer = read_issued(signer_der, root, (ASK, ASVK), anchor)
    vek = read_issued(held.vek, signer, (VCEK, VLEK), anchor)
    return vek, split_signed(held.vek, EvidenceCode.CERTIFICATE_MALFORMED)[0]


def _endorsement(data: bytes, kind: SigningKey = SigningKey.VCEK) -> Any:
    """Read what a certificate of Milan says that its authority signed, whatever its extensions are."""
    vek, _ = _vek(Product.MILAN, kind)
    algorithm = split_signed(vek.der, EvidenceCode.CERTIFICATE_MALFORMED)[1]
    return endorsement_of(
        dataclasses.replace(vek, extensions=strict_x509.parse_certificate(data, algorithm).extensions)
    )


def _endorsements(kind: SigningKey) -> list[bytes]:
    return [_vek(product, kind)[1] for product in Product]


@functools.lru_cache(maxsize=1)
def _bootrom() -> tuple[Authority384, chains.Certificate]:
    """The certificate authority inside a device, and its certificate as verification has it."""
    authority = SimulatedNvidia(bytes(32), CREATED).chain(Device())[-2]
    loaded = x509.load_der_x509_certificate(authority.der)
    return authority, chains.Certificate("device", authority.der, loaded, authority.key.public_key(), _SPAN)


def _firmware(data: bytes, oid: x509.ObjectIdentifier) -> Any:
    """Read a leaf whose DICE extension says anything."""
    authority, issuer = _bootrom()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "leaf")])
    key = ec.derive_private_key(7, ec.SECP384R1())
    start, end = (datetime.fromtimestamp(moment, UTC) for moment in (CREATED, NOW))
    builder = x509.CertificateBuilder(issuer.x509.subject, name, key.public_key(), 1, start, end)
    builder = builder.add_extension(x509.UnrecognizedExtension(oid, data), critical=False)
    leaf = builder.sign(authority.key, hashes.SHA384())
    return read_firmware(chains.Certificate("leaf", b"", leaf, key.public_key(), _SPAN), issuer)


def _dice(*devices: Device) -> list[bytes]:
    machine, found = SimulatedNvidia(bytes(32), CREATED), []
    for device in devices:
        leaf = x509.load_der_x509_certificate(machine.chain(device)[-1].der)
        values = (each.value for each in leaf.extensions if each.oid in {TCB_INFO, COMPOSITE_DEVICE_ID})
        found += [value.value for value in values if isinstance(value, x509.UnrecognizedExtension)]
    return found


# ---------------------------------------------------------------------------- Azure's TD report


@functools.lru_cache(maxsize=1)
def _td() -> tuple[TdQuote, bytes]:
    """A TD quote, and the report that it was made from, as the paravisor's report has it."""
    quote = SimulatedTdx(bytes(32), CREATED).evidence(bytes(48), bytes(64))
    return parse_td_quote(quote), td_report_of(quote).ljust(HARDWARE_REPORT, b"\0")


_FETCH: Final = (FetchError,)

TARGETS: Final = (
    Target("fetched-list", lambda data: LIST.read(data, {}), _lists, _FETCH),
    Target("fetched-certificate", lambda data: documents.certificate(URL).read(data, {}),
           lambda: [_MILAN.vek, pem.encode_chain(_MILAN.vek), *seeds.captured("vek")], _FETCH),
    Target("fetched-chain", lambda data: documents.certificate_chain(URL).read(data, {}), lambda: [_MILAN.chain],
           _FETCH),
    Target("fetched-json", lambda data: SIGNED.read(data, _HEADER), _signed_texts, _FETCH),
    Target("fetched-issuers", _issuers, lambda: [_HEADER["issuers"].encode()], _FETCH),
    Target("cached-answer", Entry.parse, _entries, (EvidenceError, ManifestError)),
    Target("loose-files", _loose, lambda: [_MILAN.vek, pem.encode_chain(_MILAN.vek), _MILAN.crl],
           (EvidenceError, ManifestError, FetchError)),
    Target("loose-device-chain", _completed, lambda: [_device()[1]], (EvidenceError, ManifestError)),
    Target("snp-endorsement", _endorsement, lambda: _endorsements(SigningKey.VCEK)),
    Target("snp-endorsement-lent", lambda data: _endorsement(data, SigningKey.VLEK),
           lambda: _endorsements(SigningKey.VLEK)),
    Target("nvidia-tcb-info", lambda data: _firmware(data, TCB_INFO),
           lambda: _dice(Device(1, "GB100"), Device(2, "GB100", flags=("debug", "recovery")))),
    Target("nvidia-composite-id", lambda data: _firmware(data, COMPOSITE_DEVICE_ID), lambda: _dice(Device())),
    Target("azure-td-report", lambda data: check_td_report(data, _td()[0]), lambda: [_td()[1]]),
)  # fmt: skip

__all__ = ["TARGETS"]
