"""The layout shows the architecture: imports follow the trust boundaries."""

from __future__ import annotations

import ast
import importlib.metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("attestation", "enclave", "evaluation", "host", "manifests")

# What each package may import of ours; a name admits the module and everything below it.
ALLOWED = {
    "manifests": ("manifests",),
    "attestation": ("attestation", "manifests"),
    "enclave": (
        "enclave",
        "manifests",
        "attestation.wire",
        "attestation.binding",
        "attestation.types",
        "attestation.errors",
    ),
    "host": ("host", "manifests", "attestation.wire", "attestation.errors"),
    "evaluation": (*PACKAGES, "strongroom"),
}


def sources(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found, f"no sources in {package}"
    return found


def imported(path: Path) -> set[str]:
    """Every dotted name that a file imports, at any depth; `from a import b` counts as a.b and as a."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def ours(name: str) -> bool:
    return name.split(".", maxsplit=1)[0] in {*PACKAGES, "strongroom"}


def covered(name: str, allowed: tuple[str, ...]) -> bool:
    return any(name == root or name.startswith(root + ".") for root in allowed)


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_follow_the_trust_boundaries(package: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources(package)
        for name in imported(path)
        if ours(name) and not covered(name, ALLOWED[package])
    ]
    assert wrong == []


def module_of(name: str) -> Path | None:
    """The file of a module or package, or of the module that holds an imported name."""
    place = ROOT.joinpath(*name.split("."))
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if path.is_file():
            return path
    return module_of(name.rpartition(".")[0]) if "." in name else None


def reached(package: str, also: dict[Path, set[str]] | None = None) -> dict[str, str]:
    """Every name of ours that a package imports, through whichever modules, with the file that imports it."""
    found: dict[str, str] = {}
    open_files, seen = sources(package), set()
    while open_files:
        path = open_files.pop()
        if path in seen:
            continue
        seen.add(path)
        for name in filter(ours, imported(path) | (also or {}).get(path, set())):
            found.setdefault(name, str(path.relative_to(ROOT)))
            inner = module_of(name)
            if inner is not None:
                open_files.append(inner)
    return found


@pytest.mark.parametrize("package", ["enclave", "host"])
def test_what_is_imported_imports_no_more_either(package: str) -> None:
    allowed = ALLOWED[package]
    assert [f"{by} imports {name}" for name, by in reached(package).items() if not covered(name, allowed)] == []


def test_an_allowed_module_that_reached_further_would_be_found() -> None:
    claims = ROOT / "attestation" / "types" / "claims.py"
    names = reached("enclave", {claims: {"attestation.intel.abi.QuoteV3"}})
    assert names["attestation.intel.abi.QuoteV3"] == "attestation/types/claims.py"
    assert not covered("attestation.intel.abi.QuoteV3", ALLOWED["enclave"])


def test_the_arrow_test_can_fail() -> None:
    assert not covered("attestation.intel.verify", ALLOWED["enclave"])
    assert not covered("enclave.server", ALLOWED["host"])
    assert not covered("attestation.types", ALLOWED["host"])


def test_nothing_imports_the_front_door() -> None:
    inner = [path for package in PACKAGES for path in sources(package)]
    assert [str(path) for path in inner if "strongroom" in imported(path)] == []


def test_modules_stay_one_thing() -> None:
    sizes = {path: len(path.read_text(encoding="utf-8").splitlines()) for p in PACKAGES for path in sources(p)}
    assert [f"{path.relative_to(ROOT)}: {size}" for path, size in sizes.items() if size > 450] == []


def test_no_drawer_for_odds_and_ends() -> None:
    names = {path.stem for package in PACKAGES for path in sources(package)}
    assert not names & {"utils", "util", "common", "helpers", "misc"}


def test_every_package_is_typed_and_quiet() -> None:
    for package in PACKAGES:
        assert (ROOT / package / "py.typed").is_file()
        heavy = imported(ROOT / package / "__init__.py") - {"__future__.annotations"}
        assert not heavy, f"{package}/__init__.py imports {heavy}"


def test_no_other_distribution_ships_our_package_names() -> None:
    owners = importlib.metadata.packages_distributions()
    for package in PACKAGES:
        assert set(owners.get(package, [])) <= {"strongroom"}, package
