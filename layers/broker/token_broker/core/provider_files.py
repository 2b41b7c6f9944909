"""Reads one file of the catalogue and checks it whole.

What a file says is done, or it is a fault of the file: nothing is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from token_broker.core.assertions import (
    CERTIFICATE,
    IN_KMS,
    IN_SECRET,
    PRIVATE_KEY,
    SIGNING_KEY,
    AssertionSpec,
    parse_assertion,
)
from token_broker.core.consent_files import REDIRECT_URI, read_consent, read_keep, read_refresh, redirect_setting
from token_broker.core.provider_file_checks import check_provider
from token_broker.core.provider_file_reader import (
    REFRESH_TOKEN,
    SCOPE_NAMES,
    URL_KINDS,
    FileReader,
    dotted_path,
    page,
    path_or_body,
    regular_expression,
    scalar,
    scope_separator,
    tables,
)
from token_broker.core.providers import (
    CLIENT_AUTHS_OF_FILES,
    KNOWN_ERRORS,
    MAX_LIFETIME_S,
    PERIODS,
    BaseUrlSpec,
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
    SignatureSpec,
)
from token_broker.core.templates import SECRET, UrlTemplate, names_in, parse_template, parse_url_template
from token_broker.core.validation import Fields, flag, one_of, text, texts, whole
from token_broker.errors import FieldError

FIELDS_IN = ("form", "json", "query")
METHODS = ("GET", "POST")
SIGNATURE_IN = ("query", "fields")
SIGNATURE_AS = ("hex", "HEX")
LIMITS_PER = ("host", "client", "connection")
SETTING_KINDS = (*URL_KINDS, "redirect_uri", "text", "label", "whole", "choice", "params")
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
    reader = FileReader(Fields(data))
    provider = _provider(reader, slug, grants)
    check_provider(provider, reader)
    for fields in (*reader.sections.values(), reader.top):
        fields.fault_unknown_fields()
    if reader.top.faults:
        raise CatalogueError(file, reader.top.faults)
    return provider


def _provider(file: FileReader, slug: str, grants: Mapping[str, Grant]) -> Provider:
    """The provider, as far as the file is valid."""
    top = file.top
    request = file.section("request", required=True)
    connect = file.section("connect")
    revocation = file.section("revocation")
    consent = file.section("consent")
    grant = grants[top.take("grant", one_of(grants), next(iter(grants)), required=True)]
    required, optional = _credentials(file, grant)
    file.credentials = required + optional
    file.settings = _settings(file, grant)
    keep = read_keep(file, consent)
    file.kept = frozenset(keep)
    lifetime = file.section("lifetime")
    renewal = file.section("renewal")
    limits = file.section("limits")
    refresh = file.section("refresh")
    scope = _scope(file.section("scope"))
    send_fields = file.section("send")
    base_url_spec, base_url = _base_url(file, send_fields)
    send = _send(file, send_fields, base_url)
    request_spec = _request(file, request, scope, grant, required)
    return Provider(
        slug=slug,
        title=top.take("title", text, "", required=True),
        documentation=top.take("documentation", page, "", required=True),
        grant=grant,
        credentials=required,
        optional_credentials=optional,
        settings=file.settings,
        request=request_spec,
        connect_url=file.url(connect, "url"),
        connect_query=_own_fields(file, grant.connect_query, scope),
        revocation_url=file.url(revocation, "url", may_be_absent=True, relative=True),
        revocation_needs_secret=revocation.take("needs_secret", flag, False),
        response=_response(file, refresh, scope, send, base_url_spec),
        send=send,
        default_lifetime_s=lifetime.take("default_s", whole(1, MAX_LIFETIME_S), 0) or None,
        reissue_window_s=renewal.take("reissue_window_s", whole(61, 86_400), 0) or None,
        limit=_limit(limits),
        scope=scope,
        assertion=_assertion(file, grant),
        refresh=read_refresh(refresh, revocation),
        consent=read_consent(file, consent, keep, scope, request_spec.url),
        signature=_signature(file),
    )


def _credentials(file: FileReader, grant: Grant) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The fields that a secret must and can have. What is elsewhere at some connections can be missing."""
    required: tuple[str, ...] = file.top.take("credentials", texts, (), required=True)
    optional: tuple[str, ...] = file.top.take("optional_credentials", texts, ())
    if file.has_assertion and PRIVATE_KEY in required:
        # The setting signing_key decides whether it is needed.
        required = tuple(name for name in required if name != PRIVATE_KEY)
        optional = (*optional, PRIVATE_KEY)
    if grant.needs_consent and REFRESH_TOKEN not in required + optional:
        # A person's consent gives it, or an operator who has one already.
        optional = (*optional, REFRESH_TOKEN)
    return required, optional


