"""A provider: a vendor's protocol, read from one TOML file of the catalogue.

Code exists per kind of grant, never per vendor: what differs between two vendors of one kind is data here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urljoin, urlsplit

from token_broker.core.validation import Fields, absolute_url, flag, one_of, text, texts, whole
from token_broker.errors import FieldError

ClientAuth = Literal["basic", "basic-raw", "form", "json", "none"]
Encoding = Literal["form", "json"]
LimitPer = Literal["host", "connection"]

CLIENT_AUTHS = ("basic", "basic-raw", "form", "json", "none")
ENCODINGS = ("form", "json")
DEFAULT_PORTS = {"https": 443, "http": 80}
SETTING_KINDS = ("url", "base_url", "redirect_uri", "text", "choice", "params")


@dataclass(frozen=True, slots=True)
class Grant:
    """A way to get a token. `token_broker.oauth.grants` holds the registry.

    `flow`: makes the generator that runs it. `is_oauth`: it authenticates a client with a client_id (RFC 6749).
    `has_scopes`: tokens differ by scope; otherwise a connection has one token. `counts_logins`: the provider locks an
    account after failed logins, so each is counted before it is sent. `needs_connect_url`: it starts at an
    authorization endpoint.
    """

    name: str
    flow: Callable[..., Generator[Any, Any, Any]]
    is_oauth: bool = True
    has_scopes: bool = True
    counts_logins: bool = False
    needs_connect_url: bool = False


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
class ResponseSpec:
    """The field that holds the token, and the field and value that mark success where the status does not."""

    token: str
    success_field: str | None
    success_value: str | None


@dataclass(frozen=True, slots=True)
class ScopeSpec:
    """What a scope must look like. `pattern`: of each item. `without_secret`: the prefix of an item that must be there
    where the credentials have no client_secret. `everything`: an item that stands for all scopes; accepted
    only if it was requested."""

    required: bool
    pattern: re.Pattern[str] | None
    without_secret: str | None
    everything: str | None


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
    method: str
    token_url: str
    connect_url: str | None
    revocation_url: str | None
    client_auth: ClientAuth
    encoding: Encoding
    basic_charset: str
    request_headers: Mapping[str, str]
    response: ResponseSpec
    header: str
    prefix: str
    token_type: str
    default_lifetime_s: int | None
    reissue_window_s: int | None
    requests_per_minute: int | None
    limit_per: LimitPer
    scope: ScopeSpec

    def endpoints(self, options: Mapping[str, Any]) -> Endpoints:
        """The URLs of a connection. `options`: its checked settings that only this provider has."""
        values = {name: value or "" for name, value in options.items()}
        token = self.token_url.format_map(values)
        revocation = self.revocation_url.format_map(values) if self.revocation_url else ""
        return Endpoints(
            token=token,
            connect=self.connect_url.format_map(values) if self.connect_url else None,
            # A relative reference is resolved against the token endpoint (RFC 3986 section 5).
            revocation=urljoin(token, revocation) if revocation else None,
        )


@dataclass(frozen=True, slots=True)
class Endpoints:
    """A connection's URLs, without query."""

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


class CatalogueError(Exception):
    """A catalogue file has faults. The message names the file and each field."""

    def __init__(self, file: str, faults: list[FieldError]) -> None:
        super().__init__(f"{file}: " + "; ".join(str(fault) for fault in faults))
        self.faults = tuple(faults)


