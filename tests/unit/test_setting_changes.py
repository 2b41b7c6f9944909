"""What the audit may log of changed settings."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.grant_requests import CATALOGUE
from token_broker.core.setting_changes import MAX_SHOWN, setting_changes

OAUTH2 = CATALOGUE["oauth2"]
HIDDEN = "hidden"


def logged(before: dict[str, Any], after: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The changes by field."""
    return {change.pop("field"): change for change in setting_changes(OAUTH2, before, after)}


def test_equal_settings_have_no_change() -> None:
    assert logged({"scope": "a", "params": {"a": 1}}, {"scope": "a", "params": {"a": 1}}) == {}


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("scope", "a", "a b"),
        ("allowed_callers", ["*"], ["arn:aws:iam::123456789012:role/x"]),
        ("lifetime_s", 60, 90),
        ("suspended", False, True),
        ("keep_warm", "used", "never"),
        ("credentials_expire_at", None, "2027-01-31T00:00:00Z"),
    ],
)
def test_values_on_the_list_are_logged(name: str, old: object, new: object) -> None:
    change = {"old": old, "new": new} if old is not None else {"new": new}
    assert logged({name: old}, {name: new}) == {name: change}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("params", {"audience": HIDDEN}),
        ("token_url", f"https://id.example/{HIDDEN}?x={HIDDEN}"),
        ("token_url", f"https://user:{HIDDEN}@id.example/"),
        ("token_url", f"https://[{HIDDEN}"),
        ("token_url", {HIDDEN: 1}),
        ("ca_bundle", HIDDEN),
        ("unknown", HIDDEN),
        # Nobody can PUT these, but the table can be edited by hand.
        ("scope", {"a": HIDDEN}),
        ("allowed_callers", [{"a": HIDDEN}]),
        ("allowed_callers", [HIDDEN * MAX_SHOWN]),
    ],
)
def test_other_values_are_logged_as_digests(name: str, value: object) -> None:
    (change,) = setting_changes(OAUTH2, {name: value}, {})
    assert HIDDEN not in json.dumps(change)
    assert len(change["old_digest"]) == 16


def test_of_a_url_its_origin_is_logged() -> None:
    changes = logged({"token_url": "https://a.example:8443/x"}, {"token_url": "https://b.example/x"})
    assert changes["token_url"]["old"] == "https://a.example:8443"
    assert changes["token_url"]["new"] == "https://b.example"
