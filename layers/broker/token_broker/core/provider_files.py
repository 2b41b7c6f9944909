"""Reads one file of the catalogue and checks it whole.

What a file says is done, or it is a fault of the file: nothing is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from token_broker.core.assertions import (
    CERTIFICATE,
    IN_KMS,
    IN_SECRET,
    PEM_FIELDS,
    PRIVATE_KEY,
    SIGNING_KEY,
    AssertionSpec,
    parse_assertion,
)
from token_broker.core.providers import (
    CLIENT_AUTHS,
    KNOWN_ERRORS,
    MAX_LIFETIME_S,
    PERIODS,
    BaseUrlSpec,
    ExpiryForm,
    ExpirySpec,
    Grant,
    Limit,
    LimitPer,
    Path,
    Period,
    Provider,
    RequestSpec,
    ResponseSpec,
    ScopeSpec,
    SendSpec,
    SettingSpec,
)
from token_broker.core.templates import (
    SECRET,
    Template,
    UrlTemplate,
    header_value,
    host_label,
    names_in,
    parse_template,
    parse_url_template,
    parse_value,
)
from token_broker.core.validation import Fields, absolute_url, flag, one_of, text, texts, whole
from token_broker.errors import FieldError

FIELDS_IN = ("form", "json", "query")
METHODS = ("GET", "POST")
EXPIRY_FORMS = ("seconds", "ms", "minutes", "epoch", "epoch_ms", "iso", "none")
LIMITS_PER = ("host", "client", "connection")
URL_KINDS = ("url", "base_url")
SETTING_KINDS = (*URL_KINDS, "redirect_uri", "text", "label", "whole", "choice", "params")
CLIENT_CREDENTIALS = ("client_id", "client_secret")
# What a template of a token request can name besides settings and the secret's fields.
REQUEST_NAMES = frozenset({"scope", "scope_list", "endpoint", "uuid", "now", "now_ms"})
RESERVED_NAMES = REQUEST_NAMES | {"token", "code", "refresh_token", "assertion"}
SCOPE_NAMES = frozenset({"scope", "scope_list"})
# Headers that a token request sets itself.
OWN_HEADERS = frozenset({"content-type", "content-length", "host"})
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PATH = re.compile(r"[^.]+(\.[^.]+)*")
# What the names of secrets contain. Such a field is never sent to callers.
SECRET_NAME = re.compile(r"secret|passw|pwd|token|key|private|signature|assertion|certificate")
_HOST = re.compile(r"(\*\.)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+")
# Every provider that takes assertions has it.
SIGNING_KEY_SETTING = SettingSpec(
    name=SIGNING_KEY,
    kind="choice",
    required=False,
    default=IN_SECRET,
    help="Where the private key is: in the secret's private_key, or kms: an asymmetric KMS key with the alias "
    "alias/{StackName}/{provider}/{connection}, which never leaves KMS.",
    choices=(IN_SECRET, IN_KMS),
)
DEFAULT_SEND = {"Authorization": "Bearer {token}"}


class CatalogueError(Exception):
    """A catalogue file has faults. The message names the file and each field."""

    def __init__(self, file: str, faults: list[FieldError]) -> None:
        super().__init__(f"{file}: " + "; ".join(str(fault) for fault in faults))
        self.faults = tuple(faults)


def parse_provider(slug: str, data: Mapping[str, Any], *, file: str, grants: Mapping[str, Grant]) -> Provider:
    """Checks one catalogue file. Raises CatalogueError with the file's name and every fault."""
    reader = _FileReader.of(data)
    provider = reader.provider(slug, grants)
    if reader.top.faults:
        raise CatalogueError(file, reader.top.faults)
    return provider


