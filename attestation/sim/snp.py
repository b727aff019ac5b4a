"""A simulated EPYC processor: reports of SEV-SNP guests in the real format, with the collateral of its key.

    snp = SimulatedSnp(keys, Product.GENOA)
    evidence = snp.evidence(measurement, report_data)              healthy, in the newest version of reports
    evidence = snp.evidence(measurement, report_data, version=2)   an older one
    evidence = snp.evidence(measurement, report_data, vmpl=1)      any field, signed as it then stands
    collateral = snp.collateral(now)                               as the state has it
    collateral = snp.collateral(now, changes={"vek": {"serial": 0}}, dates={"crl": (now, now)})

Everything but the authorities' keys follows from `keys.seed`, so the same keys give the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from attestation.amd.abi import (
    ECDSA_P384_SHA384,
    LAYOUTS,
    SIGNED_SIZE,
    GuestPolicy,
    PlatformInfo,
    Report,
    SigningKey,
    parse_report,
)
from attestation.amd.certificates import ARK, ASK, ASVK, VCEK, VLEK
from attestation.amd.collateral import SnpCollateral
from attestation.amd.endorsement import CHIP_ID_SIZE, HWID_SIZES
from attestation.amd.tcb import Product, Tcb
from attestation.amd.verified import OUT_OF_DATE, UP_TO_DATE
from attestation.amd.verify import collateral_key
from attestation.collateral.key import CollateralKey
from attestation.intel.pem import encode_chain
from attestation.layout import Kind
from attestation.sim.amd_keys import AmdKeys
from attestation.sim.amd_pki import (
    CertificateForm,
    CrlForm,
    PrivateKey,
    authority_extensions,
    endorsement_extensions,
)
from attestation.sim.pki import DAY, YEAR, derive
from attestation.strict_x509 import Extensions
from manifests.files import make_folder, write_atomically

CSP: Final = "CN=cloud.simulated.invalid"
"""Whom the simulated VLEKs are lent to."""

DOCUMENTS: Final = ("ark", "signer", "vek", "crl")
"""What the collateral consists of; the signer is the ASK or the ASVK."""
CRL_LIFETIME: Final = 30 * DAY

_TCB = {
    Product.MILAN: (4, 0, 24, 219),
    Product.GENOA: (10, 0, 27, 27),
    Product.TURIN: (1, 1, 1, 4, 81),
}
_CPUID = {Product.MILAN: (0x19, 0x01, 1), Product.GENOA: (0x19, 0x11, 1), Product.TURIN: (0x1A, 0x02, 1)}
_PRODUCT_NAMES = {Product.MILAN: "Milan-B0", Product.GENOA: "Genoa", Product.TURIN: "Turin"}
_BUILD = 49
_MITIGATIONS = 0x0B
_POLICY_ABI = 0x001F
_POLICY_ONE = 1 << 17
_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973
"""Order of P-384's group (FIPS 186-5)."""
_ECDSA = ec.ECDSA(hashes.SHA384(), deterministic_signing=True)
_VERSION = 5
_FIRST_CPUID = 3
_EMPTY: Final[dict[str, Any]] = {
    row.name: 0 if row.kind is Kind.UINT else bytes(row.size)
    for row in LAYOUTS[_VERSION].rows
    if row.kind is not Kind.ZERO
}

Span = tuple[int, int]


@dataclass(frozen=True)
class SnpState:
    """The states on demand; the defaults are a healthy platform.

    tcb_status: "UpToDate", or "OutOfDate" for a host that reports less than is committed.  provisional: firmware runs
    that is not committed.  debug: guests are started with DEBUG.  crl: whether collateral has a revocation list.
    expired, early: of DOCUMENTS, those whose dates are past or still to come.  revoked: "signer", "vek".
    """

    tcb_status: str = UP_TO_DATE
    provisional: bool = False
    debug: bool = False
    crl: bool = True
    expired: tuple[str, ...] = ()
    early: tuple[str, ...] = ()
    revoked: tuple[str, ...] = ()


