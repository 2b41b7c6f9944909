"""`token`: a valid token for a shell."""

import argparse
import shlex
import sys
from datetime import UTC, datetime

from token_broker_cli.problems import Exit
from token_broker_cli.target import Target
from token_broker_cli.wording import relative
from token_broker_client.source import TokenSource
from token_broker_client.tokens import Token


def token(target: Target, options: argparse.Namespace) -> Exit:
    """`token`: prints only the token; or what --header, --export or --json ask for."""
    with target.screen.progress("Getting a token"):
        found = TokenSource(target.api).token(
            options.provider,
            options.name,
            scope=options.scope,
            min_ttl=options.min_ttl,
            rejected=options.rejected,
        )
    if options.json:
        target.screen.show(found.response((found.expires_at - datetime.now(UTC)).total_seconds()))
    else:
        sys.stdout.write("\n".join(_lines(found, options)) + "\n")
    if sys.stdout.isatty():
        expires = relative(found.expires_at.isoformat(), datetime.now(UTC))
        target.screen.say(f"{found.token_id}, scope {found.scope or '(none)'}, expires {expires}", "dim")
    for warning in found.warnings:
        target.screen.say(f"warning: {warning}", "yellow")
    return Exit.DONE


def _lines(found: Token, options: argparse.Namespace) -> list[str]:
    if options.header:
        return [f"{name}: {value}" for name, value in found.headers.items()]
    if options.export:
        header = "; ".join(f"{name}: {value}" for name, value in found.headers.items())
        variables = {
            "ACCESS_TOKEN": found.access_token,
            "TOKEN_HEADER": header,
            "TOKEN_EXPIRES_AT": found.expires_at.isoformat(),
            "API_BASE_URL": found.api_base_url or "",
        }
        return [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    return [found.access_token]
