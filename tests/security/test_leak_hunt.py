"""The leak hunt finds leaks of every form and in every place, and reports nothing else."""

from __future__ import annotations

import base64
import json
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from local.providers import DEFAULT_ACCOUNTS
from tests.integration.handlers.world import World
from tests.security.leak_hunt import KNOWN, Hunt, hunting, listening_to_output
from tests.security.leak_search import leaks
from token_broker import observability
from token_broker.errors import ProviderRefused

SECRET = "fake:s3cret+100%2B/é&=not-real"


@pytest.fixture
def hunt() -> Iterator[Hunt]:
    with hunting() as hunt:
        yield hunt


def out(text: object) -> None:
    sys.stdout.write(f"{text}\n")


@pytest.mark.parametrize(
    "plant",
    [
        lambda text: logging.getLogger("anybody").debug("sent %s", text),
        lambda text: logging.getLogger("anybody.else").debug("sent", extra={"field": text}),
        lambda text: observability.logger.debug("sent", extra={"field": text}),
        lambda text: observability.logger.info("sent", body=json.dumps({"client_secret": text})),
        lambda text: observability.audit("token_returned", field=text),
        lambda text: sys.stderr.write(f"{text}\n"),
        lambda text: out(quote(text, safe="")),
        lambda text: out(quote(quote(text))),
        lambda text: out(text.encode().hex()),
        lambda text: out(base64.b64encode(f"fake-id:{text}".encode()).decode()),
        lambda text: out(base64.urlsafe_b64encode(f"id:{text}:".encode("iso-8859-1"))),
        lambda text: out(repr(f"https://vendor.example/authToken?password={quote(text)}")),
        lambda text: observability.count("TokensReturned", provider=text),
    ],
)
def test_a_leak_in_the_output_is_found(
    hunt: Hunt, plant: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "TokenBroker")
    with listening_to_output(hunt):
        plant(SECRET)
    assert {secret for secret, _ in hunt.found()} == {SECRET[:6]}


@pytest.mark.parametrize("offset", range(3))
@pytest.mark.parametrize("after", ["", ":", "::", ":::"])
@pytest.mark.parametrize("written", [SECRET, quote(SECRET, safe=""), quote_plus(SECRET)])
def test_base64_is_found_at_every_alignment(written: str, offset: int, after: str) -> None:
    """The secret is in a Basic header, with and without RFC 6749's percent-encoding."""
    encoded = base64.b64encode(("i" * offset + written + after).encode())
    assert leaks([SECRET], {"log": b'{"header": "Basic ' + encoded + b'"}'}) == [(SECRET[:6], "log")]


def test_a_leak_in_a_field_of_an_exception_is_found(hunt: Hunt) -> None:
    ProviderRefused("The provider refused.", provider_error=SECRET)
    assert hunt.found() == [(SECRET[:6], "exceptions")]


@pytest.mark.parametrize("value", [{"B": SECRET.encode()}, {"S": json.dumps([SECRET])}, {"M": {"a": {"S": SECRET}}}])
def test_a_leak_in_a_table_is_found_even_if_the_item_was_deleted(
    world: World, hunt: Hunt, value: dict[str, Any]
) -> None:
    key = {"pk": {"S": "C#unidy/demo"}, "sk": {"S": "T#1"}}
    table = world.stack.token_table
    world.aws.dynamodb.put_item(TableName=table, Item={**key, "planted": value})
    world.aws.dynamodb.delete_item(TableName=table, Key=key)
    assert hunt.found() == [(SECRET[:6], "requests to DynamoDB_20120810")]


def test_a_leak_in_a_message_is_found(world: World, hunt: Hunt) -> None:
    world.aws.sqs.send_message(QueueUrl=world.stack.renewal_queue_url, MessageBody=json.dumps({"token": SECRET}))
    assert hunt.found() == [(SECRET[:6], "requests to AmazonSQS")]


@pytest.mark.parametrize("provider", ["ucommerce", "unicommerce", "unidy"])
def test_issued_tokens_and_stored_credentials_are_searched_for(world: World, hunt: Hunt, provider: str) -> None:
    password = "fake-other-password"
    account = {**DEFAULT_ACCOUNTS[provider]["secret"], "note": password}
    token = world.api.token(world.connect(provider, secret=account)).body["access_token"]
    assert {token, password} < hunt.secrets
    kinds = {"ucommerce": 4, "unicommerce": 2, "unidy": 2}  # also a code and a refresh token
    assert len(hunt.secrets - KNOWN) >= kinds[provider]
    assert hunt.found() == []
    for secret in hunt.secrets - KNOWN:
        hunt.note("planted", secret)
    assert {place for _, place in hunt.found()} == {"planted"}
