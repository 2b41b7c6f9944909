"""What each failure means, where it rests and for how long: one ordered table, `classify`, and `next_failure`.

The rows are numbered as tests/unit/test_failures.py holds them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Literal

Step = Literal["connect", "token", "code", "refresh", "login"]
Transport = Literal["unreachable", "bad_certificate", "refused_address", "unknown"]


class Kind(Enum):
    """What an attempt that brought no token means for the next one."""

    TRANSIENT = "provider_unavailable"
    INVALID = "provider_invalid_response"
    LIMITED = "provider_rate_limited"
    REFUSED = "provider_refused"

    @property
    def code(self) -> str:
        return self.value


class Where(Enum):
    """What a failure keeps from being asked again: its cause lies there."""

    CONNECTION = "connection"
    KEY = "key"
    LIMIT = "limit"


@dataclass(frozen=True, slots=True)
class Seen:
    """One exchange, reduced to what decides. `error` is a code of replies.KNOWN_ERRORS, `unrecognised` or None.

    `elsewhere`: connect's redirect does not lead to redirect_uri. `proven`: these credentials worked before.
    `unusable`: why a 2xx answer is no token, None if it is one.
    """

    step: Step
    status: int = 0
    error: str | None = None
    transport: Transport | None = None
    retry_after: timedelta | None = None
    has_retry_after: bool = False
    html: bool = False
    proven: bool = False
    elsewhere: bool = False
    unusable: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a failure means. `rest` is fixed, or None for the growing rests of its kind. `row`: its number in the table.
    `restart`: the grant may start anew at once. `outcome_unknown`: what was sent may have taken effect."""

    row: int
    kind: Kind
    where: Where
    detail: str
    provider_error: str | None = None
    rest: timedelta | None = None
    restart: bool = False
    outcome_unknown: bool = False


BAD_CERTIFICATE_REST = timedelta(minutes=5)
MISDIRECTED_REST = timedelta(minutes=15)
DEFAULT_LIMIT_REST = timedelta(seconds=60)
MAX_LIMIT_REST = timedelta(hours=1)
SECOND_THOUGHT_REST = timedelta(seconds=60)
TRANSIENT_RESTS = tuple(timedelta(seconds=s) for s in (2, 30, 60, 120, 240, 300))
REFUSED_RESTS = (timedelta(minutes=15), timedelta(hours=1), timedelta(hours=4), timedelta(hours=24))

CLIENT_ERRORS = frozenset({"invalid_client", "unauthorized_client", "invalid_credentials"})
SCOPE_ERRORS = frozenset({"invalid_scope", "scope_invalid", "invalid_target"})
REQUEST_ERRORS = frozenset({"invalid_request", "unsupported_grant_type"})
PASSING_ERRORS = frozenset({"server_error", "temporarily_unavailable", "invalid_token_reuse"})
CONNECT_PASSING_ERRORS = frozenset({"server_error", "temporarily_unavailable"})


def classify(seen: Seen) -> Verdict | None:
    """What an exchange means; None if it is a success. The first row that matches counts."""
    return next((verdict for row in _ROWS if (verdict := row(seen)) is not None), None)


def _transient(row: int, detail: str, seen: Seen, *, rest: timedelta | None = None) -> Verdict:
    return Verdict(row, Kind.TRANSIENT, Where.CONNECTION, detail, seen.error, rest)


def _refused(row: int, where: Where, detail: str, seen: Seen) -> Verdict:
    return Verdict(row, Kind.REFUSED, where, detail, seen.error)


def _row_1(seen: Seen) -> Verdict | None:
    if seen.transport == "bad_certificate":
        return _transient(1, "The provider's certificate is not trusted.", seen, rest=BAD_CERTIFICATE_REST)
    if seen.transport == "refused_address":
        detail = (
            "The provider's address is not public: that takes private_network, and AllowPrivateNetworks of the stack."
        )
        return _transient(1, detail, seen, rest=BAD_CERTIFICATE_REST)
    if seen.transport == "unreachable":
        return _transient(1, "The provider cannot be reached.", seen)
    return None