def parse_provider(slug: str, data: Mapping[str, Any], *, file: str, grants: Mapping[str, Grant]) -> Provider:
    """Checks one catalogue file. Raises CatalogueError with the file's name and every fault."""
    top = Fields(data)
    request, connect = top.section("request", required=True), top.section("connect")
    response, send = top.section("response"), top.section("send")
    success, scope = response.section("success"), top.section("scope")
    lifetime, renewal, limits = top.section("lifetime"), top.section("renewal"), top.section("limits")
    revocation = top.section("revocation")
    settings = _setting_specs(top)
    names = {spec.name for spec in settings}

    def template(fields: Fields, name: str, *, required: bool = False, relative: bool = False) -> str | None:
        url: str | None = fields.take(name, text, "", required=required) or None
        if url is None:
            return None
        used = re.findall(r"\{([^{}]*)\}", url)
        for unknown in sorted(set(used) - names):
            fields.fault(name, f"uses {{{unknown}}}, which is not one of the settings")
        if set(re.sub(r"\{[^{}]*\}", "", url)) & set("{}"):
            fields.fault(name, "has a brace without its pair")
        if not relative and not url.startswith(("https://", "{")):
            fields.fault(name, "must start with https:// or a setting")
        return url

    provider = Provider(
        slug=slug,
        title=top.take("title", text, "", required=True),
        documentation=top.take("documentation", absolute_url, "", required=True),
        grant=grants[top.take("grant", one_of(grants), next(iter(grants)), required=True)],
        credentials=top.take("credentials", texts, (), required=True),
        optional_credentials=top.take("optional_credentials", texts, ()),
        settings=settings,
        method=request.take("method", one_of(("GET", "POST")), "POST"),
        token_url=template(request, "url", required=True) or "",
        connect_url=template(connect, "url"),
        revocation_url=template(revocation, "url", relative=True),
        client_auth=request.take("client_auth", one_of(CLIENT_AUTHS), "basic"),  # type: ignore[arg-type]  # one_of narrows to the Literal's words
        encoding=request.take("encoding", one_of(ENCODINGS), "form"),  # type: ignore[arg-type]  # as above
        basic_charset=request.take("basic_charset", one_of(("utf-8", "iso-8859-1")), "utf-8"),
        request_headers=_headers(request),
        response=ResponseSpec(
            token=response.take("token", text, "access_token"),
            success_field=success.take("field", text, "") or None,
            success_value=success.take("value", text, "") or None,
        ),
        header=send.take("header", text, "Authorization"),
        prefix=send.take("prefix", _any_text, "Bearer "),
        token_type=send.take("token_type", text, "Bearer"),
        default_lifetime_s=lifetime.take("default_s", whole(1, 172_800), 0) or None,
        reissue_window_s=renewal.take("reissue_window_s", whole(61, 86_400), 0) or None,
        requests_per_minute=limits.take("requests_per_minute", whole(2, 100_000), 0) or None,
        limit_per=limits.take("limit_per", one_of(("host", "connection")), "connection"),  # type: ignore[arg-type]  # as above
        scope=ScopeSpec(
            required=scope.take("required", flag, False),
            pattern=scope.take("pattern", _pattern, None),
            without_secret=scope.take("without_secret", text, "") or None,
            everything=scope.take("everything", text, "") or None,
        ),
    )
    if provider.grant.is_oauth and "client_id" not in provider.credentials:
        top.fault("credentials", "must hold client_id for this grant")
    _check_together(provider, top, limits)
    for section in (request, connect, success, response, send, scope, lifetime, renewal, limits, revocation, top):
        section.fault_unknown_fields()
    if top.faults:
        raise CatalogueError(file, top.faults)
    return provider


def _check_together(provider: Provider, top: Fields, limits: Fields) -> None:
    """What one field demands of another."""
    if provider.limit_per == "host" and provider.requests_per_minute is None:
        limits.fault("requests_per_minute", "is required where the limit is per host")
    if provider.grant.needs_connect_url and provider.connect_url is None:
        top.fault("connect.url", "is required for this grant")


def _setting_specs(top: Fields) -> tuple[SettingSpec, ...]:
    none: tuple[Mapping[str, Any], ...] = ()
    raw = top.take("settings", _tables, none)
    specs = []
    for index, data in enumerate(raw):
        fields = Fields(data, f"settings[{index}].", top.faults)
        specs.append(
            SettingSpec(
                name=fields.take("name", text, "", required=True),
                kind=fields.take("kind", one_of(SETTING_KINDS), "text", required=True),
                required=fields.take("required", flag, False),
                default=data.get("default"),
                help=fields.take("help", text, "", required=True),
                choices=fields.take("choices", texts, ()),
            )
        )
        fields.known.add("default")
        fields.fault_unknown_fields()
    return tuple(specs)


def _tables(value: Any) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        raise ValueError("must be a list of tables")
    return tuple(value)


def _headers(request: Fields) -> Mapping[str, str]:
    headers = request.section("headers")
    return {name: headers.take(name, text, "") for name in headers.data}


def _any_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a string")
    return value


def _pattern(value: Any) -> re.Pattern[str] | None:
    try:
        return re.compile(text(value))
    except re.error:
        raise ValueError("is not a regular expression") from None
