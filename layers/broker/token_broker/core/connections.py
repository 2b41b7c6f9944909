"""A connection: one account at a provider. Its settings are the body of a PUT."""

from __future__ import annotations

import hashlib
import json
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from token_broker.core.assertions import IN_KMS, SIGNING_KEY
from token_broker.core.callers import Caller, allow_entry, is_admitted
from token_broker.core.names import ConnectionName, canonical_scope, scope_items
from token_broker.core.providers import MAX_LIFETIME_S, Endpoints, Provider, ResponseSpec, SettingSpec
from token_broker.core.templates import SECRET, as_text, header_value, host_label
from token_broker.core.validation import OAUTH_FIELDS, Fields, absolute_url, flag, mapping, one_of, text, texts, whole
from token_broker.errors import CallerNotAllowed, FieldError, InvalidRequest, ScopeNotAllowed

KEEP_WARM = ("used", "always", "never")
MAX_CA_BUNDLE = 64 * 1024
MAX_PARAMS = 20
MAX_PARAM_NUMBER = 10**15
# A parameter can name another grant_type, but none that needs a credential: settings are stored in clear.
GRANT_TYPES_WITH_CREDENTIALS = frozenset({"authorization_code", "refresh_token", "password"})


@dataclass(frozen=True, slots=True)
class CommonSetting:
    """A setting that every connection can have. `in_digest`: it changes what the provider is asked.

    `kind`: list, scope, whole, choice, flag, moment, url, text or pem. `choices`: of a choice; client_auth's are the
    provider's.
    """

    name: str
    kind: str
    help: str
    required: bool = False
    default: Any = None
    in_digest: bool = False
    choices: tuple[str, ...] = ()


COMMON_SETTINGS = (
    CommonSetting("allowed_callers", "list", "IAM role or user ARNs that may get tokens, or *.", required=True),
    CommonSetting(
        "denied_callers", "list", "ARNs that may not get tokens, even if allowed_callers lists them.", default=[]
    ),
    CommonSetting("scope", "scope", "Scope of a request that names none.", in_digest=True),
    CommonSetting(
        "allowed_scopes", "list", 'Scope items that callers may request. Default: the items of scope. ["*"]: any.'
    ),
    CommonSetting(
        "lifetime_s", "whole", "Lifetime in seconds if the provider sends none, else the maximum.", in_digest=True
    ),
    CommonSetting(
        "keep_warm", "choice",
        "Renew in advance: used (while used within 24 h), always or never.", default="used", choices=KEEP_WARM
    ),
    CommonSetting("suspended", "flag", "true: callers get no tokens.", default=False),
    CommonSetting("credentials_expire_at", "moment", "When the credentials expire, e.g. 2027-01-31T00:00:00Z."),
    CommonSetting("api_base_url", "url", "Base URL of the provider's API, returned with each token."),
    CommonSetting(
        "client_auth", "choice", "How the client authenticates: basic, basic-raw, form, json or none.", in_digest=True
    ),
    CommonSetting("client_id_in_body", "flag", "Send client_id in the body too.", default=False, in_digest=True),
    CommonSetting("token_type", "text", "A token_type of responses that is accepted besides bearer.", in_digest=True),
    CommonSetting("zero_means_never", "flag", "A lifetime of 0 means never.", default=False, in_digest=True),
    CommonSetting(
        "issue_revokes_previous", "flag", "Each new token revokes the one before.", default=False, in_digest=True
    ),
    CommonSetting(
        "private_network", "flag", "Allow private addresses; needs the stack's AllowPrivateNetworks.", default=False,
        in_digest=True,
    ),
    CommonSetting("ca_bundle", "pem", "CA certificates (PEM) to trust instead of the system's.", in_digest=True),
)  # fmt: skip
_NOT_IN_DIGEST = frozenset(setting.name for setting in COMMON_SETTINGS if not setting.in_digest)

NOTHING_KEPT: Mapping[str, str] = MappingProxyType({})


def setting_kinds(provider: Provider | None) -> dict[str, str]:
    """The kind of each setting that a connection of the provider can have. None: the common settings alone."""
    own = {setting.name: setting.kind for setting in provider.settings} if provider is not None else {}
    return {setting.name: setting.kind for setting in COMMON_SETTINGS} | own


