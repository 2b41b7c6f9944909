"""What can be done to a connection: the confirmation that says what will happen, and the change itself.

Each action is one of the commands. The functions behind it are the command's own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from token_broker_cli.connection_secret import ConnectionSecret
from token_broker_cli.connection_trials import (
    TrialFailed,
    TrialOptions,
    current_credentials,
    is_untried,
    replace_credentials,
    rotated_text,
    trial_text,
    try_credentials,
    validity,
)
from token_broker_cli.connections import not_revoked, revocation_text, revoke_tokens, set_suspended
from token_broker_cli.console.context import View
from token_broker_cli.console.messages import Denied, Request, Response, redirect
from token_broker_cli.problems import Problem, missing_permission, problem_of
from token_broker_cli.prompts import PEM_FIELDS, SHOWN, checked_credentials
from token_broker_cli.wording import is_past
from token_broker_client.errors import TokenBrokerError

Json = Mapping[str, Any]
Form = Mapping[str, str]
ON: Final = "on"
# What helps on a page. The commands name their options instead.
ADVICE: Final[Mapping[str, str]] = {
    "would_revoke": "Tick the box below to run the trial anyway. Callers then get a new token.",
    "too_many_trials": "The same credentials can be tried once in five minutes, five different ones in fifteen.",
}


@dataclass(frozen=True)
class Option:
    """A box that can be ticked."""

    name: str
    label: str


@dataclass(frozen=True)
class Action:
    """`label`: on its button. `does`: in a few words. `consequences`: what will happen, sentence by sentence.

    `run` makes the change and returns what to say. `is_offered`: whether it makes sense for a connection in this state.
    """

    name: str
    label: str
    does: str
    consequences: Callable[[View, Json], Sequence[str]]
    run: Callable[[View, Json, Form], str]
    is_offered: Callable[[Json], bool] = lambda _: True
    options: Callable[[Json], Sequence[Option]] = lambda _: ()
    needs_credentials: bool = False
    is_danger: bool = False
    working: str = "Working …"


def confirm(view: View, _request: Request, provider: str, name: str, action: str) -> Response:
    """`GET /connections/{provider}/{name}/{action}`: says what will happen, and asks."""
    return _confirmation(view, _action(action), view.context.target.api.show(provider, name))


def run(view: View, request: Request, provider: str, name: str, action: str) -> Response:
    """`POST /connections/{provider}/{name}/{action}`: does it, or says why not."""
    chosen = _action(action)
    connection = view.context.target.api.show(provider, name)
    try:
        said = chosen.run(view, connection, request.form)
    except (TokenBrokerError, ClientError, BotoCoreError, Problem) as error:
        return _confirmation(view, chosen, connection, error)
    view.context.connections.changed(provider, name)
    view.say(said)
    return redirect(f"/connections/{provider}/{name}")


def offered(view: View, connection: Json) -> list[tuple[Action, str | None]]:
    """The actions for a connection, each with the permission that is known to be missing."""
    if view.context.read_only:
        return []
    name = full_name(connection)
    denials = view.context.denials
    return [(action, denials.missing(action.name, name)) for action in ACTIONS if action.is_offered(connection)]


def full_name(connection: Json) -> str:
    """provider/connection."""
    return f"{connection['provider']}/{connection['connection']}"


def explain(view: View, action: str, name: str, error: Exception) -> list[str]:
    """Why an action failed, what is left and what to do, as sentences. Remembers a missing permission."""
    if permission := missing_permission(error):
        view.context.denials.add(action, name, permission)
    problem = problem_of(error, is_local=view.context.target.is_local)
    todo = ADVICE.get(problem.code, "" if isinstance(error, TrialFailed) else problem.todo)
    left = error.left if isinstance(error, TrialFailed) else ""
    # What could not be undone is noted on the error.
    return [line for line in (problem.what, left, todo, *getattr(error, "__notes__", ())) if line]


def _confirmation(view: View, action: Action, connection: Json, error: Exception | None = None) -> Response:
    name = full_name(connection)
    provider = view.context.catalogue.read().get(connection["provider"], {})
    reasons = explain(view, action.name, name, error) if error else []
    return view.page(
        "confirm.html",
        status=422 if error else 200,
        action=action,
        connection=connection,
        consequences=action.consequences(view, connection),
        options=action.options(connection),
        credentials=credential_fields(provider) if action.needs_credentials else [],
        reasons=reasons,
        missing=view.context.denials.missing(action.name, name),
    )


def _action(name: str) -> Action:
    for action in ACTIONS:
        if action.name == name:
            return action
    raise Denied(404, "There is no such page.")


# --- credentials


def credential_fields(provider: Json) -> list[Json]:
    """The fields of a provider's credentials. No page shows what is typed into them again."""
    return [
        {
            "name": spec["name"],
            "required": spec["required"],
            "is_pem": spec["name"] in PEM_FIELDS,
            "is_name": spec["name"] in SHOWN,
        }
        for spec in provider.get("credentials", ())
    ]


