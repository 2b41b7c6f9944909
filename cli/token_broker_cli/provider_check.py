"""`providers check`: is a provider's file valid, and does it pass its examples? With --try: does it get a token?

For people who add a provider, and for their CI. It needs no broker: it runs the broker's own code here. Nothing is
stored. The token is described, and revoked if the provider can.
"""

from __future__ import annotations

import argparse
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from token_broker.adapters.provider_http import ProviderHttp
from token_broker.catalogue import BUILT_IN, load_catalogue, read_provider
from token_broker.catalogue.example_run import run_example
from token_broker.catalogue.examples import Examples, read_examples
from token_broker.catalogue.proof import NO_PROOF, examples_beside
from token_broker.core.connections import COMMON_SETTINGS, Connection, parse_connection
from token_broker.core.credentials import Credentials, Secret, check_scope_without_secret, parse_credentials
from token_broker.core.failures import ExchangeFailure
from token_broker.core.names import ConnectionName, fingerprint
from token_broker.core.provider_files import CatalogueError
from token_broker.core.providers import Provider
from token_broker.errors import BrokerError, ConnectionMisconfigured
from token_broker.oauth.exchange import TransportError
from token_broker.oauth.grants import GrantFailed, token_flow
from token_broker.oauth.lifetimes import DEFAULT_LIFETIME, expiry_of
from token_broker.oauth.outcomes import unusable_response
from token_broker.oauth.requests import GrantRequest, revocation_request
from token_broker.oauth.responses import UnusableResponse
from token_broker.oauth.signed_requests import no_kms_key, prepare_request
from token_broker.service.context import TimeLimits
from token_broker.service.provider_client import run_flow
from token_broker_cli.problems import Exit, Problem
from token_broker_cli.prompts import Prompts, Spec, piped_object
from token_broker_cli.settings_files import read_settings
from token_broker_cli.target import Target

LIMITS = TimeLimits()


@dataclass(frozen=True)
class CheckedToken:
    """What `--try` reports about a token. The token itself is not kept."""

    token_id: str
    characters: int
    expires_in: int
    expires_assumed: bool
    scope: str
    has_refresh_token: bool
    revocation: str

    @property
    def lines(self) -> list[str]:
        source = "assumed, because the provider gives no lifetime" if self.expires_assumed else "as the provider says"
        return [
            f"Got a token: {self.characters} characters, token_id {self.token_id}.",
            f"It is valid for {self.expires_in} s ({source}), scope {self.scope or '(none)'}.",
            "A refresh token came with it." if self.has_refresh_token else "No refresh token came with it.",
            f"{self.revocation} Nothing was stored.",
        ]


@dataclass(frozen=True)
class CheckedFile:
    """A file that is valid and passes its examples, if it has any."""

    file: Path
    provider: Provider
    examples: Examples | None

    @property
    def lines(self) -> list[str]:
        return [f"{self.file} is valid: {self.provider.title}, grant {self.provider.grant.name}.", self._proof_line]

    @property
    def _proof_line(self) -> str:
        """How much the examples prove. Passing shows that the file is consistent, not that it is right."""
        if self.examples is None:
            return f"It has no examples: {examples_beside(self.file)} does not exist."
        count = len(self.examples.examples)
        passed = "It passes its example" if count == 1 else f"It passes its {count} examples"
        return f"{passed} ({self.examples.proof}: {self.examples.source}, read on {self.examples.read_on})."

    def as_json(self) -> dict[str, Any]:
        return {
            "file": str(self.file),
            "provider": self.provider.slug,
            "title": self.provider.title,
            "grant": self.provider.grant.name,
            "proof": NO_PROOF if self.examples is None else self.examples.proof,
            "examples": 0 if self.examples is None else len(self.examples.examples),
        }


def check_path(target: Target, options: argparse.Namespace) -> Exit:
    """Names every fault of the file, or of all in a directory, and every difference from the examples."""
    if options.path.is_dir():
        return _check_directory(target, options)
    checked = check_file(options.path)
    token = None
    lines = checked.lines
    if options.request_token:
        _check_may_be_tried(checked.provider)
        connection, credentials = _connection(target, options, checked.provider)
        with target.screen.progress(f"Requesting a token from {checked.provider.title}"):
            token = _request_token(connection, credentials, ProviderHttp(loopback=target.is_local))
        lines += token.lines
    target.screen.show({**checked.as_json(), "token": None if token is None else asdict(token)}, *lines)
    return Exit.DONE