def _own_fields(file: FileReader, fields: Mapping[str, str], scope: ScopeSpec) -> dict[str, Any]:
    """A grant's own fields. Its scope is sent as the file says."""
    own = {(scope.name if name == "scope" else name): parse_template(value) for name, value in fields.items()}
    file.used |= set(names_in(own))
    return {name: value for name, value in own.items() if name is not None}


def _request(
    file: FileReader, request: Fields, scope: ScopeSpec, grant: Grant, required: tuple[str, ...]
) -> RequestSpec:
    own = dict(grant.fields)
    if grant.credentials_as_fields and "fields" not in request.data:
        own |= {name: f"{{{SECRET}{name}}}" for name in required}
    fields = _own_fields(file, own, scope)
    if "grant_type" in request.data:
        grant_type: str = request.take("grant_type", text, "")
        fields["grant_type"] = file.text_template(request, "grant_type", grant_type, file.setting_names)
    allowed = file.request_names | ({REFRESH_TOKEN} if grant.needs_consent else set())
    return RequestSpec(
        url=file.url(request, "url", required=True) or parse_url_template(""),
        method=file.word(request, "method", METHODS, "POST"),
        fields_in=file.word(request, "fields_in", FIELDS_IN, "form" if grant.is_oauth else "json"),
        client_auth=request.take("client_auth", one_of(CLIENT_AUTHS_OF_FILES), "basic" if grant.is_oauth else "none"),  # type: ignore[arg-type]  # one_of narrows to the Literal's words
        client_id_in_body=request.take("client_id_in_body", flag, False),
        basic_charset=request.take("basic_charset", one_of(("utf-8", "iso-8859-1")), "utf-8"),
        fields=file.fields(
            request, "fields", own=fields, allowed=allowed, may_nest=request.data.get("fields_in") == "json"
        ),
        query=file.fields(request, "query"),
        headers=file.headers(request, file.request_names - SCOPE_NAMES),
    )


def _response(
    file: FileReader, refresh: Fields, scope: ScopeSpec, send: SendSpec, base_url: BaseUrlSpec | None
) -> ResponseSpec:
    response = file.section("response")
    success = file.section("success", response)
    errors = file.section("errors", response)
    success_path: Path = success.take("field", dotted_path, ())
    success_value = success.take("value", scalar, None)
    if (success_path == ()) != (success_value is None):
        response.fault("success", "needs both field and value")
    token_types: tuple[str, ...] = response.take("token_types", texts, ())
    is_bearer = send.token_type == "Bearer"  # noqa: S105  # a type's name
    if not is_bearer and "token_types" in response.data:
        response.fault("token_types", "has no effect: the token is not sent as bearer")
    use_refresh_token = refresh.take("use", flag, True)
    refresh_token: Path = response.take("refresh_token", dotted_path, ("refresh_token",))
    refresh_expiry = file.expiry(response, "refresh_expiry")
    if not use_refresh_token and {"refresh_token", "refresh_expiry"} & set(response.data):
        refresh.fault("use", "is false, so response.refresh_token and refresh_expiry have no effect")
    return ResponseSpec(
        token=response.take("token", path_or_body, ("access_token",)),
        success=(success_path, success_value) if success_path else None,
        error=response.take("error", dotted_path, None),
        errors={code: errors.take(code, one_of(sorted(KNOWN_ERRORS)), "") for code in errors.data},
        expiry=file.expiry(response, "expiry"),
        refresh_token=refresh_token if use_refresh_token else None,
        refresh_expiry=refresh_expiry,
        scope=response.take("scope", dotted_path, ("scope",)),
        scope_separator=scope.granted_separator,
        token_types=token_types if is_bearer else None,
        zero_means_never=response.take("zero_means_never", flag, False),
        base_url=base_url,
    )