def given_credentials(provider: Json, form: Form, known: Json) -> dict[str, str]:
    """The credentials of a form. Raises Problem. `known`: names that may be left empty."""
    given = {}
    for spec in provider["credentials"]:
        text = form.get(f"credential.{spec['name']}", "")
        # Browsers send line ends as CR LF.
        text = text.replace("\r\n", "\n") if spec["name"] in PEM_FIELDS else text.strip()
        if text:
            given[spec["name"]] = text
    keeps = {name: value for name, value in known.items() if name in SHOWN}
    return checked_credentials(provider, given, known=keeps, todo="")


# --- trial


def _trial_consequences(view: View, connection: Json) -> Sequence[str]:
    title = _title(view, connection)
    lines = [
        f"The broker asks {title} for a token once: with the pending credentials, else with the current ones.",
        "It keeps no token, and revokes the one that it got where it can. Callers notice nothing.",
        "The request counts towards the provider's limit. The same credentials can be tried once in five minutes.",
    ]
    if _revokes_previous(connection):
        lines[1] = "This provider ends the live token with each new one. Callers then get a new token."
    return lines


def _run_trial(view: View, connection: Json, form: Form) -> str:
    provider = view.context.catalogue.read()[connection["provider"]]
    options = TrialOptions(force=form.get("force") == ON)
    result = try_credentials(view.context.target, provider, connection["connection"], options)
    return "\n".join([trial_text(result), *result.get("warnings", ())])


# --- rotate


def _rotate_consequences(view: View, connection: Json) -> Sequence[str]:
    title = _title(view, connection)
    return [
        f"The new credentials are stored as the pending version of the secret {_secret(view, connection).name}.",
        f"The broker tries them at {title}. Only if a token comes back do they become current.",
        "If not, nothing changes, and the old ones stay current.",
        "The old ones are kept as AWSPREVIOUS. End them at the provider once callers have new tokens.",
    ]


def _run_rotate(view: View, connection: Json, form: Form) -> str:
    provider = view.context.catalogue.read()[connection["provider"]]
    secret = _secret(view, connection)
    before = current_credentials(secret, replace_pending=form.get("replace_pending") == ON)
    credentials = given_credentials(provider, form, before.values if before else {})
    if not credentials:
        raise Problem("No new credentials were given.")
    options = TrialOptions(force=form.get("force") == ON)
    result = replace_credentials(view.context.target, provider, connection["connection"], before, credentials, options)
    if is_untried(result):
        return rotated_text("The connection", result)
    said = f"The new credentials work and are current. A token is {validity(result)}."
    then = (
        "The broker renews the tokens with them. A connection without a token gets one at the next request of a caller."
    )
    return "\n".join([said, then, *result.get("warnings", ())])


# --- suspend, resume, revoke


def _suspend_consequences(view: View, connection: Json) -> Sequence[str]:
    count = _live_tokens(view, connection)
    return [
        "Within 30 seconds no caller gets a token of this connection. Callers get the error connection_suspended.",
        f"Live tokens: {count}. They stay valid at the provider until they expire. Revoke them to end that.",
        "Nothing is renewed. Settings and credentials stay as they are.",
    ]