def _check_may_be_tried(provider: Provider) -> None:
    """Raises Problem where a request would use up a refresh token that only a person can replace."""
    if provider.grant.needs_consent:
        raise Problem(
            f"{provider.title} cannot be tried: a renewal can use up the refresh token, and the new one would be lost.",
            "Add a connection and give consent there.",
            code="would_consume_grant",
        )


def check_file(file: Path) -> CheckedFile:
    """Checks one file with its examples. Raises Problem."""
    provider = _read(file)
    return CheckedFile(file, provider, _run_examples(file, provider))


def _check_directory(target: Target, options: argparse.Namespace) -> Exit:
    """Checks a layer's directory of provider files: each file, and what they are together."""
    directory: Path = options.path
    if options.request_token:
        raise Problem("--try needs one file.", f"Name a file of {directory}.", exit_code=Exit.USAGE)
    files = sorted(directory.glob("*.toml"))
    if not files:
        raise Problem(f"{directory} has no provider file (*.toml).", exit_code=Exit.USAGE)
    checked = []
    problems = list(_problems_of_names(directory, files))
    for file in files:
        try:
            checked.append(check_file(file))
        except Problem as problem:
            problems.append(problem.what)
    if problems:
        raise Problem("\n".join(problems), code="invalid_provider")
    lines = [line for found in checked for line in found.lines]
    target.screen.show({"directory": str(directory), "files": [found.as_json() for found in checked]}, *lines)
    return Exit.DONE


def _problems_of_names(directory: Path, files: Sequence[Path]) -> Iterator[str]:
    """A file cannot have the name of one of the broker's providers, and examples belong to a file."""
    if directory.resolve() != BUILT_IN.resolve():
        for file in files:
            if file.stem in load_catalogue():
                yield f"{file} has the name of one of the broker's providers. Rename it."
    names = {file.name for file in files}
    for examples in sorted(examples_beside(directory / "any.toml").parent.glob("*.toml")):
        if examples.name not in names:
            yield f"{examples} has no provider file: {directory / examples.name} does not exist."


def _read(path: Path) -> Provider:
    try:
        return read_provider(path)
    except OSError as error:
        raise Problem(f"{path} cannot be read: {error.strerror}.", exit_code=Exit.USAGE) from None
    except CatalogueError as error:
        faults = [f"  {fault}" for fault in error.faults]
        raise Problem("\n".join([f"{path} is not valid:", *faults]), code="invalid_provider") from None


