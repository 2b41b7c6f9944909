"""Commands that try credentials: `connections add`, `connections rotate` and `connections check`.

`add` and `rotate` store new credentials as the pending version of the secret. The broker tries them at the provider.
They become current only if they work. If the command ends before that, it removes what it made. Where a person's
consent is needed, only current credentials can be tried: the old ones are put back if the new ones do not work.
"""

import argparse
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Self

from token_broker_cli.connection_secret import CURRENT, PENDING, ConnectionSecret, SecretVersion
from token_broker_cli.credential_sources import read_credentials
from token_broker_cli.problems import Exit, Problem, broker_error_text
from token_broker_cli.prompts import (
    GRANTS_WITH_CONSENT,
    SEED,
    Check,
    Prompts,
    Spec,
    checked_credentials,
    piped_credentials,
    suggestions,
)
from token_broker_cli.providers import find_provider
from token_broker_cli.settings_files import read_settings
from token_broker_cli.target import Target
from token_broker_cli.undo import Undo
from token_broker_cli.wording import duration
from token_broker_client.errors import AccessDenied, BrokerRefused, InvalidRequest

Json = dict[str, Any]
# After a failed trial and the credentials that were tried: others, or None to give up.
Again = Callable[[Problem, Mapping[str, str]], Mapping[str, str] | None]
LONGEST_LEASE_S: Final = 20.0


@dataclass(frozen=True)
class TrialOptions:
    """How credentials are tried. `force`: even if the trial revokes the live token. `wait`: until it is allowed."""

    force: bool = False
    wait: bool = False

    @classmethod
    def of(cls, options: argparse.Namespace) -> Self:
        return cls(force=options.force, wait=options.wait)


class TrialFailed(Problem):
    """The broker did not get a token with new credentials. `left`: what is left, as a sentence. `error`: why."""

    def __init__(self, title: str, error: BrokerRefused, left: str) -> None:
        who = f"{title} gave no token" if error.code.startswith("provider_") else f"{title} was not asked"
        super().__init__(
            f"{who}: {broker_error_text(error)}", f"{left} {_after_failed_trial(error)}".strip(), code=error.code
        )
        self.left = left
        self.error = error


def add(target: Target, options: argparse.Namespace) -> Exit:
    """`connections add`: stores settings and credentials and tries them. Keeps nothing if the trial fails."""
    name = f"{options.provider}/{options.name}"
    provider = find_provider(target, options.provider)
    check_is_new(target, options.provider, options.name)
    settings = _settings(target, provider, options)
    check_can_be_tried(settings)
    before = target.secret(options.provider, options.name).current()
    credentials = _credentials(target, provider, before.values if before else {}, options.credentials)
    again = _Again(target, provider, options.name, settings) if target.screen.interactive else None
    trial = TrialOptions.of(options)
    result = add_connection(target, provider, options.name, settings, credentials, trial, again=again)
    names = f"{options.provider} {options.name}"
    todo = f"Get one: {target.command(f'token {names}')}"
    if is_untried(result):
        todo = f"Obtain it: {target.command(f'connections connect {names}')}"
    target.screen.show(
        {"provider": options.provider, "connection": options.name, **result},
        added_text(name, result),
        *result.get("warnings", ()),
        todo,
    )
    return Exit.DONE


def rotate(target: Target, options: argparse.Namespace) -> Exit:
    """`connections rotate`: replaces the credentials that were current when the command began."""
    provider = find_provider(target, options.provider)
    target.api.show(options.provider, options.name)
    secret = target.secret(options.provider, options.name)
    before = current_credentials(secret, replace_pending=options.replace_pending)
    known = before.values if before else {}
    credentials = _credentials(target, provider, known, options.credentials)
    again = _Again(target, provider, options.name) if target.screen.interactive else None
    trial = TrialOptions.of(options)
    result = replace_credentials(target, provider, options.name, before, credentials, trial, again=again)
    lines = [rotated_text(f"{options.provider}/{options.name}", result)]
    if known:
        lines.append("The old ones are kept as AWSPREVIOUS. End them at the provider once callers have new tokens.")
    lines += result.get("warnings", ())
    target.screen.show({"provider": options.provider, "connection": options.name, **result}, *lines)
    return Exit.DONE


