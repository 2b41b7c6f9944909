"""Connections and their states: /v1/connections…, /v1/providers, /v1/health. Reads no secret, opens no token."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.utilities.typing import LambdaContext

from token_broker.bootstrap import broker, catalogue, settings
from token_broker.core.setting_changes import setting_changes
from token_broker.errors import BrokerUnavailable
from token_broker.http import requests
from token_broker.http.audit import caller_of, write_audit, write_settings_audit
from token_broker.http.problems import OUR_FAULT_RETRY, new_resolver, problem
from token_broker.http.responses import (
    connection_body,
    faults_body,
    health_body,
    history_body,
    json_response,
    page_body,
    provider_body,
    purge_body,
    stored_body,
)
from token_broker.observability import count, observed
from token_broker.service.connections import STATES, SettingsChange

app = new_resolver()
DEFAULT_LIMIT = 50
MAX_LIMIT = 100
CONNECTION = "/v1/connections/<provider>/<connection>"


@app.get("/v1/connections")
def list_connections() -> Response[str]:
    """The connections, a page at a time."""
    query = requests.query(
        app,
        limit=requests.whole_number(1, MAX_LIMIT),
        cursor=requests.cursor,
        provider=requests.provider_name,
        state=requests.one_of(STATES),
        details=requests.flag,
    )
    states, last = broker().connections.page(
        query.get("limit", DEFAULT_LIMIT),
        query.get("cursor"),
        provider=query.get("provider"),
        state=query.get("state"),
    )
    return json_response(200, page_body(states, last, broker().now(), details=query.get("details", False)))


@app.get(CONNECTION)
def show_connection(provider: str, connection: str) -> Response[str]:
    """One connection: settings, version and the state of each token."""
    name = requests.connection_name(app, provider, connection)
    requests.query(app)
    state = broker().connections.show(name)
    return json_response(200, connection_body(state, broker().now()), _etag(state.version))


@app.put(CONNECTION)
def put_connection(provider: str, connection: str) -> Response[str]:
    """Creates or replaces a connection's settings."""
    name = requests.connection_name(app, provider, connection)
    requests.query(app)
    expected, absent = requests.read_preconditions(app)
    body = requests.read_body(app)
    change = broker().connections.put(name, body, expected=expected, absent=absent, caller=caller_of(app))
    return _stored(change, "created" if change.is_new else "replaced")


@app.post(f"{CONNECTION}/check")
def check_connection(provider: str, connection: str) -> Response[str]:
    """Names the faults of settings and stores nothing."""
    name = requests.connection_name(app, provider, connection)
    requests.query(app)
    faults = broker().connections.check(name, requests.read_body(app))
    return json_response(200, {"errors": faults_body(faults)})


@app.get(f"{CONNECTION}/history")
def show_history(provider: str, connection: str) -> Response[str]:
    """The last versions of a connection's settings."""
    name = requests.connection_name(app, provider, connection)
    requests.query(app)
    return json_response(200, history_body(broker().connections.history(name)))


@app.post(f"{CONNECTION}/restore")
def restore_connection(provider: str, connection: str) -> Response[str]:
    """Puts an earlier version of a connection's settings."""
    name = requests.connection_name(app, provider, connection)
    version = requests.query(app, version=str).get("version", "")
    expected, _ = requests.read_preconditions(app)
    change = broker().connections.restore(name, version, expected=expected, caller=caller_of(app))
    return _stored(change, "restored", restored=version)


def _stored(change: SettingsChange, decision: str, **facts: Any) -> Response[str]:
    """The response to stored settings, which are also written to the audit."""
    after = change.connection
    name = change.connection.name
    before = change.before.settings if change.before is not None else None
    write_settings_audit(
        app,
        decision=decision,
        before=before,
        after=after.settings,
        changes=setting_changes(after.provider, before or {}, after.settings),
        version=after.version,
        **facts,
    )
    count("SettingsChanges", provider=name.provider)
    body = stored_body(name, after.version, after.settings)
    return json_response(201 if change.is_new else 200, body, _etag(after.version))


def _etag(version: str) -> dict[str, str]:
    return {"ETag": f'"{version}"'}


@app.delete(CONNECTION)
def delete_connection(provider: str, connection: str) -> Response[str]:
    """Deletes a connection's settings and tokens. Its secret stays."""
    name = requests.connection_name(app, provider, connection)
    requests.query(app)
    expected, _ = requests.read_preconditions(app)
    deleted = broker().connections.delete(name, expected=expected)
    purged = purge_body(deleted)
    changes = setting_changes(deleted.provider, deleted.settings, {})
    write_audit(app, "settings_changed", decision="deleted", changes=changes, **purged)
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
