"""Who may get a connection's tokens."""

from __future__ import annotations

import pytest
from botocore.session import get_session
from hypothesis import given
from hypothesis import strategies as st

from token_broker.core.callers import Caller, allow_entry, is_admitted

ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role"
USER = f"arn:aws:iam::{ACCOUNT}:user"
STS = f"arn:aws:sts::{ACCOUNT}:assumed-role"
PARTITIONS = get_session().get_available_partitions()


@pytest.mark.parametrize(
    ("user_arn", "arn"),
    [
        (f"{STS}/shop/session-1", f"{ROLE}/shop"),
        (f"{STS}/shop/i-0abc@x=1", f"{ROLE}/shop"),
        *(
            (f"arn:{partition}:sts::{ACCOUNT}:assumed-role/shop/s", f"arn:{partition}:iam::{ACCOUNT}:role/shop")
            for partition in PARTITIONS
        ),
        (f"{ROLE}/shop", f"{ROLE}/shop"),
        (f"{ROLE}/team/x/shop", f"{ROLE}/shop"),
        (f"{USER}/bob", f"{USER}/bob"),
        (f"{USER}/dept/bob", f"{USER}/bob"),
        (f"arn:aws:iam::{ACCOUNT}:root", f"arn:aws:iam::{ACCOUNT}:root"),
        (f"arn:aws:sts::{ACCOUNT}:federated-user/bob", f"arn:aws:sts::{ACCOUNT}:federated-user/bob"),
        ("", ""),
    ],
)
def test_a_caller_has_neither_path_nor_session(user_arn: str, arn: str) -> None:
    assert Caller.from_event(user_arn) == Caller(arn)


@pytest.mark.parametrize(
    ("entry", "kept"),
    [
        ("*", "*"),
        (f"{ROLE}/shop", f"{ROLE}/shop"),
        (f"{ROLE}/team/x/shop", f"{ROLE}/shop"),
        (f"{ROLE}/service-role/shop-*", f"{ROLE}/shop-*"),
        (f"{ROLE}/*", f"{ROLE}/*"),
        (f"{USER}/dept/bob@example.com", f"{USER}/bob@example.com"),
        *((f"arn:{partition}:iam::{ACCOUNT}:role/shop",) * 2 for partition in PARTITIONS),
    ],
)
def test_an_entry_is_a_star_or_a_role_or_user(entry: str, kept: str) -> None:
    assert allow_entry(entry) == kept


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "**",
        "shop",
        None,
        7,
        ["*"],
        "arn:aws:iam::*:role/shop",
        "arn:aws:iam::12345678901:role/shop",
        "arn:aws:iam::1234567890123:role/shop",
        "arn:*:iam::123456789012:role/shop",
        "arn:awsx:iam::123456789012:role/shop",
        "arn:AWS:iam::123456789012:role/shop",
        "arn:aws-:iam::123456789012:role/shop",
        f"arn:aws:iam::{ACCOUNT}:*",
        f"arn:aws:iam::{ACCOUNT}:*/shop",
        f"arn:aws:iam::{ACCOUNT}:root",
        f"arn:aws:iam::{ACCOUNT}:group/admins",
        f"arn:aws:iam::{ACCOUNT}:assumed-role/shop",
        f"arn:aws:sts::{ACCOUNT}:role/shop",
        f"{ROLE}/",
        f"{ROLE}/*/shop",
        f"{ROLE}/te*am/shop",
        f"{ROLE}/shop ",
        f"{ROLE}/shop\n",
        f"{ROLE}/sh op",
        "arn:aws:iam::१२३४५६७८९०१२:role/shop",
    ],
)
def test_other_values_are_not_entries(entry: object) -> None:
    with pytest.raises(ValueError, match="ARN"):
        allow_entry(entry)


@pytest.mark.parametrize("partition", PARTITIONS)
@pytest.mark.parametrize("session", ["/i-0abc@x=1", "/session", ""])
def test_the_arn_of_a_session_is_refused_with_the_role_to_write_instead(partition: str, session: str) -> None:
    """`aws sts get-caller-identity` prints it."""
    with pytest.raises(ValueError, match=rf": arn:{partition}:iam::{ACCOUNT}:role/shop$"):
        allow_entry(f"arn:{partition}:sts::{ACCOUNT}:assumed-role/shop{session}")


@pytest.mark.parametrize(
    ("user_arn", "allowed", "denied", "admitted"),
    [
        (f"{STS}/shop/s", [f"{ROLE}/team/shop"], [], True),
        (f"{STS}/shop/s", [], [], False),
        (f"{STS}/shop/s", ["*"], [], True),
        (f"{STS}/shop/s", ["*"], [f"{ROLE}/shop"], False),
        (f"{STS}/shop/s", ["*"], [f"{ROLE}/team/sh*"], False),
        (f"{STS}/shop/s", ["*"], ["*"], False),
        (f"{STS}/shop/s", [f"{ROLE}/shop"], [f"{ROLE}/other"], True),
        (f"{STS}/shop-eu/s", [f"{ROLE}/shop"], [], False),
        (f"{STS}/shop-eu/s", [f"{ROLE}/shop-*"], [], True),
        (f"{STS}/shop/s", [f"{ROLE}/shop-*"], [], False),
        (f"{STS}/shop/s", [f"{ROLE}/*"], [], True),
        (f"{STS}/shop/s", [f"{ROLE}/Shop"], [], False),
        (f"{STS}/shop/s", [f"{USER}/shop"], [], False),
        (f"{USER}/shop", [f"{ROLE}/*"], [], False),
        (f"{STS}/sh.p/s", [f"{ROLE}/sh.p*"], [], True),
        (f"{STS}/shop/s", [f"{ROLE}/sh.p*"], [], False),
        ("arn:aws:sts::210987654321:assumed-role/shop/s", [f"{ROLE}/shop"], [], False),
        ("arn:aws:sts::210987654321:assumed-role/shop/s", [f"{ROLE}/*"], [], False),
        (f"arn:aws-cn:sts::{ACCOUNT}:assumed-role/shop/s", [f"{ROLE}/shop"], [], False),
        (f"arn:aws:iam::{ACCOUNT}:root", [f"{ROLE}/*", f"{USER}/*"], [], False),
        (f"arn:aws:iam::{ACCOUNT}:root", ["*"], [], True),
        (f"arn:aws:sts::{ACCOUNT}:federated-user/bob", [f"{USER}/*"], [], False),
        ("", [f"{ROLE}/*"], [], False),
    ],
)
def test_a_denial_wins_and_an_empty_list_admits_nobody(
    user_arn: str, allowed: list[str], denied: list[str], admitted: bool
) -> None:
    entries = [allow_entry(entry) for entry in allowed]
    denials = [allow_entry(entry) for entry in denied]
    assert is_admitted(Caller.from_event(user_arn), entries, denials) is admitted


@given(st.text(max_size=40), st.text(max_size=20))
def test_no_arn_of_another_account_matches_a_wildcard(user_arn: str, session: str) -> None:
    entry = allow_entry(f"{ROLE}/*")
    for arn in (user_arn, f"arn:aws:sts::210987654321:assumed-role/{user_arn}/{session}"):
        assert not is_admitted(Caller.from_event(arn), [entry], [])
