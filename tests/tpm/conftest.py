"""One software TPM for all tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.tpm.swtpm import SoftwareTpm, software_tpm


@pytest.fixture(scope="module")
def tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftwareTpm]:
    with software_tpm(tmp_path_factory.mktemp("tpm")) as running:
        yield running