def _run_examples(file: Path, provider: Provider) -> Examples | None:
    """The examples beside the file, all passed; None if there are none. Raises Problem with every difference."""
    path = examples_beside(file)
    try:
        examples = read_examples(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Problem(f"{path} cannot be read: {error.strerror}.", exit_code=Exit.USAGE) from None
    except CatalogueError as error:
        faults = [f"  {fault}" for fault in error.faults]
        raise Problem("\n".join([f"{path} is not valid:", *faults]), code="invalid_examples") from None
    differences = [
        f"  {example.title}: {fault}"
        for example in examples.examples
        for fault in run_example(provider, example, _now())
    ]
    if differences:
        raise Problem("\n".join([f"{file} does not pass its examples:", *differences]), code="example_failed")
    return examples


def _connection(target: Target, options: argparse.Namespace, provider: Provider) -> tuple[Connection, Credentials]:
    """A connection that exists for this check only. Raises Problem."""
    name = ConnectionName(provider.slug, "check")
    settings, values = _input(target, options, provider)
    try:
        connection = parse_connection(
            name, provider, {"allowed_callers": ["*"], **settings}, insecure_urls=target.is_local
        )
        credentials = parse_credentials(name, provider, Secret(json.dumps(values), version="check"))
        check_scope_without_secret(name, provider, credentials, connection.scope)
    except BrokerError as error:
        faults = [f"  {fault}" for fault in error.errors]
        raise Problem("\n".join([error.detail, *faults]), code=error.code) from None
    return connection, credentials


def _input(
    target: Target, options: argparse.Namespace, provider: Provider
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Settings and credentials: from --settings or the terminal, and from the terminal or standard input."""
    if not target.screen.interactive:
        if options.settings is None:
            raise Problem("There is no terminal to ask on.", "Use --settings FILE.", exit_code=Exit.USAGE)
        settings = read_settings(options.settings)
        return settings, piped_object("Pipe one in, e.g. from a password manager.")
    prompts = Prompts(target.screen)
    if options.settings is not None:
        settings = read_settings(options.settings)
    else:
        settings = prompts.settings(_setting_specs(provider), {})
    target.screen.say("\nCredentials. Secrets are not shown while you type or paste them.", "dim")
    return settings, prompts.credentials(_credential_specs(provider), {})


def _setting_specs(provider: Provider) -> list[Spec]:
    """The provider's own settings, and the scope."""
    specs: list[Spec] = [
        {"name": spec.name, "kind": spec.kind, "required": spec.required, "default": spec.default, "help": spec.help}
        for spec in provider.settings
    ]
    if provider.grant.has_scopes:
        scope = next(setting for setting in COMMON_SETTINGS if setting.name == "scope")
        required = provider.scope.required
        specs.append({"name": "scope", "kind": scope.kind, "required": required, "default": None, "help": scope.help})
    return specs


def _credential_specs(provider: Provider) -> list[Spec]:
    required: list[Spec] = [{"name": name, "required": True} for name in provider.credentials]
    return required + [{"name": name, "required": False} for name in provider.optional_credentials]


def _request_token(connection: Connection, credentials: Credentials, send: ProviderHttp) -> CheckedToken:
    """Runs the grant once, with the broker's time limits. Raises Problem that names the failure rule."""
    try:
        request = prepare_request(
            connection,
            credentials,
            connection.scope,
            kms_signer=no_kms_key,
            clock=_now,
            new_id=lambda: uuid.uuid4().hex,
        )
        issued, sent_at = run_flow(
            token_flow(request),
            connection.network,
            send=send,
            clock=_now,
            exchange_limit=LIMITS.exchange,
            deadline=_now() + LIMITS.acquisition,
        )
        expiry = expiry_of(
            issued,
            sent_at=sent_at,
            cap=connection.lifetime_cap,
            default=connection.default_lifetime or DEFAULT_LIFETIME,
        )
    except ConnectionMisconfigured as error:
        raise Problem(error.detail, code=error.code) from None
    except GrantFailed as failed:
        raise _no_token(failed.failure) from None
    except UnusableResponse as unusable:
        raise _no_token(unusable_response(str(unusable))) from None
    if expiry.expired is not None:
        raise _no_token(unusable_response(expiry.expired))
    access_token = issued.access_token
    return CheckedToken(
        token_id=fingerprint(access_token),
        characters=len(access_token),
        expires_in=round((expiry.expires_at - sent_at).total_seconds()),
        expires_assumed=expiry.assumed,
        scope=issued.scope or connection.scope,
        has_refresh_token=issued.refresh_token is not None,
        revocation=_revoke(request, access_token, connection, send),
    )


def _no_token(failure: ExchangeFailure) -> Problem:
    what = f"No token. {failure.detail}"
    if failure.provider_error:
        what += f" The provider's error code: {failure.provider_error}."
    todo = f"This is the failure rule {failure.rule} ({failure.kind.code}); see docs/failures.md."
    return Problem(what, todo, code=failure.kind.code)


def _revoke(request: GrantRequest, access_token: str, connection: Connection, send: ProviderHttp) -> str:
    """Revokes the token if the provider can. Returns what happened."""
    revocation = revocation_request(request, access_token)
    if revocation is None:
        return "It cannot be revoked and is valid until it expires."
    try:
        status = send(revocation, connection.network, LIMITS.exchange).status
    except TransportError:
        return "Its revocation got no response: it may be valid until it expires."
    if 200 <= status < 300:
        return "It was revoked."
    return f"Its revocation got the status {status}: it may be valid until it expires."


def _now() -> datetime:
    return datetime.now(UTC)
