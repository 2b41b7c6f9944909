"""A provider: a vendor's protocol, read from one TOML file of the catalogue.

Code exists per kind of grant, never per vendor: what differs between two vendors of one kind is data here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Generator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import urljoin, urlsplit

from token_broker.core.validation import Fields, absolute_url, flag, one_of, text, texts, whole
from token_broker.errors import FieldError

ClientAuth = Literal["basic", "basic-raw", "form", "json", "none"]
Encoding = Literal["form", "json"]
LimitPer = Literal["host", "connection"]

CLIENT_AUTHS = ("basic", "basic-raw", "form", "json", "none")
ENCODINGS = ("form", "json")
METHODS = ("GET", "POST")
DEFAULT_PORTS = {"https": 443, "http": 80}
SETTING_KINDS = ("url", "base_url", "redirect_uri", "text", "choice", "params")
# Settings that the code reads, and their kinds. Any other one must stand in a URL.
READ_SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "encoding": "choice",
        "method": "choice",
        "params": "params",
        "redirect_uri": "redirect_uri",
    }
)
MAX_LIFETIME_S = 30 * 86_400
# Headers that a token request sets itself.
OWN_HEADERS = frozenset({"authorization", "content-type", "content-length", "host"})


@dataclass(frozen=True, slots=True)
class Grant:
    """A way to get a token. `token_broker.oauth.grants` holds the registry.

    `flow`: makes the generator that runs it. `is_oauth`: it authenticates a client with a client_id (RFC 6749).
    `has_scopes`: tokens differ by scope; otherwise a connection has one token. `counts_logins`: the provider locks an
    account after failed logins, so each is counted before it is sent. `needs_connect_url`: it starts at an
    authorization endpoint. `settings`: those of READ_SETTINGS that it reads.
    """

    name: str
    flow: Callable[..., Generator[Any, Any, Any]]
    is_oauth: bool = True
    has_scopes: bool = True
    counts_logins: bool = False
    needs_connect_url: bool = False
    settings: frozenset[str] = frozenset()


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
    """How to read a token response.

    `token`: the field that holds the token. `success_field` and `success_value` mark success where the status does not.
    `token_types`: those accepted besides bearer; None: any, because the token is not sent as bearer.
    `zero_means_never`: a lifetime of 0 means that the token never expires.
    """

    token: str
    success_field: str | None
    success_value: str | None
    token_types: tuple[str, ...] | None
    zero_means_never: bool

    def accepting(self, token_type: str | None, *, zero_means_never: bool) -> ResponseSpec:
        """The same with a connection's settings. `token_type`: one more that is accepted."""
        types = self.token_types
        if token_type is not None and types is not None:
            types = (*types, token_type)
        return replace(self, token_types=types, zero_means_never=zero_means_never)


