"""Who may get a connection's tokens: IAM roles and users, named by ARN."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

_PRINCIPAL = re.compile(
    r"arn:(?P<partition>aws|aws-cn|aws-us-gov):(?P<service>iam|sts)::(?P<account>[0-9]{12}):"
    r"(?P<kind>role|user|assumed-role)/(?P<path>(?:[\x21-\x7e]+/)?)(?P<name>[\w+=,.@*-]{1,128})"
)


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
        match = re.fullmatch(r"arn:([\w-]+):sts::([0-9]{12}):assumed-role/([^/]+)/(.+)", user_arn)
        if match:
            partition, account, role, _session = match.groups()
            return cls(f"arn:{partition}:iam::{account}:role/{role}")
        return cls(_without_path(user_arn))


def allow_entry(value: object) -> str:
    """One entry of a list of callers: `*`, or an IAM role or user ARN with its account. Its path is dropped.

    A `*` in the name stands for any characters. Raises ValueError with the reason.
    """
    if value == "*":
        return "*"
    match = _PRINCIPAL.fullmatch(value) if isinstance(value, str) else None
    if match is None or match["service"] != "iam" or match["kind"] == "assumed-role" or "*" in match["path"]:
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


def _without_path(arn: str) -> str:
    head, separator, rest = arn.partition("/")
    return f"{head}/{rest.rpartition('/')[2]}" if separator else arn


def _matches(entry: str, arn: str) -> bool:
    return entry == "*" or (_pattern(entry).fullmatch(arn) is not None if "*" in entry else entry == arn)


@lru_cache(maxsize=1024)
def _pattern(entry: str) -> re.Pattern[str]:
    return re.compile("[^/:]*".join(re.escape(part) for part in entry.split("*")))
