"""New credentials, tried before anybody depends on them: `connections add` and `connections rotate`.

They are stored as the pending version of the secret, which the broker tries at the provider. Only what worked becomes
current; whatever ends the command before takes away what it made.
"""

import argparse
import signal
import threading
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Self

from token_broker_cli.asking import Questions, Spec, piped_credentials
from token_broker_cli.files import read_settings
from token_broker_cli.problems import Exit, Problem, refusal_in_words
from token_broker_cli.target import Target
from token_broker_cli.vault import PENDING, ConnectionSecret, Version
from token_broker_cli.words import span
from token_broker_client.errors import BrokerRefused, InvalidRequest

Json = dict[str, Any]


class Undo:
    """What a command made so far. Left by an error (Ctrl-C too), it takes all of it away again, the last first."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._steps: list[tuple[str, Callable[[], object]]] = []

    def add(self, what: str, step: Callable[[], object]) -> None:
        """`what`: what there is until `step` is carried out."""
        self._steps.append((what, step))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is None:
            return
        # A second Ctrl-C would leave half of it.
        interrupts = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            with self._target.screen.working("Taking back what was begun"):
                self._take_back()
        finally:
            signal.signal(signal.SIGINT, interrupts)

    def _take_back(self) -> None:
        for what, step in reversed(self._steps):
            try:
                step()
            except Exception as failed:  # noqa: BLE001  # the others are still to be taken away
                self._target.screen.say(f"{what} could not be taken away ({type(failed).__name__}): do it by hand.")


def add(target: Target, options: argparse.Namespace) -> Exit:
    """`connections add`: settings, then credentials, tried; all of it or nothing."""
    api, name = target.api, f"{options.provider}/{options.name}"
    provider = provider_called(target, options.provider)
    if api.find(options.provider, options.name):
        todo = f"New credentials: {target.line(f'connections rotate {options.provider} {options.name}')}"
        raise Problem(f"{name} exists already.", todo)
    settings = _settings(target, provider, options)
    if settings.get("suspended"):
        todo = "Leave `suspended` out, and then: token-broker connections suspend"
        raise Problem("A suspended connection cannot be tried.", todo, exit_code=Exit.USAGE)
    secret = target.secret(options.provider, options.name)
    before = secret.current()
    credentials = _credentials(target, provider, before.values if before else {})
    with Undo(target) as undo:
        _create(target, undo, provider, options.name, settings)
        result = _replace(target, undo, secret, before, credentials, options, provider)
    ready = f"{name} is ready: its tokens live {span(result['expires_in'])}"
    scope = f", scope {result['scope']}" if result["scope"] else ""
    ask = f"Ask for one: {target.line(f'token {options.provider} {options.name}')}"
    target.screen.show({"provider": options.provider, "connection": options.name, **result}, f"{ready}{scope}.", ask)
    return Exit.DONE


def rotate(target: Target, options: argparse.Namespace) -> Exit:
    """`connections rotate`: new credentials in the place of those that were current when it began."""
    provider = provider_called(target, options.provider)
    target.api.show(options.provider, options.name)
    secret = target.secret(options.provider, options.name)
    before = secret.current()
    if before and not options.replace_pending and secret.pending():
        what = f"A version of {secret.name} is pending: is another rotation under way?"
        raise Problem(what, "If it is not: --replace-pending.")
    known = before.values if before else {}
    credentials = _credentials(target, provider, known)
    if before and all(known.get(field) == value for field, value in credentials.items()):
        raise Problem("These are the credentials that are in use.", "Get new ones from the provider.")
    with Undo(target) as undo:
        result = _replace(target, undo, secret, before, credentials, options, provider)
    done = f"{options.provider}/{options.name} uses the new credentials; the broker renews its tokens with them."
    later = ["The old ones are kept as AWSPREVIOUS: end them at the provider once callers have new tokens."] * bool(
        known
    )
    target.screen.show({"provider": options.provider, "connection": options.name, **result}, done, *later)
    return Exit.DONE


def check(target: Target, options: argparse.Namespace) -> Exit:
    """`connections check`: asks the provider once, and keeps nothing."""
    provider = provider_called(target, options.provider)
    result = _trial(target, options, provider["title"])
    which = "pending" if result["stage"] == PENDING else "current"
    scope = f", scope {result['scope']}" if result["scope"] else ""
    words = f"The {which} credentials work: a token lives {span(result['expires_in'])}{scope}."
    target.screen.show({"provider": options.provider, "connection": options.name, **result}, words)
    return Exit.DONE


def provider_called(target: Target, slug: str) -> Json:
    """The catalogue's entry. Raises Problem with those that there are."""
    with target.screen.working("Reading the catalogue"):
        providers = {provider["slug"]: provider for provider in target.api.providers()}
    if slug not in providers:
        todo = f"There are: {', '.join(sorted(providers))}."
        raise Problem(f"There is no provider {slug}.", todo, code="unknown_provider")
    return providers[slug]