@dataclass(frozen=True, slots=True)
class ScopeSpec:
    """What a scope must look like. `pattern`: of each item. `without_secret`: the prefix of an item that must be there
    where the credentials have no client_secret. `everything`: an item that stands for all scopes; accepted
    only if it was requested. `separator`: between the items of a scope that is sent or granted."""

    required: bool
    pattern: re.Pattern[str] | None
    without_secret: str | None
    everything: str | None
    separator: str


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
    client_id_in_body: bool
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

    def is_whole_url(self, setting: str) -> bool:
        """Whether a setting is a whole URL wherever it is used, so that it may have a query."""
        urls = (self.token_url, self.connect_url, self.revocation_url)
        return all(url == f"{{{setting}}}" for url in urls if url and f"{{{setting}}}" in url)

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

    templates: list[str] = []

    def template(fields: Fields, name: str, *, required: bool = False, relative: bool = False) -> str | None:
        url: str | None = fields.take(name, text, "", required=required) or None
        if url is None:
            return None
        templates.append(url)
        for unknown in sorted(set(_used_settings(url)) - names):
            fields.fault(name, f"uses {{{unknown}}}, which is not one of the settings")
        if set(re.sub(r"\{[^{}]*\}", "", url)) & set("{}"):
            fields.fault(name, "has a brace without its pair")
        if not relative and not url.startswith(("https://", "{")):
            fields.fault(name, "must start with https:// or a setting")
        return url

    grant = grants[top.take("grant", one_of(grants), next(iter(grants)), required=True)]
    token_type = send.take("token_type", text, "Bearer")
    token_types: tuple[str, ...] = response.take("token_types", texts, ())
    provider = Provider(
        slug=slug,
        title=top.take("title", text, "", required=True),
        documentation=top.take("documentation", absolute_url, "", required=True),
        grant=grant,
        credentials=top.take("credentials", texts, (), required=True),
        optional_credentials=top.take("optional_credentials", texts, ()),
        settings=settings,
        method=request.take("method", one_of(METHODS), "POST"),
        token_url=template(request, "url", required=True) or "",
        connect_url=template(connect, "url"),
        revocation_url=template(revocation, "url", relative=True),
        client_auth=request.take("client_auth", one_of(CLIENT_AUTHS), "basic" if grant.is_oauth else "none"),  # type: ignore[arg-type]  # one_of narrows to the Literal's words
        encoding=request.take("encoding", one_of(ENCODINGS), "form" if grant.is_oauth else "json"),  # type: ignore[arg-type]  # as above
        client_id_in_body=request.take("client_id_in_body", flag, False),
        basic_charset=request.take("basic_charset", one_of(("utf-8", "iso-8859-1")), "utf-8"),
        request_headers=_headers(request),
        response=ResponseSpec(
            token=response.take("token", text, "access_token"),
            success_field=success.take("field", text, "") or None,
            success_value=success.take("value", text, "") or None,
            token_types=token_types if token_type == "Bearer" else None,  # noqa: S105  # a type's name
            zero_means_never=response.take("zero_means_never", flag, False),
        ),
        header=send.take("header", text, "Authorization"),
        prefix=send.take("prefix", _any_text, "Bearer "),
        token_type=token_type,
        default_lifetime_s=lifetime.take("default_s", whole(1, MAX_LIFETIME_S), 0) or None,
        reissue_window_s=renewal.take("reissue_window_s", whole(61, 86_400), 0) or None,
        requests_per_minute=limits.take("requests_per_minute", whole(2, 100_000), 0) or None,
        limit_per=limits.take("limit_per", one_of(("host", "connection")), "connection"),  # type: ignore[arg-type]  # as above
        scope=ScopeSpec(
            required=scope.take("required", flag, False),
            pattern=scope.take("pattern", _pattern, None),
            without_secret=scope.take("without_secret", text, "") or None,
            everything=scope.take("everything", text, "") or None,
            separator=scope.take("separator", _separator, " "),
        ),
    )
    _check_credentials(provider, top)
    _check_request(provider, request)
    _check_response(provider, response, success)
    _check_sections(provider, top, limits)
    # A misspelt URL is one fault, not another one for the setting that it should have used.
    urls_at_fault = "url" not in request.data or any(fault.field.endswith(".url") for fault in top.faults)
    used = names if urls_at_fault else {name for url in templates for name in _used_settings(url)}
    _check_settings(provider, top, used=used)
    for section in (request, connect, success, response, send, scope, lifetime, renewal, limits, revocation, top):
        section.fault_unknown_fields()
    if top.faults:
        raise CatalogueError(file, top.faults)
    return provider


# ---------------------------------------------------------------------- what one field demands of another
# A field that would have no effect is a fault: what a file says is done, or the file is not valid.


def _check_credentials(provider: Provider, top: Fields) -> None:
    allowed = {"client_id", "client_secret"}
    both = set(provider.credentials) & set(provider.optional_credentials)
    if both:
        top.fault("optional_credentials", "has a field that credentials has too")
    if provider.grant.is_oauth:
        if "client_id" not in provider.credentials:
            top.fault("credentials", "must hold client_id for this grant")
        if not allowed >= {*provider.credentials, *provider.optional_credentials}:
            top.fault("credentials", "can hold only client_id and client_secret for this grant")
    elif provider.optional_credentials:
        top.fault("optional_credentials", "are not sent by this grant")


def _check_request(provider: Provider, request: Fields) -> None:
    if not provider.grant.is_oauth:
        _check_login_request(provider, request)
        return
    if provider.method != "POST":
        request.fault("method", "must be POST for this grant (RFC 6749 section 3.2)")
    if provider.client_auth in ("form", "json") and request.data.get("encoding") not in (None, provider.client_auth):
        request.fault("encoding", f"must be {provider.client_auth}, as client_auth says")
    if provider.client_id_in_body and not provider.client_auth.startswith("basic"):
        request.fault("client_id_in_body", f"has no effect: client_auth {provider.client_auth} puts it there")
    for name in provider.request_headers:
        if name.lower() in OWN_HEADERS:
            request.fault(f"headers.{name}", "is set by the token request")


