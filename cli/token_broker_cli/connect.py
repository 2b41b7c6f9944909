"""`connections connect`: a person's consent, from the browser to the confirmation. `connections disconnect` ends it."""

import argparse
import contextlib
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from token_broker_cli.admin_api import PAUSES_S, pause
from token_broker_cli.browser import open_in_browser
from token_broker_cli.problems import Exit, Problem, broker_error_text
from token_broker_cli.providers import find_provider
from token_broker_cli.redirect_catcher import RedirectCatcher
from token_broker_cli.target import Target
from token_broker_client.errors import BrokerRefused, BrokerUnreachable, InvalidRequest, TryLater

Json = dict[str, Any]
POLL_S: Final = 1.0
UNDER_WAY: Final = frozenset({"pending", "code_received", "exchanging"})
NO_ANSWER: Final = (BrokerUnreachable, TryLater)
BEGIN_AGAIN: Final = "Begin again."
# What helps if no consent came, by the broker's code.
ADVICE: Final = {
    "outcome_unknown": "The code was sent, and the provider's response was lost. Begin again.",
    "settings_changed": "The connection's settings or its client changed after the consent began. Begin again.",
    "connection_misconfigured": "`token-broker connections show PROVIDER NAME` shows what is missing.",
    "provider_refused": "Are client_id, client_secret, scope and redirect URI as they are registered at the provider?",
    "provider_rate_limited": "Wait, then begin again.",
    "broker_unavailable": "`token-broker doctor` looks for the cause.",
}


@dataclass(frozen=True)
class ConsentSession:
    """A consent session that was begun here. `started`: the broker's response."""

    target: Target
    provider: str
    name: str
    started: Json

    @property
    def consent_id(self) -> str:
        return str(self.started["consent_id"])

    @property
    def seconds_left(self) -> float:
        """Until the approval must have come."""
        return (datetime.fromisoformat(self.started["expires_at"]) - datetime.now(UTC)).total_seconds()

    def finish(self, redirect_url: str) -> None:
        """Hands the redirect over; again if no answer came, because the person would have to consent again."""
        _until_answered(lambda: self.target.api.finish_consent(self.provider, self.name, self.consent_id, redirect_url))

    def outcome(self) -> Json:
        """The consent in quarantine, once it is there. Raises Problem if none comes."""
        while True:
            with contextlib.suppress(*(NO_ANSWER if self.seconds_left > 0 else ())):
                shown = self.target.api.show_consent(self.provider, self.name, self.consent_id)
                if shown["state"] not in UNDER_WAY:
                    break
            pause(POLL_S)
        if shown["state"] == "quarantined":
            return shown
        raise _no_consent(shown)


def _until_answered(request: Callable[[], Json]) -> Json:
    """The answer to a request that may be repeated. It is, if none came."""
    for seconds in PAUSES_S:
        try:
            return request()
        except NO_ANSWER:
            pause(seconds)
    return request()


def connect(target: Target, options: argparse.Namespace) -> Exit:
    """`connections connect`: sends a person to the vendor, shows what was granted, and asks to confirm it."""
    name = f"{options.provider}/{options.name}"
    if not options.yes and not target.screen.interactive:
        todo = "--yes confirms whatever account comes first; --new-account, also one that differs from the present one."
        raise Problem("There is no terminal to ask on.", todo, exit_code=Exit.USAGE)
    provider = find_provider(target, options.provider)
    connection = target.api.show(options.provider, options.name)
    ways = _ways(provider, options)
    if options.device or not ways["redirect"]:
        granted = _by_device(target, options)
    else:
        granted = _by_redirect(target, options, ways, connection["settings"])
    _describe(target, connection, granted)
    confirmed = _confirm(target, options, granted)
    dropped = confirmed["dropped"]
    lines = [f"{name} uses this consent from now on."]
    if dropped:
        lines.append(f"Tokens of the account before that callers no longer get: {dropped}.")
    lines.append(f"Get a token: {target.command(f'token {options.provider} {options.name}')}")
    target.screen.show({"provider": options.provider, "connection": options.name, **confirmed}, *lines)
    return Exit.DONE


