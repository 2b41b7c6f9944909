"""`python -m token_broker.catalogue check FILE`: is a provider's file whole? With --try: does it bring a token?

For whoever adds a provider, and for their CI. Nothing is stored: the token is described, revoked where that can be, and
forgotten. Exit codes: 0 it holds, 1 it does not, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import getpass
import json
import sys
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from token_broker.adapters.provider_http import ProviderHttp
from token_broker.catalogue import read_provider
from token_broker.core.connections import Connection, parse_connection
from token_broker.core.credentials import Credentials, Secret, check_scope_of, parse_credentials
from token_broker.core.names import ConnectionName, fingerprint
from token_broker.core.providers import CatalogueError, Provider
from token_broker.errors import BrokerError
from token_broker.oauth.exchange import TransportError
from token_broker.oauth.grants import Flow, GrantFailed, GrantRequest, flow_for, revocation_request
from token_broker.oauth.lifetimes import expiry_of
from token_broker.oauth.responses import IssuedToken, UnusableResponse
from token_broker.service.context import TimeLimits, grant_request

# Names, not secrets: whoever types them wants to see them.
SHOWN = frozenset({"client_id", "username"})
OK, FAULTY, USAGE = 0, 1, 2


def main(argv: list[str] | None = None) -> int:
    """One check; the exit code."""
    options = _parser().parse_args(argv)
    try:
        provider = read_provider(options.file)
    except OSError as error:
        return _fail(f"{options.file}: {error.strerror}", code=USAGE)
    except CatalogueError as error:
        return _fail(*(f"{options.file}: {fault}" for fault in error.faults))
    _say(f"{options.file} holds together: {provider.title}, {provider.grant}.")
    if not options.attempt:
        return OK
    try:
        settings, credentials = _settings(provider, options.settings), _credentials(provider)
        return _attempt(provider, settings, credentials, local=options.local)
    except (ValueError, OSError) as error:
        return _fail(str(error), code=USAGE)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m token_broker.catalogue", description=__doc__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    check = commands.add_parser("check", help="check a provider's file", description="Names every fault of the file.")
    check.add_argument("file", metavar="FILE", type=Path, help="a catalogue file, such as acme.toml")
    check.add_argument("--try", dest="attempt", action="store_true", help="ask its endpoint for a token, and forget it")
    check.add_argument(
        "--settings",
        metavar="FILE",
        type=Path,
        help="with --try: a connection's settings (.toml, .json); else asked for",
    )
    check.add_argument("--local", action="store_true", help="with --try: http and loopback are allowed")
    return parser


def _attempt(provider: Provider, settings: Mapping[str, Any], values: Mapping[str, str], *, local: bool) -> int:
    """One grant with these credentials."""
    name = ConnectionName(provider.slug, "trial")
    try:
        connection = parse_connection(name, provider, {"allowed_callers": ["*"], **settings}, insecure_urls=local)
        credentials = parse_credentials(name, provider, Secret(json.dumps(values), version="trial"))
        check_scope_of(name, provider, credentials, connection.scope)
        _grant(connection, credentials, ProviderHttp(loopback=local))
    except BrokerError as error:
        return _fail(error.detail, *(str(fault) for fault in error.errors))
    except GrantFailed as refusal:
        exchange_failure = refusal.failure
        code = f" Its own word for it: {exchange_failure.provider_error}." if exchange_failure.provider_error else ""
        return _fail(
            f"No token ({exchange_failure.kind.code}, row {exchange_failure.rule} of docs/failures.md). {exchange_failure.detail}{code}"
        )
    except UnusableResponse as reason:
        return _fail(f"The answer is no usable token: {reason}.")
    return OK


def _grant(connection: Connection, credentials: Credentials, send: ProviderHttp) -> None:
    """Raises Refusal or Unusable."""
    order = grant_request(connection, credentials, connection.scope, datetime.now(UTC))
    issued, sent_at = _run(flow_for(order), connection, send)
    life = expiry_of(issued, sent_at=sent_at, cap=connection.lifetime_cap, untold=connection.default_lifetime)
    seconds = round((life.expires_at - sent_at).total_seconds())
    told = "assumed, for the provider tells none" if life.assumed else "as the provider tells"
    _say(f"A token came: {len(issued.access_token)} characters, token_id {fingerprint(issued.access_token)}.")
    _say(f"It lives {seconds} s ({told}); scope {issued.scope or connection.scope or '(none)'}.")
    _say("A refresh token came with it." if issued.refresh_token else "There is no refresh token.")
    _say(_revoked(order, issued, connection, send))


def _run(flow: Flow, connection: Connection, send: ProviderHttp) -> tuple[IssuedToken, datetime]:
    """Drives a grant over the network, and tells when the request went out that brought the token."""
    exchange, network = TimeLimits().exchange, connection.network
    request = next(flow)
    while True:
        sent_at = datetime.now(UTC)
        try:
            response = send(request, network, exchange)
            request = flow.send(response)
        except TransportError as error:
            request = flow.throw(error)
        except StopIteration as done:
            return done.value, sent_at


def _revoked(order: GrantRequest, issued: IssuedToken, connection: Connection, send: ProviderHttp) -> str:
    request = revocation_request(order, issued.access_token)
    if request is None:
        return "It cannot be revoked, and lives to its end; nothing was stored."
    try:
        status = send(request, connection.network, timedelta(seconds=8)).status
    except TransportError:
        return "Its revocation had no answer: it may live to its end; nothing was stored."
    if 200 <= status < 300:
        return "It was revoked; nothing was stored."
    return f"Its revocation was answered with {status}: it may live to its end; nothing was stored."


def _settings(provider: Provider, file: Path | None) -> dict[str, Any]:
    """The settings of a file, or the required ones asked for. Raises ValueError or OSError."""
    if file is not None:
        text = file.read_text(encoding="utf-8")
        data = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
        if not isinstance(data, dict):
            raise ValueError(f"{file} holds no object")
        return data
    if not sys.stdin.isatty():
        raise ValueError("there is no terminal to ask on: give --settings FILE")
    settings = {}
    for spec in provider.settings:
        _say(f"\n{spec.help}")
        settings[spec.name] = input(f"{spec.name}{' (optional)' * (not spec.required)}: ").strip()
    settings["scope"] = input(f"\nscope{' (optional)' * (not provider.scope.required)}: ").strip()
    return {name: value for name, value in settings.items() if value}


def _credentials(provider: Provider) -> dict[str, str]:
    """Asked for without echo, or a JSON object on standard input: never on the command line. Raises ValueError."""
    if not sys.stdin.isatty():
        try:
            values = json.loads(sys.stdin.read())
        except ValueError:
            values = None
        if not isinstance(values, dict):
            raise ValueError("standard input is no terminal and holds no JSON object of credentials")
        return values
    asked = {}
    for name in provider.credentials + provider.optional_credentials:
        prompt = f"{name}{' (optional)' * (name in provider.optional_credentials)}: "
        asked[name] = input(prompt).strip() if name in SHOWN else getpass.getpass(prompt)
    return {name: value for name, value in asked.items() if value}


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def _fail(*lines: str, code: int = FAULTY) -> int:
    for line in lines:
        sys.stderr.write(f"{line}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