def _check_login_request(provider: Provider, request: Fields) -> None:
    if provider.client_auth != "none":
        request.fault("client_auth", "must be none: this grant authenticates no client")
    if provider.encoding != "json":
        request.fault("encoding", "must be json for this grant")
    for name in ("basic_charset", "client_id_in_body"):
        if name in request.data:
            request.fault(name, "has no effect: this grant authenticates no client")


def _check_response(provider: Provider, response: Fields, success: Fields) -> None:
    for fields, name in ((response, "token"), (success, "field")):
        if "." in str(fields.data.get(name)):
            fields.fault(name, "must be the name of a field of the response, not a path")
    if (provider.response.success_field is None) != (provider.response.success_value is None):
        response.fault("success", "needs both field and value")
    if provider.response.token_types is None and "token_types" in response.data:
        response.fault("token_types", "has no effect: the token is not sent as bearer")


def _check_sections(provider: Provider, top: Fields, limits: Fields) -> None:
    grant, credentials = provider.grant, {*provider.credentials, *provider.optional_credentials}
    if provider.limit_per == "host" and provider.requests_per_minute is None:
        limits.fault("requests_per_minute", "is required where the limit is per host")
    if grant.needs_connect_url and provider.connect_url is None:
        top.fault("connect.url", "is required for this grant")
    if provider.connect_url is not None and not grant.needs_connect_url:
        top.fault("connect", "has no effect: this grant does not start at an authorization endpoint")
    if provider.revocation_url is not None and "client_secret" not in credentials:
        top.fault("revocation", "has no effect: a revocation needs a client_secret")
    if "scope" in top.data and not grant.has_scopes:
        top.fault("scope", "has no effect: this grant has no scopes")
    if provider.scope.without_secret is not None and "client_secret" not in provider.optional_credentials:
        top.fault("scope.without_secret", "has no effect: client_secret is not optional")


def _check_settings(provider: Provider, top: Fields, *, used: Collection[str]) -> None:
    """Each setting is read by the grant or stands in a URL. Its default does not contradict the file."""
    in_file = {
        "method": provider.method,
        "encoding": provider.encoding,
    }
    allowed_choices = {"method": METHODS, "encoding": ENCODINGS}
    seen: set[str] = set()
    for index, spec in enumerate(provider.settings):
        fields = Fields({}, f"settings[{index}].", top.faults)
        is_read = spec.name in READ_SETTINGS and spec.name not in used
        if spec.name in seen:
            fields.fault("name", "is used twice")
        seen.add(spec.name)
        if is_read and spec.name not in provider.grant.settings:
            fields.fault("name", "has no effect: this grant does not read it")
        elif is_read and spec.kind != READ_SETTINGS[spec.name]:
            fields.fault("kind", f"must be {READ_SETTINGS[spec.name]} for {spec.name}")
        elif not is_read and spec.name not in used:
            fields.fault("name", "has no effect: no URL uses it")
        elif not is_read and spec.kind == "params":
            fields.fault("kind", "cannot stand in a URL")
        _check_values(spec, fields)
        if not set(spec.choices) <= set(allowed_choices.get(spec.name, spec.choices)):
            fields.fault("choices", f"can hold only {', '.join(allowed_choices[spec.name])}")
        if spec.default is not None and spec.default != in_file.get(spec.name, spec.default):
            fields.fault("default", "contradicts the value that the file gives elsewhere")


def _check_values(spec: SettingSpec, fields: Fields) -> None:
    if (spec.kind == "choice") != bool(spec.choices):
        fields.fault("choices", "is required for the kind choice, and only for it")
    if spec.default is None:
        return
    possible = dict if spec.kind == "params" else str
    if spec.required:
        fields.fault("default", "has no effect: the setting is required")
    elif not isinstance(spec.default, possible) or (spec.choices and spec.default not in spec.choices):
        fields.fault("default", "is not a value of this setting")


def _used_settings(url: str) -> list[str]:
    """The settings that a URL of the file uses."""
    return re.findall(r"\{([^{}]*)\}", url)


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


def _separator(value: Any) -> str:
    if value not in (" ", ",", ";", "|", "+"):
        raise ValueError("must be a space or one of , ; | +")
    return str(value)


def _pattern(value: Any) -> re.Pattern[str] | None:
    try:
        return re.compile(text(value))
    except re.error:
        raise ValueError("is not a regular expression") from None