def _run_suspend(view: View, connection: Json, _form: Form) -> str:
    changed = set_suspended(view.context.target, *_names(connection), suspended=True)
    return (
        "The connection is suspended. Within 30 seconds no caller gets a token."
        if changed
        else "It was suspended already."
    )


def _resume_consequences(_view: View, _connection: Json) -> Sequence[str]:
    return [
        "Callers get tokens again.",
        "Its tokens are renewed before they are used: credentials may have changed meanwhile.",
    ]


def _run_resume(view: View, connection: Json, _form: Form) -> str:
    changed = set_suspended(view.context.target, *_names(connection), suspended=False)
    return "The connection is no longer suspended." if changed else "It was not suspended."


def _revoke_consequences(_view: View, connection: Json) -> Sequence[str]:
    lines = [
        "All tokens of this connection are dropped. Within 30 seconds no caller gets one of them.",
        "Those that the provider can revoke are revoked. The others stay valid there until they expire.",
    ]
    if connection["state"] != "suspended":
        lines.append("The next caller gets a new token, unless you tick the box below.")
    return lines


def _run_revoke(view: View, connection: Json, form: Form) -> str:
    result = revoke_tokens(view.context.target, *_names(connection), scope=None, suspend=form.get("suspend") == ON)
    return "\n".join([revocation_text(result), *not_revoked(result)])


def _names(connection: Json) -> tuple[str, str]:
    return connection["provider"], connection["connection"]


def _secret(view: View, connection: Json) -> ConnectionSecret:
    return view.context.target.secret(*_names(connection))


def _title(view: View, connection: Json) -> str:
    provider = view.context.catalogue.read().get(connection["provider"])
    return str(provider["title"]) if provider else "the provider"


def _revokes_previous(connection: Json) -> bool:
    return connection["settings"].get("issue_revokes_previous") is True


def _live_tokens(view: View, connection: Json) -> int:
    now = view.context.now()
    return sum(bool(token["expires_at"]) and not is_past(token["expires_at"], now) for token in connection["tokens"])


def _is_suspended(connection: Json) -> bool:
    return connection["settings"].get("suspended") is True


FORCE: Final = Option("force", "Run the trial although it ends the live token")
REPLACE_PENDING: Final = Option("replace_pending", "Replace the pending version of another rotation, if there is one")
SUSPEND_FIRST: Final = Option("suspend", "Suspend the connection first, so that no new token is issued")

ACTIONS: Final = (
    Action(
        "trial",
        "Try the credentials",
        "Ask the provider for a token once, and keep none.",
        _trial_consequences,
        _run_trial,
        is_offered=lambda connection: not _is_suspended(connection),
        options=lambda connection: (FORCE,) if _revokes_previous(connection) else (),
        working="Trying the credentials at the provider …",
    ),
    Action(
        "rotate",
        "Rotate the credentials",
        "Store new credentials, if they work.",
        _rotate_consequences,
        _run_rotate,
        is_offered=lambda connection: not _is_suspended(connection),
        options=lambda connection: (*((FORCE,) if _revokes_previous(connection) else ()), REPLACE_PENDING),
        needs_credentials=True,
        working="Trying the new credentials at the provider …",
    ),
    Action(
        "suspend",
        "Suspend",
        "Callers get no tokens until it is resumed.",
        _suspend_consequences,
        _run_suspend,
        is_offered=lambda connection: not _is_suspended(connection),
        is_danger=True,
    ),
    Action(
        "resume",
        "Resume",
        "Callers get tokens again.",
        _resume_consequences,
        _run_resume,
        is_offered=_is_suspended,
    ),
    Action(
        "revoke",
        "Revoke the tokens",
        "End all tokens, here and at the provider.",
        _revoke_consequences,
        _run_revoke,
        options=lambda connection: () if _is_suspended(connection) else (SUSPEND_FIRST,),
        is_danger=True,
        working="Revoking the tokens …",
    ),
)
