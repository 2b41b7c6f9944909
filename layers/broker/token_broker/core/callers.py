"""Who may get a connection's tokens: IAM roles and users, named by ARN."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

# `arn:aws`, `arn:aws-cn`, `arn:aws-us-gov`, `arn:aws-iso-b`, `arn:aws-eusc` …: AWS adds partitions.
_PARTITION = r"(?P<partition>aws(?:-[a-z]+)*)"
_PRINCIPAL = re.compile(
    rf"arn:{_PARTITION}:iam::(?P<account>[0-9]{{12}}):"
    r"(?P<kind>role|user)/(?P<path>(?:[\x21-\x7e]+/)?)(?P<name>[\w+=,.@*-]{1,128})",
    re.ASCII,
)
_SESSION = re.compile(rf"arn:{_PARTITION}:sts::(?P<account>[0-9]{{12}}):assumed-role/(?P<name>[^/]+)(?:/.*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Caller:
    """The principal that API Gateway verified, without path and session: `arn:aws:iam::123456789012:role/shop`."""

    arn: str

    @classmethod
    @lru_cache(maxsize=1024)
    def from_event(cls, user_arn: str) -> Caller:
        """From `requestContext.identity.userArn`, where an assumed role's ARN has no role path.

        An ARN of another kind (root, a federated user) is kept as it is and matches only `*`.
        """
        return cls(_role_of(user_arn) or _without_path(user_arn))


def allow_entry(value: object) -> str:
    """One entry of a list of callers: `*`, or an IAM role or user ARN with its account. Its path is dropped.

    A `*` in the name stands for any characters. Raises ValueError with the reason. `aws sts get-caller-identity` prints
    the ARN of a session. Its reason names the role ARN to write instead.
    """
    if value == "*":
        return "*"
    role = _role_of(value) if isinstance(value, str) else None
    if role is not None and _PRINCIPAL.fullmatch(role):
        raise ValueError(f"is the ARN of a session of a role; write the role's ARN: {role}")
    match = _PRINCIPAL.fullmatch(value) if isinstance(value, str) else None
    if match is None or "*" in match["path"]:
        raise ValueError("must be * or the ARN of an IAM role or user with a 12-digit account, * only in its name")
    return _without_path(match[0])


def is_admitted(caller: Caller, allowed: Sequence[str], denied: Sequence[str]) -> bool:
    """Whether the lists admit the caller. A denial wins. An empty allow-list admits nobody.

    A caller that API Gateway did not name is never admitted, not even by `*`.
    """
    return (
        bool(caller.arn)
        and any(_matches(entry, caller.arn) for entry in allowed)
        and not any(_matches(entry, caller.arn) for entry in denied)
    )


def _role_of(session_arn: str) -> str | None:
    """The role of an assumed-role session, which has no path; None for another ARN."""
    match = _SESSION.fullmatch(session_arn)
    return f"arn:{match['partition']}:iam::{match['account']}:role/{match['name']}" if match is not None else None


def _without_path(arn: str) -> str:
    head, separator, rest = arn.partition("/")
    return f"{head}/{rest.rpartition('/')[2]}" if separator else arn


def _matches(entry: str, arn: str) -> bool:
    return entry == "*" or (_pattern(entry).fullmatch(arn) is not None if "*" in entry else entry == arn)


@lru_cache(maxsize=1024)
def _pattern(entry: str) -> re.Pattern[str]:
    return re.compile("[^/:]*".join(re.escape(part) for part in entry.split("*")))
