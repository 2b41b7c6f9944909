"""Returns, purges and tries tokens, and ends consents.

GET and DELETE /v1/tokens/…, POST /v1/connections/…/trial, DELETE /v1/connections/…/grant.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.utilities.typing import LambdaContext

from token_broker.bootstrap import broker
from token_broker.core.expiries import expiry_dates
from token_broker.core.names import canonical_scope
from token_broker.http import requests
from token_broker.http.audit import write_audit
from token_broker.http.problems import new_resolver
from token_broker.http.responses import dropped_consent_body, json_response, purge_body, token_body, trial_body
from token_broker.observability import count, measure_expiry_dates, observed
from token_broker.service.get_token import TokenRequest

app = new_resolver()
MIN_TTL_S = requests.whole_number(0, 3600)


@app.get("/v1/tokens/<provider>/<connection>")
def get_token(provider: str, connection: str) -> Response[str]:
    """A valid token of the connection."""
    name = requests.connection_name(app, provider, connection)
    query = requests.query(app, scope=canonical_scope, min_ttl=MIN_TTL_S, rejected=requests.token_id)
    request = TokenRequest(
        caller=requests.caller(app),
        name=name,
        deadline=requests.deadline(app.lambda_context, broker().now()),
        scope=query.get("scope"),
        min_ttl=timedelta(seconds=query["min_ttl"]) if "min_ttl" in query else None,
        rejected=query.get("rejected"),
    )
    response = broker().get_token(request)
    body = token_body(response)
    write_audit(
        app,
        "token_returned",
        decision="served",
        scope=response.token.scope,
        token_id=response.token.token_id,
        source=response.source,
        expires_in=body["expires_in"],
        warnings=body["warnings"],
        rejected=request.rejected,
    )
    count("TokensReturned", provider=provider, source=response.source)
    if response.source == "provider":
        measure_expiry_dates(name, expiry_dates(response.connection, (), response.consent), response.now)
    return json_response(200, body)


@app.delete("/v1/tokens/<provider>/<connection>")
def delete_token(provider: str, connection: str) -> Response[str]:
    """Drops the connection's tokens, then revokes what can be revoked."""
    name = requests.connection_name(app, provider, connection)
    scope = requests.query(app, scope=canonical_scope).get("scope")
    deadline = requests.deadline(app.lambda_context, broker().now())
    body = purge_body(broker().purge_and_revoke(name, scope, deadline=deadline))
    write_audit(app, "tokens_purged", decision="done", scope=scope, **body)
    count("Purges", provider=provider)
    return json_response(200, body)


@app.delete("/v1/connections/<provider>/<connection>/grant")
def drop_consent(provider: str, connection: str) -> Response[str]:
    """Ends the person's consent: revokes its refresh token where that can be, and drops it with all tokens."""
    name = requests.connection_name(app, provider, connection)
    requests.query(app)
    body = dropped_consent_body(broker().drop_consent(name))
    write_audit(app, "consent_dropped", decision="done", **body)
    count("ConsentsDropped", provider=provider)
    return json_response(200, body)


@app.post("/v1/connections/<provider>/<connection>/trial")
def try_connection(provider: str, connection: str) -> Response[str]:
    """Tries the pending or current credentials."""
    name = requests.connection_name(app, provider, connection)
    force = requests.query(app, force=requests.flag).get("force", False)
    body = trial_body(broker().trial(name, force=force))
    write_audit(app, "trial", decision="done", **body)
    count("Trials", provider=provider)
    return json_response(200, body)


@observed
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """API Gateway's proxy event in, its proxy response out."""
    return app.resolve(event, context)
