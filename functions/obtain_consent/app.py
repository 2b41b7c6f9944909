"""Obtains persons' consents: POST and GET /v1/connections/{provider}/{connection}/consent…. Opens no token."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.utilities.typing import LambdaContext

from token_broker.bootstrap import broker
from token_broker.core.validation import one_of, text
from token_broker.http import requests
from token_broker.http.audit import write_audit
from token_broker.http.problems import new_resolver
from token_broker.http.responses import consent_body, json_response, started_consent_body
from token_broker.observability import count, observed

app = new_resolver()
CONSENT = "/v1/connections/<provider>/<connection>/consent"
SESSION = CONSENT + "/<consent_id>"


@app.post(CONSENT)
def start_consent(provider: str, connection: str) -> Response[str]:
    """Begins a consent: where a person gives it."""
    name = requests.connection_name(app, provider, connection)
    requests.query(app)
    with requests.body_fields(app) as fields:
        flow = fields.take("flow", one_of(("redirect", "device")), "redirect")
        redirect_uri = fields.take("redirect_uri", text, "") or None
        if flow == "device" and redirect_uri is not None:
            fields.fault("redirect_uri", "has no effect in the device flow")
    sessions = broker().consent_sessions
    initiator = requests.user_arn(app)
    if flow == "device":
        started = sessions.start_device(name, initiator=initiator)
    else:
        started = sessions.start(name, initiator=initiator, redirect_uri=redirect_uri)
    write_audit(app, "consent_started", decision="started", consent_id=started.session.consent_id, flow=flow)
    count("Consents", provider=provider, outcome="started")
    return json_response(201, started_consent_body(started))


@app.get(SESSION)
def show_consent(provider: str, connection: str, consent_id: str) -> Response[str]:
    """A consent session: its state, the account and the granted scope."""
    name = requests.connection_name(app, provider, connection, consent_id=consent_id)
    requests.query(app)
    return json_response(200, consent_body(broker().consent_sessions.show(name, consent_id)))


@app.post(SESSION + "/finish")
def finish_consent(provider: str, connection: str, consent_id: str) -> Response[str]:
    """Takes the redirect with which the person's browser came back."""
    name = requests.connection_name(app, provider, connection, consent_id=consent_id)
    requests.query(app)
    with requests.body_fields(app) as fields:
        redirect_url = fields.take("redirect_url", _string, "", required=True)
    shown = broker().consent_sessions.finish(
        name, consent_id, initiator=requests.user_arn(app), redirect_url=redirect_url
    )
    body = consent_body(shown)
    write_audit(app, "consent_redirected", decision=body["state"], consent_id=consent_id, failure=body["failure"])
    count("Consents", provider=provider, outcome=body["state"])
    return json_response(202, body)


@app.post(SESSION + "/confirm")
def confirm_consent(provider: str, connection: str, consent_id: str) -> Response[str]:
    """Makes a consent live: the first one, or one of the same account."""
    return _confirm(provider, connection, consent_id, new_account=False)


@app.post(SESSION + "/confirm-new-account")
def confirm_new_account(provider: str, connection: str, consent_id: str) -> Response[str]:
    """Makes a consent live that may be of another account, and drops the connection's tokens."""
    return _confirm(provider, connection, consent_id, new_account=True)


def _confirm(provider: str, connection: str, consent_id: str, *, new_account: bool) -> Response[str]:
    name = requests.connection_name(app, provider, connection, consent_id=consent_id)
    requests.query(app)
    confirmed = broker().consent_sessions.confirm(
        name, consent_id, initiator=requests.user_arn(app), new_account=new_account
    )
    body = {**consent_body(confirmed.shown), "dropped": confirmed.dropped}
    write_audit(
        app,
        "consent_confirmed",
        decision="new_account" if new_account else "confirmed",
        consent_id=consent_id,
        account=body["account"],
        scope=body["scope"],
        dropped=confirmed.dropped,
    )
    count("Consents", provider=provider, outcome="confirmed")
    return json_response(200, body)


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a string")
    return value


@observed
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """API Gateway's proxy event in, its proxy response out."""
    return app.resolve(event, context)
