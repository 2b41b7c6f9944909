"""Fills docs/providers.md: what each provider needs and does, from the files of the catalogue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tests.docs.setting_values import value_of
from tests.docs.tables import code, default_of, duration, table
from token_broker import catalogue
from token_broker.catalogue import load_catalogue
from token_broker.catalogue.examples import read_examples
from token_broker.catalogue.proof import NO_PROOF, examples_beside
from token_broker.core.assertions import PRIVATE_KEY, AssertionSpec
from token_broker.core.providers import Provider, SettingSpec
from token_broker.oauth.lifetimes import DEFAULT_LIFETIME, MAX_LIFETIME

GRANTS: Final[Mapping[str, str]] = {
    "client_credentials": "client credentials (RFC 6749 section 4.4)",
    "password": "a user's password (RFC 6749 section 4.3)",
    "jwt_bearer": "a signed assertion (RFC 7523 section 2.1)",
    "authorization_code": "authorization code without a browser (RFC 6749 section 4.1), then refresh tokens",
    "login": "the vendor's own login",
}


def values() -> Mapping[str, str]:
    """What the template's names stand for."""
    return {
        "providers": "\n\n".join(_section(provider) for provider in load_catalogue().values()),
        "max_lifetime": duration(MAX_LIFETIME.total_seconds()),
    }


def _section(provider: Provider) -> str:
    own_settings = table(("own setting", "meaning", "what may be written", "default"), map(_row, provider.settings))
    parts = [
        f"## {provider.slug}",
        f"{provider.title}. [Documentation]({provider.documentation}).",
        table(("", ""), _facts(provider)),
        own_settings,
    ]
    return "\n\n".join(parts)


def _facts(provider: Provider) -> Iterator[tuple[str, str]]:
    yield "proof", _proof(provider)
    yield "grant", GRANTS[provider.grant.name]
    yield "credentials", _credentials(provider)
    if provider.connect_url:
        yield "authorization request", f"GET {code(str(provider.connect_url))}"
    yield "token request", f"{_method(provider)} {code(str(provider.request.url))}"
    if provider.assertion is not None:
        yield "client authentication", _assertion(provider.assertion)
    elif provider.grant.is_oauth:
        yield "client authentication", f"{code(provider.request.client_auth)}, unless `client_auth` says otherwise"
    yield "scope", _scope(provider)
    yield "callers send", ", ".join(code(f"{name}: {value}") for name, value in provider.send.headers.items())
    yield "assumed lifetime", duration(provider.default_lifetime_s or DEFAULT_LIFETIME.total_seconds())
    yield "reissue window", duration(provider.reissue_window_s) if provider.reissue_window_s else "none"
    yield "request limit", _limit(provider)
    yield "revocation", _revocation(provider)
    if provider.grant.counts_logins:
        yield "locks accounts", "yes: each login is counted before it is sent"


def _proof(provider: Provider) -> str:
    """The word, and the page that the examples are from."""
    path = examples_beside(Path(catalogue.__file__).with_name(f"{provider.slug}.toml"))
    if not path.exists():
        return NO_PROOF
    examples = read_examples(path)
    return f"{examples.proof}: [{urlsplit(examples.source).hostname}]({examples.source}), read on {examples.read_on}"


def _assertion(spec: AssertionSpec) -> str:
    if not spec.authenticates_client:
        return "the assertion is enough"
    header = ", `x5t#S256` in its header" if spec.with_thumbprint else ""
    return f"a signed assertion, `private_key_jwt` (RFC 7523 section 2.2), {code(str(spec.algorithm))}{header}"


def _credentials(provider: Provider) -> str:
    optional = [
        f"{code(name)} ({'unless the key is in KMS' if name == PRIVATE_KEY else 'optional'})"
        for name in provider.optional_credentials
    ]
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
        parts.append(f"{code(scope.everything)} in the response to a narrower request is an error")
    return "; ".join(parts)


def _limit(provider: Provider) -> str:
    limit = provider.limit
    return "none published" if limit is None else f"{limit.requests} requests a {limit.per} per {limit.limit_per}"


def _revocation(provider: Provider) -> str:
    if provider.revocation_url is None:
        return "none"
    url = str(provider.revocation_url)
    relative = "" if url.startswith(("{", "https://")) else ", relative to the token endpoint"
    needs_secret = "; needs a `client_secret`" if provider.revocation_needs_secret else ""
    return f"{code(url)}{relative} (RFC 7009){needs_secret}"


def _row(spec: SettingSpec) -> tuple[str, ...]:
    return code(spec.name), spec.help, value_of(spec), "required" if spec.required else default_of(spec.default)
