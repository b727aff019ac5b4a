"""TOML is bounded before it is parsed: its size, and the dots in a key."""

from __future__ import annotations

import contextlib
import tomllib
from pathlib import Path
from tomllib import _parser  # type: ignore[attr-defined]
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.errors import PolicyCode, PolicyError
from attestation.policy import load_policy
from attestation.policy.feed_cli import feed
from attestation.policy.load import MAX_POLICY
from attestation.policy.toml import MAX_DOTS, count_dots, parse_toml

MOST = ".".join("a" * (MAX_DOTS + 1))
DOTS = "." * (MAX_DOTS + 1)


def parse(text: str) -> dict[str, Any]:
    return parse_toml(text.encode(), MAX_POLICY, PolicyCode.POLICY_MALFORMED, "the policy")


@pytest.fixture
def unparsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is refused is refused before the parser sees it."""

    def parser(_: str) -> dict[str, Any]:
        raise AssertionError

    monkeypatch.setattr(tomllib, "loads", parser)


@pytest.mark.usefixtures("unparsed")
@pytest.mark.parametrize(
    "text",
    [
        f"{MOST}.a = 1",
        f"[{MOST}.a]",
        f"[[ {MOST} . a ]]",
        f'x = {{ {MOST}."a" = 1 }}',
        f"x = [{{ y = 1, {MOST}.'a' = 1 }}]",
        '"." . ' * (MAX_DOTS + 1) + "a = 1",
        f'x = """\n\\"""" # "\n{MOST}.a = 1',
        f"x = '''\n''' # '''\n{MOST}.a = 1",
        f"x = '\\'\n{MOST}.a = 1",
        f'x = "\\"#"\n{MOST}.a = 1',
        f'x = """""a"""""\r\n{MOST}.a = 1',
        ".".join("a" * 20_000) + " = 1",
        f'x = ["""a"""", {{ {MOST}.a = 1 }}]',
        f'x = ["""a""""", {{ {MOST}.a = 1 }}]',
        f"x = ['''a'''', {{ {MOST}.a = 1 }}]",
        f"x = ['''a''''', {{ {MOST}.a = 1 }}]",
        f'x = ["""a"""", """b"""]\n{MOST}.a = 1',
        f'x = ["""a\\"""""", {{ {MOST}.a = 1 }}]',
        f'x = ["""""""", {{ {MOST}.a = 1 }}]',
    ],
)
def test_a_key_of_too_many_parts_is_refused_before_it_is_parsed(text: str) -> None:
    with pytest.raises(PolicyError) as refusal:
        parse(text)
    assert refusal.value.code is PolicyCode.POLICY_MALFORMED
    assert refusal.value.expected == f"at most {MAX_DOTS} dots"


@pytest.mark.parametrize(
    "text",
    [
        f"{MOST} = 1.5",
        f"[{MOST}]\n{MOST} = 1",
        f'x = "{DOTS}"',
        f"x = '{DOTS}' # {DOTS}",
        f'x = """{DOTS}\n"{DOTS}\\""""',
        f"x = '''{DOTS}\n'{DOTS}'''",
        f'"{DOTS}" = 1',
        f"x = [{'1.5, ' * 40}]",
        f'x = ["""{DOTS}"""", """{DOTS}"""""]',
        f"x = ['''{DOTS}'''', '''{DOTS}''''']",
        f'x = """{DOTS}\\"""{DOTS}""""',
        "",
    ],
)
def test_dots_elsewhere_and_as_many_as_may_be_are_no_cause(text: str) -> None:
    assert parse(text) == tomllib.loads(text)


PIECES = [
    *('"', '""', '"""', "'", "''", "'''", "\\", "#", "\n", "\r\n", ".", "a", " = ", "{", "}", "[", "]", "x = "),
    *(f"{quote * 3}a{quote * count}" for quote in "\"'" for count in range(3, 7)),
    *(", ", ", ", ", {a.a.a.a.a = 1}", "a.a.a"),
]


@given(st.lists(st.sampled_from(PIECES), max_size=24))
@settings(max_examples=2000)
def test_no_key_that_the_parser_reads_has_more_dots_than_are_counted(pieces: list[str]) -> None:
    text = "x = [" + "".join(pieces)
    longest = 0
    read = _parser.parse_key

    def watched(*state: Any) -> Any:
        nonlocal longest
        found = read(*state)
        longest = max(longest, len(found[1]))
        return found

    with pytest.MonkeyPatch.context() as patched, contextlib.suppress(tomllib.TOMLDecodeError):
        patched.setattr(_parser, "parse_key", watched)
        tomllib.loads(text)
    assert longest <= count_dots(text) + 1


@pytest.mark.parametrize("text", ['x = "\\', 'x = """\\', "x = '''", "x = '", 'x = "' + '\\"' * 50_000, "x = \0"])
def test_what_does_not_end_is_no_toml(text: str) -> None:
    with pytest.raises(PolicyError) as refusal:
        parse(text)
    assert "is not TOML" in refusal.value.message


@pytest.mark.usefixtures("unparsed")
def test_a_policy_in_bytes_is_as_long_as_a_file_may_be() -> None:
    with pytest.raises(PolicyError) as refusal:
        load_policy(b"#" * (MAX_POLICY + 1))
    assert refusal.value.code is PolicyCode.POLICY_MALFORMED
    assert refusal.value.found == f"{MAX_POLICY + 1} bytes"


@pytest.mark.usefixtures("unparsed")
def test_a_list_of_broken_hardware_is_bounded_likewise(tmp_path: Path) -> None:
    path = tmp_path / "list.toml"
    path.write_text(f"{MOST}.a = 1\n")
    terms = ["sign", str(path), "--key", str(path), "--output", str(tmp_path / "out")]
    result = CliRunner().invoke(feed, terms)
    assert isinstance(result.exception, PolicyError)
    assert result.exception.code is PolicyCode.FEED_MALFORMED
    assert "too many parts" in result.exception.message
