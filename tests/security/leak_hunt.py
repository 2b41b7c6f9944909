"""The leak hunt: collects the secrets of a test and everything that is written, and searches for leaks.

Secrets are the simulated providers' credentials, tokens, refresh tokens and codes, and the values put into Secrets
Manager. Searched is everything that leaves the processes: log records of every logger at DEBUG, standard output and
error with the metrics, responses, exceptions with causes and stacks, every request to DynamoDB, SQS and KMS (so every
state of an item and every message), and the logs of functions that run as processes.
"""

from __future__ import annotations

import io
import json
import logging
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import parse_qs, unquote

import pytest
from aws_lambda_powertools import Logger

from local import aws, lambda_environments, process
from local.providers import DEFAULT_ACCOUNTS
from local.providers.signed_assertions import SignedAssertions
from local.providers.simulator import Simulator
from local.providers.ucommerce import Ucommerce
from tests.fakes import FakeSecretStore
from tests.fakes.consent_vendor import ConsentVendor
from tests.integration.handlers.functions import Functions
from tests.security.leak_search import SHORTEST, leaks
from token_broker import observability
from token_broker.errors import BrokerError
from token_broker.oauth.exchange import TransportError
from token_broker.oauth.grants import GrantFailed
from token_broker.oauth.responses import UnusableResponse
from token_broker.ports import SealBroken

# The AWS endpoint of the tests runs in this process. Its logs are not ours.
NOT_OURS: Final = ("moto", "werkzeug", "responses", "samtranslator")
# Names, not secrets: logs of other systems and some errors may hold them.
PUBLIC_FIELDS: Final = frozenset({"client_id", "username", "name", "key_id", "public_key", "certificate"})
TOKEN_FIELDS: Final = ("access_token", "accessToken", "refresh_token")
KNOWN: Final = frozenset(
    value
    for account in DEFAULT_ACCOUNTS.values()
    for name, value in account["secret"].items()
    if name not in PUBLIC_FIELDS
)


class Written(Protocol):
    """A text stream."""

    def write(self, text: str, /) -> Any: ...


class Tee:
    """A stream that passes text on and keeps it."""

    def __init__(self, stream: Written, kept: list[str]) -> None:
        self._stream = stream
        self._kept = kept

    def write(self, text: str) -> Any:
        self._kept.append(text)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Records(logging.Handler):
    """Collects all log records of any level, with every field and the text of every exception."""

    def __init__(self, kept: list[str]) -> None:
        super().__init__(logging.NOTSET)
        self._kept = kept
        self._formatter = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith(NOT_OURS):
            return
        self._kept += [record.getMessage(), repr(vars(record))]
        if record.exc_info:
            self._kept.append(self._formatter.formatException(record.exc_info))