def _send(file: FileReader, send: Fields, base_url: UrlTemplate | None) -> SendSpec:
    token_type = send.take("token_type", text, "Bearer")
    public: tuple[str, ...] = file.top.take("public_credentials", texts, ("client_id",))
    for name in public:
        if SECRET_NAME.search(name.lower()):
            file.top.fault("public_credentials", f"cannot hold {name}: a name like that is a secret's")
    names = tuple(name for name in public if name in file.credentials)
    allowed = {"token"} | file.setting_names | file.kept | {SECRET + name for name in names}
    headers = file.headers(send, allowed)
    used = {name for template in headers.values() for name in template.names}
    if "public_credentials" in file.top.data and not {SECRET + name for name in public} <= used:
        file.top.fault("public_credentials", "has a field that no header of send uses")
    if "headers" not in send.data:
        headers = {name: parse_template(value) for name, value in DEFAULT_SEND.items()}
    # An empty table: callers send the token elsewhere, such as in a signed query.
    if headers and not any("token" in template.names for template in headers.values()):
        send.fault("headers", "must hold {token}")
    return SendSpec(headers, token_type, tuple(name for name in names if SECRET + name in used), base_url)


def _base_url(file: FileReader, send: Fields) -> tuple[BaseUrlSpec | None, UrlTemplate | None]:
    """Where a response names the base URL of the vendor's API, or the template that makes it."""
    fields = file.section("base_url", send)
    if "base_url" not in send.data:
        return None, None
    if "url" in fields.data:
        return None, file.url(fields, "url", with_kept=True)
    hosts: tuple[str, ...] = fields.take("hosts", texts, (), required=True)
    for host in hosts:
        if not _HOST.fullmatch(host):
            fields.fault("hosts", "must be hosts such as api.example.com or *.example.com")
    path: Path = fields.take("field", dotted_path, (), required=True)
    return BaseUrlSpec(path, hosts), None


def _settings(file: FileReader, grant: Grant) -> tuple[SettingSpec, ...]:
    none: tuple[Mapping[str, Any], ...] = ()
    specs = []
    for index, data in enumerate(file.top.take("settings", tables, none)):
        fields = Fields(data, f"settings[{index}].", file.top.faults)
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
    if file.has_assertion:
        file.used.add(SIGNING_KEY)
        specs.append(SIGNING_KEY_SETTING)
    if grant.needs_consent:
        file.used.add(REDIRECT_URI)
        specs += redirect_setting(file)
    return tuple(specs)


def _assertion(file: FileReader, grant: Grant) -> AssertionSpec | None:
    if not file.has_assertion:
        file.top.known.add("assertion")
        return None
    file.used |= {SECRET + PRIVATE_KEY, SECRET + CERTIFICATE}
    return parse_assertion(
        file.section("assertion"),
        file.credentials,
        grant_takes_it=grant.takes_assertion,
        word=file.word,
        templates=lambda section, name: file.fields(section, name, may_nest=True),
    )


def _signature(file: FileReader) -> SignatureSpec | None:
    signature = file.section("signature")
    if "signature" not in file.top.data:
        return None
    names = file.request_names - SCOPE_NAMES - {"uuid"}
    message: str = signature.take("message", text, "", required=True)
    key: str = signature.take("key", text, "", required=True)
    return SignatureSpec(
        field=signature.take("field", text, "", required=True),
        in_query=signature.take("in", one_of(SIGNATURE_IN), "query") == "query",
        message=file.text_template(signature, "message", message, names | {"path", "sorted_fields"}),
        key=file.text_template(signature, "key", key, {name for name in names if name.startswith(SECRET)}),
        upper_case=signature.take("as", one_of(SIGNATURE_AS), "hex") == "HEX",
        path_after=signature.take("path_after", text, ""),
    )


def _scope(scope: Fields) -> ScopeSpec:
    name: str = scope.take("name", text, "scope")
    is_sent = scope.take("send", flag, True)
    if not is_sent and "name" in scope.data:
        scope.fault("name", "has no effect: the scope is not sent")
    separator: str = scope.take("separator", scope_separator, " ")
    return ScopeSpec(
        name=name if is_sent else None,
        required=scope.take("required", flag, False),
        pattern=scope.take("pattern", regular_expression, None),
        without_secret=scope.take("without_secret", text, "") or None,
        everything=scope.take("everything", text, "") or None,
        separator=separator,
        granted_separator=scope.take("granted_separator", scope_separator, separator),
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
