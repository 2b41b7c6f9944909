"""What a person is told when a command cannot be carried out: what is wrong, what to do, and the exit code."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError, ProfileNotFound

from token_broker_cli.words import span
from token_broker_client.errors import BrokerRefused, BrokerUnreachable, ClientNotConfigured, TokenBrokerError


class Exit(IntEnum):
    """What the exit code says; the help prints this list."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    UNREACHABLE = 3
    NO = 4
    INTERRUPTED = 130


MEANINGS: Final[Mapping[Exit, str]] = {
    Exit.DONE: "done, and all is well",
    Exit.REFUSED: "refused by the provider, the broker or AWS",
    Exit.USAGE: "wrong usage: nothing was done",
    Exit.UNREACHABLE: "the broker is not reached: no answer, URL, region or AWS credentials",
    Exit.NO: "the answer is no: --check found a difference, doctor a fault, find no such token",
    Exit.INTERRUPTED: "interrupted; what was begun was taken back",
}

# What helps against a refusal of the broker; the words before it are the broker's own `detail`.
ADVICE: Final[Mapping[str, str]] = {
    "access_denied": "Your AWS identity needs execute-api:Invoke on this route; `aws sts get-caller-identity` tells"
    " who you are.",
    "caller_not_allowed": "Add the caller to the connection's allowed_callers.",
    "scope_not_allowed": "Ask for less, or extend the connection's allowed_scopes.",
    "unknown_provider": "`token-broker providers` lists those that there are.",
    "unknown_connection": "`token-broker connections` lists those that there are.",
    "connection_suspended": "`token-broker connections resume PROVIDER NAME` switches it on again.",
    "connection_misconfigured": "`token-broker connections rotate PROVIDER NAME` stores credentials.",
    "would_revoke": "With --force it is done, and callers get a new token.",
    "version_conflict": "Somebody else changed the settings just now: look at them and try again.",
    "too_many_trials": "With --wait it is tried as soon as it may be.",
    "broker_unavailable": "`token-broker doctor` looks for the cause.",
    "internal_error": "The cause is in the function's log.",
}

LOG_IN: Final = "Log in to AWS, or name where: --profile NAME, --region NAME. For the stack of `make run`: --local."


class Problem(Exception):
    """A command stops here. `todo` says what to do; neither ever holds a secret."""

    def __init__(self, what: str, todo: str = "", *, exit_code: Exit = Exit.REFUSED, code: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.todo = todo
        self.exit_code = exit_code
        self.code = code or exit_code.name.lower()


def problem_of(error: Exception, *, is_local: bool) -> Problem:
    """A failure of the broker or of AWS in words. Others are raised as they are."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, TokenBrokerError):
        return _of_broker(error, is_local=is_local)
    if isinstance(error, ClientError):
        return _of_aws(error)
    if isinstance(error, NoCredentialsError | NoRegionError | ProfileNotFound):
        return Problem(str(error).rstrip(".") + ".", LOG_IN, exit_code=Exit.UNREACHABLE)
    if isinstance(error, BotoCoreError):
        return Problem(f"AWS gave no answer: {error}".rstrip(".") + ".", _where(is_local), exit_code=Exit.UNREACHABLE)
    raise error


def refusal_in_words(error: BrokerRefused) -> str:
    """The broker's `detail` with the provider's own code, each field at fault, and when asking again helps."""
    words = [error.detail or f"The broker answered {error.status}."]
    words += [f"{fault['field']} {fault['reason']}." for fault in error.problem.get("errors", ())]
    if error.provider_error:
        words.append(f"Its own word for it: {error.provider_error}.")
    if error.retry_after:
        words.append(f"It can be asked again in {span(error.retry_after)}.")
    return " ".join(words)


def _of_broker(error: TokenBrokerError, *, is_local: bool) -> Problem:
    if isinstance(error, BrokerRefused):
        return Problem(refusal_in_words(error), ADVICE.get(error.code, ""), code=error.code)
    if isinstance(error, ClientNotConfigured):
        return Problem(_sentence(error), LOG_IN, exit_code=Exit.UNREACHABLE)
    unreachable = isinstance(error, BrokerUnreachable)
    code = Exit.UNREACHABLE if unreachable else Exit.REFUSED
    return Problem(_sentence(error), _where(is_local), exit_code=code)


def _sentence(error: Exception) -> str:
    text = str(error).rstrip(".")
    return f"{text[:1].upper()}{text[1:]}."


def _where(is_local: bool) -> str:
    return "Is `make run` up?" if is_local else "Check --url or --stack, the region and your network."


def _of_aws(error: ClientError) -> Problem:
    detail: Mapping[str, Any] = error.response.get("Error", {})
    code, operation = str(detail.get("Code", "unknown")), error.operation_name
    todo = ""
    if "AccessDenied" in code or "Unauthorized" in code:
        todo = f"Your AWS identity may not call {operation}; ask for that permission."
    elif "ExpiredToken" in code or "InvalidClientToken" in code or "UnrecognizedClient" in code:
        todo = "Your AWS credentials are not valid (any more): log in again."
    # A gateway in between may answer with a page.
    message = str(detail.get("Message", "")).partition("\n")[0]
    return Problem(f"AWS refused {operation} ({code}): {message}", todo, code=code)