def check(target: Target, options: argparse.Namespace) -> Exit:
    """`connections check`: one trial. Keeps no token."""
    provider = find_provider(target, options.provider)
    result = try_credentials(target, provider, options.name, TrialOptions.of(options))
    shown = {"provider": options.provider, "connection": options.name, **result}
    target.screen.show(shown, trial_text(result), *result.get("warnings", ()))
    return Exit.DONE


def trial_text(result: Json) -> str:
    """What a successful trial showed."""
    which = "pending" if result["stage"] == PENDING else "current"
    return f"The {which} credentials work. A token is {validity(result)}."


def is_untried(result: Json) -> bool:
    """Whether the credentials were stored without a trial, because only a person's consent gives tokens with them."""
    return "token_id" not in result


def added_text(name: str, result: Json) -> str:
    """What became of a new connection."""
    if is_untried(result):
        return f"{name} is stored. It gives tokens once a person has consented."
    return f"{name} is ready. A token is {validity(result)}."


def rotated_text(name: str, result: Json) -> str:
    """What became of new credentials."""
    if is_untried(result):
        return f"{name} uses the new credentials. They are not tried: first a person must consent."
    return f"{name} uses the new credentials. The broker renews its tokens with them."


def validity(result: Json) -> str:
    """What a trial's token is, in words: for how long it is valid and its scope."""
    scope = f", scope {result['scope']}" if result["scope"] else ""
    return f"valid for {duration(result['expires_in'])}{scope}"


def check_is_new(target: Target, provider: str, name: str) -> None:
    """Raises Problem if there is such a connection."""
    if target.api.find(provider, name):
        todo = f"New credentials: {target.command(f'connections rotate {provider} {name}')}"
        raise Problem(f"{provider}/{name} exists already.", todo)


def check_can_be_tried(settings: Mapping[str, Any]) -> None:
    """Raises Problem if these settings suspend the connection."""
    if settings.get("suspended"):
        todo = "Leave `suspended` out. Suspend the connection afterwards: token-broker connections suspend"
        raise Problem("A suspended connection cannot have a trial.", todo, exit_code=Exit.USAGE)


def current_credentials(secret: ConnectionSecret, *, replace_pending: bool) -> SecretVersion | None:
    """What a rotation replaces; None if there is no secret. Raises Problem if another rotation is under way."""
    before = secret.current()
    if before and not replace_pending and secret.pending():
        what = f"A version of {secret.name} is pending. Is another rotation running?"
        raise Problem(what, "If not, use --replace-pending.")
    return before


def add_connection(
    target: Target,
    provider: Spec,
    name: str,
    settings: Json,
    credentials: Mapping[str, str],
    trial: TrialOptions,
    *,
    again: Again | None = None,
) -> Json:
    """Stores settings and credentials and tries them. Returns the trial. Keeps nothing if it fails.

    `again`: asked for other credentials after a failure. It may change the stored settings too.
    """
    before = target.secret(provider["slug"], name).current()
    with Undo(target.screen) as undo:
        _create(target, undo, provider, name, settings)
        left = "Nothing was kept."
        return _try_and_promote(target, undo, provider, name, before, credentials, trial, left=left, again=again)


