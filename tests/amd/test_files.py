"""AMD's files put together: however many certificates, in one pass, and only so many."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from attestation.amd.collateral import SnpCollateral
from attestation.amd.files import MAX_CERTIFICATE, MAX_PARTS, AmdFiles
from attestation.collateral import CollateralKey
from attestation.collateral.filing import import_files
from attestation.errors import EvidenceCode
from attestation.intel import pem
from attestation.loose import open_collateral
from attestation.sim.extension import element
from tests.amd import kit
from tests.amd.kit import refused


@functools.cache
def held() -> SnpCollateral:
    return kit.snp().collateral(kit.NOW)


def signer_and_root() -> tuple[bytes, ...]:
    return pem.decode_chain(held().chain, 2)


def renamed(name: bytes) -> bytes:
    """The root's certificate with another common name, of the same length."""
    root = signer_and_root()[1]
    assert root.count(b"ARK-Milan") == 2
    assert len(name) == len(b"ARK-Milan")
    return root.replace(b"ARK-Milan", name)


def test_as_many_as_may_be_are_put_together_with_the_first_of_each_name() -> None:
    leaves = pem.encode_chain(*[held().vek] * (MAX_PARTS - 4))
    files = AmdFiles.sort([leaves, held().chain, held().crl, pem.encode_chain(signer_and_root()[0])])
    assert (len(files.leaves), len(files.others), len(files.lists), files.broken) == (MAX_PARTS - 4, 3, 1, ())
    assert files.collateral(kit.roots(kit.snp())) == [held()] * (MAX_PARTS - 4)


@pytest.mark.parametrize(
    "part",
    [lambda: held().vek, lambda: held().crl, lambda: signer_and_root()[1], lambda: b"\x30\x81" + bytes(200)],
    ids=["leaf", "list", "root", "broken"],
)
def test_one_more_is_refused(part: Callable[[], bytes]) -> None:
    der = part()
    with refused(EvidenceCode.COLLATERAL_MALFORMED) as caught:
        AmdFiles.sort([pem.encode_chain(*[der] * MAX_PARTS), der])
    assert caught.value.expected == f"at most {MAX_PARTS}"


def test_too_many_are_refused_wherever_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "many.pem"
    path.write_bytes(pem.encode_chain(*[held().vek] * (MAX_PARTS + 1)))
    loose = open_collateral([path], kit.roots(kit.snp()))
    with refused(EvidenceCode.COLLATERAL_MALFORMED):
        loose.fetch(kit.snp().collateral_key)
    with refused(EvidenceCode.COLLATERAL_MISSING):
        loose.fetch(CollateralKey("sgx", "53494d000000", "processor"))
    imported = import_files(tmp_path / "filed", [path], kit.roots(kit.snp()))
    ((failed, error),) = imported.failed
    assert (failed, error.code, imported.filed) == (path, EvidenceCode.COLLATERAL_MALFORMED, [])


def test_a_certificate_that_is_too_large_is_none() -> None:
    large = element(0x30, signer_and_root()[1] + bytes(MAX_CERTIFICATE))
    assert AmdFiles.sort([large]).broken == (large,)


def test_an_error_names_each_certificate_once_and_only_some() -> None:
    others = [renamed(b"ARK-%05d" % number) for number in range(20)]
    found = AmdFiles.sort([pem.encode_chain(*others, *others)]).missing("x").found
    assert found == ", ".join([*(f"ARK-{number:05}" for number in range(8)), "12 more"])
    assert (
        AmdFiles.sort([pem.encode_chain(signer_and_root()[1], signer_and_root()[1])]).missing("x").found == "ARK-Milan"
    )
    assert AmdFiles().missing("x").found == "no certificate"
