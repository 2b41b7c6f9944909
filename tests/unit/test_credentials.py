"""What a secret must contain, and that no error shows its values."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.grant_requests import CATALOGUE, CLIENT, LOGIN
from token_broker.core.credentials import Credentials, Secret, check_scope_without_secret, parse_credentials
from token_broker.core.names import ConnectionName
from token_broker.errors import ConnectionMisconfigured


def parsed(slug: str, text: str) -> Credentials:
    return parse_credentials(ConnectionName(slug, "main"), CATALOGUE[slug], Secret(text, "v1"))


def why_not(slug: str, text: str) -> str:
    with pytest.raises(ConnectionMisconfigured) as caught:
        parsed(slug, text)
    return caught.value.detail


@pytest.mark.parametrize("slug", ["unified-services", "unicommerce", "commerce-layer", "ucommerce", "unidy", "oauth2"])
def test_each_provider_reads_its_credentials(slug: str) -> None:
    values = LOGIN if slug == "unicommerce" else CLIENT
    found = parsed(slug, json.dumps({**values, "rotated_by": "somebody", "notes": {"a": 1}}))
    assert (found.values, found.version) == (values, "v1")


def test_a_sales_channel_needs_no_secret() -> None:
    for text in (
        '{"client_id": "c"}',
        '{"client_id": "c", "client_secret": ""}',
        '{"client_id":"c","client_secret":null}',
    ):
        assert parsed("commerce-layer", text).client_secret is None


@pytest.mark.parametrize(
    "text", ["", "the-secret", "[]", '"the-secret"', "null", "7", "{", "[" * 100_000, "\ufeff", "\ufeff\ufeff{}"]
)
def test_a_secret_must_be_a_json_object(text: str) -> None:
    assert "unidy/main" in why_not("unidy", text)


@pytest.mark.parametrize(
    ("slug", "text", "field"),
    [
        ("unidy", '{"client_id": "c"}', "client_secret"),
        ("unidy", '{"client_secret": "s"}', "client_id"),
        ("unidy", '{"client_id": "c", "client_secret": ""}', "client_secret"),
        ("unidy", '{"client_id": "c", "client_secret": null}', "client_secret"),
        ("unidy", '{"client_id": 7, "client_secret": "s"}', "client_id"),
        ("unidy", '{"client_id": "c", "client_secret": ["s"]}', "client_secret"),
        ("commerce-layer", '{"client_id": "c", "client_secret": 7}', "client_secret"),
        ("unicommerce", '{"username": "u"}', "password"),
        ("unicommerce", '{"client_id": "c", "client_secret": "s"}', "username"),
    ],
)
def test_a_field_at_fault_is_named(slug: str, text: str, field: str) -> None:
    assert field in why_not(slug, text)


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + json.dumps(CLIENT),
        json.dumps(CLIENT, indent=2).replace("\n", "\r\n") + "\r\n",
        "\ufeff\r\n" + json.dumps(CLIENT),
    ],
)
def test_a_byte_order_mark_and_the_line_ends_of_windows_are_no_fault(text: str) -> None:
    assert parsed("unidy", text).values == CLIENT


CONTROL_CHARACTERS = [chr(code) for code in (*range(0x20), 0x7F)]


@pytest.mark.parametrize(
    ("slug", "field", "refused"),
    [
        ("unidy", "client_id", [*CONTROL_CHARACTERS, "\x80", "\x9f", "\u2028", "\u2029"]),
        ("unidy", "client_secret", [*CONTROL_CHARACTERS, "\x80", "\x9f", "\u2028", "\u2029"]),
        ("commerce-layer", "client_secret", CONTROL_CHARACTERS),
        ("unicommerce", "username", [found for found in CONTROL_CHARACTERS if found != "\t"]),
        ("unicommerce", "password", [found for found in CONTROL_CHARACTERS if found != "\t"]),
        ("akeneo", "client_secret", [*CONTROL_CHARACTERS, "\x80"]),
        ("akeneo", "password", [found for found in CONTROL_CHARACTERS if found != "\t"]),
    ],
)
def test_a_line_break_or_control_character_is_a_fault_that_names_the_field(
    slug: str, field: str, refused: list[str]
) -> None:
    """RFC 6749 appendix A: a client has none. A username and a password may have a tab."""
    values = {**LOGIN, **CLIENT}
    for character in refused:
        for value in (f"the-{character}secret", f"the-secret{character}", f"the-secret\r\n{character}"):
            detail = why_not(slug, json.dumps({**values, field: value}))
            assert field in detail
            assert "the-" not in detail


@pytest.mark.parametrize(
    ("slug", "value"),
    [
        ("unidy", 'p:äß ü€ %+&="\\'),
        ("unidy", "𝔘"),
        ("unicommerce", "tab\tä€"),
        ("unicommerce", "\x80\u2028𝔘"),
        ("akeneo", "tab\tä€"),
    ],
)
def test_other_characters_are_sent_as_they_are(slug: str, value: str) -> None:
    """Appendix A.2 allows a client_secret %x20-7E only. Servers give out others too."""
    field = "client_secret" if slug == "unidy" else "password"
    assert parsed(slug, json.dumps({**LOGIN, **CLIENT, field: value})).values[field] == value


@pytest.mark.parametrize("value", ["the-secret ", " the-secret", "the-secret\u00a0"])
def test_a_space_at_the_end_is_kept_and_told(value: str) -> None:
    found = parsed("unidy", json.dumps({**CLIENT, "client_secret": value}))
    assert found.values["client_secret"] == value
    assert [warning.partition(" ")[0] for warning in found.warnings] == ["client_secret"]
    assert "the-" not in found.warnings[0]
    assert parsed("unidy", json.dumps(CLIENT)).warnings == ()


def test_a_lone_surrogate_in_a_secret_is_a_fault() -> None:
    """JSON can hold one, but no request can. The error comes before anything is sent."""
    assert "client_secret" in why_not("unidy", '{"client_id": "c", "client_secret": "\\ud800"}')


@given(st.text(max_size=20).map("§{}§".format))
def test_no_error_shows_a_value(value: str) -> None:
    texts = [value, json.dumps([value]), json.dumps({"client_id": value}), json.dumps({"client_secret": value})]
    for text in texts:
        assert value not in why_not("unidy", text)


def test_no_repr_shows_a_value() -> None:
    found = parsed("unidy", json.dumps(CLIENT))
    assert "the-" not in repr(found) + repr(Secret("the-secret", "v1"))


@pytest.mark.parametrize("scope", ["market:id:a", "market:all", "stock_location:id:b market:code:a"])
def test_a_sales_channel_can_request_a_market(scope: str) -> None:
    channel = parsed("commerce-layer", '{"client_id": "c"}')
    check_scope_without_secret(ConnectionName("commerce-layer", "main"), CATALOGUE["commerce-layer"], channel, scope)


@pytest.mark.parametrize("scope", ["", "stock_location:id:b", "store:id:market"])
def test_a_sales_channel_must_request_a_market(scope: str) -> None:
    name = ConnectionName("commerce-layer", "main")
    provider = CATALOGUE["commerce-layer"]
    with pytest.raises(ConnectionMisconfigured, match="market:"):
        check_scope_without_secret(name, provider, parsed("commerce-layer", '{"client_id": "c"}'), scope)
    check_scope_without_secret(name, provider, parsed("commerce-layer", json.dumps(CLIENT)), scope)