def replace_credentials(
    target: Target,
    provider: Spec,
    name: str,
    before: SecretVersion | None,
    credentials: Mapping[str, str],
    trial: TrialOptions,
    *,
    again: Again | None = None,
) -> Json:
    """Tries new credentials and makes them current instead of `before`. Returns the trial. Else changes nothing."""
    if before and all(before.values.get(field) == value for field, value in credentials.items()):
        raise Problem("These are the current credentials.", "Get new ones from the provider.")
    left = "Nothing was changed: the old credentials stay current."
    with Undo(target.screen) as undo:
        return _try_and_promote(target, undo, provider, name, before, credentials, trial, left=left, again=again)


def _settings(target: Target, provider: Spec, options: argparse.Namespace) -> Json:
    if options.from_file:
        return read_settings(options.from_file)
    if not target.screen.interactive:
        todo = "Give the settings with --from-file FILE, and pipe the credentials in as JSON."
        raise Problem("There is no terminal to ask on.", todo, exit_code=Exit.USAGE)
    target.screen.say(f"{provider['title']}: {provider['documentation']}")
    arn = target.own_arn()
    prompts = Prompts(target.screen, checker(target, options.provider, options.name))
    return prompts.connection_settings(provider, {"allowed_callers": arn} if arn else {})


def checker(target: Target, provider: str, name: str) -> Check:
    """Has the broker check settings. Where it may not be asked, they are checked when they are stored."""

    def check(settings: Mapping[str, Any]) -> list[Json]:
        try:
            return target.api.faults(provider, name, settings)
        except AccessDenied:
            return []

    return check


def _credentials(target: Target, provider: Spec, known: Mapping[str, Any], source: str | None) -> dict[str, str]:
    if source is not None:
        todo = f"{source} must be an object with these: {', '.join(spec['name'] for spec in provider['credentials'])}."
        return checked_credentials(provider, read_credentials(target, source), known=known, todo=todo)
    if not target.screen.interactive:
        return piped_credentials(provider, known=known)
    target.screen.say("\nCredentials. Secrets are not shown while you type or paste them.", "dim")
    return Prompts(target.screen).credentials(provider["credentials"], known)


@dataclass(frozen=True)
class _Again:
    """Asks on the terminal after a failed trial. `settings`: those of a new connection, which may be wrong too."""

    target: Target
    provider: Spec
    name: str
    settings: Json | None = None

    def __call__(self, failed: Problem, typed: Mapping[str, str]) -> Mapping[str, str] | None:
        """Other credentials; None to give up. What is not typed again stays as it was."""
        screen = self.target.screen
        screen.say(failed.what, "yellow")
        choices = "credentials" if self.settings is None else "credentials, settings"
        answer = input(f"Try others ({choices}; Enter: give up): ").strip().lower()
        if not answer:
            return None
        if self.settings is not None and "settings".startswith(answer):
            self._replace_settings(self.settings)
        return Prompts(screen).credentials(self.provider["credentials"], {}, typed)

    def _replace_settings(self, settings: Json) -> None:
        target = self.target
        slug = self.provider["slug"]
        found = target.api.show(slug, self.name)
        prompts = Prompts(target.screen, checker(target, slug, self.name))
        wanted = prompts.connection_settings(self.provider, suggestions(settings))
        target.api.replace(slug, self.name, wanted, version=found["version"])
        # The undo step compares with what is stored.
        settings.clear()
        settings.update(wanted)


def _create(target: Target, undo: Undo, provider: Spec, name: str, settings: Json) -> None:
    """Stores the settings. Asks again for fields that the broker finds faults in."""
    api = target.api
    slug = provider["slug"]

    def delete() -> None:
        found = api.find(slug, name)
        # After an error without a response, the settings may be stored or not. Somebody else's stay.
        if found and found["settings"] == settings:
            api.delete(slug, name, version=found["version"])

    while True:
        try:
            with target.screen.progress("Storing the settings"):
                api.create(slug, name, settings)
        except InvalidRequest as error:
            faults = error.problem.get("errors", ())
            if not target.screen.interactive or not faults:
                raise
            Prompts(target.screen).correct(settings, provider, faults)
        except BrokerRefused:
            raise
        except BaseException:
            undo.add(f"The connection {slug}/{name}", delete)
            raise
        else:
            undo.add(f"The connection {slug}/{name}", delete)
            return


