"""Checks what one field of a provider's file demands of another. A field that would have no effect is a fault."""

from __future__ import annotations

from token_broker.core.provider_file_reader import REFRESH_TOKEN, REQUEST_NAMES, FileReader
from token_broker.core.providers import Provider, RequestSpec, SettingSpec
from token_broker.core.templates import SECRET
from token_broker.core.validation import Fields

CLIENT_CREDENTIALS = ("client_id", "client_secret")
# What templates can name besides settings, anywhere in a file.
RESERVED_NAMES = REQUEST_NAMES | frozenset(
    "token code refresh_token assertion state code_challenge code_verifier path sorted_fields".split()
)
# Headers that a token request sets itself.
OWN_HEADERS = frozenset({"content-type", "content-length", "host"})


def check_provider(provider: Provider, file: FileReader) -> None:
    """Adds every fault to the file's. `provider`: as it was read from that file."""
    _check_credentials(provider, file)
    _check_request(provider, file.sections["request"])
    _check_sections(provider, file)
    _check_consent(provider, file)
    _check_signature(provider, file)
    _check_settings(file)


def _check_credentials(provider: Provider, file: FileReader) -> None:
    top = file.top
    if set(provider.credentials) & set(provider.optional_credentials):
        top.fault("optional_credentials", "has a field that credentials has too")
    authenticates = provider.request.client_auth not in ("none", "fields")
    needed = provider.grant.credentials + (("client_id",) if authenticates and provider.grant.is_oauth else ())
    for name in dict.fromkeys(needed):
        if name not in provider.credentials:
            top.fault("credentials", f"must hold {name} for this grant and client_auth")
    sent = {name.removeprefix(SECRET) for name in file.used if name.startswith(SECRET)}
    if provider.grant.needs_consent:
        sent.add(REFRESH_TOKEN)
    if provider.grant.is_oauth:
        # The setting client_auth can choose another client authentication, unless there is one only.
        if authenticates or len(provider.client_auths) > 1:
            sent |= {*CLIENT_CREDENTIALS}
        elif provider.request.client_auth == "none":
            sent.add("client_id")
    for name in ("credentials", "optional_credentials"):
        unsent = sorted(set(getattr(provider, name)) - sent)
        if unsent:
            top.fault(name, f"has {', '.join(unsent)}, which no field of the request sends")


def _check_request(provider: Provider, request: Fields) -> None:
    spec = provider.request
    data = request.data
    if provider.grant.is_oauth:
        _check_client(spec, request)
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


def _check_client(spec: RequestSpec, request: Fields) -> None:
    in_body = spec.client_auth in ("form", "json")
    if in_body and request.data.get("fields_in") not in (None, spec.client_auth):
        request.fault("fields_in", f"must be {spec.client_auth}, as client_auth says")
    if in_body and spec.method.parts == ("GET",):
        request.fault("client_auth", "must be basic, basic-raw or none: a GET has no body")
    if spec.client_id_in_body and not spec.client_auth.startswith("basic"):
        request.fault("client_id_in_body", f"has no effect: client_auth {spec.client_auth} puts it there")


def _check_sections(provider: Provider, file: FileReader) -> None:
    top = file.top
    revocation = file.sections["revocation"]
    grant = provider.grant
    if provider.limit is not None and provider.limit.limit_per == "client" and "client_id" not in provider.credentials:
        top.fault("limits.limit_per", "cannot be client: there is no client_id")
    if grant.takes_assertion and provider.assertion is None:
        top.fault("assertion", "is required for this grant")
    if grant.needs_connect_url and provider.connect_url is None:
        top.fault("connect.url", "is required for this grant")
    if provider.connect_url is not None and not grant.needs_connect_url:
        top.fault("connect", "has no effect: this grant does not start at an authorization endpoint")
    if "redirect_uri" in grant.connect_query and not any(
        spec.name == "redirect_uri" and spec.kind == "redirect_uri" and spec.required for spec in file.settings
    ):
        top.fault("settings", "must have redirect_uri, required and of that kind, for this grant")
    if provider.revocation_url is not None and not (grant.is_oauth and "client_id" in file.credentials):
        top.fault("revocation", "has no effect: a revocation needs a client_id")
    if provider.revocation_needs_secret and "client_secret" not in provider.optional_credentials:
        revocation.fault("needs_secret", "has no effect: client_secret is not optional")
    if "scope" in top.data and not grant.has_scopes:
        top.fault("scope", "has no effect: this grant has no scopes")
    if provider.scope.without_secret is not None and "client_secret" not in provider.optional_credentials:
        top.fault("scope.without_secret", "has no effect: client_secret is not optional")


def _check_consent(provider: Provider, file: FileReader) -> None:
    refresh = file.sections["refresh"]
    revocation = file.sections["revocation"]
    if provider.grant.needs_consent:
        if refresh.data.get("use") is False:
            refresh.fault("use", "must be true: this grant sends refresh tokens")
        if "keeps_consent" in revocation.data and provider.revocation_url is None:
            revocation.fault("keeps_consent", "has no effect: there is no url")
        return
    for fields, names in ((refresh, set(refresh.data) - {"use"}), (revocation, {"keeps_consent"})):
        for name in sorted(names & fields.known & set(fields.data)):
            fields.fault(name, "has no effect: this grant needs no consent")
    if "consent" in file.top.data:
        file.top.fault("consent", "has no effect: this grant needs no consent")


def _check_signature(provider: Provider, file: FileReader) -> None:
    """Without one of its values there would be no signature, and the vendor would refuse each request."""
    spec = provider.signature
    fields = file.sections["signature"]
    if provider.consent is not None and provider.consent.signed and spec is None:
        file.sections["consent"].fault("signed", "has no effect: there is no signature")
    if spec is None:
        return
    settings = {setting.name: setting for setting in provider.settings}
    for name in (*spec.message.names, *spec.key.names):
        setting = settings.get(name)
        if setting is not None and not setting.required and setting.default is None:
            fields.fault("message", f"uses {{{name}}}, which must be required or have a default")
        if name.startswith(SECRET) and name.removeprefix(SECRET) not in provider.credentials:
            fields.fault("message", f"uses {{{name}}}, which credentials must hold")
    if not spec.key.names:
        fields.fault("key", "must hold a field of the secret")
    if spec.path_after and "path" not in spec.message.names:
        fields.fault("path_after", "has no effect: message does not use {path}")


def _check_settings(file: FileReader) -> None:
    """Each setting stands in a template, or its kind says what it does."""
    # A misspelt URL is one fault, not another one for the setting that it should have used.
    urls_at_fault = "url" not in file.sections["request"].data or any(
        fault.field.endswith(("url", "_url")) for fault in file.top.faults
    )
    seen: set[str] = set()
    for index, spec in enumerate(file.settings):
        fields = Fields({}, f"settings[{index}].", file.top.faults)
        if spec.name in seen:
            fields.fault("name", "is used twice")
        seen.add(spec.name)
        if spec.name in RESERVED_NAMES:
            fields.fault("name", "has another meaning in templates")
        has_effect = spec.name in file.used or spec.name in file.kept or spec.kind == "params"
        if not has_effect and not urls_at_fault:
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