def disconnect(target: Target, options: argparse.Namespace) -> Exit:
    """`connections disconnect`: ends a consent, at the provider too where it can."""
    name = f"{options.provider}/{options.name}"
    found = target.api.show(options.provider, options.name)
    again = target.command(f"connections connect {options.provider} {options.name}")
    if not options.yes:
        if not target.screen.interactive:
            raise Problem("There is no terminal to ask on.", "--yes ends the consent.", exit_code=Exit.USAGE)
        account = (found.get("consent") or {}).get("account") or "unknown"
        target.screen.say(f"This ends the consent of account {account}. Callers of {name} get no more tokens.")
        target.screen.say("Only a person can give another one.")
        if not _says_yes("end the consent"):
            raise Problem("Nothing was changed.", code="not_confirmed")
    with target.screen.progress(f"Ending the consent of {name}"):
        result = target.api.drop_consent(options.provider, options.name)
    if result["refresh_id"] is None:
        lines = [f"{name} has no consent."]
    elif result["revoked"]:
        lines = [f"The consent of {name} has ended, at the provider too."]
    else:
        lines = [
            f"The broker has dropped the consent of {name}, which is not revoked at the provider ({result['reason']}).",
            "The account's owner can end it there.",
        ]
    if result["dropped"]:
        lines.append(f"Tokens that callers no longer get: {result['dropped']}.")
    target.screen.show(
        {"provider": options.provider, "connection": options.name, **result}, *lines, f"A new consent: {again}"
    )
    return Exit.DONE


# ---------------------------------------------------------------- the person


def _ways(provider: Json, options: argparse.Namespace) -> Json:
    """How this provider lets a person consent. Raises Problem if it does not, or not as the options say."""
    title = provider["title"]
    ways = provider["consent"]
    if ways is None and provider["grant"] != "refresh_token":
        raise Problem(f"{title} needs no person's consent.", exit_code=Exit.USAGE)
    if ways is None:
        todo = "Get a refresh token at the vendor, and store it: token-broker connections rotate PROVIDER NAME"
        raise Problem(f"The file of {title} does not say how a person consents.", todo, exit_code=Exit.USAGE)
    if options.device and not ways["device"]:
        raise Problem(f"{title} has no device flow.", "Leave --device out.", exit_code=Exit.USAGE)
    found: Json = ways
    return found


def _by_redirect(target: Target, options: argparse.Namespace, ways: Json, settings: Json) -> Json:
    """A consent in the browser. The redirect is caught on this machine where vendor and settings allow it."""
    with ExitStack() as endings:
        catcher = None
        if ways["loopback"] and not settings.get("redirect_uri"):
            catcher = endings.enter_context(closing(RedirectCatcher()))
        redirect_uri = catcher.redirect_uri if catcher else None
        started = target.api.start_consent(options.provider, options.name, redirect_uri=redirect_uri)
        session = ConsentSession(target, options.provider, options.name, started)
        _send_to(target, started["authorize_url"], session, options)
        if catcher is not None:
            _catch(session, catcher)
        else:
            _ask_for_redirect(session)
    with target.screen.progress("Exchanging the code for tokens"):
        return session.outcome()


def _by_device(target: Target, options: argparse.Namespace) -> Json:
    """A consent by a code that the person enters somewhere else (RFC 8628)."""
    with target.screen.progress("Asking the provider for a code"):
        started = target.api.start_consent(options.provider, options.name, device=True)
    session = ConsentSession(target, options.provider, options.name, started)
    target.screen.instruct(f"Code: {started['user_code']}")
    target.screen.instruct(f"Enter it at {started['verification_uri']}")
    _send_to(target, started["verification_uri_complete"] or started["verification_uri"], session, options)
    with target.screen.progress(_waiting(session)):
        return session.outcome()


def _send_to(target: Target, url: str, session: ConsentSession, options: argparse.Namespace) -> None:
    if options.no_browser:
        target.screen.instruct("Open this as the account's owner:")
        target.screen.instruct(url)
        return
    target.screen.instruct("The browser opens the vendor's page. Approve there as the account's owner.")
    open_in_browser(url, life_s=session.seconds_left)


def _catch(session: ConsentSession, catcher: RedirectCatcher) -> None:
    """Waits for the redirect. One that belongs to no or another consent is not counted: it can come from anywhere."""
    with session.target.screen.progress(_waiting(session)):
        while (redirect_url := catcher.wait(session.seconds_left)) is not None:
            try:
                session.finish(redirect_url)
            except InvalidRequest as error:
                session.target.screen.say(f"A redirect was not taken: {broker_error_text(error)}", "yellow")
            else:
                return
    raise Problem("The approval did not come in time.", BEGIN_AGAIN, code="expired")