def _try_and_promote(
    target: Target,
    undo: Undo,
    provider: Spec,
    name: str,
    before: SecretVersion | None,
    credentials: Mapping[str, str],
    trial: TrialOptions,
    *,
    left: str,
    again: Again | None,
) -> Json:
    """Stores pending credentials, tries them, and makes them current instead of `before`. Returns the trial.

    `left`: what is left after a failure, as a sentence. `again`: asked for other credentials before that.
    """
    secret = target.secret(provider["slug"], name)
    if before is None:
        before = secret.create_empty()
        undo.add(f"The secret {secret.name}", secret.delete_new)
    while True:
        pending = str(uuid.uuid4())
        undo.add(f"The pending version of {secret.name}", partial(secret.unstage, pending))
        # The secret's other fields may belong to other programs. They are kept.
        secret.stage({**before.values, **credentials}, pending)
        try:
            if provider["grant"] in GRANTS_WITH_CONSENT:
                return _promote_and_try(target, provider, name, before, pending, trial, has_seed=SEED in credentials)
            result = try_credentials(target, provider, name, trial)
            break
        except BrokerRefused as error:
            failed = TrialFailed(provider["title"], error, left)
        others = again(failed, credentials) if again is not None else None
        if others is None:
            raise failed
        credentials = others
    if result["stage"] != PENDING:
        what = "The broker tried the current version: somebody else has removed the pending one."
        raise Problem(what, "Try again.")
    with target.screen.progress("Making them current"):
        secret.promote(pending, instead_of=before.version_id)
    return {**result, "stage": CURRENT}


def _promote_and_try(
    target: Target,
    provider: Spec,
    name: str,
    before: SecretVersion,
    pending: str,
    trial: TrialOptions,
    *,
    has_seed: bool,
) -> Json:
    """Makes the pending credentials current and renews a token with them. Returns the trial.

    Else `before` is current again. Without a consent nothing can be tried: then the new ones stay. `has_seed`: they
    hold the refresh token of one.
    """
    secret = target.secret(provider["slug"], name)
    with target.screen.progress("Making them current"):
        secret.promote(pending, instead_of=before.version_id)
    with Undo(target.screen) as undo:
        undo.add(f"The new version of {secret.name}", lambda: secret.restore(before.version_id, instead_of=pending))
        untried = {"stage": CURRENT}
        if not has_seed and target.api.show(provider["slug"], name)["consent"] is None:
            return untried
        try:
            return try_credentials(target, provider, name, trial)
        except BrokerRefused as error:
            if error.code != "consent_required" or has_seed:
                raise
            return untried


def _after_failed_trial(error: BrokerRefused) -> str:
    """What helps."""
    if error.code == "too_many_trials":
        return "--wait waits and tries again."
    if error.code == "would_revoke":
        return "--force runs the trial anyway. Callers then get a new token."
    return ""


def try_credentials(target: Target, provider: Spec, name: str, options: TrialOptions) -> Json:
    """The broker's trial. With `wait` it is repeated once it is allowed.

    An interrupted trial can hold its lease for some seconds. The next one waits for that.
    """
    until = time.monotonic() + LONGEST_LEASE_S
    while True:
        try:
            with target.screen.progress(f"Trying the credentials at {provider['title']}"):
                return target.api.trial(provider["slug"], name, force=options.force)
        except BrokerRefused as error:
            seconds = error.retry_after
            is_leased = error.code == "acquisition_in_progress" and time.monotonic() < until
            if not seconds or not (is_leased or (error.code == "too_many_trials" and options.wait)):
                raise
        with target.screen.progress(f"Waiting {duration(seconds)} for the next trial. Ctrl-C undoes everything"):
            threading.Event().wait(seconds)
