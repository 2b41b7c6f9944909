"""The JSON Schema of provider files, for editors. What one field demands of another, only the check knows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from token_broker.core.assertions import ALGORITHMS
from token_broker.core.assertions import MAX_LIFETIME_S as MAX_ASSERTION_LIFETIME_S
from token_broker.core.consent_files import (
    ACCOUNT_SOURCES,
    AFTER_LOST_RESPONSE,
    MAX_DAYS,
    MAX_RESEND_S,
    MIN_RESEND_S,
)
from token_broker.core.provider_file_reader import EXPIRY_FORMS
from token_broker.core.provider_files import FIELDS_IN, LIMITS_PER, METHODS, SETTING_KINDS, SIGNATURE_AS, SIGNATURE_IN
from token_broker.core.providers import CLIENT_AUTHS_OF_FILES, KNOWN_ERRORS, MAX_LIFETIME_S, PERIODS
from token_broker.oauth.grants import GRANTS

Schema = dict[str, Any]
PATH = r"^[^.]+(\.[^.]+)*$"
SETTING_IN_BRACES = {"type": "string", "pattern": r"^\{[A-Za-z_][A-Za-z0-9_-]*\}$"}


def values() -> Mapping[str, str]:
    """What the template's names stand for."""
    return {"document": json.dumps(schema(), indent=2)}


def schema() -> Schema:
    whole = _object(
        {
            "title": _text("The vendor and, if it has several, the way to get a token."),
            "documentation": {**_text("The vendor's page."), "pattern": "^https://"},
            "grant": _one_of(GRANTS, "How a token is requested."),
            "credentials": _texts("The fields of the secret that must be there."),
            "optional_credentials": _texts("The fields of the secret that may be there."),
            "public_credentials": _texts("Fields of the secret that send.headers may use. Never a secret."),
            "request": _request(),
            "connect": _object({"url": _text("The authorization endpoint.")}),
            "response": _response(),
            "send": _send(),
            "scope": _scope(),
            "assertion": _assertion(),
            "refresh": _refresh(),
            "consent": _consent(),
            "signature": _signature(),
            "lifetime": _object({"default_s": _whole(1, MAX_LIFETIME_S, "The lifetime if the response states none.")}),
            "renewal": _object({"reissue_window_s": _whole(61, 86_400, "Asked earlier, the same token comes.")}),
            "limits": _limits(),
            "revocation": _object(
                {
                    "url": _text("RFC 7009, absolute or relative."),
                    "needs_secret": _flag("Only with a client_secret."),
                    "keeps_consent": _flag("Revoking an access token leaves the refresh token alive."),
                }
            ),
            "settings": {"type": "array", "items": _setting(), "description": "Settings of this provider alone."},
        },
        required=("title", "documentation", "grant", "credentials", "request"),
    )
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Provider file", **whole}


def _fields() -> Schema:
    return {"type": "object", "description": "Names, and templates of values. What has no value is left out."}


def _request() -> Schema:
    fields = _fields()
    return _object(
        {
            "url": _text("The token endpoint: a template with settings."),
            "method": _one_of_or_setting(METHODS, "POST if it is left out."),
            "fields_in": _one_of_or_setting(FIELDS_IN, "Where the fields stand."),
            "client_auth": _one_of(
                CLIENT_AUTHS_OF_FILES, "How the client authenticates. fields: only with what fields name."
            ),
            "client_id_in_body": _flag("Send client_id in the body too."),
            "basic_charset": _one_of(("utf-8", "iso-8859-1"), "Of the Basic header."),
            "grant_type": _text("Instead of the grant's own."),
            "fields": fields,
            "query": fields,
            "headers": _headers(),
        },
        required=("url",),
    )


def _response() -> Schema:
    expiry = _object({"field": _path("Where it stands."), "as": _one_of(EXPIRY_FORMS, "Its unit, or what it is.")})
    return _object(
        {
            "token": {
                "type": "string",
                "pattern": f"^$|{PATH}",
                "description": "Where the token stands, such as data.token. Empty: the body.",
            },
            "expiry": expiry,
            "refresh_token": _path("Where the refresh token stands."),
            "refresh_expiry": expiry,
            "success": _object(
                {"field": _path("Where it stands."), "value": {"type": ["string", "number", "boolean"]}},
                together=("field", "value"),
            ),
            "error": _path("Where the vendor's error code stands."),
            "errors": {
                "type": "object",
                "additionalProperties": _one_of(sorted(KNOWN_ERRORS), "What the vendor's code means."),
            },
            "scope": _path("Where the granted scope stands."),
            "token_types": _texts("Accepted besides bearer."),
            "zero_means_never": _flag("A lifetime of 0 means never."),
        }
    )


def _send() -> Schema:
    return _object(
        {
            "headers": _headers(),
            "token_type": _text("What callers are told."),
            "base_url": {
                **_object(
                    {
                        "url": _text("A template with settings, and behind its host what is kept of a redirect."),
                        "field": _path("Where it stands in the response."),
                        "hosts": _texts("The hosts allowed in the response, such as *.example.com."),
                    }
                ),
                "oneOf": [{"required": ["url"]}, {"required": ["field", "hosts"]}],
            },
        }
    )