class Hunt:
    """The secrets of one test, and what was written during it."""

    def __init__(self) -> None:
        self.secrets: set[str] = set()
        for value in KNOWN:
            self.secret(value)
        self.written: dict[str, list[str]] = {}
        self.raised: list[BaseException] = []

    def secret(self, value: object) -> None:
        """Adds a secret."""
        if isinstance(value, str):
            self.secrets |= {text for text in (value, *_lines_of_key(value)) if len(text) >= SHORTEST}

    def credentials(self, text: str) -> None:
        """Adds the fields of a secret's value, or the whole text if it is not an object."""
        try:
            fields = json.loads(text)
        except ValueError:
            fields = text
        values = fields.items() if isinstance(fields, dict) else [("", fields)]
        for name, value in values:
            if name not in PUBLIC_FIELDS:
                self.secret(value)

    def note(self, place: str, text: str) -> None:
        self.written.setdefault(place, []).append(text)

    def returned(self, result: Any) -> None:
        """Notes what a function returned. Only the body of a token response may hold the token, so that is left out."""
        if isinstance(result, Mapping) and "statusCode" in result:
            is_page = result["body"].startswith("<")
            body = result["body"] if is_page else json.loads(result["body"])
            if result["statusCode"] == 200 and isinstance(body, dict) and "access_token" in body:
                body = {name: value for name, value in body.items() if name not in ("access_token", "headers")}
            result = {**result, "body": body}
        self.note("responses", json.dumps(result, default=repr, ensure_ascii=False))

    def sent_to_aws(self, target: str, body: bytes) -> None:
        """Notes a request to AWS. CloudTrail logs the encryption context that KMS gets."""
        service, _, operation = target.partition(".")
        text = body.decode("utf-8", "replace")
        if service == "secretsmanager":
            self.credentials(json.loads(text).get("SecretString", ""))
        elif service:
            self.note(f"requests to {service}", f"{operation} {text}")

    def found(self) -> list[tuple[str, str]]:
        """Each leaked secret (its first characters) and where it was found. Empty if nothing leaked."""
        places = {place: list(texts) for place, texts in self.written.items()}
        for error in self.raised:
            places.setdefault("exceptions", []).append("".join([*traceback.format_exception(error), repr(vars(error))]))
        return leaks(self.secrets, {place: "\n".join(texts).encode() for place, texts in places.items()})

    def clear(self) -> None:
        """Forgets what was written, before the next example of a property."""
        for texts in self.written.values():
            texts.clear()
        self.raised.clear()


def _lines_of_key(pem: str) -> list[str]:
    """The lines of a private key: an error could quote one of them."""
    return [line for line in pem.splitlines() if "-----" not in line] if "PRIVATE KEY-----" in pem else []


@contextmanager
def hunting() -> Iterator[Hunt]:
    """Runs a hunt until the context ends. The caller checks `found`."""
    hunt, root = Hunt(), logging.getLogger()
    ours = [found for found in vars(observability).values() if isinstance(found, Logger)]
    records = Records(hunt.written.setdefault("log records", []))
    level, our_levels = root.level, [found.log_level for found in ours]
    with pytest.MonkeyPatch.context() as patch:
        _listen_to_providers(hunt, patch)
        _listen_to_consents(hunt, patch)
        _listen_to_functions(hunt, patch)
        _listen_to_aws(hunt, patch)
        for kind in (BrokerError, TransportError, GrantFailed, UnusableResponse, SealBroken):
            _listen_to_errors(hunt, patch, kind)
        for handler in {handler for found in ours for handler in found.handlers}:
            assert isinstance(handler, logging.StreamHandler)
            patch.setattr(handler, "stream", Tee(handler.stream, hunt.written.setdefault("log lines", [])))
        root.addHandler(records)
        root.setLevel(logging.DEBUG)
        for found in ours:
            found.setLevel("DEBUG")
        try:
            yield hunt
        finally:
            root.removeHandler(records)
            root.setLevel(level)
            for found, our_level in zip(ours, our_levels, strict=True):
                found.setLevel(our_level)
    for path, text in _new_log_text():
        hunt.note(f"log of {path.stem}", text)


