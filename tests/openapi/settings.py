"""The settings of a connection as JSON Schema: one object per provider, from the catalogue and the common settings."""

from __future__ import annotations

from typing import Any, Final

from token_broker.catalogue import load_catalogue
from token_broker.core.connections import COMMON_SETTINGS, KEEP_WARM, MAX_CA_BUNDLE, MAX_PARAMS, CommonSetting
from token_broker.core.names import MAX_SCOPE_CHARACTERS
from token_broker.core.providers import CLIENT_AUTHS, MAX_LIFETIME_S, Provider, SettingSpec
from token_broker.core.validation import MAX_TEXT, OAUTH_FIELDS

Schema = dict[str, Any]

SCOPE_ITEM: Final = "[\\x21\\x23-\\x5b\\x5d-\\x7e]+"
SCOPE: Final[Schema] = {
    "type": "string",
    "pattern": f"^{SCOPE_ITEM}( {SCOPE_ITEM})*$",
    "maxLength": MAX_SCOPE_CHARACTERS,
    "description": "At most 50 items of RFC 6749 section 3.3, separated by single spaces.",
}
TEXT: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT, "pattern": "^[^\\x00-\\x1f\\x7f]*$"}
URL: Final[Schema] = {"type": "string", "format": "uri", "pattern": "^https://[^?#@]+$", "maxLength": MAX_TEXT}
URL_WITH_QUERY: Final[Schema] = {**URL, "pattern": "^https://[^#@]+$"}
CALLER: Final[Schema] = {
    "type": "string",
    "pattern": "^(\\*|arn:(aws|aws-cn|aws-us-gov):iam::[0-9]{12}:(role|user)/([\\x21-\\x29\\x2b-\\x7e]+/)?"
    "[A-Za-z0-9_+=,.@*-]{1,128})$",
}
CALLERS: Final[Schema] = {"type": "array", "items": CALLER, "maxItems": 200}
FLAG: Final[Schema] = {"type": "boolean"}

COMMON: Final[dict[str, Schema]] = {
    "allowed_callers": CALLERS,
    "denied_callers": CALLERS,
    "scope": SCOPE,
    "allowed_scopes": {
        "type": "array",
        "items": {"type": "string", "pattern": f"^{SCOPE_ITEM}$", "maxLength": MAX_SCOPE_CHARACTERS},
        "maxItems": 200,
    },
    "lifetime_s": {"type": "integer", "minimum": 1, "maximum": MAX_LIFETIME_S},
    "keep_warm": {"type": "string", "enum": list(KEEP_WARM)},
    "suspended": FLAG,
    "credentials_expire_at": {"type": "string", "format": "date-time"},
    "api_base_url": URL,
    "client_auth": {"type": "string", "enum": list(CLIENT_AUTHS)},
    "client_id_in_body": FLAG,
    "token_type": TEXT,
    "zero_means_never": FLAG,
    "issue_revokes_previous": FLAG,
    "private_network": FLAG,
    "ca_bundle": {"type": "string", "maxLength": MAX_CA_BUNDLE, "pattern": "-----BEGIN CERTIFICATE-----"},
}
PARAM: Final[Schema] = {"type": ["string", "number", "boolean"], "maxLength": MAX_TEXT}
KINDS: Final[dict[str, Schema]] = {
    "url": URL,
    "base_url": URL,
    "redirect_uri": {
        "type": "string",
        "format": "uri",
        "pattern": "^[A-Za-z][A-Za-z0-9+.-]*://[\\x21\\x22\\x24-\\x7e]+$",
        "maxLength": MAX_TEXT,
    },
    "text": TEXT,
    "label": {"type": "string", "pattern": "^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$"},
    "whole": {"type": "integer"},
    "choice": {"type": "string"},
    "params": {
        "type": "object",
        "maxProperties": MAX_PARAMS,
        "propertyNames": {**TEXT, "not": {"enum": sorted(OAUTH_FIELDS - {"grant_type"})}},
        "additionalProperties": {
            "anyOf": [PARAM, {"type": "array", "items": PARAM, "minItems": 1, "maxItems": MAX_PARAMS}]
        },
    },
}

# The common settings whose schema is not the same for every provider.
PER_PROVIDER = frozenset({"scope", "client_auth"})


def schemas() -> dict[str, Schema]:
    """`ConnectionSettings` and one schema per provider. Raises KeyError for a setting without a schema."""
    own = {schema_name(provider): _of(provider) for provider in load_catalogue().values()}
    return {
        "ConnectionSettings": {
            "description": "The settings of a connection. The path's `provider` decides which schema applies.",
            # Not oneOf: the body does not name the provider, and some bodies are valid for two providers.
            "anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in own],
        },
        "CommonSettings": {
            "description": "The settings that a connection of any provider can have.",
            "type": "object",
            "properties": {
                setting.name: _common(setting) for setting in COMMON_SETTINGS if setting.name not in PER_PROVIDER
            },
        },
        **own,
    }


def schema_name(provider: Provider) -> str:
    """`CommerceLayerSettings`."""
    return "".join(part.capitalize() for part in provider.slug.split("-")) + "Settings"


def _of(provider: Provider) -> Schema:
    required = ["allowed_callers", *(spec.name for spec in provider.settings if spec.required)]
    if provider.scope.required:
        required.append("scope")
    described = {spec.name: _own(provider, spec) for spec in provider.settings}
    auths = {"type": "string", "enum": list(provider.client_auths)}
    helps = {setting.name: setting.help for setting in COMMON_SETTINGS}
    described["scope"] = _described(COMMON["scope"], helps["scope"], None)
    described["client_auth"] = _described(auths, helps["client_auth"], provider.request.client_auth)
    properties = {name: schema if name in required else _or_null(schema) for name, schema in described.items()}
    for setting in COMMON_SETTINGS:
        if setting.name not in PER_PROVIDER:
            properties[setting.name] = {"$ref": f"#/components/schemas/CommonSettings/properties/{setting.name}"}
    return {
        "type": "object",
        "title": provider.title,
        "description": f"`{provider.slug}`, grant `{provider.grant.name}`: {provider.documentation}",
        "required": required,
        "properties": properties,
        "additionalProperties": False,
    }


def _common(setting: CommonSetting) -> Schema:
    schema = _described(COMMON[setting.name], setting.help, setting.default)
    return schema if setting.required else _or_null(schema)


def _own(provider: Provider, spec: SettingSpec) -> Schema:
    schema = KINDS[spec.kind]
    if spec.kind == "url" and provider.is_whole_url(spec.name):
        schema = URL_WITH_QUERY
    if spec.kind == "choice":
        schema = {**schema, "enum": list(spec.choices)}
    return _described(schema, spec.help, spec.default)


def _described(schema: Schema, description: str, default: Any) -> Schema:
    text = " ".join([description, schema["description"]]) if "description" in schema else description
    return {**schema, "description": text, **({} if default is None else {"default": default})}


def _or_null(schema: Schema) -> Schema:
    """An optional setting may be null, which is the same as leaving it out."""
    with_null = {**schema, "type": [schema["type"], "null"]}
    if "enum" in schema:
        with_null["enum"] = [*schema["enum"], None]
    return with_null
