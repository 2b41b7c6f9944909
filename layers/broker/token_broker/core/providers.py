"""A provider: a vendor's protocol, as a file of the catalogue says it. `token_broker.core.provider_files` reads one.

Code exists per kind of grant, never per vendor: what differs between two vendors of one kind is data here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from urllib.parse import urljoin, urlsplit

from token_broker.core.assertions import AssertionSpec
from token_broker.core.templates import Template, UrlTemplate

ClientAuth = Literal["basic", "basic-raw", "form", "json", "none"]
FieldsIn = Literal["form", "json", "query"]
LimitPer = Literal["host", "client", "connection"]
Period = Literal["minute", "hour", "day"]
ExpiryForm = Literal["seconds", "ms", "minutes", "epoch", "epoch_ms", "iso", "none"]
# The steps from the body to a value: names of fields, and indexes of lists. None at all: the whole body.
Path = tuple[str, ...]

CLIENT_AUTHS = ("basic", "basic-raw", "form", "json", "none")
DEFAULT_PORTS = {"https": 443, "http": 80}
MAX_LIFETIME_S = 30 * 86_400
# Error codes that the failure rules know: RFC 6749's, and some of vendors'.
KNOWN_ERRORS = frozenset(
    "invalid_client unauthorized_client invalid_credentials invalid_scope scope_invalid invalid_target invalid_request"
    " unsupported_grant_type invalid_grant server_error temporarily_unavailable invalid_token_reuse access_denied"
    " unsupported_response_type unsupported_token_type failed slow_down".split()
)
MINUTE = timedelta(minutes=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PERIODS: Mapping[str, timedelta] = {
    "minute": MINUTE,
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
}


@dataclass(frozen=True, slots=True)
class Grant:
    """A way to get a token. `token_broker.oauth.grants` holds the registry.

    `flow`: makes the generator that runs it. `fields`: those of its token request, with templates; `scope` is sent as
    the provider's file says. `credentials_as_fields`: the file's credentials are the fields, unless it says otherwise.
    `connect_query`: of the authorization request that it starts with. `credentials`: those that it needs.
    `is_oauth`: it is one of RFC 6749, with refresh tokens and revocation. `has_scopes`: tokens differ by scope;
    otherwise a connection has one token. `counts_logins`: the provider locks an account after failed logins, so each is
    counted before it is sent.
    """

    name: str
    flow: Callable[..., Generator[Any, Any, Any]]
    fields: Mapping[str, str] = field(default_factory=dict)
    credentials_as_fields: bool = False
    connect_query: Mapping[str, str] = field(default_factory=dict)
    credentials: tuple[str, ...] = ()
    is_oauth: bool = True
    has_scopes: bool = True
    counts_logins: bool = False

    @property
    def takes_assertion(self) -> bool:
        """Whether an assertion is the grant (RFC 7523 section 2.1)."""
        return "assertion" in self.fields

    @property
    def needs_connect_url(self) -> bool:
        """Whether it starts at an authorization endpoint."""
        return bool(self.connect_query)


@dataclass(frozen=True, slots=True)
class SettingSpec:
    """A setting that only this provider has. `kind` decides how it is checked."""

    name: str
    kind: str
    required: bool
    default: Any
    help: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RequestSpec:
    """The token request. `fields`: the grant's and the file's, as `templates.parse_value` parsed them.

    `fields_in`: where they stand in a POST; a GET has them in its query. `method` and `fields_in` can name a setting.
    `query`: fields that always stand in the query.
    """

    url: UrlTemplate
    method: Template
    fields_in: Template
    client_auth: ClientAuth
    client_id_in_body: bool
    basic_charset: str
    fields: Mapping[str, Any]
    query: Mapping[str, Any]
    headers: Mapping[str, Template]


@dataclass(frozen=True, slots=True)
class ExpirySpec:
    """A field that says when a token expires, and how. `none`: whatever the response says does not count."""

    path: Path
    form: ExpiryForm


@dataclass(frozen=True, slots=True)
class BaseUrlSpec:
    """Where a response names the base URL of the vendor's API, and which hosts it may name.

    `hosts`: `*` stands for one or more whole labels left of a domain of the vendor.
    """

    path: Path
    hosts: tuple[str, ...]

    def allows(self, host: str) -> bool:
        return any(re.fullmatch(_host_pattern(known), host.lower()) for known in self.hosts)


def _host_pattern(host: str) -> str:
    label = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
    return re.escape(host).replace(r"\*", rf"{label}(\.{label})*")


@dataclass(frozen=True, slots=True)
class ResponseSpec:
    """How to read a token response.

    `success`: where a value stands that marks success, and the value, where the status does not tell. `error`: where
    the vendor's error code stands, besides the usual places. `errors`: what the vendor's own codes mean. `expiry` None:
    any of the usual fields. `refresh_token` None: it is ignored. `token_types`: those accepted besides bearer; None:
    any, because the token is not sent as bearer. `zero_means_never`: a lifetime of 0 means that the token never
    expires. `scope_separator`: between the items of a granted scope. `base_url`: of the vendor's API, if the response
    names it.
    """

    token: Path
    success: tuple[Path, Any] | None = None
    error: Path | None = None
    errors: Mapping[str, str] = field(default_factory=dict)
    expiry: ExpirySpec | None = None
    refresh_token: Path | None = ("refresh_token",)
    refresh_expiry: ExpirySpec | None = None
    scope: Path = ("scope",)
    scope_separator: str = " "
    token_types: tuple[str, ...] | None = ()
    zero_means_never: bool = False
    base_url: BaseUrlSpec | None = None

    def accepting(self, token_type: str | None, *, zero_means_never: bool) -> ResponseSpec:
        """The same with a connection's settings. `token_type`: one more that is accepted."""
        types = self.token_types
        if token_type is not None and types is not None:
            types = (*types, token_type)
        return replace(self, token_types=types, zero_means_never=zero_means_never)


