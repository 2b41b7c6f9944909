"""The composition root: chooses the adapter for each port.

Everything is made at its first use, so that a cold start does not pay for what its request does not need.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property, lru_cache
from typing import TYPE_CHECKING, Any, cast

import boto3

from token_broker.adapters.aws import CLIENT_CONFIG
from token_broker.adapters.dynamodb.token_store import DynamoTokenStore
from token_broker.catalogue import Catalogue, load_catalogue
from token_broker.core.connections import NetworkOptions
from token_broker.oauth.exchange import HttpRequest, HttpResponse
from token_broker.observability import report_broken_seal, report_faulty_provider_file
from token_broker.ports import Clock, Send, Sleep
from token_broker.service import Broker
from token_broker.service.context import BrokerContext, Deployment, TimeLimits
from token_broker.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

    from token_broker.adapters.dynamodb.budgets import DynamoBudgets
    from token_broker.adapters.dynamodb.connection_store import DynamoConnectionStore
    from token_broker.adapters.dynamodb.due_index import DynamoDueIndex
    from token_broker.adapters.dynamodb.health_store import DynamoHealthStore
    from token_broker.adapters.kms import KmsSealer
    from token_broker.adapters.kms_signing_keys import KmsSigningKeys
    from token_broker.adapters.secrets_manager import SecretsManagerStore
    from token_broker.adapters.sqs import SqsRenewalQueue


class _Lazy:
    """Makes an object when it is first used."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    @cached_property
    def _made(self) -> Any:
        return self._make()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._made, name)


def utc_now() -> datetime:
    """Now, to the millisecond: the tables hold no finer moments."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def new_id() -> str:
    return uuid.uuid4().hex


def build_broker(
    settings: Settings,
    session: boto3.session.Session,
    *,
    send: Send | None = None,
    clock: Clock = utc_now,
    sleep: Sleep = pause,
) -> Broker:
    """A broker over AWS. `send` replaces the real network."""
    dynamodb = session.client("dynamodb", config=CLIENT_CONFIG)

    def connections() -> DynamoConnectionStore:
        from token_broker.adapters.dynamodb.connection_store import DynamoConnectionStore

        return DynamoConnectionStore(dynamodb, table=settings.connection_table)

    def health() -> DynamoHealthStore:
        from token_broker.adapters.dynamodb.health_store import DynamoHealthStore

        return DynamoHealthStore(dynamodb, token_table=settings.token_table)

    def due_index() -> DynamoDueIndex:
        from token_broker.adapters.dynamodb.due_index import DynamoDueIndex

        return DynamoDueIndex(dynamodb, token_table=settings.token_table)

    def budgets() -> DynamoBudgets:
        from token_broker.adapters.dynamodb.budgets import DynamoBudgets

        return DynamoBudgets(dynamodb, token_table=settings.token_table)

    def secrets() -> SecretsManagerStore:
        from token_broker.adapters.secrets_manager import SecretsManagerStore

        return SecretsManagerStore(
            session.client("secretsmanager", config=CLIENT_CONFIG), prefix=settings.secret_prefix
        )

    @cache
    def kms() -> KMSClient:
        return session.client("kms", config=CLIENT_CONFIG)

    def sealer() -> KmsSealer:
        from token_broker.adapters.kms import KmsSealer

        return KmsSealer(
            kms(), key_arn=settings.sealing_key_arn, table=settings.token_table, on_broken=report_broken_seal
        )

    def signing_keys() -> KmsSigningKeys:
        from token_broker.adapters.kms_signing_keys import KmsSigningKeys

        return KmsSigningKeys(kms(), prefix=settings.signing_key_prefix)

    def queue() -> SqsRenewalQueue:
        from token_broker.adapters.sqs import SqsRenewalQueue

        return SqsRenewalQueue(session.client("sqs", config=CLIENT_CONFIG), url=settings.renewal_queue_url)

    return Broker(
        BrokerContext(
            catalogue=_catalogue(settings),
            tokens=DynamoTokenStore(
                dynamodb, token_table=settings.token_table, connection_table=settings.connection_table, sleep=sleep
            ),
            health=cast("DynamoHealthStore", _Lazy(health)),
            due_index=cast("DynamoDueIndex", _Lazy(due_index)),
            budgets=cast("DynamoBudgets", _Lazy(budgets)),
            connections=cast("DynamoConnectionStore", _Lazy(connections)),
            secrets=cast("SecretsManagerStore", _Lazy(secrets)),
            sealer=cast("KmsSealer", _Lazy(sealer)),
            signing_keys=cast("KmsSigningKeys", _Lazy(signing_keys)),
            queue=cast("SqsRenewalQueue", _Lazy(queue)),
            send=send or _sender(settings),
            clock=clock,
            sleep=sleep,
            new_id=new_id,
            deployment=Deployment(
                private_networks=settings.allow_private_networks,
                insecure_urls=settings.local,
                time_scale=settings.time_scale,
            ),
            limits=TimeLimits().scaled(settings.lease_scale),
        )
    )


def _catalogue(settings: Settings) -> Catalogue:
    return load_catalogue(settings.provider_files, report_faulty_provider_file)


def _sender(settings: Settings) -> Send:
    def send(request: HttpRequest, network: NetworkOptions, timeout: timedelta) -> HttpResponse:
        from token_broker.adapters.provider_http import ProviderHttp

        return ProviderHttp(loopback=settings.local)(request, network, timeout)

    return send


@lru_cache(maxsize=1)
def settings() -> Settings:
    """This process's settings, read once."""
    return Settings.from_environment(os.environ)


def catalogue() -> Catalogue:
    """This process's providers."""
    return _catalogue(settings())


@lru_cache(maxsize=1)
def broker() -> Broker:
    """This process's broker, made at the first request."""
    return build_broker(settings(), boto3.session.Session())
