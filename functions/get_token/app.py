"""Hands out, purges and tries tokens: GET and DELETE /v1/tokens/…, POST /v1/connections/…/trial."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.utilities.typing import LambdaContext

from token_broker import answers, rest
from token_broker.bootstrap import broker
from token_broker.broker import Ask
from token_broker.core.deadlines import deadlines
from token_broker.core.names import canonical_scope
from token_broker.observability import count, deadlines_ahead, observed

app = rest.new_resolver()
MAX_MIN_TTL_S = 3600
MIN_TTL = rest.whole_number(0, MAX_MIN_TTL_S)


@app.get("/v1/tokens/<provider>/<connection>")
def get_token(provider: str, connection: str) -> Response[str]:
    """A valid token of the connection."""
    name = rest.connection_name(app, provider, connection)
    given = rest.query(app, scope=canonical_scope, min_ttl=MIN_TTL, rejected=rest.token_id)
    ask = Ask(
        caller=rest.caller(app),
        name=name,
        deadline=rest.deadline(app.lambda_context, broker().parts.clock()),
        scope=given.get("scope"),
        min_ttl=timedelta(seconds=given["min_ttl"]) if "min_ttl" in given else None,
        rejected=given.get("rejected"),
    )
    handout = broker().hand_out(ask)
    body = answers.handout(handout)
    rest.record(
        app,
        "handed_out",
        decision="served",
        scope=handout.token.scope,
        token_id=handout.token.token_id,
        source=handout.source,
        expires_in=body["expires_in"],
        warnings=body["warnings"],
        rejected=ask.rejected,
    )
    count("HandOuts", provider=provider, source=handout.source)
    if handout.source == "provider":
        deadlines_ahead(name, deadlines(handout.connection, ()), handout.now)
    return rest.reply(200, body)


@app.delete("/v1/tokens/<provider>/<connection>")
def delete_token(provider: str, connection: str) -> Response[str]:
    """Drops the connection's tokens, then revokes what can be revoked."""
    name = rest.connection_name(app, provider, connection)
    scope = rest.query(app, scope=canonical_scope).get("scope")
    until = rest.deadline(app.lambda_context, broker().parts.clock())
    done = answers.purge(broker().purge(name, scope, deadline=until))
    rest.record(app, "purged", decision="done", scope=scope, **done)
    count("Purges", provider=provider)
    return rest.reply(200, done)


@app.post("/v1/connections/<provider>/<connection>/trial")
def try_connection(provider: str, connection: str) -> Response[str]:
    """Tries the pending or current credentials."""
    name = rest.connection_name(app, provider, connection)
    force = rest.query(app, force=rest.flag).get("force", False)
    result = answers.trial(broker().attempt(name, force=force))
    rest.record(app, "tried", decision="done", **result)
    count("Trials", provider=provider)
    return rest.reply(200, result)


@observed
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """API Gateway's proxy event in, its proxy answer out."""
    return app.resolve(event, context)