def _scope() -> Schema:
    separator = {"enum": [" ", ",", ";", "|", "+"]}
    return _object(
        {
            "name": _text("Its field's name, scope if it is left out."),
            "send": _flag("false: it is no field of the request."),
            "required": _flag("Without one the vendor grants too much, or nothing."),
            "pattern": _text("A regular expression for each item."),
            "without_secret": _text("The prefix of an item that must be there without a client_secret."),
            "everything": _text("The item that stands for all scopes."),
            "separator": separator,
            "granted_separator": separator,
        }
    )


def _assertion() -> Schema:
    members = {"type": "object", "description": "Members besides those that the signer writes."}
    return _object(
        {
            "as": _one_of(("assertion", "client_assertion"), "A grant, or the client's authentication (RFC 7523)."),
            "alg": _one_of_or_setting(ALGORITHMS, "RFC 7518 section 3."),
            "lifetime_s": _whole(30, MAX_ASSERTION_LIFETIME_S, "How long it is valid."),
            "header": members,
            "claims": members,
            "x5t_s256": _flag("The thumbprint of the secret's certificate, in the header."),
        },
        required=("as", "alg"),
    )


def _refresh() -> Schema:
    days = "After so many days without use it expires."
    return _object(
        {
            "use": _flag("false: a refresh token in the response is ignored."),
            "after_lost_response": _one_of(
                AFTER_LOST_RESPONSE, "Send the refresh token again, or ask the person, which is the default."
            ),
            "resend_within_s": _whole(MIN_RESEND_S, MAX_RESEND_S, "So long after it was first sent."),
            "idle_life_days": _whole(1, MAX_DAYS, days),
            "life_days": _whole(1, MAX_DAYS, "It expires so many days after the consent, however often it is used."),
        }
    )


def _consent() -> Schema:
    kept = {"anyOf": [{"const": True}, _text("A regular expression.")]}
    return _object(
        {
            "authorize_url": _text("The authorization endpoint, which a person's browser opens."),
            "query": {**_fields(), "description": "Laid over the fields of RFC 6749. Empty: that one is left out."},
            "exchange_url": _text("Where the code is exchanged, if not at request.url."),
            "fields": {**_fields(), "description": "Laid over the fields of the exchange. Empty: left out."},
            "code_param": _text("The name of the code in the redirect, code if it is left out."),
            "pkce": _flag("With RFC 7636, S256."),
            "loopback": _flag("The vendor redirects to 127.0.0.1 too."),
            "keep": {
                "type": "object",
                "additionalProperties": kept,
                "description": "What is kept of the redirect. true: letters, digits and hyphens, at most 63.",
            },
            "issuer": _text("The iss of the redirect (RFC 9207), if the vendor sends one."),
            "signed": _flag("The authorization request carries the signature too."),
            "replaces": _flag("A new consent ends the previous one."),
            "account": _object(
                {
                    "from": _one_of(ACCOUNT_SOURCES, "Where the account's id comes from."),
                    "path": _path("Where it stands. redirect: the name of a kept value. setting: its name."),
                    "url": _text("What to GET."),
                },
                required=("from", "path"),
            ),
            "device_url": _text("The device authorization endpoint (RFC 8628)."),
        }
    )


def _signature() -> Schema:
    return _object(
        {
            "field": _text("Its name."),
            "in": _one_of(SIGNATURE_IN, "Where it stands, query if it is left out."),
            "message": _text("What is signed: a template that can use {path} and {sorted_fields}."),
            "key": _text("The key of the HMAC-SHA256: a template with a field of the secret."),
            "as": _one_of(SIGNATURE_AS, "Hexadecimal digits, in small letters or capitals."),
            "path_after": _text("A prefix that {path} lacks."),
        },
        required=("field", "message", "key"),
    )


def _limits() -> Schema:
    return _object(
        {
            "requests": _whole(2, 10_000_000, "The vendor's published limit."),
            "per": _one_of(PERIODS, "The period."),
            "limit_per": _one_of(LIMITS_PER, "What it is counted by."),
        },
        together=("requests", "per"),
    )


def _setting() -> Schema:
    return _object(
        {
            "name": _text("Its name."),
            "kind": _one_of(SETTING_KINDS, "How it is checked."),
            "required": _flag("Whether each connection must have it."),
            "default": {"description": "Its value if it is left out."},
            "help": _text("What it is, for whoever adds a connection."),
            "choices": _texts("What a choice may say."),
        },
        required=("name", "kind", "help"),
    )


def _object(
    properties: Mapping[str, Schema], *, required: Iterable[str] = (), together: tuple[str, ...] = ()
) -> Schema:
    """`together`: required where the table has any field."""
    shape: Schema = {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }
    return {**shape, "dependentRequired": {name: list(together) for name in properties}} if together else shape


def _headers() -> Schema:
    return {"type": "object", "additionalProperties": _text("A template."), "description": "Names, and templates."}


def _text(description: str) -> Schema:
    return {"type": "string", "minLength": 1, "description": description}


def _texts(description: str) -> Schema:
    return {"type": "array", "items": {"type": "string", "minLength": 1}, "description": description}


def _path(description: str) -> Schema:
    return {**_text(description), "pattern": PATH}


def _flag(description: str) -> Schema:
    return {"type": "boolean", "description": description}


def _whole(low: int, high: int, description: str) -> Schema:
    return {"type": "integer", "minimum": low, "maximum": high, "description": description}


def _one_of(words: Iterable[str], description: str) -> Schema:
    return {"enum": list(words), "description": description}


def _one_of_or_setting(words: Iterable[str], description: str) -> Schema:
    return {"anyOf": [{"enum": list(words)}, SETTING_IN_BRACES], "description": description}
