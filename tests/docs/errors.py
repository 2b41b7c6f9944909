"""Fills docs/errors.md: each error code with its status, when it occurs and what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Final

from tests.docs.tables import code, table
from tests.openapi.problems import gateway_codes, meanings, own_statuses
from token_broker.errors import UnknownConnection
from token_broker.http.problems import STATUS

WHAT_TO_DO: Final[Mapping[str, str]] = {
    "invalid_request": "Correct the request; `errors` names each field.",
    "access_denied": "Sign the request. The caller needs `execute-api:Invoke` on this path.",
    "caller_not_allowed": "Ask the connection's owner to add the caller that `detail` names to `allowed_callers`.",
    "scope_not_allowed": "Request less, or have `allowed_scopes` extended.",
    "unknown_provider": "Check the name.",
    "unknown_connection": "Check the names.",
    "connection_suspended": "Ask the connection's owner: somebody suspended it.",
    "connection_misconfigured": "For the owner: correct the secret or the settings. `detail` names the field.",
    "too_many_scope_sets": "Use fewer different scope sets. A connection holds at most 32 live ones, or 1 if "
    "`issue_revokes_previous` is set.",
    "consent_required": "For the owner: have the person consent again, or put another `refresh_token` into the secret. "
    "The broker asks nobody until then; it compares the secret every 15 min. No Retry-After: waiting does not help.",
    "would_consume_grant": "Make the pending version current, then try again: with a consent a trial is a renewal.",
    "would_revoke": "Repeat with `force=true` if the live token may be revoked.",
    "unknown_consent": "Check the id. A consent session is deleted a day after it has expired.",
    "wrong_consent_state": "Look at the consent session. If it failed or expired, begin another one.",
    "new_account": "Compare the two accounts. If the new one is meant, confirm by `confirm-new-account`.",
    "version_conflict": "Read the settings again, then put.",
    "too_many_rejections": 'Wait. Check whether the provider\'s 401 means "no permission" and not "token not valid".',
    "too_many_trials": "Wait.",
    "throttled": "Wait.",
    "provider_refused": "For the owner: correct the credentials, the scope or the provider's allow-list. "
    "`provider_error` names the cause. The broker asks again when the secret changes, or a setting that is sent to the "
    "provider. Otherwise it waits 60 s once (not with a login), then 15 min, 1 h, 4 h, 24 h. No "
    "Retry-After: waiting does not help.",
    "provider_invalid_response": "For the owner: check the URL.",
    "provider_unavailable": "Wait.",
    "provider_rate_limited": "Wait.",
    "acquisition_in_progress": "Wait.",
    "broker_unavailable": "Wait.",
    "gateway_timeout": "Wait.",
    "internal_error": "Search the log for the request's id.",
}


def values() -> Mapping[str, str]:
    """What the template's names stand for."""
    return {"example": _example(), "errors": table(("code", "status", "when", "what to do"), _rows())}


def statuses() -> Mapping[str, int]:
    """The status of each code. A code that both use has the broker's, not API Gateway's."""
    gateway = {name: status for status, codes in gateway_codes().items() for name in codes}
    return gateway | own_statuses()


def _rows() -> Iterator[tuple[str, ...]]:
    when = meanings()
    for name, status in sorted(statuses().items(), key=lambda item: (item[1], item[0])):
        yield code(name), str(status), f"{when[name]}{_from_gateway(name, status)}", WHAT_TO_DO[name]


def _from_gateway(name: str, status: int) -> str:
    """The other statuses with which API Gateway itself uses the code."""
    others = {other: codes[name] for other, codes in sorted(gateway_codes().items()) if name in codes}
    others.pop(status, None)
    if not others:
        return ""
    reasons = [f"{other} ({body['errors'][0]['reason']})" for other, body in others.items()]
    return f" From API Gateway itself also with status {', '.join(reasons)}."


def _example() -> str:
    problem = {
        "type": "about:blank",
        "title": UnknownConnection.title,
        "status": STATUS[UnknownConnection],
        "code": UnknownConnection.code,
        "detail": "There is no connection unidy/nobodys.",
    }
    return json.dumps(problem, indent=2)
