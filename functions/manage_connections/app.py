"""Connections and their states: /v1/connections…, /v1/providers, /v1/health. Reads no secret, opens no token."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.utilities.typing import LambdaContext

from token_broker.bootstrap import broker, catalogue, settings
from token_broker.errors import BrokerUnavailable
from token_broker.http import requests
from token_broker.http.audit import write_audit
from token_broker.http.problems import OUR_FAULT_RETRY, new_resolver, problem
from token_broker.http.responses import (
    connection_body,
    health_body,
    json_response,
    provider_body,
    purge_body,
    summary_body,
)
from token_broker.observability import count, observed

app = new_resolver()
DEFAULT_LIMIT, MAX_LIMIT = 50, 100
CONNECTION = "/v1/connections/<provider>/<connection>"


@app.get("/v1/connections")
def list_connections() -> Response[str]:
    """The connections, a page at a time."""
    query = requests.query(app, limit=requests.whole_number(1, MAX_LIMIT), cursor=str)
    states, cursor = broker().connections.page(query.get("limit", DEFAULT_LIMIT), query.get("cursor"))
    return json_response(200, {"connections": [summary_body(state) for state in states], "cursor": cursor})


@app.get(CONNECTION)
def show_connection(provider: str, connection: str) -> Response[str]:
    """One connection: settings, version and the state of each token."""
    name = requests.connection_name(app, provider, connection)
    requests.query(app)
    state = broker().connections.show(name)
    return json_response(200, connection_body(state, broker().now()), {"ETag": f'"{state.version}"'})


@app.put(CONNECTION)
def put_connection(provider: str, connection: str) -> Response[str]:
    """Creates or replaces a connection's settings."""
    name = requests.connection_name(app, provider, connection)
    requests.query(app)
    expected, absent = requests.read_preconditions(app)
    stored, is_new = broker().connections.put(name, requests.read_body(app), expected=expected, absent=absent)
    write_audit(app, "settings_changed", decision="created" if is_new else "replaced", version=stored.version)
    count("SettingsChanges", provider=provider)
    body = {
        "provider": provider,
        "connection": connection,
        "version": stored.version,
        "settings": dict(stored.settings),
    }
    return json_response(201 if is_new else 200, body, {"ETag": f'"{stored.version}"'})


@app.delete(CONNECTION)
def delete_connection(provider: str, connection: str) -> Response[str]:
    """Deletes a connection's settings and tokens. Its secret stays."""
    name = requests.connection_name(app, provider, connection)
    requests.query(app)
    expected, _ = requests.read_preconditions(app)
    purged = purge_body(broker().connections.delete(name, expected=expected))
    write_audit(app, "settings_changed", decision="deleted", **purged)
    count("SettingsChanges", provider=provider)
    note = f"The secret {settings().secret_prefix}/{name} still exists. Delete it if nothing else needs it."
    return json_response(200, {**purged, "secret": "kept", "note": note})


@app.get("/v1/providers")
def list_providers() -> Response[str]:
    """What a connection of each provider needs."""
    requests.query(app)
    found = catalogue()
    return json_response(200, {"providers": [provider_body(found[slug], found.proof(slug)) for slug in found]})


@app.get("/v1/health")
def check_health() -> Response[str]:
    """Whether both tables can be read."""
    requests.query(app)
    checks = broker().connections.check_health()
    body = health_body(settings().version, checks, catalogue().faulty_files())
    if set(checks.values()) == {"ok"}:
        return json_response(200, {"status": "ok", **body})
    error = BrokerUnavailable("One of the broker's own services failed.")
    extra = {"status": "failing", **body}
    return problem(503, error.code, error.title, error.detail, retry_after=OUR_FAULT_RETRY, extra=extra)


@observed
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """API Gateway's proxy event in, its proxy response out."""
    return app.resolve(event, context)
