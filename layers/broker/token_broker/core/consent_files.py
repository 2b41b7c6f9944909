"""Reads what a provider's file says of a person's consent: how it is given, and what becomes of its refresh tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, cast

from token_broker.core.provider_file_reader import SCOPE_NAMES, FileReader, dotted_path, regular_expression
from token_broker.core.providers import (
    RESEND_MARGIN,
    AccountSource,
    AccountSpec,
    ConsentSpec,
    Path,
    RefreshSpec,
    ScopeSpec,
    SettingSpec,
)
from token_broker.core.templates import SECRET, UrlTemplate, names_in, parse_template
from token_broker.core.validation import Fields, flag, one_of, text, whole

REDIRECT_URI = "redirect_uri"
AFTER_LOST_RESPONSE = ("consent", "resend")
ACCOUNT_SOURCES = ("response", "id_token", "redirect", "setting", "get")
MAX_DAYS = 3650
MIN_RESEND_S = int(RESEND_MARGIN.total_seconds()) + 1
MAX_RESEND_S = MAX_DAYS * 86_400
DEFAULT_KEPT = re.compile("[A-Za-z0-9-]{1,63}")
# Fields of a redirect that have a use of their own (RFC 6749 section 4.1.2, RFC 9207).
OF_EVERY_REDIRECT = frozenset({"code", "state", "iss", "error", "error_description", "error_uri"})
# What has an effect only where a person's browser is redirected.
OF_A_REDIRECT = ("query", "fields", "exchange_url", "code_param", "pkce", "loopback", "issuer", "signed", "keep")
# RFC 6749 section 4.1.1, and RFC 7636 section 4.3 with PKCE. The scope has the name that the file says.
AUTHORIZATION_FIELDS = {
    "response_type": "code",
    "client_id": "{secret:client_id}",
    "redirect_uri": "{redirect_uri}",
    "state": "{state}",
}
PKCE_FIELDS = {"code_challenge": "{code_challenge}", "code_challenge_method": "S256"}
# RFC 6749 section 4.1.3, and RFC 7636 section 4.5 with PKCE.
EXCHANGE_FIELDS = {"grant_type": "authorization_code", "code": "{code}", "redirect_uri": "{redirect_uri}"}
PKCE_VERIFIER = {"code_verifier": "{code_verifier}"}


def read_refresh(refresh: Fields, revocation: Fields) -> RefreshSpec:
    """The sections `refresh`, but for `use`, and `revocation.keeps_consent`."""
    resend = refresh.take("after_lost_response", one_of(AFTER_LOST_RESPONSE), "consent") == "resend"
    resend_within_s = refresh.take("resend_within_s", whole(MIN_RESEND_S, MAX_RESEND_S), 0)
    if "resend_within_s" in refresh.data and not resend:
        refresh.fault("resend_within_s", 'has no effect unless after_lost_response is "resend"')
    idle_days, life_days = (refresh.take(name, whole(1, MAX_DAYS), 0) for name in ("idle_life_days", "life_days"))
    if life_days and idle_days > life_days:
        refresh.fault("idle_life_days", "has no effect: life_days is shorter")
    return RefreshSpec(
        resend=resend,
        resend_within=timedelta(seconds=resend_within_s) if resend_within_s else None,
        idle_life=timedelta(days=idle_days) if idle_days else None,
        life=timedelta(days=life_days) if life_days else None,
        revocation_keeps_consent=revocation.take("keeps_consent", flag, False),
    )


def redirect_setting(file: FileReader) -> tuple[SettingSpec, ...]:
    """The setting of each provider whose consent comes with a redirect."""
    consent = file.top.data.get("consent")
    if not isinstance(consent, Mapping) or "authorize_url" not in consent:
        return ()
    loopback = consent.get("loopback") is True
    help_ = "The redirect URI that is registered at the vendor, to which a person's browser returns after the consent."
    if loopback:
        help_ += " Not needed to connect from the command line, which listens on 127.0.0.1."
    return (SettingSpec(REDIRECT_URI, REDIRECT_URI, required=not loopback, default=None, help=help_),)


def read_keep(file: FileReader, consent: Fields) -> dict[str, re.Pattern[str]]:
    """What is kept of the redirect besides the code. It must be read before the templates that can name it."""
    keep = file.section("keep", consent)
    found = {name: keep.take(name, _kept_pattern, DEFAULT_KEPT) for name in keep.data}
    for name in found:
        if name in OF_EVERY_REDIRECT or not re.fullmatch("[A-Za-z_][A-Za-z0-9_-]*", name):
            keep.fault(name, "cannot be kept")
    return found


def read_consent(
    file: FileReader,
    consent: Fields,
    keep: Mapping[str, re.Pattern[str]],
    scope: ScopeSpec,
    request_url: UrlTemplate,
) -> ConsentSpec | None:
    """The section `consent`; None if the file has none: then a refresh token comes from the secret alone.

    `request_url`: where a code is exchanged unless the section says otherwise.
    """
    if "consent" not in file.top.data:
        return None
    authorize_url = file.url(consent, "authorize_url")
    device_url = file.url(consent, "device_url")
    pkce = consent.take("pkce", flag, False)
    if "authorize_url" in consent.data:
        query = _query(file, consent, scope, pkce=pkce)
        fields = _exchange_fields(file, consent, pkce=pkce)
    else:
        query = {}
        fields = {}
    exchange_url = file.url(consent, "exchange_url")
    found = ConsentSpec(
        authorize_url=authorize_url,
        query=query,
        exchange_url=exchange_url,
        fields=fields,
        code_param=consent.take("code_param", text, "code"),
        pkce=pkce,
        loopback=consent.take("loopback", flag, False),
        keep=keep,
        replaces=consent.take("replaces", flag, False),
        account=_account(file, consent, keep, bound=_bound_settings(file, request_url, exchange_url, fields)),
        device_url=device_url,
        issuer=file.url(consent, "issuer"),
        signed=consent.take("signed", flag, False),
    )
    if "authorize_url" not in consent.data:
        _check_without_redirect(consent)
    elif "state" not in names_in(query):
        consent.fault("query", "must hold {state}: it says which consent a redirect belongs to")
    return found


def _check_without_redirect(consent: Fields) -> None:
    if "device_url" not in consent.data:
        consent.fault("authorize_url", "or device_url is required")
    consent.known |= {"query", "fields"}
    for name in OF_A_REDIRECT:
        if name in consent.data:
            consent.fault(name, "has no effect: there is no authorize_url")


def _query(file: FileReader, consent: Fields, scope: ScopeSpec, *, pkce: bool) -> dict[str, Any]:
    own = AUTHORIZATION_FIELDS | ({scope.name: "{scope}"} if scope.name else {}) | (PKCE_FIELDS if pkce else {})
    # A browser shows its address: no credential but the client's id may stand there.
    allowed = file.setting_names | SCOPE_NAMES | {SECRET + "client_id", "state", "uuid", "now", "now_ms"}
    if pkce:
        allowed = allowed | {"code_challenge"}
    return file.fields(consent, "query", own=_parsed(own), allowed=allowed)


def _exchange_fields(file: FileReader, consent: Fields, *, pkce: bool) -> dict[str, Any]:
    own = EXCHANGE_FIELDS
    allowed = file.request_names | {"code"}
    if pkce:
        own = own | PKCE_VERIFIER
        allowed = allowed | {"code_verifier"}
    fields_in_json = "json" in (file.sections["request"].data.get(name) for name in ("fields_in", "client_auth"))
    return file.fields(consent, "fields", own=_parsed(own), allowed=allowed, may_nest=fields_in_json)


def _parsed(fields: Mapping[str, str]) -> dict[str, Any]:
    return {name: parse_template(value) for name, value in fields.items()}


def _bound_settings(
    file: FileReader, request_url: UrlTemplate, exchange_url: UrlTemplate | None, fields: Mapping[str, Any]
) -> set[str]:
    """The settings that stand in each exchange of a code. The vendor refuses a code that belongs to other values."""
    always_set = {spec.name for spec in file.settings if spec.required or spec.default is not None}
    return always_set & {*(exchange_url or request_url).template.names, *names_in(fields)}


def _account(
    file: FileReader, consent: Fields, keep: Mapping[str, re.Pattern[str]], *, bound: set[str]
) -> AccountSpec | None:
    account = file.section("account", consent)
    if "account" not in consent.data:
        return None
    source: str = account.take("from", one_of(ACCOUNT_SOURCES), "response", required=True)
    found: Path = account.take("path", dotted_path, (), required=True)
    url = file.url(account, "url", required=source == "get")
    if source != "get" and "url" in account.data:
        account.fault("url", 'has no effect unless from is "get"')
    name = ".".join(found)
    if source == "redirect" and found and name not in keep:
        account.fault("path", "must be one of the names in consent.keep")
    if source == "setting" and found and name not in bound:
        account.fault("path", "must be a setting that stands in the URL or the fields of the code's exchange")
    return AccountSpec(cast("AccountSource", source), found, url, verified=source != "redirect" or name in bound)


def _kept_pattern(value: Any) -> re.Pattern[str]:
    """A regular expression. true: the usual one."""
    return DEFAULT_KEPT if value is True else regular_expression(value)