@dataclass(slots=True)
class _FileReader:
    """A file while it is read. `used`: the names that its templates use."""

    top: Fields
    sections: list[Fields]
    credentials: tuple[str, ...] = ()
    settings: tuple[SettingSpec, ...] = ()
    used: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> _FileReader:
        top = Fields(data)
        return cls(top, [top])

    def section(self, name: str, of: Fields | None = None, *, required: bool = False) -> Fields:
        found = (of or self.top).section(name, required=required)
        self.sections.append(found)
        return found

    def provider(self, slug: str, grants: Mapping[str, Grant]) -> Provider:
        """The provider, as far as the file is valid. Faults are in `top`."""
        top = self.top
        request, connect = self.section("request", required=True), self.section("connect")
        revocation = self.section("revocation")
        grant = grants[top.take("grant", one_of(grants), next(iter(grants)), required=True)]
        required: tuple[str, ...] = top.take("credentials", texts, (), required=True)
        optional: tuple[str, ...] = top.take("optional_credentials", texts, ())
        if self.has_assertion and PRIVATE_KEY in required:
            # The setting signing_key decides whether it is needed.
            required, optional = tuple(name for name in required if name != PRIVATE_KEY), (*optional, PRIVATE_KEY)
        self.credentials = required + optional
        self.settings = self._settings()
        lifetime, renewal, limits = self.section("lifetime"), self.section("renewal"), self.section("limits")
        scope = _scope(self.section("scope"))
        send_fields = self.section("send")
        send = self._send(send_fields)
        provider = Provider(
            slug=slug,
            title=top.take("title", text, "", required=True),
            documentation=top.take("documentation", _page, "", required=True),
            grant=grant,
            credentials=required,
            optional_credentials=optional,
            settings=self.settings,
            request=self._request(request, scope, grant, required),
            connect_url=self._url(connect, "url"),
            connect_query=self._own_fields(grant.connect_query, scope),
            revocation_url=self._url(revocation, "url", may_be_absent=True, relative=True),
            revocation_needs_secret=revocation.take("needs_secret", flag, False),
            response=self._response(scope, send, self._base_url(send_fields)),
            send=send,
            default_lifetime_s=lifetime.take("default_s", whole(1, MAX_LIFETIME_S), 0) or None,
            reissue_window_s=renewal.take("reissue_window_s", whole(61, 86_400), 0) or None,
            limit=_limit(limits),
            scope=scope,
            assertion=self._assertion(grant),
        )
        self._check_credentials(provider)
        self._check_request(provider, request)
        self._check_sections(provider, revocation)
        self._check_settings(request)
        for fields in (*self.sections[1:], top):
            fields.fault_unknown_fields()
        return provider

    # ------------------------------------------------------------------ templates

    def _template(self, fields: Fields, name: str, value: Any, allowed: Collection[str]) -> Any:
        """A parsed value that uses allowed names only."""
        try:
            found = parse_value(value)
        except ValueError as error:
            fields.fault(name, str(error))
            return parse_template("")
        names = set(names_in(found))
        self.used |= names
        for unknown in sorted(names - set(allowed)):
            fields.fault(name, f"uses {{{unknown}}}. Here it can use {', '.join(sorted(allowed)) or 'no name'}")
        return found

    def _text(self, fields: Fields, name: str, value: str, allowed: Collection[str]) -> Template:
        return cast("Template", self._template(fields, name, value, allowed))

    @property
    def has_assertion(self) -> bool:
        return "assertion" in self.top.data

    @property
    def setting_names(self) -> set[str]:
        """The settings that can stand in a template."""
        return {spec.name for spec in self.settings if spec.kind != "params"}

    @property
    def request_names(self) -> set[str]:
        """All that a template of the token request can name."""
        fields = set(self.credentials) - (set(PEM_FIELDS) if self.has_assertion else set())
        return self.setting_names | {SECRET + name for name in fields} | REQUEST_NAMES

    def _own_fields(self, fields: Mapping[str, str], scope: ScopeSpec) -> dict[str, Any]:
        """A grant's own fields. Its scope is sent as the file says."""
        own = {(scope.name if name == "scope" else name): parse_template(value) for name, value in fields.items()}
        self.used |= set(names_in(own))
        return {name: value for name, value in own.items() if name is not None}

    def _url(self, fields: Fields, name: str, *, required: bool = False, **more: bool) -> UrlTemplate | None:
        url: str | None = fields.take(name, text, "", required=required) or None
        if url is None:
            return None
        try:
            found = parse_url_template(url)
        except ValueError as error:
            fields.fault(name, str(error))
            return None
        self._check_url(fields, name, url, found, **more)
        return found

    def _check_url(
        self,
        fields: Fields,
        name: str,
        url: str,
        found: UrlTemplate,
        *,
        may_be_absent: bool = False,
        relative: bool = False,
    ) -> None:
        if not relative and not url.startswith(("https://", "{")):
            fields.fault(name, "must start with https:// or a setting")
        specs = {spec.name: spec for spec in reversed(self.settings)}
        for setting, place in found.named_places:
            self.used.add(setting)
            spec = specs.get(setting)
            if spec is None:
                fields.fault(name, f"uses {{{setting}}}, which is not one of the settings")
            elif not spec.kind:
                continue  # a fault of its own
            elif place == "start" and spec.kind not in URL_KINDS:
                fields.fault(name, f"begins with {{{setting}}}, so its kind must be url or base_url")
            elif place == "host" and not _is_label(spec):
                fields.fault(
                    name, f"has {{{setting}}} in its host, so its kind must be label, or choice with such choices"
                )
            elif place in ("path", "query") and spec.kind in (*URL_KINDS, "params"):
                fields.fault(name, f"has {{{setting}}} behind its host, so its kind cannot be {spec.kind}")
            elif not may_be_absent and not spec.required and spec.default is None:
                fields.fault(name, f"uses {{{setting}}}, which must be required or have a default")

    # ------------------------------------------------------------------ sections

    def _request(self, request: Fields, scope: ScopeSpec, grant: Grant, required: tuple[str, ...]) -> RequestSpec:
        own = dict(grant.fields)
        if grant.credentials_as_fields and "fields" not in request.data:
            own |= {name: f"{{{SECRET}{name}}}" for name in required}
        fields = self._own_fields(own, scope)
        if "grant_type" in request.data:
            grant_type: str = request.take("grant_type", text, "")
            fields["grant_type"] = self._text(request, "grant_type", grant_type, self.setting_names)
        return RequestSpec(
            url=self._url(request, "url", required=True) or parse_url_template(""),
            method=self._word(request, "method", METHODS, "POST"),
            fields_in=self._word(request, "fields_in", FIELDS_IN, "form" if grant.is_oauth else "json"),
            client_auth=request.take("client_auth", one_of(CLIENT_AUTHS), "basic" if grant.is_oauth else "none"),  # type: ignore[arg-type]  # one_of narrows to the Literal's words
            client_id_in_body=request.take("client_id_in_body", flag, False),
            basic_charset=request.take("basic_charset", one_of(("utf-8", "iso-8859-1")), "utf-8"),
            fields=fields | self._fields(request, "fields", may_nest=request.data.get("fields_in") == "json"),
            query=self._fields(request, "query", may_nest=False),
            headers=self._headers(request, self.request_names - SCOPE_NAMES),
        )

    def _word(self, fields: Fields, name: str, words: tuple[str, ...], default: str) -> Template:
        """One of a few words, or a setting that is a choice among them."""
        written: str = fields.take(name, text, default)
        template = self._text(fields, name, written, self.setting_names)
        setting = template.only_name
        spec = next((spec for spec in self.settings if spec.name == setting), None)
        if spec is not None:
            if spec.kind != "choice" or not set(spec.choices) <= set(words):
                fields.fault(name, f"needs {{{setting}}} to be a choice among {', '.join(words)}")
            if not spec.required and spec.default is None:
                fields.fault(name, f"uses {{{setting}}}, which must be required or have a default")
        elif setting is None and written not in words:
            fields.fault(name, f"must be one of {', '.join(words)}")
        return template

    def _fields(self, of: Fields, name: str, *, may_nest: bool) -> dict[str, Any]:
        fields = self.section(name, of)
        found = {}
        for field_name, value in fields.data.items():
            fields.known.add(field_name)
            if not may_nest and isinstance(value, (Mapping, list)):
                fields.fault(field_name, "can be a table or list only where fields_in is json")
            found[field_name] = self._template(fields, field_name, value, self.request_names)
        return found

    def _headers(self, section: Fields, allowed: Collection[str]) -> dict[str, Template]:
        headers = self.section("headers", section)
        found = {}
        for name in headers.data:
            value: str = headers.take(name, text, "")
            template = self._text(headers, name, value, allowed)
            literal = "".join(part for part in template.parts if isinstance(part, str))
            if not _HEADER_NAME.fullmatch(name):
                headers.fault(name, "is not the name of a header")
            try:
                header_value(f"x{literal}x")
            except ValueError as error:
                headers.fault(name, str(error))
            found[name] = template
        return found

    def _response(self, scope: ScopeSpec, send: SendSpec, base_url: BaseUrlSpec | None) -> ResponseSpec:
        response = self.section("response")
        success, errors = self.section("success", response), self.section("errors", response)
        success_path: Path = success.take("field", _path, ())
        success_value = success.take("value", _scalar, None)
        if (success_path == ()) != (success_value is None):
            response.fault("success", "needs both field and value")
        token_types: tuple[str, ...] = response.take("token_types", texts, ())
        is_bearer = send.token_type == "Bearer"  # noqa: S105  # a type's name
        if not is_bearer and "token_types" in response.data:
            response.fault("token_types", "has no effect: the token is not sent as bearer")
        refresh = self.section("refresh")
        use_refresh_token = refresh.take("use", flag, True)
        refresh_token: Path = response.take("refresh_token", _path, ("refresh_token",))
        refresh_expiry = self._expiry(response, "refresh_expiry")
        if not use_refresh_token and {"refresh_token", "refresh_expiry"} & set(response.data):
            refresh.fault("use", "is false, so response.refresh_token and refresh_expiry have no effect")
        return ResponseSpec(
            token=response.take("token", _path_or_body, ("access_token",)),
            success=(success_path, success_value) if success_path else None,
            error=response.take("error", _path, None),
            errors={code: errors.take(code, one_of(sorted(KNOWN_ERRORS)), "") for code in errors.data},
            expiry=self._expiry(response, "expiry"),
            refresh_token=refresh_token if use_refresh_token else None,
            refresh_expiry=refresh_expiry,
            scope=response.take("scope", _path, ("scope",)),
            scope_separator=scope.granted_separator,
            token_types=token_types if is_bearer else None,
            zero_means_never=response.take("zero_means_never", flag, False),
            base_url=base_url,
        )

    def _expiry(self, response: Fields, name: str) -> ExpirySpec | None:
        if name not in response.data:
            return None
        fields = self.section(name, response)
        form: str = fields.take("as", one_of(EXPIRY_FORMS), "seconds")
        path: Path = fields.take("field", _path, (), required=form != "none")
        if form == "none" and path:
            fields.fault("field", "has no effect with none")
        return ExpirySpec(path, cast("ExpiryForm", form))

    def _send(self, send: Fields) -> SendSpec:
        token_type = send.take("token_type", text, "Bearer")
        public: tuple[str, ...] = self.top.take("public_credentials", texts, ("client_id",))
        for name in public:
            if SECRET_NAME.search(name.lower()):
                self.top.fault("public_credentials", f"cannot hold {name}: a name like that is a secret's")
        names = tuple(name for name in public if name in self.credentials)
        headers = self._headers(send, {"token"} | self.setting_names | {SECRET + name for name in names})
        used = {name for template in headers.values() for name in template.names}
        if "public_credentials" in self.top.data and not {SECRET + name for name in public} <= used:
            self.top.fault("public_credentials", "has a field that no header of send uses")
        if not headers:
            headers = {name: parse_template(value) for name, value in DEFAULT_SEND.items()}
        if not any("token" in template.names for template in headers.values()):
            send.fault("headers", "must hold {token}")
        return SendSpec(headers, token_type, tuple(name for name in names if SECRET + name in used))

    def _base_url(self, send: Fields) -> BaseUrlSpec | None:
        if "base_url" not in send.data:
            return None
        fields = self.section("base_url", send)
        hosts: tuple[str, ...] = fields.take("hosts", texts, (), required=True)
        for host in hosts:
            if not _HOST.fullmatch(host):
                fields.fault("hosts", "must be hosts such as api.example.com or *.example.com")
        path: Path = fields.take("field", _path, (), required=True)
        return BaseUrlSpec(path, hosts)

    def _settings(self) -> tuple[SettingSpec, ...]:
        none: tuple[Mapping[str, Any], ...] = ()
        specs = []
        for index, data in enumerate(self.top.take("settings", _tables, none)):
            fields = Fields(data, f"settings[{index}].", self.top.faults)
            specs.append(
                SettingSpec(
                    name=fields.take("name", text, "", required=True),
                    kind=fields.take("kind", one_of(SETTING_KINDS), "", required=True),
                    required=fields.take("required", flag, False),
                    default=data.get("default"),
                    help=fields.take("help", text, "", required=True),
                    choices=fields.take("choices", texts, ()),
                )
            )
            fields.known.add("default")
            fields.fault_unknown_fields()
        if self.has_assertion:
            self.used.add(SIGNING_KEY)
            specs.append(SIGNING_KEY_SETTING)
        return tuple(specs)

    def _assertion(self, grant: Grant) -> AssertionSpec | None:
        if not self.has_assertion:
            if grant.takes_assertion:
                self.top.fault("assertion", "is required for this grant")
            self.top.known.add("assertion")
            return None
        self.used |= {SECRET + PRIVATE_KEY, SECRET + CERTIFICATE}
        return parse_assertion(
            self.section("assertion"),
            self.credentials,
            grant_takes_it=grant.takes_assertion,
            word=self._word,
            templates=lambda section, name: self._fields(section, name, may_nest=True),
        )

    # ------------------------------------------------------------------ what one field demands of another

    def _check_credentials(self, provider: Provider) -> None:
        top = self.top
        if set(provider.credentials) & set(provider.optional_credentials):
            top.fault("optional_credentials", "has a field that credentials has too")
        authenticates = provider.request.client_auth != "none"
        needed = provider.grant.credentials + (("client_id",) if authenticates and provider.grant.is_oauth else ())
        for name in needed:
            if name not in provider.credentials:
                top.fault("credentials", f"must hold {name} for this grant and client_auth")
        sent = {name.removeprefix(SECRET) for name in self.used if name.startswith(SECRET)}
        if provider.grant.is_oauth:
            # The setting client_auth can choose another client authentication, unless there is one only.
            has_secret = authenticates or len(provider.client_auths) > 1
            sent |= {*CLIENT_CREDENTIALS} if has_secret else {"client_id"}
        for name in ("credentials", "optional_credentials"):
            unsent = sorted(set(getattr(provider, name)) - sent)
            if unsent:
                top.fault(name, f"has {', '.join(unsent)}, which no field of the request sends")

    def _check_request(self, provider: Provider, request: Fields) -> None:
        spec, data = provider.request, request.data
        if provider.grant.is_oauth:
            self._check_client(spec, request)
        else:
            if spec.client_auth != "none":
                request.fault("client_auth", "must be none: this grant authenticates no client")
            for name in ("basic_charset", "client_id_in_body", "grant_type"):
                if name in data:
                    request.fault(name, "has no effect: this grant authenticates no client")
        if spec.method.parts == ("GET",) and data.get("fields_in") not in (None, "query"):
            request.fault("fields_in", "must be query: a GET has no body")
        own = (OWN_HEADERS - {"content-type"}) if spec.method.parts != ("POST",) else OWN_HEADERS
        for name in spec.headers:
            if name.lower() in own or (name.lower() == "authorization" and spec.client_auth.startswith("basic")):
                request.fault(f"headers.{name}", "is set by the token request")

    def _check_client(self, spec: RequestSpec, request: Fields) -> None:
        in_body = spec.client_auth in ("form", "json")
        if in_body and request.data.get("fields_in") not in (None, spec.client_auth):
            request.fault("fields_in", f"must be {spec.client_auth}, as client_auth says")
        if in_body and spec.method.parts == ("GET",):
            request.fault("client_auth", "must be basic, basic-raw or none: a GET has no body")
        if spec.client_id_in_body and not spec.client_auth.startswith("basic"):
            request.fault("client_id_in_body", f"has no effect: client_auth {spec.client_auth} puts it there")

    def _check_sections(self, provider: Provider, revocation: Fields) -> None:
        top, grant = self.top, provider.grant
        if (
            provider.limit is not None
            and provider.limit.limit_per == "client"
            and "client_id" not in provider.credentials
        ):
            top.fault("limits.limit_per", "cannot be client: there is no client_id")
        if grant.needs_connect_url and provider.connect_url is None:
            top.fault("connect.url", "is required for this grant")
        if provider.connect_url is not None and not grant.needs_connect_url:
            top.fault("connect", "has no effect: this grant does not start at an authorization endpoint")
        if "redirect_uri" in grant.connect_query and not any(
            spec.name == "redirect_uri" and spec.kind == "redirect_uri" and spec.required for spec in self.settings
        ):
            top.fault("settings", "must have redirect_uri, required and of that kind, for this grant")
        if provider.revocation_url is not None and not (grant.is_oauth and "client_id" in self.credentials):
            top.fault("revocation", "has no effect: a revocation needs a client_id")
        if provider.revocation_needs_secret and "client_secret" not in provider.optional_credentials:
            revocation.fault("needs_secret", "has no effect: client_secret is not optional")
        if "scope" in top.data and not grant.has_scopes:
            top.fault("scope", "has no effect: this grant has no scopes")
        if provider.scope.without_secret is not None and "client_secret" not in provider.optional_credentials:
            top.fault("scope.without_secret", "has no effect: client_secret is not optional")

    def _check_settings(self, request: Fields) -> None:
        """Each setting stands in a template, or its kind says what it does."""
        # A misspelt URL is one fault, not another one for the setting that it should have used.
        urls_at_fault = "url" not in request.data or any(fault.field.endswith(".url") for fault in self.top.faults)
        seen: set[str] = set()
        for index, spec in enumerate(self.settings):
            fields = Fields({}, f"settings[{index}].", self.top.faults)
            if spec.name in seen:
                fields.fault("name", "is used twice")
            seen.add(spec.name)
            if spec.name in RESERVED_NAMES:
                fields.fault("name", "has another meaning in templates")
            if spec.name not in self.used and spec.kind != "params" and not urls_at_fault:
                fields.fault("name", "has no effect: nothing in this file uses it")
            _check_values(spec, fields)


