"""Templates: parsed once, expanded in one pass, and each value stays in its place."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from token_broker.core.templates import (
    expand_fields,
    header_value,
    host_label,
    names_in,
    parse_template,
    parse_url_template,
    parse_value,
)

VALUES: dict[str, Any] = {"a": "one", "secret:b": "two", "n": 7, "on": True, "list": ["x", "y"], "none": None, "no": ""}
ANY_TEXT = st.text(max_size=30) | st.sampled_from(["{a}", "{secret:b}", "}{", "../x", "a/b?c=d&e#f", "@evil.example"])


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("plain", "plain"),
        ("Bearer {a}", "Bearer one"),
        ("{a}{secret:b}", "onetwo"),
        ("{{a}}", "{a}"),
        ("{{{a}}}", "{one}"),
        ("{{ }}", "{ }"),
        ("n={n}", "n=7"),
        ("on={on}", "on=true"),
        ("{n}", 7),
        ("{on}", True),
        ("{list}", ["x", "y"]),
        ("{none}", None),
        ("{no}", None),
        ("x{none}", None),
        ("{missing}{a}", None),
        ("", ""),
    ],
)
def test_a_template_has_the_value_of_its_names(text: str, expanded: Any) -> None:
    assert parse_template(text).value(VALUES) == expanded


@pytest.mark.parametrize("text", ["{", "}", "a}b", "{a", "{}", "{0}", "{a!r}", "{a b}", "{secret:}", "{a:b}", "{{a}"])
def test_a_text_that_is_no_template_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"brace|name"):
        parse_template(text)


@given(value=ANY_TEXT, other=ANY_TEXT)
def test_what_was_inserted_is_never_expanded_again(value: str, other: str) -> None:
    template = parse_template("<{a}|{secret:b}>")
    expected = f"<{value}|{other}>" if value and other else None
    assert template.text({"a": value, "secret:b": other}) == expected


@given(st.recursive(ANY_TEXT, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(ANY_TEXT, inner, max_size=2)))
def test_a_text_with_doubled_braces_stands_for_itself(value: Any) -> None:
    def doubled(item: Any) -> Any:
        if isinstance(item, str):
            return item.replace("{", "{{").replace("}", "}}")
        return (
            [doubled(entry) for entry in item] if isinstance(item, list) else {k: doubled(v) for k, v in item.items()}
        )

    assert expand_fields({"f": parse_value(doubled(value))}, {}) == {"f": value}


def test_fields_without_a_value_are_left_out_at_every_depth() -> None:
    parsed = parse_value({"t": {"x": "{none}", "y": "{a}"}, "l": ["{no}", "{n}", True], "gone": "{none}", "z": 0})
    assert expand_fields(parsed, VALUES) == {"t": {"y": "one"}, "l": [7, True], "z": 0}
    assert sorted(names_in(parsed)) == ["a", "n", "no", "none", "none"]


@pytest.mark.parametrize("value", [None, object(), {"x": None}, [b"x"]])
def test_a_value_that_is_neither_text_number_nor_boolean_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="must have"):
        parse_value(value)


# ------------------------------------------------------------------ URLs
@pytest.mark.parametrize(
    ("url", "places"),
    [
        ("{a}/x/{b}?c={d}", ("start", "path", "query")),
        ("https://{a}.example.com/{b}?{c}", ("host", "path", "query")),
        ("https://x.{a}.example.com", ("host",)),
        ("https://example.com/{a}/{b}", ("path", "path")),
        ("https://example.com?x={a}/{b}", ("query", "query")),
        ("{a}?x={b}", ("start", "query")),
        ("revoke/{a}", ("path",)),
        ("revoke?x={a}", ("query",)),
        ("{a}", ("start",)),
    ],
)
def test_each_name_of_a_url_has_a_place(url: str, places: tuple[str, ...]) -> None:
    assert parse_url_template(url).places == places


@pytest.mark.parametrize("url", ["{a}{b}/x", "{a}.example.com", "{a}@example.com/", "{a}:1/{b}"])
def test_nothing_may_follow_a_url_that_would_change_its_host(url: str) -> None:
    with pytest.raises(ValueError, match=r"go on|begun"):
        parse_url_template(url)


@given(value=ANY_TEXT.filter(bool))
def test_a_value_in_a_url_stays_in_its_path_segment_or_query_field(value: str) -> None:
    url = parse_url_template("{base}/t/{v}/end?q={v}&r=1").expand({"base": "https://h.example/b", "v": value})
    parts = urlsplit(url)
    assert parts.netloc == "h.example"
    assert [unquote(segment) for segment in parts.path.split("/")] == ["", "b", "t", value, "end"]
    assert parse_qsl(parts.query, keep_blank_values=True) == [("q", value), ("r", "1")]
    assert not parts.fragment


@given(value=ANY_TEXT.filter(bool))
def test_a_value_in_a_host_is_one_label(value: str) -> None:
    template = parse_url_template("https://{v}.vendor.example/token")
    try:
        url = template.expand({"v": value})
    except ValueError:
        return
    assert urlsplit(url).netloc == f"{value}.vendor.example"
    assert "." not in value
    assert url.isascii()


@pytest.mark.parametrize("label", ["", "-a", "a-", "a.b", "a" * 64, "ä", "a/b", "a:1", "a@b", "a\n"])
def test_a_text_that_is_no_label_is_refused(label: str) -> None:
    with pytest.raises(ValueError, match="host name"):
        host_label(label)


def test_a_url_without_one_of_its_values_is_empty() -> None:
    assert parse_url_template("{base}/revoke").expand({"base": None}) == ""


# ------------------------------------------------------------------ headers
@given(value=ANY_TEXT)
def test_a_header_holds_visible_ascii_and_inner_spaces(value: str) -> None:
    if value and value.isascii() and value.isprintable() and value == value.strip():
        assert header_value(value) == value
        return
    with pytest.raises(ValueError, match=r"^has a character that no header can hold$"):
        header_value(value)