class SimulatedSnp:
    """One processor of a product, with the key that its firmware signs reports with."""

    def __init__(
        self,
        keys: AmdKeys,
        product: Product = Product.MILAN,
        signing_key: SigningKey = SigningKey.VCEK,
        state: SnpState | None = None,
    ) -> None:
        """Derive the firmware's key and the chip's id; certificates are made when they are asked for."""
        self.keys, self.product, self.signing_key = keys, product, signing_key
        self.state = state or SnpState()
        scalar = int.from_bytes(derive(keys.seed, f"snp {product} {signing_key.name}"), "big") % (_ORDER - 1) + 1
        self.key = ec.derive_private_key(scalar, ec.SECP384R1())
        self.hwid = derive(keys.seed, f"snp chip {product}")[: HWID_SIZES[product]]
        self.committed = Tcb(product, _TCB[product])
        self.reported = self.committed
        if self.state.tcb_status == OUT_OF_DATE:
            self.reported = Tcb(product, (*self.committed.versions[:-1], self.committed.versions[-1] - 1))

    @classmethod
    def open(cls, home: Path, now: int, product: Product = Product.MILAN, **changes: Any) -> SimulatedSnp:
        """Load the processor of a platform's folder, or make it there, and write its root certificate beside it.

        Raises EvidenceError or ManifestError.
        """
        simulated = cls(AmdKeys.open(home, now), product, **changes)
        write_atomically(Path(home) / f"snp-{product}-root.pem", simulated.root_pem)
        return simulated

    def publish(self, home: Path, now: int) -> Path:
        """Write fresh collateral into a platform's folder and return its path."""
        folder = Path(home) / "collateral"
        make_folder(folder)
        path = folder / f"{self.collateral_key}.json"
        write_atomically(path, self.collateral(now).to_json().encode("utf-8"))
        return path

    # --------------------------------------------------------------------------------------------- reports

    def evidence(self, measurement: bytes, report_data: bytes, **changes: Any) -> bytes:
        """Return the report of a guest with this measurement (48 bytes) and these 64 bytes of report data.

        changes: fields of the report; `version` leaves out what that version does not have.
        """
        changes = {"measurement": measurement, "report_data": report_data, **changes}
        return self.sign(self.report(**changes).serialize()[:SIGNED_SIZE])

    def report(self, **changes: Any) -> Report:
        """Return a report that nobody signed."""
        version = changes.get("version", _VERSION)
        values = _EMPTY | self._guest() | self._platform() | {"version": version}
        known = {row.name for row in LAYOUTS.get(version, LAYOUTS[_VERSION]).rows}
        absent = {name: None for name in values if name not in known}
        return Report(**values | absent | changes)

    def _guest(self) -> dict[str, Any]:
        flags = GuestPolicy.SMT | (GuestPolicy.DEBUG if self.state.debug else 0)
        return {
            "policy": _POLICY_ONE | _POLICY_ABI | int(flags),
            "signature_algo": ECDSA_P384_SHA384,
            "report_id": derive(self.keys.seed, "snp guest")[:32],
            "report_id_ma": b"\xff" * 32,
            "launch_tcb": self.committed.serialize(),
            "launch_mit_vector": _MITIGATIONS,
        }

    def _platform(self) -> dict[str, Any]:
        *rest, last = self.committed.versions
        newer = int(self.state.provisional)
        cpuid = zip(("cpuid_fam_id", "cpuid_mod_id", "cpuid_step"), _CPUID[self.product], strict=True)
        return {
            "current_tcb": Tcb(self.product, (*rest, last + newer)).serialize(),
            "committed_tcb": self.committed.serialize(),
            "reported_tcb": self.reported.serialize(),
            "platform_info": int(PlatformInfo.SMT_EN | PlatformInfo.ECC_EN | PlatformInfo.ALIAS_CHECK_COMPLETE),
            "key_info": self.signing_key << 2,
            "chip_id": self.chip_id,
            **dict(cpuid),
            **_firmware("current", _BUILD + newer),
            **_firmware("committed", _BUILD),
            "current_mit_vector": _MITIGATIONS,
        }

    def sign(self, signed: bytes, key: ec.EllipticCurvePrivateKey | None = None) -> bytes:
        """Return the report whose first 672 bytes these are, whatever they say."""
        r, s = decode_dss_signature((key or self.key).sign(signed, _ECDSA))
        padding = bytes(24)
        return signed + r.to_bytes(48, "little") + padding + s.to_bytes(48, "little") + padding + bytes(368)

    @property
    def chip_id(self) -> bytes:
        """CHIP_ID: the chip's, padded to 64 bytes; zero where a lent key signs."""
        return bytes(CHIP_ID_SIZE) if self.signing_key is SigningKey.VLEK else self.hwid.ljust(CHIP_ID_SIZE, b"\0")

    # --------------------------------------------------------------------------------------------- collateral

    @property
    def root_pem(self) -> bytes:
        """The root certificate of the product, which policies name."""
        return encode_chain(self._root())

    @property
    def root_fingerprint(self) -> bytes:
        """SHA-256 of the DER root certificate: what policies and roots pin."""
        return hashlib.sha256(self._root()).digest()

    @property
    def collateral_key(self) -> CollateralKey:
        """What the collateral is filed under."""
        return collateral_key(parse_report(self.evidence(bytes(48), bytes(64), version=_FIRST_CPUID)))

    def collateral(
        self,
        now: int,
        *,
        dates: Mapping[str, Span] | None = None,
        changes: Mapping[str, Mapping[str, Any]] | None = None,
        signers: Mapping[str, rsa.RSAPrivateKey] | None = None,
    ) -> SnpCollateral:
        """Issue collateral at `now` (Unix seconds), in the platform's state.

        dates: by document, other first and last seconds.  changes: by document, other fields of its form.  signers: by
        document, another key to sign it with.
        """
        spans = self.spans(now) | dict(dates or {})
        forms = {name: self._form(name, spans[name]) for name in DOCUMENTS[:3]}
        forms = {name: form.changed(**dict((changes or {}).get(name, {}))) for name, form in forms.items()}
        crl = replace(self._crl(spans["crl"], forms), **dict((changes or {}).get("crl", {})))
        keys = {"ark": self.keys.ark, "signer": self.keys.ark, "vek": self._signer, "crl": self.keys.ark}
        keys |= dict(signers or {})
        ark, signer, vek = (forms[name].signed_by(keys[name]) for name in DOCUMENTS[:3])
        return SnpCollateral(
            vek=vek,
            chain=encode_chain(signer, ark),
            crl=crl.signed_by(keys["crl"]) if self.state.crl else b"",
        )

    def spans(self, now: int) -> dict[str, Span]:
        """Return the first and last second of each document, as the state wants them at `now`."""
        start = self.keys.created - DAY  # room for clocks that differ
        result = {name: (start, start + years * YEAR) for name, years in (("ark", 25), ("signer", 25), ("vek", 7))}
        result["crl"] = (now - 3600, now - 3600 + CRL_LIFETIME)
        for name in self.state.expired:
            result[name] = (now - CRL_LIFETIME, now - DAY)
        for name in self.state.early:
            result[name] = (now + DAY, now + CRL_LIFETIME)
        return result

    @property
    def _signer(self) -> rsa.RSAPrivateKey:
        return self.keys.asvk if self.signing_key is SigningKey.VLEK else self.keys.ask

    def _root(self) -> bytes:
        return self._form("ark", self.spans(0)["ark"]).signed_by(self.keys.ark)

    def _form(self, name: str, span: Span) -> CertificateForm:
        lent = self.signing_key is SigningKey.VLEK
        signer = ASVK if lent else ASK
        role = {"ark": ARK, "signer": signer, "vek": VLEK if lent else VCEK}[name]
        issuer = signer if name == "vek" else ARK
        keys: dict[str, PrivateKey] = {"ark": self.keys.ark, "signer": self._signer, "vek": self.key}
        return CertificateForm(
            name=role.name.format(self.product.label),
            issuer=issuer.name.format(self.product.label),
            serial=int.from_bytes(derive(self.keys.seed, f"snp serial {self.product} {role.title}")[:8], "big"),
            start=span[0],
            end=span[1],
            key=keys[name],
            extensions=self._endorsement(lent=lent) if name == "vek" else authority_extensions(role),
        )

    def _endorsement(self, *, lent: bool) -> Extensions:
        return endorsement_extensions(
            self.reported,
            self.product.label if lent else _PRODUCT_NAMES[self.product],
            hwid=None if lent else self.hwid,
            csp_id=CSP if lent else None,
        )

    def _crl(self, span: Span, forms: Mapping[str, CertificateForm]) -> CrlForm:
        revoked = tuple(forms[name].serial for name in self.state.revoked)
        return CrlForm(ARK.name.format(self.product.label), span[0], span[1], revoked)


def _firmware(which: str, build: int) -> dict[str, int]:
    return {f"{which}_major": 1, f"{which}_minor": 55, f"{which}_build": build}
