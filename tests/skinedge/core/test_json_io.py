"""The reader of JSON and TOML: accepted and refused documents, and positions in error messages."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skinedge.core.errors import BundleError, ConfigError, DataError
from skinedge.core.json_io import TOML_BYTES, build, parse_json, parse_toml, read_json, read_toml
from skinedge.core.schemas import DEEPEST


@dataclass(frozen=True)
class Part:
    size: int
    mean: tuple[float, float] = (0.0, 1.0)


class Open(TypedDict, total=False):
    count: int
    parts: list[Part]


@dataclass(frozen=True)
class Document:
    name: str
    part: Part
    parts: Mapping[str, Part] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)
    open: Open | None = None


GOOD: dict[str, Any] = {"name": "a", "part": {"size": 3}}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=20,
)


def test_valid_documents_are_converted_to_the_schema() -> None:
    text = '{"name": "a", "part": {"size": 3, "mean": [1, 2.5]}, "open": {"count": 1, "newer": [{}]}}'
    assert parse_json(text, Document, "x") == Document("a", Part(3, (1.0, 2.5)), open={"count": 1})
    assert parse_toml('name = "a"\n[part]\nsize = 3\n', Document, "x") == Document("a", Part(3))
    assert parse_json(b'{"any": [1, null]}', dict[str, Any], "x") == {"any": [1, None]}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"name": 3}, "name: expected str, got int"),
        ({"part": {"size": True}}, "part.size: expected int, got bool"),
        ({"part": {"size": 3.0}}, "part.size: expected int, got float"),
        ({"part": {}}, "part: 'size' is missing"),
        ({"part": {"size": 3, "side": 4}}, "unknown key 'part.side'; valid: size, mean"),
        ({"part": {"size": 3, "mean": [1.0]}}, "part.mean: expected array of length 2, got 1"),
        ({"part": {"size": 3, "mean": [1.0, "b"]}}, "part.mean[1]: expected float, got str"),
        ({"part": [3]}, "part: expected object, got array"),
        (
            {"parts": {"a": {"size": 1}, "b c": {"size": ""}, "d": {"size": 1}}},
            'parts["b c"].size: expected int, got str',
        ),
        ({"parts": {"a": {"size": 1, "x": 1}}}, "unknown key 'parts.a.x'"),
        ({"open": {"parts": [{"size": 1}, {"size": 2, "x": 1}]}}, "unknown key 'open.parts[1].x'"),
        ({"open": {"count": "1"}}, "open.count: expected int, got str"),
        ({"extra": 1}, "unknown key 'extra'; valid: name, part, parts, info, open"),
        ({"info": {"deep": [1, {"n": 2**63}]}}, "info.deep[1].n: integer of more than 64 bits"),
        ({"info": {"text": "\ud800"}}, "info.text: text that is not Unicode"),
    ],
)
def test_schema_errors_state_the_position(change: dict[str, object], complaint: str) -> None:
    for read in (
        lambda: build({**GOOD, **change}, Document, "file.json"),
        lambda: parse_json(json.dumps({**GOOD, **change}), Document, "file.json"),
    ):
        with pytest.raises(BundleError, match=rf"^file\.json: {re.escape(complaint)}"):
            read()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "not valid JSON"),
        (b"\0", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe{}", "not valid JSON"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": -Infinity}', "-Infinity is not a JSON number"),
        (b'{"a": 1e999}', "a: inf is not a finite number"),
        (b'{"a": 1, "a": 2}', 'duplicate key "a"'),
        (b"[" * 100_000, "nested too deep"),
        (b'{"a":' * 100_000, "nested too deep"),
        (b"[" * 100 + b"]" * 100, "nested more than|expected"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (b'{"a": ' + b"9" * 30 + b"}", "more than 64 bits"),
        (b"[]", "expected object, got array"),
        (b"null", "expected object, got null"),
        (b" " * (16 << 20) + b"{}", "limit"),
    ],
)
def test_malformed_json_is_refused_in_one_line(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=complaint) as error:
        read_json(path, dict[str, Any], error=DataError)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"a = ", "not valid TOML"),
        (b"\xff", "not valid TOML"),
        (b"a = " + b"[" * 30_000, "nested too deep"),
        (b"a = " + b"{b = " * 3000, "nested too deep"),
        (b"a." * 100 + b"a = 1", "nested more than"),
        (b"x = {" + b"a." * (TOML_BYTES // 2 - 9) + b"a = 1}", "more than 128 dots"),
        (b"a = 1\na = 2", "not valid TOML"),
        (b"a = nan", "a: nan is not a finite number"),
        (b"a = 2026-01-01", "a: unexpected date"),
        (b"a = " + b"9" * 5000, "not valid TOML"),
        (b"#" * (TOML_BYTES + 1), "limit"),
    ],
)
def test_malformed_toml_is_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=complaint) as error:
        read_toml(path, dict[str, Any])
    assert str(error.value).startswith(str(path))


def test_document_that_is_not_a_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, complaint in (
        (tmp_path / "none", "no such file"),
        (tmp_path, "cannot be read|not a regular file"),
        (tmp_path / "pipe", "not a regular file"),
        (Path("/dev/zero"), "not a regular file"),
        (Path("a\0b"), "cannot be read"),
    ):
        with pytest.raises(BundleError, match=complaint):
            read_json(path, dict[str, Any])


def test_nesting_limit() -> None:
    def nested(levels: int) -> str:
        return '{"a":' * levels + "1" + "}" * levels

    assert parse_json(nested(DEEPEST), dict[str, Any], "x")
    with pytest.raises(BundleError, match="nested more than"):
        parse_json(nested(DEEPEST + 1), dict[str, Any], "x")


@given(VALUES)
def test_any_value_is_converted_or_refused_with_a_bundle_error(value: Any) -> None:
    for kind in (Document, dict[str, Any], list[Part], Open):
        try:
            build(value, kind, "x")
        except BundleError:
            continue


@given(st.binary(max_size=300) | st.text(alphabet='{}[]",:0123456789eE.-tfn\\u \n', max_size=60).map(str.encode))
def test_any_bytes_are_parsed_or_refused_with_our_errors(content: bytes) -> None:
    for parse in (parse_json, parse_toml):
        try:
            parse(content, dict[str, Any], "x")
        except (BundleError, ConfigError):
            continue


@given(st.dictionaries(st.text(min_size=1), VALUES, min_size=1, max_size=8), st.data())
def test_schema_error_names_the_failing_key_of_a_mapping(others: dict[str, Any], data: st.DataObject) -> None:
    good = {key: {"size": 1} for key in others}
    bad = data.draw(st.sampled_from(sorted(good)))
    with pytest.raises(BundleError) as error:
        build({**good, bad: {"size": "x"}}, dict[str, Part], "x")
    name = bad if re.fullmatch(r"[\w-]+", bad) else f"[{json.dumps(bad)}]"
    assert str(error.value) == f"x: {name}.size: expected int, got str"