@contextmanager
def listening_to_output(hunt: Hunt) -> Iterator[None]:
    """Notes standard output and error, even if pytest captures them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("stdout", "stderr"):
            patch.setattr(sys, name, Tee(getattr(sys, name), hunt.written.setdefault(name, [])))
        yield


def _listen_to_providers(hunt: Hunt, patch: pytest.MonkeyPatch) -> None:
    reply, redirect, put = Simulator.token_reply, Ucommerce._redirect, FakeSecretStore.put
    verify = SignedAssertions.verified

    def token_reply(self: Simulator, *arguments: Any) -> Any:
        response = reply(self, *arguments)
        document = json.loads(response.body)
        for name in TOKEN_FIELDS:
            hunt.secret(document.get(name))
        return response

    def redirected(self: Ucommerce, uri: str, query: str, outcome: str) -> Any:
        for code in parse_qs(query.replace("+", "%2B")).get("code", []):
            hunt.secret(code)
            hunt.secret(unquote(code))
        return redirect(self, uri, query, outcome)

    def verified(self: SignedAssertions, request: Any, assertion: str, **named: Any) -> Any:
        hunt.secret(assertion)
        hunt.secret(assertion.rpartition(".")[2])
        return verify(self, request, assertion, **named)

    def put_secret(self: FakeSecretStore, name: Any, value: Any, **named: Any) -> str:
        hunt.credentials(value if isinstance(value, str) else json.dumps(dict(value)))
        return put(self, name, value, **named)

    patch.setattr(Simulator, "token_reply", token_reply)
    patch.setattr(Ucommerce, "_redirect", redirected)
    patch.setattr(SignedAssertions, "verified", verified)
    patch.setattr(FakeSecretStore, "put", put_secret)


def _listen_to_consents(hunt: Hunt, patch: pytest.MonkeyPatch) -> None:
    issue, authorize = ConsentVendor._issue, ConsentVendor.authorize

    def issued(self: ConsentVendor) -> Any:
        response = issue(self)
        for name in TOKEN_FIELDS:
            hunt.secret(json.loads(response.body).get(name))
        return response

    def authorized(self: ConsentVendor, authorize_url: str) -> str:
        redirect_url = authorize(self, authorize_url)
        for code in parse_qs(redirect_url.partition("?")[2])["code"]:
            hunt.secret(code)
        return redirect_url

    patch.setattr(ConsentVendor, "_issue", issued)
    patch.setattr(ConsentVendor, "authorize", authorized)


def _listen_to_functions(hunt: Hunt, patch: pytest.MonkeyPatch) -> None:
    def listening(invoke: Callable[..., Any]) -> Callable[..., Any]:
        def invoked(*arguments: Any, **named: Any) -> Any:
            try:
                result = invoke(*arguments, **named)
            except Exception as error:
                hunt.raised.append(error)
                raise
            hunt.returned(result)
            return result

        return invoked

    start, variables = process.start_module, lambda_environments.lambda_environment

    def start_module(*arguments: Any, log: Path | None = None, **named: Any) -> Any:
        if log is not None:
            _READ.setdefault(log, 0)
        return start(*arguments, log=log, **named)

    def at_debug(*arguments: Any) -> dict[str, str]:
        return {**variables(*arguments), "POWERTOOLS_LOG_LEVEL": "DEBUG"}

    patch.setattr(Functions, "invoke", listening(Functions.invoke))
    patch.setattr(lambda_environments.EnvironmentPool, "invoke", listening(lambda_environments.EnvironmentPool.invoke))
    patch.setattr(process, "start_module", start_module)
    patch.setattr(lambda_environments, "lambda_environment", at_debug)


def _listen_to_aws(hunt: Hunt, patch: pytest.MonkeyPatch) -> None:
    response = aws.OneAtATime.__call__

    def answered(self: aws.OneAtATime, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        hunt.sent_to_aws(environ.get("HTTP_X_AMZ_TARGET", ""), body)
        return response(self, {**environ, "wsgi.input": io.BytesIO(body)}, start_response)

    patch.setattr(aws.OneAtATime, "__call__", answered)


def _listen_to_errors(hunt: Hunt, patch: pytest.MonkeyPatch, kind: type[BaseException]) -> None:
    make = kind.__init__

    def made(self: BaseException, *arguments: Any, **named: Any) -> None:
        make(self, *arguments, **named)
        hunt.raised.append(self)

    patch.setattr(kind, "__init__", made)


# How much of each process's log was read. Processes run on after the test that started them.
_READ: dict[Path, int] = {}


def _new_log_text() -> Iterator[tuple[Path, str]]:
    for path, start in _READ.items():
        if path.exists():
            with path.open("rb") as log:
                log.seek(start)
                text = log.read()
            _READ[path] = start + len(text)
            yield path, text.decode("utf-8", "replace")