@dataclass(frozen=True, slots=True)
class SendSpec:
    """What callers send to the vendor's API. `headers`: templates with `{token}`, settings and public credentials.

    `public_credentials`: the fields of the secret that stand in a header: identifiers, no secrets.
    """

    headers: Mapping[str, Template]
    token_type: str
    public_credentials: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ScopeSpec:
    """What a scope must look like. `pattern`: of each item. `without_secret`: the prefix of an item that must be there
    where the credentials have no client_secret. `everything`: an item that stands for all scopes; accepted
    only if it was requested. `name`: of its field in the request; None: it is not sent. `separator`,
    `granted_separator`: between the items of a scope that is sent, and of one that is granted."""

    name: str | None
    required: bool
    pattern: re.Pattern[str] | None
    without_secret: str | None
    everything: str | None
    separator: str
    granted_separator: str


@dataclass(frozen=True, slots=True)
class Limit:
    """The vendor's published limit: `requests` in each period, counted per host, client or connection."""

    requests: int
    per: Period
    limit_per: LimitPer

    @property
    def period(self) -> timedelta:
        return PERIODS[self.per]


def start_of_period(now: datetime, period: timedelta) -> datetime:
    """When the calendar minute, hour or day (UTC) of `now` began."""
    return now - (now - EPOCH) % period


@dataclass(frozen=True, slots=True)
class Provider:
    """A vendor's protocol, checked whole by `parse_provider`. Durations are in seconds."""

    slug: str
    title: str
    documentation: str
    grant: Grant
    credentials: tuple[str, ...]
    optional_credentials: tuple[str, ...]
    settings: tuple[SettingSpec, ...]
    request: RequestSpec
    connect_url: UrlTemplate | None
    connect_query: Mapping[str, Any]
    revocation_url: UrlTemplate | None
    revocation_needs_secret: bool
    response: ResponseSpec
    send: SendSpec
    default_lifetime_s: int | None
    reissue_window_s: int | None
    limit: Limit | None
    scope: ScopeSpec
    assertion: AssertionSpec | None

    @property
    def is_limited_per_host(self) -> bool:
        return self.limit is not None and self.limit.limit_per == "host"

    @property
    def client_auths(self) -> tuple[str, ...]:
        """What the setting `client_auth` may say: only the file's own value, where there is no client or no body."""
        has_body = self.request.method.parts != ("GET",) and self.request.fields_in.parts != ("query",)
        is_free = self.grant.is_oauth and "client_id" in self.credentials and has_body and self.assertion is None
        return CLIENT_AUTHS if is_free else (self.request.client_auth,)

    def is_whole_url(self, setting: str) -> bool:
        """Whether a setting is a whole URL wherever it is used, so that it may have a query."""
        urls = (self.request.url, self.connect_url, self.revocation_url)
        used = [url.template for url in urls if url is not None and setting in url.template.names]
        return all(template.only_name == setting for template in used)

    def header_settings(self) -> frozenset[str]:
        """The settings that stand in a header."""
        templates = (*self.request.headers.values(), *self.send.headers.values())
        return frozenset(name for template in templates for name in template.names)

    def endpoints(self, options: Mapping[str, Any]) -> Endpoints:
        """The URLs of a connection. `options`: its checked settings that only this provider has."""
        token = self.request.url.expand(options)
        revocation = self.revocation_url.expand(options) if self.revocation_url else ""
        return Endpoints(
            token=token,
            connect=self.connect_url.expand(options) if self.connect_url else None,
            # A relative reference is resolved against the token endpoint (RFC 3986 section 5).
            revocation=urljoin(token, revocation) if revocation else None,
        )


@dataclass(frozen=True, slots=True)
class Endpoints:
    """A connection's URLs. A query holds no credentials."""

    token: str
    connect: str | None
    revocation: str | None

    @property
    def token_host(self) -> str:
        """Host and port of the token endpoint: what a provider's limit and our budget are counted by.

        `host`, `host.` and `host:443` are the same endpoint.
        """
        parts = urlsplit(self.token)
        host = (parts.hostname or "").rstrip(".")
        port = parts.port
        return host if port is None or port == DEFAULT_PORTS.get(parts.scheme) else f"{host}:{port}"