def _row_2(seen: Seen) -> Verdict | None:
    if seen.transport != "unknown":
        return None
    verdict = _transient(2, "The provider did not answer in time or in full.", seen)
    return replace(verdict, outcome_unknown=True)


def _row_3(seen: Seen) -> Verdict | None:
    if not (seen.elsewhere or (seen.step != "connect" and 300 <= seen.status < 400)):
        return None
    return Verdict(
        3,
        Kind.INVALID,
        Where.CONNECTION,
        "The provider redirects to somewhere else.",
        seen.error,
        MISDIRECTED_REST,
    )


def _row_4(seen: Seen) -> Verdict | None:
    if seen.step != "connect" or not 300 <= seen.status < 400 or seen.error is None:
        return None
    if seen.error in CONNECT_PASSING_ERRORS:
        return _transient(4, "The provider could not authorise for now.", seen)
    return _refused(4, Where.CONNECTION, "The provider refused to authorise.", seen)


def _row_5(seen: Seen) -> Verdict | None:
    if seen.step == "connect" and (200 <= seen.status < 300 or 400 <= seen.status < 500):
        has_known_code = seen.error is not None and seen.error != "unrecognised"
        if not has_known_code and seen.status not in (408, 425, 429):
            return _refused(
                5, Where.CONNECTION, "The provider gave no code: is redirect_uri on the store's whitelist?", seen
            )
    return None


def _row_6(seen: Seen) -> Verdict | None:
    if not (seen.status == 429 or (seen.status == 503 and seen.has_retry_after)):
        return None
    rest = min(seen.retry_after or DEFAULT_LIMIT_REST, MAX_LIMIT_REST)
    return Verdict(6, Kind.LIMITED, Where.LIMIT, "The provider asks to be left alone.", seen.error, rest)


def _row_7(seen: Seen) -> Verdict | None:
    if seen.error not in CLIENT_ERRORS:
        return None
    return _refused(7, Where.CONNECTION, "The provider refused the credentials.", seen)


def _row_8(seen: Seen) -> Verdict | None:
    return _refused(8, Where.KEY, "The provider refused the scope.", seen) if seen.error in SCOPE_ERRORS else None


def _row_9(seen: Seen) -> Verdict | None:
    if seen.error not in REQUEST_ERRORS:
        return None
    return _refused(9, Where.CONNECTION, "The provider does not accept this kind of request.", seen)


def _row_10(seen: Seen) -> Verdict | None:
    if seen.error != "invalid_grant":
        return None
    if seen.step in ("refresh", "code"):
        verdict = _transient(10, "The provider refused the refresh token or code.", seen)
        return replace(verdict, restart=True)
    return _refused(10, Where.CONNECTION, "The provider refused the grant.", seen)


def _row_11(seen: Seen) -> Verdict | None:
    return _transient(11, "The provider failed on its side.", seen) if seen.error in PASSING_ERRORS else None


def _row_12(seen: Seen) -> Verdict | None:
    if seen.proven and (seen.error == "failed" or (seen.status in (401, 403) and seen.html)):
        return _transient(12, "The provider refused credentials that worked before.", seen, rest=SECOND_THOUGHT_REST)
    return None


def _row_13(seen: Seen) -> Verdict | None:
    if seen.error == "failed" or seen.status in (401, 403):
        return _refused(13, Where.CONNECTION, "The provider refused the credentials.", seen)
    return None


def _row_14(seen: Seen) -> Verdict | None:
    if not 400 <= seen.status < 500 or seen.status in (408, 425):
        return None
    verdict = _refused(14, Where.CONNECTION, "The provider does not know this request: URL or encoding?", seen)
    return replace(verdict, rest=MISDIRECTED_REST)


