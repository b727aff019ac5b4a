"""Errors name the file, say what was probably meant and what to do next, and speak no Python."""

from __future__ import annotations

from pathlib import Path

import pytest

from attestation.policy import load_policy
from manifests import fields
from manifests.cli import seal_command
from manifests.draft import check_graph, draft_manifest, draft_toml
from manifests.errors import ManifestCode, ManifestError, StrongroomError
from manifests.files import concerning, read_bounded
from manifests.keyfile import Cost, read_card, read_card_entry, read_key_file, write_card, write_key_file
from manifests.model import Axis
from tests.manifests.graphs import doubling
from tests.manifests.small import OWNER, RECIPIENT
from tests.manifests.test_cli import refused


def told(call: object, *arguments: object) -> StrongroomError:
    assert callable(call)
    with pytest.raises(StrongroomError) as caught:
        call(*arguments)
    return caught.value


def test_a_misspelt_field_is_told_from_a_missing_one() -> None:
    error = told(fields.closed_map, {"max_reqest_bytes": 1}, "limits", (), ["max_request_bytes", "timeout_ms"])
    assert error.message == "unknown field 'max_reqest_bytes' in limits; did you mean 'max_request_bytes'?"
    error = told(fields.closed_map, {"a": 1}, "the thing", ["a", "b", "c"])
    assert error.message == "the thing lacks 'b', 'c'"
    error = told(fields.closed_map, {"\n" * 1000: 1, 7: 1}, "the thing", ["a"])
    assert error.message == "unknown field '" + "\\n" * 64 + "' in the thing"


@pytest.mark.parametrize(
    ("value", "kind", "expected", "found"),
    [("1", int, "a whole number", "text"), (None, str, "text", "nothing"), (True, list, "a list", "true or false")],
)
def test_types_are_called_by_words(value: object, kind: type, expected: str, found: str) -> None:
    error = told(fields.of_type, value, "x", kind)
    assert (error.message, error.found) == (f"field 'x' is not {expected}", found)


def test_shapes_are_shown_as_a_manifest_has_them() -> None:
    graph = doubling()
    wrong = draft_manifest(doubling((5, 5)), owner=OWNER.public)
    error = told(check_graph, wrong, graph)
    assert error.found == "[5, 5]"
    assert str(error.expected).startswith("[")
    assert Axis.__name__ not in str(error.expected)


def test_a_manifest_and_a_policy_with_a_mistake_are_named(tmp_path: Path) -> None:
    path, key = tmp_path / "m.toml", tmp_path / "owner.key"
    model, card = tmp_path / "m.onnx", tmp_path / "b.pub"
    write_key_file(key, "owner", OWNER.seed(), b"correct horse", cost=Cost(1, 8192))
    write_card(card, {"strongroom-recipient": RECIPIENT.public})
    model.write_bytes(doubling().SerializeToString())
    text = draft_toml(draft_manifest(doubling(), owner=OWNER.public))
    path.write_text(text.replace("max_request_bytes", "max_reqest_bytes"))
    words = (seal_command, model, "--manifest", path, "--owner-key", key, "--recipient", card, "-o", tmp_path / "s")
    error: StrongroomError = refused(*words)
    assert str(path) in error.message
    assert "did you mean 'max_request_bytes'?" in error.message
    assert "model draft" in str(error.remedy)
    path.write_text("version = 1\n[evidense]\n[sgx]\n")
    error = told(load_policy, path)
    assert str(path) in error.message
    assert "did you mean 'evidence'?" in error.message
    assert "docs/policy.md" in str(error.remedy)


def test_keys_and_files_that_do_not_work_say_what_would(tmp_path: Path) -> None:
    key, card = tmp_path / "owner.key", tmp_path / "owner.pub"
    write_key_file(key, "owner", OWNER.seed(), b"right", cost=Cost(1, 8192))
    write_card(card, {"strongroom-owner": OWNER.public})
    (tmp_path / "bad.pub").write_text("strongroom-owner ###\n")
    for error, path in (
        (told(read_key_file, key, "owner", b"wrong"), key),
        (told(read_key_file, card, "owner", b"right"), card),
        (told(read_card_entry, card, "strongroom-recipient"), card),
        (told(read_card, tmp_path / "bad.pub"), tmp_path / "bad.pub"),
        (told(read_bounded, tmp_path / "none", 1), tmp_path / "none"),
        (told(read_bounded, tmp_path, 1), tmp_path),
    ):
        assert str(path) in error.message
        assert error.remedy


def test_what_an_error_says_itself_comes_before_what_is_said_about_it() -> None:
    with pytest.raises(ManifestError) as caught, concerning(Path("a.toml"), "general"):
        raise ManifestError(ManifestCode.MANIFEST_INVALID, "it is wrong", remedy="special")
    assert (caught.value.message, caught.value.remedy) == ("a.toml: it is wrong", "special")
    assert str(caught.value) == "[manifest-invalid] a.toml: it is wrong"
