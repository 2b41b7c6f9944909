"""Fills docs/providers.md: what each provider needs and does, from the files of the catalogue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tests.docs.setting_values import value_of
from tests.docs.tables import code, default_of, duration, table
from token_broker import catalogue
from token_broker.catalogue import load_catalogue
from token_broker.catalogue.examples import read_examples
from token_broker.catalogue.proof import NO_PROOF, examples_beside
from token_broker.core.assertions import PRIVATE_KEY
from token_broker.core.provider_file_reader import REFRESH_TOKEN
from token_broker.core.providers import ConsentSpec, Provider, SettingSpec
from token_broker.core.templates import UrlTemplate
from token_broker.oauth.lifetimes import DEFAULT_LIFETIME, MAX_LIFETIME

GRANTS: Final[Mapping[str, str]] = {
    "client_credentials": "client credentials (RFC 6749 section 4.4)",
    "password": "a user's password (RFC 6749 section 4.3)",
    "jwt_bearer": "a signed assertion (RFC 7523 section 2.1)",
    "authorization_code": "authorization code without a browser (RFC 6749 section 4.1), then refresh tokens",
    "refresh_token": "refresh token of a person's consent (RFC 6749 section 6)",
    "login": "the vendor's own login",
}

OPTIONAL: Final[Mapping[str, str]] = {
    PRIVATE_KEY: "unless the key is in KMS",
    REFRESH_TOKEN: "if there is one already",
}

ACCOUNTS: Final[Mapping[str, str]] = {
    "response": "{path} of the token response",
    "id_token": "{path} of the `id_token`",
    "redirect": "{path} of the redirect",
    "setting": "the setting {path}",
    "get": "{path} of {url}",
}

OVERVIEW: Final = ("provider", "for", "proof", "grant", "credentials", "settings needed")


def values() -> Mapping[str, str]:
    """What the template's names stand for."""
    providers = [load_catalogue()[slug] for slug in sorted(load_catalogue())]
    return {
        "overview": table(OVERVIEW, map(_line, providers)),
        "providers": "\n\n".join(_section(provider) for provider in providers),
        "default_lifetime": duration(DEFAULT_LIFETIME.total_seconds()),
        "max_lifetime": duration(MAX_LIFETIME.total_seconds()),
    }


def _line(provider: Provider) -> tuple[str, ...]:
    needed = [code(spec.name) for spec in provider.settings if spec.required]
    if provider.scope.required:
        needed.append(code("scope"))
    return (
        f"[{provider.slug}](#{provider.slug})",
        provider.title,
        load_catalogue().proof(provider.slug),
        code(provider.grant.name),
        _credentials(provider),
        ", ".join(needed),
    )


def _section(provider: Provider) -> str:
    parts = [
        f"## {provider.slug}",
        f"{provider.title}. [Documentation]({provider.documentation}).",
        table(("", ""), _facts(provider)),
    ]
    if provider.settings:
        parts.append(table(("own setting", "meaning", "what may be written", "default"), map(_row, provider.settings)))
    return "\n\n".join(parts)


def _facts(provider: Provider) -> Iterator[tuple[str, str]]:
    yield "proof", _proof(provider)
    yield "grant", GRANTS[provider.grant.name]
    yield "credentials", _credentials(provider)
    if provider.connect_url:
        yield "authorization request", f"GET {code(str(provider.connect_url))}"
    yield "token request", f"{_method(provider)} {code(str(provider.request.url))}"
    if provider.grant.is_oauth:
        yield "client authentication", _client_auth(provider)
    if provider.signature is not None:
        where = "query" if provider.signature.in_query else "fields"
        yield "signature", f"HMAC-SHA256, as {code(provider.signature.field)} in the {where}"
    yield "scope", _scope(provider)
    yield from _consent(provider)
    headers = ", ".join(code(f"{name}: {value}") for name, value in provider.send.headers.items())
    yield "callers send", headers or "the token as the vendor's API wants it: no header is made"
    yield from _base_url(provider)
    if provider.default_lifetime_s:
        yield "assumed lifetime", duration(provider.default_lifetime_s)
    if provider.reissue_window_s:
        yield "reissue window", duration(provider.reissue_window_s)
    if provider.limit is not None:
        limit = provider.limit
        yield "request limit", f"{limit.requests} requests a {limit.per} per {limit.limit_per}"
    if provider.revocation_url is not None:
        yield "revocation", _revocation(provider.revocation_url, provider)
    if provider.grant.counts_logins:
        yield "wrong logins", "too many of them lock the account, so each login is counted before it is sent"


