"""Nothing leaks: no secret, token or code in logs, metrics, errors, queue messages, or in the table in the clear."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest

from tests.local.providers import DEFAULT_ACCOUNTS
from token_broker import observability
from token_broker.adapters.renewal_queue import write_message
from token_broker.ports import RenewalMessage

from .handlers.functions import Answer
from .handlers.leak_search import Lines, bytes_of, leaks, redirected
from .handlers.world import PROVIDERS, World

OVERDUE = {"due_at": -timedelta(minutes=1), "renew_at": -timedelta(minutes=1)}


@dataclass
class Watch:
    """All that functions leave behind while a test runs."""

    world: World
    lines: Lines
    written: Any
    capsys: pytest.CaptureFixture[str]
    errors: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def note(self, answer: Answer) -> Answer:
        """An answer whose body only a success may have a token in; its headers never."""
        self.errors += [str(answer.headers)] + ([answer.text] if answer.status >= 400 else [])
        return answer

    def places(self) -> dict[str, bytes]:
        output = self.capsys.readouterr()
        places = {
            "log records": "\n".join(self.lines.lines),
            "log lines": self.written.getvalue(),
            "stdout": output.out,
            "stderr": output.err,
            "errors": "\n".join(self.errors),
            "messages": "\n".join(self.messages),
        }
        items = self.world.aws.items(self.world.stack.token_table)
        settings = self.world.aws.items(self.world.stack.connection_table)
        stored = {"token table": b"\n".join(bytes_of(items)), "connection table": b"\n".join(bytes_of(settings))}
        return {name: text.encode() for name, text in places.items()} | stored

    def renew(self, *, by_sweep: bool = False) -> None:
        """The worker on the connection's only key, which is due; `by_sweep`: with the schedule's message."""
        items = self.world.aws.items(self.world.stack.token_table)
        (item,) = [item for item in items if item["sk"]["S"].startswith("T#")]
        name = item["pk"]["S"].removeprefix("C#")
        self.world.aws.change_token_item(name, **OVERDUE)
        body = write_message(RenewalMessage(item["pk"]["S"], item["sk"]["S"]))
        message = {"MessageId": "m-1", "ReceiptHandle": "r-1", "Body": body, "MD5OfBody": "0" * 32}
        if by_sweep:
            self.world.sweep()
            (message,) = self.world.aws.messages()
            self.messages.append(json.dumps(message, default=str))
        self.world.work(message)


@pytest.fixture
def watch(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Watch]:
    """Everything at DEBUG, as somebody sets it who looks for a fault."""
    lines, root = Lines(), logging.getLogger()
    world.functions.restart(POWERTOOLS_LOG_LEVEL="DEBUG")
    monkeypatch.setattr(root, "level", logging.DEBUG)
    root.addHandler(lines)
    before = observability.logger.log_level
    observability.logger.setLevel("DEBUG")
    (handler,) = observability.logger.handlers
    assert isinstance(handler, logging.StreamHandler)
    stream, written = handler.stream, redirected(handler)
    yield Watch(world, lines, written, capsys)
    handler.setStream(stream)
    observability.logger.setLevel(before)
    root.removeHandler(lines)


def secrets_of(world: World, provider: str) -> list[str]:
    """Credentials, tokens, refresh tokens and codes of a provider, as of now."""
    simulator = world.simulator(provider)
    found = [
        value
        for account in simulator.accounts.values()
        for name, value in account.secret.items()
        if name in ("client_secret", "password")
    ]
    found += list(simulator.tokens._tokens)
    for kind in ("_codes", "_refresh_tokens"):
        found += list(getattr(simulator, kind, {}))
    return found


def fetch(watch: Watch, name: str) -> None:
    for _ in range(2):
        assert watch.note(watch.world.api.token(name)).status == 200
    watch.world.functions.restart()
    assert watch.note(watch.world.api.token(name)).status == 200
    watch.renew(by_sweep=True)


def refusal(watch: Watch, name: str) -> None:
    """By a provider that repeats what it was sent, and by one whose account was changed."""
    provider = name.partition("/")[0]
    secret = json.dumps(DEFAULT_ACCOUNTS[provider]["secret"])
    echo = {"error": "invalid_client", "error_description": secret, "status": "FAILED", "message": secret}
    watch.world.simulator(provider).fail("status", status=401, body=echo)
    assert watch.note(watch.world.api.token(name)).status == 502
    watch.world.simulator(provider).fail("status", status=400, body=echo)
    watch.note(watch.world.api.call("POST", f"/v1/connections/{name}/trial"))
    watch.renew()


def outage(watch: Watch, name: str) -> None:
    """Answers that are lost, cut, no token although they hold one, and that lead elsewhere with a code."""
    simulator = watch.world.simulator(name.partition("/")[0])
    first = watch.note(watch.world.api.token(name))
    token = first.body["access_token"]
    faults: list[dict[str, Any]] = [
        {"kind": "reset", "when": "after"},
        {"kind": "malformed", "body": first.text},
        {"kind": "truncate"},
        {"kind": "redirect", "location": f"https://elsewhere.example/?code={quote(token)}"},
    ]
    for fault in faults:
        simulator.fail(**fault)
        watch.renew()
        end_rests(watch.world)
    simulator.fail("status", status=500, body=first.text, times=None)
    watch.world.functions.restart()
    watch.note(watch.world.api.token(name, rejected=first.body["token_id"]))
    watch.note(watch.world.api.call("GET", f"/v1/connections/{name}"))


def purge(watch: Watch, name: str) -> None:
    provider = name.partition("/")[0]
    assert watch.note(watch.world.api.token(name)).status == 200
    if provider in ("unidy", "commerce-layer", "oauth2"):
        watch.world.simulator(provider).fail("reset", on="revoke")
    assert watch.note(watch.world.api.call("DELETE", f"/v1/tokens/{name}")).status == 200
    assert watch.note(watch.world.api.call("DELETE", f"/v1/connections/{name}")).status == 200


def our_own_failure(watch: Watch, name: str) -> None:
    assert watch.note(watch.world.api.token(name)).status == 200
    watch.world.functions.restart(SEALING_KEY_ARN="arn:aws:kms:eu-west-1:123456789012:key/none")
    watch.note(watch.world.api.token(name))
    watch.renew()
    (item,) = watch.world.aws.token_items(name)
    watch.world.aws.dynamodb.update_item(
        TableName=watch.world.stack.token_table,
        Key={"pk": item["pk"], "sk": item["sk"]},
        UpdateExpression="REMOVE expiry_disputed",
    )
    watch.world.functions.restart()
    assert watch.note(watch.world.api.token(name)).code == "internal_error"


def end_rests(world: World) -> None:
    """As after the longest rest."""
    for item in world.aws.items(world.stack.token_table):
        world.aws.dynamodb.update_item(
            TableName=world.stack.token_table,
            Key={"pk": item["pk"], "sk": item["sk"]},
            UpdateExpression="REMOVE failure, unresolved, rejected_until",
        )


COURSES: list[tuple[str, Callable[[Watch, str], None]]] = [
    *((provider, course) for provider in PROVIDERS for course in (fetch, refusal, outage, purge)),
    ("unidy", our_own_failure),
]


@pytest.mark.parametrize(("provider", "course"), COURSES, ids=[f"{slug}-{course.__name__}" for slug, course in COURSES])
def test_nothing_leaks(watch: Watch, provider: str, course: Callable[[Watch, str], None]) -> None:
    name = watch.world.connect(provider)
    secrets = set(secrets_of(watch.world, provider))
    course(watch, name)
    secrets |= set(secrets_of(watch.world, provider))
    places = watch.places()
    assert places["log lines"]
    assert places["token table"] or course is purge
    assert leaks(secrets, places) == []


SECRET = "fake:s3cret+100%2B/é&=not-real"


@pytest.mark.parametrize(
    "plant",
    [
        lambda text: logging.getLogger("anybody").debug("sent %s", text),
        lambda text: observability.logger.debug("sent", extra={"field": text}),
        lambda text: observability.logger.info("sent", body=json.dumps({"client_secret": text})),
        lambda text: print(quote(text, safe="")),  # noqa: T201  # standard output is what is looked at
        lambda text: print(base64.b64encode(f"fake-id:{text}".encode()).decode()),  # noqa: T201  # as above
        lambda text: print(base64.urlsafe_b64encode(f"id:{text}:".encode("iso-8859-1"))),  # noqa: T201  # as above
        lambda text: print(repr(f"https://vendor.example/authToken?password={quote(text)}")),  # noqa: T201  # as above
    ],
)
def test_a_planted_leak_in_the_output_is_found(watch: Watch, plant: Callable[[str], None]) -> None:
    plant(SECRET)
    assert leaks([SECRET], watch.places())


@pytest.mark.parametrize("value", [{"B": SECRET.encode()}, {"S": json.dumps([SECRET])}, {"M": {"a": {"S": SECRET}}}])
def test_a_planted_leak_in_the_table_is_found(watch: Watch, value: dict[str, Any]) -> None:
    item = {"pk": {"S": "C#unidy/demo"}, "sk": {"S": "T#1"}, "planted": value}
    watch.world.aws.dynamodb.put_item(TableName=watch.world.stack.token_table, Item=item)
    assert {place for _, place in leaks([SECRET], watch.places())} == {"token table"}


def test_a_planted_leak_in_the_text_of_an_exception_is_found(watch: Watch) -> None:
    try:
        raise ValueError(SECRET)
    except ValueError:
        logging.getLogger("anybody").exception("it failed")
    assert leaks([SECRET], watch.places())


def test_what_is_no_leak_is_not_found(watch: Watch) -> None:
    logging.getLogger("anybody").info("token_id 9f86d081884c7d65 of client fake-partner-3oyGaZLxkppqDi5V3k")
    assert leaks([SECRET], watch.places()) == []
