"""What to do about a failure, by its code, and the actions that do it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True)
class Remedy:
    """`text`: what to do. `actions`: what helps, by name."""

    text: str
    actions: tuple[str, ...] = ()


AT_THE_PROVIDER: Final = (
    "Check at the provider that the client still exists and may have this scope. If its credentials were changed,"
    " rotate them here. If the cause was at the provider, try the credentials after its correction. After the"
    " cooldown, the next request of a caller asks the provider again."
)
BY_ITSELF: Final = "The broker tries again by itself when the cooldown ends. A trial asks the provider now."
REMEDIES: Final[Mapping[str, Remedy]] = {
    "provider_refused": Remedy(AT_THE_PROVIDER, ("rotate", "trial")),
    "connection_misconfigured": Remedy(
        "The secret is missing or incomplete, or the settings are not valid. Store credentials, or correct the"
        " settings.",
        ("rotate", "edit"),
    ),
    "consent_required": Remedy(
        "The account's owner must consent again: token-broker connections connect PROVIDER NAME. Or put another"
        " refresh_token into the secret.",
        ("trial",),
    ),
    "provider_invalid_response": Remedy(
        "The provider's response is no token. Most often a URL in the settings is wrong.", ("edit", "trial")
    ),
    "provider_unavailable": Remedy(BY_ITSELF, ("trial",)),
    "provider_rate_limited": Remedy(
        "The broker waits as long as the provider asks for. If it happens often, another program uses the same client.",
        (),
    ),
    "broker_unavailable": Remedy("A service of AWS failed. `token-broker doctor` looks for the cause."),
}
# A provider's error code that says more than the code of the broker.
BY_PROVIDER_ERROR: Final[Mapping[str, Remedy]] = {
    "invalid_scope": Remedy(
        "The provider does not grant this scope. Correct the scope in the settings, or have it granted.",
        ("edit", "trial"),
    ),
}


def remedy(failure: Mapping[str, Any]) -> Remedy:
    """What to do about a remembered failure."""
    specific = BY_PROVIDER_ERROR.get(str(failure.get("provider_error")))
    return specific or REMEDIES.get(str(failure["code"]), Remedy(BY_ITSELF, ("trial",)))
