"""The order in which connections are shown: the worst first."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

# Failures that only a person ends.
LASTING: Final = ("provider_refused", "connection_misconfigured", "consent_required")
# Worst first.
STATES: Final = ("failing", "misconfigured", "consent_required", "reported", "suspended", "ok", "idle")
DEADLINE_SOON: Final = timedelta(days=14)


def severity(row: Mapping[str, Any], now: datetime) -> tuple[Any, ...]:
    """A sort key: the worst connection first, then those of one state by name.

    Of failing ones, those whose callers get no token come first, and then those that only a person can help.
    """
    state = row["state"]
    rank = STATES.index(state) if state in STATES else 0
    passes = (row["last_failure"] or {}).get("code") not in LASTING
    deadline = min((item["at"] for item in row["deadlines"]), default="9999")
    soon = deadline if deadline < (now + DEADLINE_SOON).isoformat() else "9999"
    return rank, row["tokens"] > 0, passes, soon, row["provider"], row["connection"]
