"""The surroundings of the functions in a test: the stack's data in moto, secrets, the simulated providers."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import requests
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from moto.backends import get_backend

from local.aws import ACCOUNT_ID, REGION
from local.connections import aws_client
from local.events import queue_event, schedule_event
from local.providers import DEFAULT_ACCOUNTS, ProvidersServer, default_settings
from local.resources import STACK_NAME, LocalStack
from local.sigv4 import LOCAL
from token_broker.adapters.dynamodb.keys import connection_of, parse_due_sk
from token_broker.adapters.sqs import write_consent_message, write_message
from token_broker.oauth.grants import redirect_query
from token_broker.ports import RenewalMessage

from .functions import Api, BrokerResponse, Functions

PROVIDERS: Final = ("unified-services", "unicommerce", "commerce-layer", "ucommerce", "unidy", "oauth2")
# Those that take signed assertions, and the KMS keys for each algorithm.
SIGNING_KEY_SPECS: Final[Mapping[str, Any]] = {"RS256": "RSA_2048", "PS256": "RSA_3072", "ES256": "ECC_NIST_P256"}
SIGNED: Final = ("oauth2-private-key-jwt", "oauth2-jwt-bearer")
PROVIDER_FILES: Final = Path(__file__).parent / "provider_files"
QUEUE_ARN: Final = "arn:aws:sqs:eu-west-1:123456789012:RenewalQueue"


class Aws:
    """The data behind one AWS endpoint. Tests read and change it directly."""

    def __init__(self, endpoint_url: str, stack: LocalStack) -> None:
        self.endpoint_url = endpoint_url
        self.stack = stack
        self.dynamodb = aws_client("dynamodb", endpoint_url)
        self.secrets = aws_client("secretsmanager", endpoint_url)
        self.sqs = aws_client("sqs", endpoint_url)
        self.kms = aws_client("kms", endpoint_url)

    def empty(self) -> None:
        """Restores the state after deployment, directly in moto's memory. Requests would take a third of a test run."""
        dynamodb, secrets, sqs = (
            get_backend("dynamodb")[ACCOUNT_ID][REGION],
            get_backend("secretsmanager")[ACCOUNT_ID][REGION],
            get_backend("sqs")[ACCOUNT_ID][REGION],
        )
        for table in (self.stack.connection_table, self.stack.token_table, self.stack.grant_table):
            dynamodb.get_table(table).items.clear()
        secrets.reset()
        for url in (self.stack.renewal_queue_url, self.stack.consent_queue_url):
            queue = sqs.queues[url.rpartition("/")[2]]
            queue._messages.clear()
            queue.deleted_messages.clear()

    def queued_bodies(self) -> list[str]:
        """The bodies of all messages in the renewal queue, delayed ones included."""
        queue = get_backend("sqs")[ACCOUNT_ID][REGION].queues[self.stack.renewal_queue_url.rpartition("/")[2]]
        return [message.body for message in queue._messages]

    def items(self, table: str) -> list[dict[str, Any]]:
        """All items of a table."""
        return [
            item for page in self.dynamodb.get_paginator("scan").paginate(TableName=table) for item in page["Items"]
        ]

    def token_items(self, name: str) -> list[dict[str, Any]]:
        """The token keys of a connection, as stored."""
        return self._items_of(name, "T#")

    def retired_items(self, name: str) -> list[dict[str, Any]]:
        """The retired tokens of a connection, as stored."""
        return self._items_of(name, "R#")

    def _items_of(self, name: str, kind: str) -> list[dict[str, Any]]:
        return [
            item
            for item in self.items(self.stack.token_table)
            if item["pk"]["S"] == f"C#{name}" and item["sk"]["S"].startswith(kind)
        ]

    def change_token_item(self, name: str, **moments: timedelta) -> None:
        """Sets moments of a connection's only token key to now + the given time, as if hours had passed."""
        (item,) = self.token_items(name)
        self._change(item, moments)

    def take_lease(self, name: str, lasts: timedelta) -> None:
        """Lets another instance hold the lease on a connection's only token key."""
        self.change_token_item(name, lease_since=timedelta(), lease_until=lasts)
        (item,) = self.token_items(name)
        self.dynamodb.update_item(
            TableName=self.stack.token_table,
            Key={"pk": item["pk"], "sk": item["sk"]},
            UpdateExpression="SET lease_owner = :owner",
            ExpressionAttributeValues={":owner": {"S": "another instance"}},
        )

    def make_retired_due(self, name: str) -> None:
        """Lets the next try to revoke a connection's retired tokens come due."""
        for item in self.retired_items(name):
            self._change(item, {"due_at": -timedelta(seconds=1)})

    def make_consent_due(self, name: str) -> None:
        """Lets a connection's consent come due, as if its idle life were nearly over."""
        past = datetime.now(UTC) - timedelta(days=13)
        self.dynamodb.update_item(
            TableName=self.stack.grant_table,
            Key={"pk": {"S": f"C#{name}"}, "sk": {"S": "CONSENT"}},
            UpdateExpression="SET refreshed_at = :past, due_at = :past",
            ExpressionAttributeValues={":past": {"N": str(int(past.timestamp() * 1000))}},
        )

    def lose_tokens(self) -> None:
        """Empties TokenTable."""
        get_backend("dynamodb")[ACCOUNT_ID][REGION].get_table(self.stack.token_table).items.clear()

    def _change(self, item: Mapping[str, Any], moments: Mapping[str, timedelta]) -> None:
        now = datetime.now(UTC)
        self.dynamodb.update_item(
            TableName=self.stack.token_table,
            Key={"pk": item["pk"], "sk": item["sk"]},
            UpdateExpression="SET " + ", ".join(f"#{attribute} = :{attribute}" for attribute in moments),
            ExpressionAttributeNames={f"#{attribute}": attribute for attribute in moments},
            ExpressionAttributeValues={
                f":{attribute}": {"N": str(int((now + after).timestamp() * (1 if attribute == "ttl" else 1000)))}
                for attribute, after in moments.items()
            },
        )

    def renewal_message(self, item: Mapping[str, Any]) -> dict[str, str]:
        """A message for the token key or the retired token of a stored item, as SQS delivers it."""
        name, parsed = connection_of(item["pk"]["S"]), parse_due_sk(item["sk"]["S"])
        assert name is not None
        assert parsed is not None
        scope_id, token_id = parsed
        body = write_message(RenewalMessage(name, scope_id, token_id=token_id))
        return {"MessageId": "m-1", "ReceiptHandle": "r-1", "Body": body, "MD5OfBody": "0" * 32}

    def secret_id(self, name: str) -> str:
        return f"{self.stack.secret_prefix}/{name}"

    def create_secret(self, name: str, value: Mapping[str, Any] | str) -> str:
        """Creates the secret of a connection. Returns its ARN."""
        text = value if isinstance(value, str) else json.dumps(value)
        arn: str = self.secrets.create_secret(Name=self.secret_id(name), SecretString=text)["ARN"]
        return arn

    def create_signing_key(self, name: str, algorithm: str) -> str:
        """Creates the KMS key that signs for a connection. Returns its public key in PEM form."""
        spec, alias = SIGNING_KEY_SPECS[algorithm], f"alias/{STACK_NAME}/{name}"
        key_id = self.kms.create_key(KeySpec=spec, KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
        with suppress(self.kms.exceptions.NotFoundException):
            self.kms.delete_alias(AliasName=alias)
        self.kms.create_alias(AliasName=alias, TargetKeyId=key_id)
        public = load_der_public_key(self.kms.get_public_key(KeyId=key_id)["PublicKey"])
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def messages(self, queue_url: str | None = None) -> list[dict[str, Any]]:
        """Receives the messages in a queue (the renewal queue) and deletes them from it."""
        url = queue_url or self.stack.renewal_queue_url
        response = self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, AttributeNames=["All"])
        received: list[dict[str, Any]] = response.get("Messages", [])
        for message in received:
            self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return received