def _settings(target: Target, provider: Spec, options: argparse.Namespace) -> Json:
    if options.from_file:
        return read_settings(options.from_file)
    if not target.screen.interactive:
        todo = "Give the settings with --from-file FILE, and pipe the credentials in as JSON."
        raise Problem("There is no terminal to ask on.", todo, exit_code=Exit.USAGE)
    target.screen.say(f"{provider['title']}: {provider['documentation']}")
    role = target.own_role()
    return Questions(target.screen).settings(provider, {"allowed_callers": role} if role else {})


def _credentials(target: Target, provider: Spec, known: Mapping[str, Any]) -> dict[str, str]:
    if not target.screen.interactive:
        return piped_credentials(provider, known=known)
    target.screen.say("\nCredentials. Secrets are not shown while you type or paste them.", "dim")
    return Questions(target.screen).credentials(provider, known)


def _create(target: Target, undo: Undo, provider: Spec, name: str, settings: Json) -> None:
    """Puts the settings, and asks anew for what the broker found wrong in them."""
    api, slug = target.api, provider["slug"]

    def take_away() -> None:
        found = api.find(slug, name)
        # Without an answer nobody knows whether they were stored; others' settings stay.
        if found and found["settings"] == settings:
            api.delete(slug, name, version=found["version"])

    while True:
        try:
            with target.screen.working("Storing the settings"):
                api.create(slug, name, settings)
        except InvalidRequest as refused:
            faults = refused.problem.get("errors", ())
            if not target.screen.interactive or not faults:
                raise
            Questions(target.screen).again(settings, provider, faults)
        except BrokerRefused:
            raise
        except BaseException:
            undo.add(f"The connection {slug}/{name}", take_away)
            raise
        else:
            undo.add(f"The connection {slug}/{name}", take_away)
            return


def _replace(
    target: Target,
    undo: Undo,
    secret: ConnectionSecret,
    before: Version | None,
    credentials: Mapping[str, str],
    options: argparse.Namespace,
    provider: Spec,
) -> Json:
    """Stages, tries and promotes credentials in the place of the version `before`. Returns the trial's answer."""
    if before is None:
        before = secret.create_empty()
        undo.add(f"The secret {secret.name}", secret.delete)
    # Other programs' fields in the same secret are kept.
    pending = str(uuid.uuid4())
    undo.add(f"The pending version of {secret.name}", lambda: secret.unstage(pending))
    secret.stage({**before.values, **credentials}, pending)
    try:
        result = _trial(target, options, provider["title"])
    except BrokerRefused as refused:
        said = "gave no token" if refused.code.startswith("provider_") else "was not asked"
        said = "refused" if refused.code == "provider_refused" else said
        what = f"{provider['title']} {said}: {refusal_in_words(refused)}"
        raise Problem(what, _what_is_left(refused, options), code=refused.code) from None
    if result["stage"] != PENDING:
        raise Problem("The broker tried the current version: somebody else took the pending one away.", "Try again.")
    with target.screen.working("Making them current"):
        secret.promote(pending, instead_of=before.version_id)
    return {**result, "stage": "AWSCURRENT"}


def _what_is_left(refused: BrokerRefused, options: argparse.Namespace) -> str:
    left = "Nothing was changed: what was in use is in use."
    if options.run is add:
        left = "Nothing of it was kept."
    if refused.code == "too_many_trials":
        return f"{left} With --wait it is tried as soon as it may be."
    if refused.code == "would_revoke":
        return f"{left} With --force it is done, and callers get a new token."
    return f"{left} A connection can be tried once in five minutes; --wait waits for that."


def _trial(target: Target, options: argparse.Namespace, title: str) -> Json:
    """The broker's trial; with --wait, again when it may be."""
    while True:
        try:
            with target.screen.working(f"Trying the credentials at {title}"):
                return target.api.trial(options.provider, options.name, force=options.force)
        except BrokerRefused as refused:
            if refused.code != "too_many_trials" or not options.wait or not refused.retry_after:
                raise
            seconds = refused.retry_after
        with target.screen.working(f"It was tried just now. Waiting {span(seconds)}; Ctrl-C takes all of it back"):
            threading.Event().wait(seconds)