def _row_15(seen: Seen) -> Verdict | None:
    if seen.status in (408, 425) or seen.status >= 500:
        return _transient(15, "The provider failed on its side.", seen)
    return None


def _row_16(seen: Seen) -> Verdict | None:
    if seen.unusable is None and 200 <= seen.status < 400:
        return None
    detail = f"The provider's answer is no usable token: {seen.unusable or 'an unexpected status'}."
    return Verdict(16, Kind.INVALID, Where.CONNECTION, detail, seen.error)


_ROWS: tuple[Callable[[Seen], Verdict | None], ...] = (
    _row_1, _row_2, _row_3, _row_4, _row_5, _row_6, _row_7, _row_8,
    _row_9, _row_10, _row_11, _row_12, _row_13, _row_14, _row_15, _row_16,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Failure:
    """A remembered failure. `retry_at`: nobody asks before. `secret_version` and `settings_version`: what was refused,
    so that a change of either lifts a refusal. `count`: failures in a row. `doubted`: a refusal of credentials that
    worked before was taken for a passing one (row 12), which is done once."""

    code: str
    detail: str
    provider_error: str | None
    at: datetime
    retry_at: datetime
    count: int
    secret_version: str | None
    settings_version: str
    row: int
    doubted: bool = False

    @property
    def refused(self) -> bool:
        """Whether it was for good: only a caller tries again after its rest, never the sweep."""
        return self.code == Kind.REFUSED.code

    @property
    def limited(self) -> bool:
        """Whether the provider wishes to be left alone, whatever it is asked with."""
        return self.code == Kind.LIMITED.code

    @property
    def misconfigured(self) -> bool:
        """Whether the provider was never asked: no caller waits for that, the sweep does."""
        return self.row == 0


def next_failure(
    verdict: Verdict, previous: Failure | None, *, now: datetime, secret_version: str | None, settings_version: str
) -> Failure:
    """The failure to remember after one more of its kind: rests grow with the count of failures in a row.

    The second refusal of proven credentials (row 12) is believed.
    """
    is_same_secret = previous is not None and previous.secret_version == secret_version
    doubted = previous is not None and is_same_secret and previous.doubted
    if verdict.row == 12 and previous is not None and (doubted or previous.refused):
        verdict = replace(verdict, row=13, kind=Kind.REFUSED, rest=None)
    is_refusal = verdict.kind is Kind.REFUSED
    in_a_row = previous is not None and previous.refused == is_refusal and (is_same_secret or not is_refusal)
    count = previous.count + 1 if previous is not None and in_a_row else 1
    return Failure(
        code=verdict.kind.code,
        detail=verdict.detail,
        provider_error=verdict.provider_error,
        at=now,
        retry_at=now + (verdict.rest if verdict.rest is not None else growing_rest(verdict.kind, count)),
        count=count,
        secret_version=secret_version,
        settings_version=settings_version,
        row=verdict.row,
        doubted=doubted or verdict.row == 12,
    )


def to_remember(failure: Failure, previous: Failure | None) -> Failure:
    """What to keep of a new failure: it shortens no rest of the same secret and settings (nor a wish to be left alone,
    of whatever settings), and an outage ends no refusal. Behind one, attempts are as far apart as a long outage's."""
    if previous is None or failure.refused:
        return failure
    is_same = (previous.secret_version, previous.settings_version) == (failure.secret_version, failure.settings_version)
    if not is_same and not failure.limited:
        return failure
    retry_at = max(previous.retry_at, failure.retry_at)
    if not previous.refused:
        return replace(failure, retry_at=retry_at)
    return replace(previous, retry_at=max(retry_at, failure.at + TRANSIENT_RESTS[-1]))


def growing_rest(kind: Kind, count: int) -> timedelta:
    """2 s, 30 s, doubling to 5 min; for a refusal 15 min, 1 h, 4 h, then every 24 h."""
    rests = REFUSED_RESTS if kind is Kind.REFUSED else TRANSIENT_RESTS
    return rests[min(count, len(rests)) - 1]
