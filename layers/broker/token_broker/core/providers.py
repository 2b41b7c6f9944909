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

ClientAuth = Literal["basic", "basic-raw", "form", "json", "none", "fields"]
FieldsIn = Literal["form", "json", "query"]
LimitPer = Literal["host", "client", "connection"]
Period = Literal["minute", "hour", "day"]
ExpiryForm = Literal["seconds", "ms", "minutes", "epoch", "epoch_ms", "iso", "none"]
# The steps from the body to a value: names of fields, and indexes of lists. None at all: the whole body.
Path = tuple[str, ...]

# What the setting client_auth may say. A file can also say "fields": its own fields hold the credentials.
CLIENT_AUTHS = ("basic", "basic-raw", "form", "json", "none")
CLIENT_AUTHS_OF_FILES = (*CLIENT_AUTHS, "fields")
DEFAULT_PORTS = {"https": 443, "http": 80}
MAX_LIFETIME_S = 30 * 86_400
# Error codes that the failure rules know: those of RFC 6749 and RFC 8628, and some of vendors'.
KNOWN_ERRORS = frozenset(
    "invalid_client unauthorized_client invalid_credentials invalid_scope scope_invalid invalid_target invalid_request"
    " unsupported_grant_type invalid_grant server_error temporarily_unavailable invalid_token_reuse access_denied"
    " unsupported_response_type unsupported_token_type failed slow_down authorization_pending expired_token".split()
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
    counted before it is sent. `needs_consent`: it starts from a refresh token that a person's consent gave.
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
    needs_consent: bool = False

    @property
    def refreshes_keys(self) -> bool:
        """Whether each token key has a refresh token of its own. One of a consent belongs to the connection."""
        return self.is_oauth and not self.needs_consent

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
class SignatureSpec:
    """An HMAC-SHA256 that each request to the token endpoint carries (section `signature`), in hexadecimal digits.

    `field`: its name, in the query or among the other fields. `message`, `key`: templates. `message` can name `{path}`,
    the path of the URL without the prefix `path_after`, and `{sorted_fields}`, the names and values of all that is
    sent, sorted by name and joined.
    """

    field: str
    in_query: bool
    message: Template
    key: Template
    upper_case: bool
    path_after: str


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

    They can hold what is kept of a consent's redirect too. `public_credentials`: the fields of the secret that stand in
    a header: identifiers, no secrets. `base_url`: of the vendor's API, of settings and what is kept.
    """

    headers: Mapping[str, Template]
    token_type: str
    public_credentials: tuple[str, ...] = ()
    base_url: UrlTemplate | None = None


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


# A response that may have been lost on its way is given up this long before the vendor's window for a resend ends.
RESEND_MARGIN = timedelta(seconds=8)


@dataclass(frozen=True, slots=True)
class RefreshSpec:
    """What the vendor says of a consent's refresh tokens (section `refresh`).

    `resend`: one whose outcome is unknown may be sent again, for `resend_within` after it was first sent (None: as long
    as it lives). `idle_life`: it dies if it is not used for so long. `life`: it dies so long after the consent, however
    often it is used. `revocation_keeps_consent`: revoking an access token leaves the refresh token alive.
    """

    resend: bool = False
    resend_within: timedelta | None = None
    idle_life: timedelta | None = None
    life: timedelta | None = None
    revocation_keeps_consent: bool = False

    def may_resend(self, sent_at: datetime, now: datetime) -> bool:
        """Whether a refresh token that was sent, and whose outcome is unknown, may be sent again now."""
        if not self.resend:
            return False
        return self.resend_within is None or now < sent_at + self.resend_within - RESEND_MARGIN


AccountSource = Literal["response", "id_token", "redirect", "setting", "get"]


@dataclass(frozen=True, slots=True)
class AccountSpec:
    """Where the id of the account stands that a person gave consent for (section `consent.account`).

    `response`: at `path` of the token response. `id_token`: the claim `path`. `redirect`: the kept value named `path`.
    `setting`: the setting named `path`. `get`: at `path` of the response to a GET of `url`, sent as callers send the
    token. `verified`: whether the vendor has confirmed it. A redirect comes from a browser, so its value is confirmed
    only where it must equal a setting with which the code is exchanged.
    """

    source: AccountSource
    path: Path
    url: UrlTemplate | None = None
    verified: bool = True


@dataclass(frozen=True, slots=True)
class ConsentSpec:
    """How a person gives consent (section `consent`).

    `authorize_url`: where the browser goes (RFC 6749 section 4.1.1). `query`: its fields, those of the RFC and of the
    file. `exchange_url`: where the code is exchanged; None: the token endpoint. `fields`: those of that exchange.
    `code_param`: the name of the code in the redirect. `pkce`: RFC 7636 with S256. `loopback`: the vendor accepts a
    redirect to the own machine. `keep`: what is kept of the redirect besides the code, each with its pattern.
    `replaces`: a new consent ends the previous one at the vendor. `device_url`: where the device flow begins (RFC 8628
    section 3.1). `issuer`: the `iss` that a redirect carries (RFC 9207); None: only its origin is known, that of
    `authorize_url`. `signed`: the authorization request carries the provider's signature too.
    """

    authorize_url: UrlTemplate | None
    query: Mapping[str, Any]
    exchange_url: UrlTemplate | None
    fields: Mapping[str, Any]
    code_param: str
    pkce: bool
    loopback: bool
    keep: Mapping[str, re.Pattern[str]]
    replaces: bool
    account: AccountSpec | None
    device_url: UrlTemplate | None
    issuer: UrlTemplate | None = None
    signed: bool = False

    @property
    def urls(self) -> list[UrlTemplate | None]:
        account_url = self.account.url if self.account is not None else None
        return [self.authorize_url, self.exchange_url, self.device_url, self.issuer, account_url]


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
    refresh: RefreshSpec = RefreshSpec()
    consent: ConsentSpec | None = None
    signature: SignatureSpec | None = None

    @property
    def is_limited_per_host(self) -> bool:
        return self.limit is not None and self.limit.limit_per == "host"

    @property
    def client_auths(self) -> tuple[str, ...]:
        """What the setting `client_auth` may say: only the file's own value, where there is no client or no body."""
        has_body = self.request.method.parts != ("GET",) and self.request.fields_in.parts != ("query",)
        is_free = self.grant.is_oauth and "client_id" in self.credentials and has_body and self.assertion is None
        is_free = is_free and self.request.client_auth != "fields"
        return CLIENT_AUTHS if is_free else (self.request.client_auth,)

    def is_whole_url(self, setting: str) -> bool:
        """Whether a setting is a whole URL wherever it is used, so that it may have a query."""
        urls = [self.request.url, self.connect_url, self.revocation_url, self.send.base_url]
        if self.consent is not None:
            urls += self.consent.urls
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
