"""The composition root: chooses the adapter for each port.

Everything is made at its first use, so that a cold start does not pay for what its request does not need.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, cast

import boto3

from token_broker.adapters.aws import CLIENT_CONFIG
from token_broker.adapters.dynamodb.token_store import DynamoTokenStore
from token_broker.catalogue import Catalogue, load_catalogue
from token_broker.core.connections import NetworkOptions
from token_broker.oauth.exchange import HttpRequest, HttpResponse
from token_broker.observability import report_broken_seal, report_faulty_provider_file, report_resend
from token_broker.ports import Clock, Send, Sleep
from token_broker.service import Broker
from token_broker.service.context import BrokerContext, Deployment, TimeLimits
from token_broker.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_kms import KMSClient
    from mypy_boto3_sqs import SQSClient

    from token_broker.adapters.dynamodb.budgets import DynamoBudgets
    from token_broker.adapters.dynamodb.connection_store import DynamoConnectionStore
    from token_broker.adapters.dynamodb.consent_session_store import DynamoConsentSessionStore
    from token_broker.adapters.dynamodb.consent_store import DynamoConsentStore
    from token_broker.adapters.dynamodb.due_index import DynamoDueIndex
    from token_broker.adapters.dynamodb.health_store import DynamoHealthStore
    from token_broker.adapters.kms import KmsSealer
    from token_broker.adapters.kms_signing_keys import KmsSigningKeys
    from token_broker.adapters.secrets_manager import SecretsManagerStore
    from token_broker.adapters.sqs import SqsConsentQueue, SqsRenewalQueue


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


def new_secret() -> str:
    """43 characters of base64url: 256 bits that nobody can guess."""
    import secrets

    return secrets.token_urlsafe(32)


@dataclass(frozen=True)
class _Adapters:
    """Makes the adapters over AWS. Each is imported at its first use."""

    settings: Settings
    session: boto3.session.Session
    sleep: Sleep

    @cached_property
    def dynamodb(self) -> DynamoDBClient:
        return self.session.client("dynamodb", config=CLIENT_CONFIG)

    @cached_property
    def kms(self) -> KMSClient:
        return self.session.client("kms", config=CLIENT_CONFIG)

    @cached_property
    def sqs(self) -> SQSClient:
        return self.session.client("sqs", config=CLIENT_CONFIG)

    def connections(self) -> DynamoConnectionStore:
        from token_broker.adapters.dynamodb.connection_store import DynamoConnectionStore

        return DynamoConnectionStore(self.dynamodb, table=self.settings.connection_table, sleep=self.sleep)

    def consents(self) -> DynamoConsentStore:
        from token_broker.adapters.dynamodb.consent_store import DynamoConsentStore

        return DynamoConsentStore(self.dynamodb, grant_table=self.settings.grant_table)

    def health(self) -> DynamoHealthStore:
        from token_broker.adapters.dynamodb.health_store import DynamoHealthStore

        return DynamoHealthStore(self.dynamodb, token_table=self.settings.token_table)

    def due_index(self) -> DynamoDueIndex:
        from token_broker.adapters.dynamodb.due_index import DynamoDueIndex

        return DynamoDueIndex(self.dynamodb, token_table=self.settings.token_table)

    def budgets(self) -> DynamoBudgets:
        from token_broker.adapters.dynamodb.budgets import DynamoBudgets

        return DynamoBudgets(self.dynamodb, token_table=self.settings.token_table)

    def secrets(self) -> SecretsManagerStore:
        from token_broker.adapters.secrets_manager import SecretsManagerStore

        return SecretsManagerStore(
            self.session.client("secretsmanager", config=CLIENT_CONFIG), prefix=self.settings.secret_prefix
        )

    def sealer(self) -> KmsSealer:
        from token_broker.adapters.kms import KmsSealer

        return KmsSealer(
            self.kms,
            key_arn=self.settings.sealing_key_arn,
            table=self.settings.token_table,
            on_broken=report_broken_seal,
        )

    def consent_sealer(self) -> KmsSealer:
        from token_broker.adapters.kms import KmsSealer
        from token_broker.core.consents import GRANTS_TABLE

        return KmsSealer(
            self.kms, key_arn=self.settings.grant_key_arn, table=GRANTS_TABLE, on_broken=report_broken_seal
        )

    def signing_keys(self) -> KmsSigningKeys:
        from token_broker.adapters.kms_signing_keys import KmsSigningKeys

        return KmsSigningKeys(self.kms, prefix=self.settings.signing_key_prefix)

    def queue(self) -> SqsRenewalQueue:
        from token_broker.adapters.sqs import SqsRenewalQueue

        return SqsRenewalQueue(self.sqs, url=self.settings.renewal_queue_url)

    def consent_sessions(self) -> DynamoConsentSessionStore:
        from token_broker.adapters.dynamodb.consent_session_store import DynamoConsentSessionStore

        return DynamoConsentSessionStore(self.dynamodb, grant_table=self.settings.grant_table)

    def consent_queue(self) -> SqsConsentQueue:
        from token_broker.adapters.sqs import SqsConsentQueue

        return SqsConsentQueue(self.sqs, url=self.settings.consent_queue_url)


def build_broker(
    settings: Settings,
    session: boto3.session.Session,
    *,
    send: Send | None = None,
    clock: Clock = utc_now,
    sleep: Sleep = pause,
) -> Broker:
    """A broker over AWS. `send` replaces the real network."""
    adapters = _Adapters(settings, session, sleep)
    return Broker(
        BrokerContext(
            catalogue=_catalogue(settings),
            tokens=DynamoTokenStore(
                adapters.dynamodb,
                token_table=settings.token_table,
                connection_table=settings.connection_table,
                sleep=sleep,
            ),
            health=cast("DynamoHealthStore", _Lazy(adapters.health)),
            due_index=cast("DynamoDueIndex", _Lazy(adapters.due_index)),
            budgets=cast("DynamoBudgets", _Lazy(adapters.budgets)),
            connections=cast("DynamoConnectionStore", _Lazy(adapters.connections)),
            consents=cast("DynamoConsentStore", _Lazy(adapters.consents)),
            secrets=cast("SecretsManagerStore", _Lazy(adapters.secrets)),
            sealer=cast("KmsSealer", _Lazy(adapters.sealer)),
            consent_sealer=cast("KmsSealer", _Lazy(adapters.consent_sealer)),
            signing_keys=cast("KmsSigningKeys", _Lazy(adapters.signing_keys)),
            queue=cast("SqsRenewalQueue", _Lazy(adapters.queue)),
            consent_sessions=cast("DynamoConsentSessionStore", _Lazy(adapters.consent_sessions)),
            consent_queue=cast("SqsConsentQueue", _Lazy(adapters.consent_queue)),
            send=send or _sender(settings),
            clock=clock,
            sleep=sleep,
            new_id=new_id,
            new_secret=new_secret,
            report_resend=report_resend,
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