@dataclass
class World:
    """Everything that a test of the handlers needs. Each test has a fresh one."""

    aws: Aws
    providers: ProvidersServer
    functions: Functions
    api: Api = field(init=False)

    def __post_init__(self) -> None:
        self.api = Api(self.functions)

    @property
    def stack(self) -> LocalStack:
        return self.aws.stack

    def settings(self, provider: str, **changes: Any) -> dict[str, Any]:
        """Valid settings for a provider's simulator. None removes one."""
        known = default_settings(provider, self.providers.url) if provider in DEFAULT_ACCOUNTS else {}
        found = {"allowed_callers": [LOCAL.arn], **known, **changes}
        return {name: value for name, value in found.items() if value is not None}

    def connect(
        self, provider: str, *, name: str = "demo", secret: Mapping[str, Any] | str | None = None, **changes: Any
    ) -> str:
        """Stores a connection as PUT does (see test_connections), and its secret. Returns provider/name."""
        full = f"{provider}/{name}"
        item = {"format": {"N": "1"}, "kind": {"S": "connection"}, "version": {"S": "v1"}}
        settings = json.dumps(self.settings(provider, **changes))
        self.aws.dynamodb.put_item(
            TableName=self.stack.connection_table, Item={"pk": {"S": f"C#{full}"}, "settings": {"S": settings}, **item}
        )
        self.aws.create_secret(full, DEFAULT_ACCOUNTS[provider]["secret"] if secret is None else secret)
        return full

    def connect_with_consent(self, **changes: Any) -> str:
        """A connection of a simulated store. A person's consent is there: its refresh token is in the secret."""
        settings, account = self.settings("ucommerce"), DEFAULT_ACCOUNTS["ucommerce"]["secret"]
        url, redirect_uri = f"{settings['base_url']}/api/v1/oauth", settings["redirect_uri"]
        client = base64.b64encode("{client_id}:{client_secret}".format(**account).encode("iso-8859-1")).decode()
        with requests.Session() as session:
            session.trust_env = False
            asked = {"client_id": account["client_id"], "redirect_uri": redirect_uri, "response_type": "code"}
            redirect = session.get(f"{url}/connect", params=asked, allow_redirects=False, timeout=5)
            code = dict(redirect_query(redirect.headers["location"]))["code"]
            fields = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
            headers = {"Authorization": f"Basic {client}"}
            issued = session.post(f"{url}/token", data=fields, headers=headers, timeout=5).json()
        self.functions.restart(PROVIDER_FILES=str(PROVIDER_FILES))
        secret = {**account, "refresh_token": issued["refresh_token"]}
        return self.connect("store-with-consent", secret=secret, base_url=settings["base_url"], **changes)

    def connect_with_kms(self, provider: str, algorithm: str = "ES256") -> str:
        """A connection whose private key is in KMS only."""
        public_key = self.aws.create_signing_key(f"{provider}/demo", algorithm)
        secret = {**DEFAULT_ACCOUNTS[provider]["secret"]}
        del secret["private_key"]
        self.simulator(provider).add_account({"name": "demo", "secret": {**secret, "public_key": public_key}})
        return self.connect(provider, secret=secret, signing_key="kms", algorithm=algorithm)

    def simulator(self, provider: str) -> Any:
        return self.providers.simulator(provider)

    def report(self, provider: str) -> dict[str, Any]:
        """The simulator's counters, live tokens and last requests."""
        found: dict[str, Any] = self.simulator(provider).report()
        return found

    def resource(self, response: BrokerResponse) -> requests.Response:
        """Requests the provider's protected resource with exactly the headers of a token response."""
        with requests.Session() as session:
            session.trust_env = False
            return session.get(
                response.body["api_base_url"] + "/api/resource", headers=response.body["headers"], timeout=5
            )

    def sweep(self, at: datetime | None = None) -> dict[str, int]:
        """Runs the sweep once."""
        event = schedule_event(self.stack.sweep_input, at or datetime.now(UTC))
        counts: dict[str, int] = self.functions.invoke(self.stack.sweep_function, event)
        return counts

    def work(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Runs the worker on one received message."""
        result: dict[str, Any] = self.functions.invoke(self.stack.renew_function, queue_event(message, QUEUE_ARN))
        return result

    def exchange(self, consent_id: str) -> dict[str, Any]:
        """Runs exchange_code on one message."""
        body = write_consent_message(consent_id)
        message = {"MessageId": "m-1", "ReceiptHandle": "r-1", "Body": body, "MD5OfBody": "0" * 32}
        result: dict[str, Any] = self.functions.invoke(self.stack.exchange_function, queue_event(message, QUEUE_ARN))
        return result

    def exchange_codes(self) -> int:
        """Lets exchange_code handle every message of its queue that is not delayed. Returns how many there were."""
        messages = self.aws.messages(self.stack.consent_queue_url)
        for message in messages:
            result = self.functions.invoke(self.stack.exchange_function, queue_event(message, QUEUE_ARN))
            assert result == {"batchItemFailures": []}
        return len(messages)
