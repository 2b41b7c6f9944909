"""Why a command stops: what is wrong, what to do, and the exit code."""

import re
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError, ProfileNotFound

from token_broker_cli.admin_api import RouteDenied
from token_broker_cli.wording import duration
from token_broker_client.errors import BrokerRefused, BrokerUnreachable, ClientNotConfigured, TokenBrokerError


class Exit(IntEnum):
    """The exit codes."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    UNREACHABLE = 3
    NO = 4
    INTERRUPTED = 130


# The help prints these.
MEANINGS: Final[Mapping[Exit, str]] = {
    Exit.DONE: "done, and nothing is wrong",
    Exit.REFUSED: "the provider, the broker or AWS refused; or providers check found a fault",
    Exit.USAGE: "wrong usage: nothing was done",
    Exit.UNREACHABLE: "the broker cannot be reached: no response, URL, region or AWS credentials",
    Exit.NO: "apply --check found a difference; doctor found a fault; token find and audit found nothing",
    Exit.INTERRUPTED: "interrupted: what the command began was undone",
}

# What helps against an error of the broker. It is printed after the broker's own `detail`.
ADVICE: Final[Mapping[str, str]] = {
    "access_denied": "Your AWS identity needs execute-api:Invoke on this route. `aws sts get-caller-identity` shows"
    " your identity.",
    "caller_not_allowed": "Add the caller to the connection's allowed_callers.",
    "scope_not_allowed": "Request less, or extend the connection's allowed_scopes.",
    "unknown_provider": "`token-broker providers` lists the providers.",
    "unknown_connection": "`token-broker connections` lists the connections.",
    "connection_suspended": "`token-broker connections resume PROVIDER NAME` ends the suspension.",
    "connection_misconfigured": "`token-broker connections rotate PROVIDER NAME` stores credentials.",
    "consent_required": "The account's owner must consent again; or put another refresh_token into the secret.",
    "would_consume_grant": "Make the pending version current, then try it.",
    "would_revoke": "--force runs the trial anyway. Callers then get a new token.",
    "unknown_consent": "This consent is gone. Begin another one.",
    "wrong_consent_state": "If this consent failed or expired, begin another one.",
    "new_account": "Compare the accounts before you confirm the new one.",
    "version_conflict": "Somebody else has changed the settings. Look at them and try again.",
    "too_many_trials": "--wait waits and tries again.",
    "broker_unavailable": "`token-broker doctor` looks for the cause.",
    "internal_error": "The function's log has the cause.",
}

LOG_IN: Final = "Log in to AWS, or use --profile NAME and --region NAME. For the stack of `make run`: --local."


class Problem(Exception):
    """Stops a command. `what` is wrong, `todo` says what to do. Neither ever holds a secret."""

    def __init__(self, what: str, todo: str = "", *, exit_code: Exit = Exit.REFUSED, code: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.todo = todo
        self.exit_code = exit_code
        self.code = code or exit_code.name.lower()


def problem_of(error: Exception, *, is_local: bool) -> Problem:
    """The problem for an error of the broker or of AWS. Raises any other error as it is."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, TokenBrokerError):
        return _broker_problem(error, is_local=is_local)
    if isinstance(error, ClientError):
        return _aws_problem(error)
    if isinstance(error, NoCredentialsError | NoRegionError | ProfileNotFound):
        return Problem(_sentence(error), LOG_IN, exit_code=Exit.UNREACHABLE)
    if isinstance(error, BotoCoreError):
        what = _sentence(f"AWS did not respond: {error}")
        return Problem(what, _connection_advice(is_local), exit_code=Exit.UNREACHABLE)
    raise error


def missing_permission(error: Exception) -> str | None:
    """The permission that AWS or API Gateway denied; None if the error is another one."""
    if isinstance(error, RouteDenied):
        return error.permission
    if isinstance(error, ClientError) and "AccessDenied" in str(error.response.get("Error", {}).get("Code")):
        named = re.search(r"not authorized to perform: ([\w-]+:\w+)", str(error.response["Error"].get("Message", "")))
        return named[1] if named else error.operation_name
    return None


def broker_error_text(error: BrokerRefused) -> str:
    """The broker's `detail`, each field at fault, the provider's error code, and when to try again."""
    sentences = [error.detail or f"The broker responded with {error.status}."]
    sentences += [f"{fault['field']} {fault['reason']}." for fault in error.problem.get("errors", ())]
    if error.provider_error:
        sentences.append(f"The provider's error code: {error.provider_error}.")
    if error.retry_after:
        sentences.append(f"Try again in {duration(error.retry_after)}.")
    return " ".join(sentences)


def _broker_problem(error: TokenBrokerError, *, is_local: bool) -> Problem:
    if isinstance(error, RouteDenied):
        todo = f"Your AWS identity needs {error.permission}. `aws sts get-caller-identity` shows your identity."
        return Problem(broker_error_text(error), todo, code=error.code)
    if isinstance(error, BrokerRefused):
        return Problem(broker_error_text(error), ADVICE.get(error.code, ""), code=error.code)
    if isinstance(error, ClientNotConfigured):
        return Problem(_sentence(error), LOG_IN, exit_code=Exit.UNREACHABLE)
    exit_code = Exit.UNREACHABLE if isinstance(error, BrokerUnreachable) else Exit.REFUSED
    return Problem(_sentence(error), _connection_advice(is_local), exit_code=exit_code)


def _sentence(text: object) -> str:
    plain = str(text).rstrip(".")
    return f"{plain[:1].upper()}{plain[1:]}."


def _connection_advice(is_local: bool) -> str:
    return "Is `make run` running?" if is_local else "Check --url or --stack, the region and your network."


def _aws_problem(error: ClientError) -> Problem:
    detail: Mapping[str, Any] = error.response.get("Error", {})
    code = str(detail.get("Code", "unknown"))
    operation = error.operation_name
    todo = ""
    if "AccessDenied" in code or "Unauthorized" in code:
        todo = f"Your AWS identity may not call {operation}. Ask for that permission."
    elif "ExpiredToken" in code or "InvalidClientToken" in code or "UnrecognizedClient" in code:
        todo = "Your AWS credentials are not valid, or not any more. Log in again."
    # A proxy can respond with a whole page.
    message = str(detail.get("Message", "")).partition("\n")[0]
    return Problem(f"AWS refused {operation} ({code}): {message}", todo, code=code)