def _check_values(spec: SettingSpec, fields: Fields) -> None:
    if (spec.kind == "choice") != bool(spec.choices):
        fields.fault("choices", "is required for the kind choice, and only for it")
    if spec.default is None:
        return
    possible: type = {"params": dict, "whole": int}.get(spec.kind, str)
    if spec.required:
        fields.fault("default", "has no effect: the setting is required")
    elif not isinstance(spec.default, possible) or (spec.choices and spec.default not in spec.choices):
        fields.fault("default", "is not a value of this setting")


def _is_label(spec: SettingSpec) -> bool:
    """Whether each value of a setting is one part of a host name."""
    known = [*spec.choices, *([spec.default] if isinstance(spec.default, str) else [])]
    try:
        for value in known:
            host_label(value)
    except ValueError:
        return False
    return spec.kind in ("label", "choice")


def _scope(scope: Fields) -> ScopeSpec:
    name: str = scope.take("name", text, "scope")
    is_sent = scope.take("send", flag, True)
    if not is_sent and "name" in scope.data:
        scope.fault("name", "has no effect: the scope is not sent")
    separator: str = scope.take("separator", _separator, " ")
    return ScopeSpec(
        name=name if is_sent else None,
        required=scope.take("required", flag, False),
        pattern=scope.take("pattern", _pattern, None),
        without_secret=scope.take("without_secret", text, "") or None,
        everything=scope.take("everything", text, "") or None,
        separator=separator,
        granted_separator=scope.take("granted_separator", _separator, separator),
    )


def _limit(limits: Fields) -> Limit | None:
    requests = limits.take("requests", whole(2, 10_000_000), 0)
    per = limits.take("per", one_of(PERIODS), "minute")
    limit_per = limits.take("limit_per", one_of(LIMITS_PER), "connection")
    if not limits.data:
        return None
    for name in ("requests", "per"):
        if name not in limits.data:
            limits.fault(name, "is required for a limit")
    return Limit(requests, cast("Period", per), cast("LimitPer", limit_per))


def _tables(value: Any) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        raise ValueError("must be a list of tables")
    return tuple(value)


def _page(value: Any) -> str:
    """The URL of a page, which may have a query and a fragment."""
    page = text(value)
    absolute_url(page.partition("#")[0], query=True)
    return page


def _path(value: Any) -> Path:
    """A dotted path: the names of fields, and indexes of lists."""
    path = text(value)
    if not _PATH.fullmatch(path):
        raise ValueError("must be a path such as data.token or errors.0.code")
    return tuple(path.split("."))


def _path_or_body(value: Any) -> Path:
    return () if value == "" else _path(value)


def _scalar(value: Any) -> Any:
    if not isinstance(value, (str, int, float)):
        raise ValueError("must be a string, a number or a boolean")
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