def settings_digest(settings: Mapping[str, Any]) -> str:
    """A digest of the settings that change what the provider is asked. Only another digest clears a refusal."""
    issuance = {name: value for name, value in settings.items() if name not in _NOT_IN_DIGEST}
    return hashlib.sha256(json.dumps(issuance, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class NetworkOptions:
    """How to connect to a connection's hosts. `ca_bundle`: certificates to trust (PEM) instead of the system's."""

    ca_bundle: str | None = None
    private: bool = False


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection's checked settings.

    `settings`: as they were PUT. `options`: the settings that only this provider has, with their defaults.
    """

    name: ConnectionName
    provider: Provider
    version: str
    settings_digest: str
    settings: Mapping[str, Any] = field(repr=False)
    options: Mapping[str, Any] = field(repr=False)
    endpoints: Endpoints
    allowed_callers: tuple[str, ...]
    denied_callers: tuple[str, ...]
    scope: str
    allowed_scopes: tuple[str, ...]
    lifetime_s: int | None
    keep_warm: str
    suspended: bool
    credentials_expire_at: datetime | None
    api_base_url: str | None
    client_auth: str
    client_id_in_body: bool
    response: ResponseSpec
    issue_revokes_previous: bool
    network: NetworkOptions

    def was_parsed_from(self, version: str, settings: Mapping[str, Any]) -> bool:
        """Whether it was parsed from these stored settings."""
        return version == self.version and settings == self.settings

    @property
    def signs_with_kms(self) -> bool:
        """Whether its assertions are signed with a KMS key. Otherwise the key is in the secret."""
        return self.options.get(SIGNING_KEY) == IN_KMS

    @property
    def renewal_mode(self) -> str:
        """What a token key is kept warm for: the setting, or `suspended`."""
        return "suspended" if self.suspended else self.keep_warm

    @property
    def revocation_obstacle(self) -> str | None:
        """Why its access tokens cannot be revoked, if so. At some vendors that would end a person's consent."""
        if self.endpoints.revocation is None:
            return "not_supported"
        if self.provider.grant.needs_consent and not self.provider.refresh.revocation_keeps_consent:
            return "would_end_consent"
        return None

    @property
    def lifetime_cap(self) -> timedelta | None:
        return timedelta(seconds=self.lifetime_s) if self.lifetime_s else None

    @property
    def default_lifetime(self) -> timedelta | None:
        """The lifetime of a token without `expires_in`, if one is set."""
        seconds = self.lifetime_s or self.provider.default_lifetime_s
        return timedelta(seconds=seconds) if seconds else None

    def sent_headers(
        self, access_token: str, credentials: Mapping[str, str], kept: Mapping[str, str] = NOTHING_KEPT
    ) -> dict[str, str]:
        """The headers that callers send to the provider's API. They hold the token. One without a value is left out.

        `credentials`: at least the public ones. `kept`: what is kept of a consent's redirect.
        """
        public = {SECRET + name: credentials.get(name) for name in self.provider.send.public_credentials}
        values = {**kept, **self.options, **public, "token": access_token}
        found = {name: template.text(values) for name, template in self.provider.send.headers.items()}
        return {name: value for name, value in found.items() if value is not None}

    def sent_base_url(self, kept: Mapping[str, str] = NOTHING_KEPT) -> str | None:
        """The base URL of the provider's API: the setting's, else the file's with what is kept of a consent's redirect.

        None where neither says it. Then a token response may.
        """
        template = self.provider.send.base_url
        made = template.expand({**kept, **self.options}) if template is not None else ""
        return self.api_base_url or made or None

    def check_caller(self, caller: Caller) -> None:
        """Raises CallerNotAllowed, which names the caller."""
        if not is_admitted(caller, self.allowed_callers, self.denied_callers):
            raise CallerNotAllowed(f"{caller.arn} is not among the allowed callers of {self.name}.")

    def scope_set_for(self, requested: str | None) -> str:
        """The scope set that a request stands for. Raises ScopeNotAllowed or InvalidRequest, which name the items."""
        if requested is None:
            return self.scope
        allowed = set(self.allowed_scopes)
        not_allowed = [] if "*" in allowed else sorted(scope_items(requested) - allowed)
        if not_allowed:
            raise ScopeNotAllowed(f"Not allowed on {self.name}: {' '.join(not_allowed)}.")
        if (unknown := _unknown_item(self.provider, requested)) is not None:
            fault = FieldError("scope", f"{unknown} is not a scope of this provider")
            raise InvalidRequest("The provider has no such scope.", errors=[fault])
        return requested if self.provider.grant.has_scopes else self.scope


def parse_connection(
    name: ConnectionName, provider: Provider, settings: Any, *, version: str = "", insecure_urls: bool = False
) -> Connection:
    """Checks settings. Raises InvalidRequest with every fault. `insecure_urls` allows http (local stack only)."""
    if not isinstance(settings, Mapping):
        raise InvalidRequest("The settings must be a JSON object.", errors=[FieldError("", "must be an object")])
    fields = Fields(settings)

    def url(value: Any) -> str:
        return absolute_url(value, insecure=insecure_urls)

    def url_with_query(value: Any) -> str:
        return absolute_url(value, insecure=insecure_urls, query=True)

    options = {
        spec.name: fields.take(
            spec.name,
            _reader(spec, url_with_query if provider.is_whole_url(spec.name) else url),
            spec.default,
            required=spec.required,
        )
        for spec in provider.settings
    }
    scope = fields.take("scope", _scope, "")
    own_auth: str = provider.request.client_auth
    client_id_in_body = fields.take("client_id_in_body", flag, provider.request.client_id_in_body)
    token_type = fields.take("token_type", text, "") or None
    zero_means_never = fields.take("zero_means_never", flag, provider.response.zero_means_never)
    api_base_url = fields.take("api_base_url", url, "") or None
    response = provider.response.accepting(token_type, zero_means_never=zero_means_never)
    connection = Connection(
        name=name,
        provider=provider,
        version=version,
        settings_digest=settings_digest(settings),
        settings=dict(settings),
        options=options,
        endpoints=provider.endpoints(options),
        allowed_callers=fields.take("allowed_callers", _callers, (), required=True),
        denied_callers=fields.take("denied_callers", _callers, ()),
        scope=scope,
        allowed_scopes=fields.take("allowed_scopes", _scope_list, tuple(sorted(scope_items(scope)))),
        lifetime_s=fields.take("lifetime_s", whole(1, MAX_LIFETIME_S), 0) or None,
        keep_warm=fields.take("keep_warm", one_of(KEEP_WARM), "used"),
        suspended=fields.take("suspended", flag, False),
        credentials_expire_at=fields.take("credentials_expire_at", _moment, None),
        api_base_url=api_base_url,
        client_auth=fields.take("client_auth", one_of(provider.client_auths), own_auth),
        client_id_in_body=client_id_in_body,
        response=response if api_base_url is None else replace(response, base_url=None),
        issue_revokes_previous=fields.take("issue_revokes_previous", flag, False),
        network=NetworkOptions(
            ca_bundle=fields.take("ca_bundle", _pem, "") or None,
            private=fields.take("private_network", flag, False),
        ),
    )
    _check_header_settings(fields, provider, options)
    if settings.get("client_id_in_body") and not connection.client_auth.startswith("basic"):
        fields.fault("client_id_in_body", f"has no effect with client_auth {connection.client_auth}")
    if token_type is not None and provider.response.token_types is None:
        fields.fault("token_type", "has no effect: this provider's tokens are not sent as bearer")
    if provider.scope.required and not scope and not any(fault.field == "scope" for fault in fields.faults):
        fields.fault("scope", "is required: without one this provider grants all its scopes")
    if _unknown_item(provider, scope) is not None:
        fields.fault("scope", "has an item that is not a scope of this provider")
    if scope and "*" not in connection.allowed_scopes and not scope_items(scope) <= set(connection.allowed_scopes):
        fields.fault("scope", "has an item that is not in allowed_scopes")
    fields.fault_unknown_fields()
    if fields.faults:
        raise InvalidRequest(f"The settings of {name} are not valid.", errors=fields.faults)
    return connection


def _unknown_item(provider: Provider, scope: str) -> str | None:
    """The first item that is not a scope of the provider."""
    pattern = provider.scope.pattern
    return None if pattern is None else min((i for i in scope_items(scope) if not pattern.fullmatch(i)), default=None)


def _reader(spec: SettingSpec, url: Callable[[Any], str]) -> Callable[[Any], Any]:
    readers: dict[str, Callable[[Any], Any]] = {
        "url": url,
        "base_url": lambda value: url(value).rstrip("/"),
        "redirect_uri": _redirect_uri,
        "text": _text,
        "label": lambda value: host_label(text(value)),
        "whole": whole(-MAX_PARAM_NUMBER, MAX_PARAM_NUMBER),
        "choice": one_of(spec.choices),
        "params": _params,
    }
    return readers[spec.kind]


def _text(value: Any) -> str:
    """Text. In a path, a dot segment would lead elsewhere (RFC 3986 section 3.3)."""
    if value in (".", ".."):
        raise ValueError("must not be . or ..")
    return text(value)


def _check_header_settings(fields: Fields, provider: Provider, options: Mapping[str, Any]) -> None:
    """Adds a fault for each setting that must stand in a header and cannot."""
    for name in sorted(provider.header_settings() & set(options)):
        try:
            header_value(as_text(options[name] or "x"))
        except ValueError as error:
            fields.fault(name, str(error))


def _redirect_uri(value: Any) -> str:
    """RFC 6749 section 3.1.2: absolute, without fragment. The broker never connects to it, so any scheme is allowed."""
    uri = text(value)
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*://[\x21-\x7e]+", uri):
        raise ValueError("must be an absolute URI")
    if "#" in uri:
        raise ValueError("must have no fragment")
    return uri


def _params(value: Any) -> Mapping[str, Any]:
    """Extra fields of the token request: texts, numbers, booleans, or lists of these (RFC 8707)."""
    for name, parameter in mapping(value).items():
        text(name)
        if name.lower() in OAUTH_FIELDS and name != "grant_type":
            raise ValueError(f"{name} is set by the grant")
        items = parameter if isinstance(parameter, list) else [parameter]
        if not 1 <= len(items) <= MAX_PARAMS:
            raise ValueError(f"{name} must have 1 to {MAX_PARAMS} entries")
        for item in items:
            _check_param(item)
        if name == "grant_type" and (
            not isinstance(parameter, str) or parameter in ("", *GRANT_TYPES_WITH_CREDENTIALS)
        ):
            raise ValueError("grant_type must be one that needs no code, refresh token or password")
    if len(value) > MAX_PARAMS:
        raise ValueError(f"has more than {MAX_PARAMS} entries")
    return dict(value)


def _check_param(value: Any) -> None:
    if isinstance(value, bool) or value == "":
        return
    if isinstance(value, (int, float)):
        if not -MAX_PARAM_NUMBER <= value <= MAX_PARAM_NUMBER:
            raise ValueError("has a number that is too large")
        return
    if not isinstance(value, str):
        raise ValueError("must have strings, numbers, booleans, or lists of these")
    text(value)


def _scope(value: Any) -> str:
    return canonical_scope(text(value))


def _scope_list(value: Any) -> tuple[str, ...]:
    items = texts(value)
    for item in items:
        if item != "*" and (" " in item or canonical_scope(item) != item):
            raise ValueError("must be a list of single scope items")
    return items


def _callers(value: Any) -> tuple[str, ...]:
    return tuple(allow_entry(entry) for entry in texts(value))


def _moment(value: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text(value))
    except ValueError:
        raise ValueError("must be a moment such as 2027-01-31T00:00:00Z") from None
    if moment.tzinfo is None:
        raise ValueError("must name its time zone, e.g. end in Z")
    return moment


def _pem(value: Any) -> str:
    """Certificates as OpenSSL reads them. Settings are no secrets, so a private key among them is refused."""
    if not isinstance(value, str) or len(value) > MAX_CA_BUNDLE:
        raise ValueError(f"must be certificates in PEM form, at most {MAX_CA_BUNDLE} characters")
    if not re.fullmatch(r"[\t\r\n\x20-\x7e]*", value):
        raise ValueError("has a character that is not printable ASCII")
    if "PRIVATE KEY" in value:
        raise ValueError("must hold no private key: anyone who reads the settings sees it")
    blocks = re.findall("-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", value, re.DOTALL)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=value)
    except (ssl.SSLError, ValueError):
        raise ValueError("must hold complete certificates in PEM form") from None
    # OpenSSL passes over a block that it finds empty, and keeps equal ones once.
    if context.cert_store_stats()["x509"] != len({"".join(block.split()) for block in blocks}):
        raise ValueError("must hold complete certificates in PEM form")
    return value