def _base_url(provider: Provider) -> Iterator[tuple[str, str]]:
    found, made = provider.response.base_url, provider.send.base_url
    if found is not None:
        hosts = ", ".join(map(code, found.hosts))
        yield "base URL of the API", f"{code('.'.join(found.path))} of the response, at {hosts}"
    if made is not None:
        yield "base URL of the API", code(str(made))


def _consent(provider: Provider) -> Iterator[tuple[str, str]]:
    """How a person consents, and what becomes of the refresh token."""
    if not provider.grant.needs_consent:
        return
    yield "consent", ". ".join(_ways(provider.consent)) if provider.consent else "`refresh_token` of the secret only"
    account = provider.consent.account if provider.consent else None
    if account is not None:
        found = ACCOUNTS[account.source].format(path=code(".".join(account.path)), url=code(str(account.url)))
        yield "account", found if account.verified else f"{found}, not verified"
    refresh = provider.refresh
    if refresh.resend:
        within = f" for {_long(refresh.resend_within)}" if refresh.resend_within else ""
        yield "after a lost response", f"the refresh token may be sent again{within}"
    else:
        yield "after a lost response", "a person must consent again"
    lives = [(refresh.idle_life, "without use"), (refresh.life, "after the consent")]
    ends = [f"{_long(life)} {when}" for life, when in lives if life is not None]
    if ends:
        yield "refresh token ends", ", ".join(ends)


def _long(time: timedelta) -> str:
    return f"{time.days} days" if time.days else duration(time.total_seconds())


def _ways(consent: ConsentSpec) -> Iterator[str]:
    if consent.authorize_url is not None:
        pkce = ", with PKCE" if consent.pkce else ""
        loopback = ", also with a redirect to 127.0.0.1" if consent.loopback else ""
        yield f"In a browser: {code(str(consent.authorize_url))}{pkce}{loopback}"
    if consent.device_url is not None:
        yield f"On another device (RFC 8628): {code(str(consent.device_url))}"
    if consent.replaces:
        yield "A new consent ends the previous one"


def _proof(provider: Provider) -> str:
    """The word, and the page that the examples are from."""
    path = examples_beside(Path(catalogue.__file__).with_name(f"{provider.slug}.toml"))
    if not path.exists():
        return NO_PROOF
    examples = read_examples(path)
    return f"{examples.proof}: [{urlsplit(examples.source).hostname}]({examples.source}), read on {examples.read_on}"


def _client_auth(provider: Provider) -> str:
    spec, auth = provider.assertion, code(provider.request.client_auth)
    if spec is not None and not spec.authenticates_client:
        return "the assertion is enough"
    if spec is not None:
        header = ", `x5t#S256` in its header" if spec.with_thumbprint else ""
        return f"a signed assertion, `private_key_jwt` (RFC 7523 section 2.2), {code(str(spec.algorithm))}{header}"
    return f"{auth}, unless the setting `client_auth` says otherwise" if len(provider.client_auths) > 1 else auth


def _credentials(provider: Provider) -> str:
    optional = [f"{code(name)} ({OPTIONAL.get(name, 'optional')})" for name in provider.optional_credentials]
    return ", ".join([*map(code, provider.credentials), *optional])


def _method(provider: Provider) -> str:
    """The method, which a setting can change."""
    method = provider.request.method
    setting = next((spec for spec in provider.settings if spec.name == method.only_name), None)
    return " or ".join(setting.choices) if setting else str(method)


def _scope(provider: Provider) -> str:
    scope = provider.scope
    if not provider.grant.has_scopes:
        return "none: a connection has one token"
    parts = ["required" if scope.required else "optional"]
    if scope.pattern:
        parts.append(f"each item matches {code(scope.pattern.pattern)}")
    if scope.without_secret:
        parts.append(f"without `client_secret` an item must begin with {code(scope.without_secret)}")
    if scope.everything:
        parts.append(f"a response that grants {code(scope.everything)} to a narrower request is an error")
    return "; ".join(parts)


def _revocation(template: UrlTemplate, provider: Provider) -> str:
    url = str(template)
    relative = "" if url.startswith(("{", "https://")) else ", relative to the token endpoint"
    needs_secret = "; needs a `client_secret`" if provider.revocation_needs_secret else ""
    return f"{code(url)}{relative} (RFC 7009){needs_secret}"


def _row(spec: SettingSpec) -> tuple[str, ...]:
    return code(spec.name), spec.help, value_of(spec), "required" if spec.required else default_of(spec.default)