def _ask_for_redirect(session: ConsentSession) -> None:
    """Asks for the redirect's URL until the broker takes it."""
    screen = session.target.screen
    screen.instruct(
        f"After the approval the browser goes to {session.started['redirect_uri']}, whatever it shows there."
        " Copy the whole URL from its address bar, and paste it here at once: most codes work for a minute."
    )
    read = _prompt_reader("redirect URL: ") if screen.interactive else sys.stdin.readline
    while True:
        redirect_url = read().strip()
        if not redirect_url:
            if not screen.interactive:
                todo = "Pipe the redirect's URL in, or run this on a terminal."
                raise Problem("Standard input ended without a URL.", todo, exit_code=Exit.USAGE)
            continue
        try:
            with screen.progress("Handing it over"):
                session.finish(redirect_url)
        except InvalidRequest as error:
            if not screen.interactive:
                raise
            screen.say(broker_error_text(error), "yellow")
        else:
            return


def _prompt_reader(prompt: str) -> Callable[[], str]:
    """Asks on the terminal. With readline a line can be longer than the 1024 or 4096 bytes of a plain terminal.

    What was typed is kept nowhere.
    """
    with contextlib.suppress(ImportError):
        import readline

        readline.set_auto_history(False)
    return lambda: input(prompt)


def _waiting(session: ConsentSession) -> str:
    until = datetime.fromisoformat(session.started["expires_at"]).astimezone()
    return f"Waiting for the approval, until {until:%H:%M:%S}. Ctrl-C stops"


# ---------------------------------------------------------------- the confirmation


def _describe(target: Target, connection: Json, granted: Json) -> None:
    """Shows whose consent it is, and for what."""
    screen = target.screen
    account = granted["account"]
    pinned = granted["pinned_account"]
    had = f" (until now: {pinned})" if pinned is not None and pinned != account else ""
    screen.say(f"Account: {account or 'unknown: the provider does not say'}{had}")
    screen.say(f"Granted scope: {granted['scope'] or '(none)'}")
    wanted = str(connection["settings"].get("scope", "")).split()
    missing = [item for item in wanted if item not in granted["scope"].replace(",", " ").split()]
    if missing and granted["scope"]:
        screen.say(f"Not granted: {' '.join(missing)}", "yellow")
    screen.say("Once it is confirmed, callers get tokens of this account.")


def _confirm(target: Target, options: argparse.Namespace, granted: Json) -> Json:
    """Makes the consent live, if the person agrees; of another account only if they agree to that as well."""
    names = (options.provider, options.name, granted["consent_id"])
    kept = "The connection keeps what it has. The new consent is dropped within 24 h."
    if not options.yes and not _says_yes("confirm"):
        raise Problem("The consent was not confirmed.", kept, code="not_confirmed")
    try:
        with target.screen.progress("Confirming"):
            return _until_answered(lambda: target.api.confirm_consent(*names))
    except BrokerRefused as error:
        if error.code != "new_account":
            raise
        detail = error.problem.get("detail", "")
    if not options.new_account:
        if options.yes or not target.screen.interactive:
            raise Problem(detail, f"--new-account confirms that, too. {kept}", code="new_account")
        _warn_of_new_account(target, options, granted)
        expected = granted["account"] or options.name
        what = "account" if granted["account"] else "connection's name"
        if input(f"Type the {what} to confirm ({expected}): ").strip() != expected:
            raise Problem("The new account was not confirmed.", kept, code="not_confirmed")
    with target.screen.progress("Confirming the new account"):
        return _until_answered(lambda: target.api.confirm_consent(*names, new_account=True))


def _warn_of_new_account(target: Target, options: argparse.Namespace, granted: Json) -> None:
    name = f"{options.provider}/{options.name}"
    if granted["account"] is None or granted["pinned_account"] is None:
        what = f"Nobody can tell whether this consent is of the account that {name} has now."
    else:
        what = f"{name} is of account {granted['pinned_account']}, and this consent is of {granted['account']}."
    target.screen.say(what, "yellow")
    target.screen.say(
        "Confirming means: all callers of the connection work with the new consent's account from now on. The tokens"
        " that they have are dropped, and revoked where that is possible. The old consent is gone for good.",
        "yellow",
    )


def _says_yes(question: str) -> bool:
    return input(f"{question} (yes or no): ").strip().lower() in ("yes", "y")


def _no_consent(shown: Json) -> Problem:
    if shown["state"] == "expired":
        return Problem("The approval did not come in time.", BEGIN_AGAIN, code="expired")
    failure = shown["failure"] or {"code": shown["state"], "provider_error": None}
    code = failure["code"]
    provider_error = failure["provider_error"]
    if provider_error == "access_denied":
        return Problem("The person did not consent.", BEGIN_AGAIN, code=code)
    reason = code if provider_error is None else f"{code}, the provider's error code: {provider_error}"
    return Problem(f"No consent came: {reason}.", ADVICE.get(code, BEGIN_AGAIN), code=code)
