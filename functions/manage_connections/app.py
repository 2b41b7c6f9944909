"""Connections and their states: /v1/connections…, /v1/providers, /v1/health. Reads no secret, opens no token."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.utilities.typing import LambdaContext

from token_broker import __version__, answers, rest
from token_broker.bootstrap import broker, settings
from token_broker.core.names import ConnectionName
from token_broker.errors import BrokerUnavailable
from token_broker.observability import count, observed

app = rest.new_resolver()
DEFAULT_LIMIT, MAX_LIMIT = 50, 100
CONNECTION = "/v1/connections/<provider>/<connection>"


@app.get("/v1/connections")
def list_connections() -> Response[str]:
    """The connections, a page at a time."""
    given = rest.query(app, limit=rest.whole_number(1, MAX_LIMIT), cursor=str)
    states, cursor = broker().registry.page(given.get("limit", DEFAULT_LIMIT), given.get("cursor"))
    return rest.reply(200, {"connections": [answers.summary(state) for state in states], "cursor": cursor})


@app.get(CONNECTION)
def show_connection(provider: str, connection: str) -> Response[str]:
    """One connection: settings, version and the state of each token."""
    name = rest.connection_name(app, provider, connection)
    rest.query(app)
    state = broker().registry.show(name)
    return rest.reply(200, answers.connection(state, broker().parts.clock()), {"ETag": f'"{state.version}"'})


@app.put(CONNECTION)
def put_connection(provider: str, connection: str) -> Response[str]:
    """Creates or replaces a connection's settings."""
    name = rest.connection_name(app, provider, connection)
    rest.query(app)
    expected, absent = rest.read_versions(app)
    stored, is_new = broker().registry.put(name, rest.read_body(app), expected=expected, absent=absent)
    decision = "created" if is_new else "replaced"
    rest.record(app, "settings_changed", decision=decision, version=stored.version)
    count("SettingsChanges", provider=provider)
    body = {
        "provider": provider,
        "connection": connection,
        "version": stored.version,
        "settings": dict(stored.settings),
    }
    return rest.reply(201 if is_new else 200, body, {"ETag": f'"{stored.version}"'})


@app.delete(CONNECTION)
def delete_connection(provider: str, connection: str) -> Response[str]:
    """Deletes a connection's settings and tokens. Its secret stays."""
    name = rest.connection_name(app, provider, connection)
    rest.query(app)
    expected, _ = rest.read_versions(app)
    done = answers.purge(broker().registry.delete(name, expected=expected))
    rest.record(app, "settings_changed", decision="deleted", **done)
    count("SettingsChanges", provider=provider)
    note = f"The secret {settings().secret_prefix}/{name} was left as it is: delete it if it is no longer needed."
    return rest.reply(200, {**done, "secret": "kept", "note": note})


@app.get("/v1/providers")
def list_providers() -> Response[str]:
    """The catalogue, as what a connection of each provider needs."""
    rest.query(app)
    return rest.reply(200, {"providers": [answers.provider(found) for found in broker().parts.catalogue.values()]})


@app.get("/v1/health")
def check_health() -> Response[str]:
    """Whether both tables answer."""
    rest.query(app)
    checks = {}
    parts, nobody = broker().parts, ConnectionName("health", "check")
    for name, look in (("connections", parts.connections.get), ("tokens", parts.tokens.records)):
        try:
            look(nobody)
            checks[name] = "ok"
        except BrokerUnavailable:
            checks[name] = "failing"
    if set(checks.values()) == {"ok"}:
        return rest.reply(200, {"status": "ok", "version": __version__, "checks": checks})
    error = BrokerUnavailable("One of the broker's own services does not answer.")
    extra = {"status": "failing", "version": __version__, "checks": checks}
    return rest.problem(503, error.code, error.title, error.detail, retry_after=rest.OUR_FAULT_RETRY, extra=extra)


@observed
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """API Gateway's proxy event in, its proxy answer out."""
    return app.resolve(event, context)
