"""The simulated processor: the same keys give the same bytes, and a folder holds all that must last."""

from __future__ import annotations

import pytest

from attestation import evidence
from attestation.amd.abi import SigningKey
from attestation.amd.tcb import Product
from attestation.appraise import appraise
from attestation.collateral import DirectorySource
from attestation.errors import EvidenceCode
from attestation.evidence import Roots
from attestation.policy import load_policy, roots_for
from attestation.sim.amd_keys import FILE, AmdKeys
from attestation.sim.snp import SimulatedSnp
from manifests import canonical
from manifests.errors import ManifestCode
from tests.amd import kit
from tests.amd.kit import refused


@pytest.fixture
def home(tmp_path):
    (tmp_path / FILE).write_bytes(kit.keys().serialize())
    return tmp_path


def test_the_same_keys_give_the_same_bytes() -> None:
    one, other = (SimulatedSnp(AmdKeys.parse(kit.keys().serialize()), Product.TURIN) for _ in range(2))
    assert one.root_pem == other.root_pem
    assert one.collateral(kit.NOW) == other.collateral(kit.NOW)
    assert one.evidence(kit.MEASUREMENT, kit.REPORT_DATA) == other.evidence(kit.MEASUREMENT, kit.REPORT_DATA)


def test_products_and_kinds_of_keys_have_nothing_in_common_but_the_authorities() -> None:
    made = [kit.snp(product, key) for product in Product for key in (SigningKey.VCEK, SigningKey.VLEK)]
    assert len({simulated.key.private_numbers().private_value for simulated in made}) == len(made)
    assert len({simulated.root_fingerprint for simulated in made}) == len(Product)


def test_a_folder_serves_from_evidence_to_verdict(home) -> None:
    simulated = SimulatedSnp.open(home, kit.NOW, Product.GENOA)
    simulated.publish(home, kit.NOW)
    report = evidence.parse(simulated.evidence(kit.MEASUREMENT, kit.REPORT_DATA, version=2))
    held = evidence.collateral_for(report, DirectorySource(home / "collateral"))
    policy = kit.policy_map()
    policy["evidence"]["simulated_root"] = "snp-genoa-root.pem"
    loaded = load_policy(policy, base=home)
    found = evidence.verify(report, held, roots_for(loaded), kit.NOW)
    assert appraise(found, loaded, kit.NOW).accepted


def test_a_folder_keeps_its_keys(home, monkeypatch) -> None:
    monkeypatch.setattr(AmdKeys, "generate", lambda *_: pytest.fail("the keys are there already"))
    assert AmdKeys.open(home, kit.NOW + 99).created == kit.CREATED
    assert SimulatedSnp.open(home, kit.NOW).root_pem == kit.snp().root_pem


def test_a_new_folder_gets_keys_that_only_its_owner_reads(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(AmdKeys, "generate", lambda *_: kit.keys())
    home = tmp_path / "platform"
    assert AmdKeys.open(home, kit.CREATED).serialize() == kit.keys().serialize()
    assert (home / FILE).stat().st_mode & 0o777 == 0o600
    assert home.stat().st_mode & 0o777 == 0o700


def test_of_two_processes_that_make_keys_the_first_ones_count(tmp_path, monkeypatch) -> None:
    def slow(*_: object) -> AmdKeys:
        (tmp_path / FILE).write_bytes(kit.keys().serialize())
        return AmdKeys(bytes(32), 1, kit.keys().ask, kit.keys().ask, kit.keys().ask)

    monkeypatch.setattr(AmdKeys, "generate", slow)
    assert AmdKeys.open(tmp_path, kit.NOW).created == kit.CREATED


def changed(**fields: object) -> bytes:
    return canonical.encode(canonical.decode(kit.keys().serialize(), max_size=1 << 16) | fields)


@pytest.mark.parametrize(
    "fields",
    [{"seed": b"short"}, {"ark": b"\x30\x00"}, {"ask": 1}, {"created": -1}, {"more": 1}],
    ids=lambda fields: next(iter(fields)),
)
def test_a_file_with_other_fields_is_refused(fields) -> None:
    with refused(EvidenceCode.SIMULATOR_STATE):
        AmdKeys.parse(changed(**fields))


def test_a_file_that_holds_no_keys_is_refused() -> None:
    for data in (b"", b"\x80", kit.keys().serialize()[:-1]):
        with refused(EvidenceCode.SIMULATOR_STATE):
            AmdKeys.parse(data)


def test_a_file_with_keys_on_a_curve_is_refused() -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    der = kit.snp().key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    with refused(EvidenceCode.SIMULATOR_STATE):
        AmdKeys.parse(changed(ark=der))


def test_a_later_version_of_the_file_is_unsupported() -> None:
    with refused(ManifestCode.VERSION_UNSUPPORTED):
        AmdKeys.parse(changed(version=2))


def test_secrets_do_not_show() -> None:
    assert kit.SEED.hex() not in repr(kit.keys())
    assert "RSAPrivateKey" not in repr(kit.keys())


def test_the_root_is_a_root_of_a_simulated_platform_only() -> None:
    assert "simulated" in repr(Roots.simulated(kit.snp().root_pem))
