"""Adding a connection: pick a provider, type settings and credentials. They are kept only if the credentials work."""

import re
from collections.abc import Mapping
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from token_broker_cli.connection_trials import TrialOptions, add_connection, check_can_be_tried, check_is_new, validity
from token_broker_cli.console.actions import ON, credential_fields, explain, given_credentials
from token_broker_cli.console.context import View
from token_broker_cli.console.forms import Typed, faults_by_setting, read_form, settings_fields
from token_broker_cli.console.messages import Denied, Request, Response, redirect
from token_broker_cli.problems import Problem
from token_broker_client.errors import InvalidRequest, TokenBrokerError

Json = Mapping[str, Any]
NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
NAME_FAULT: Final = "must have 1 to 63 lower-case letters, digits and hyphens, and begin and end with no hyphen"


def pick(view: View, request: Request) -> Response:
    """`GET /add?text=`: the providers that match."""
    text = request.parameters.get("text", "")[:64].strip()
    words = text.lower().split()
    providers = [
        provider
        for provider in sorted(view.context.catalogue.read().values(), key=lambda item: str(item["title"]).lower())
        if all(word in f"{provider['slug']} {provider['title']} {provider['grant']}".lower() for word in words)
    ]
    return view.page("providers.html", providers=providers, text=text)


def show(view: View, _request: Request, provider: str) -> Response:
    """`GET /add/{provider}`: the form."""
    arn = view.context.target.own_arn()
    texts = {"allowed_callers": arn} if arn else {}
    return _form(view, _provider(view, provider), None, Typed(texts, {}, {}))


def add(view: View, request: Request, provider: str) -> Response:
    """`POST /add/{provider}`: adds the connection, or says at which field it failed and keeps nothing."""
    spec = _provider(view, provider)
    form = request.form
    name = form.get("name", "").strip()
    typed = read_form(spec, form, {})
    if typed.faults or not NAME.fullmatch(name):
        return _form(view, spec, name, typed)
    target = view.context.target
    try:
        check_is_new(target, provider, name)
        check_can_be_tried(typed.settings)
        before = target.secret(provider, name).current()
        credentials = given_credentials(spec, form, before.values if before else {})
        options = TrialOptions(force=form.get("force") == ON)
        result = add_connection(target, spec, name, typed.settings, credentials, options)
    except InvalidRequest as error:
        faults, others = faults_by_setting(error.problem.get("errors", ()), spec)
        return _form(view, spec, name, Typed(typed.texts, typed.settings, faults), others)
    except (TokenBrokerError, ClientError, BotoCoreError, Problem) as error:
        return _form(view, spec, name, typed, explain(view, "add", provider, error))
    view.context.connections.changed(provider, name)
    view.say("\n".join([f"{provider}/{name} is ready. A token is {validity(result)}.", *result.get("warnings", ())]))
    return redirect(f"/connections/{provider}/{name}")


def _form(view: View, spec: Json, name: str | None, typed: Typed, reasons: list[str] | None = None) -> Response:
    """`name`: as typed; None in a form that nobody has filled in yet."""
    name_fault = "" if name is None or NAME.fullmatch(name) else NAME_FAULT
    return view.page(
        "add.html",
        status=422 if typed.faults or name_fault or reasons else 200,
        provider=spec,
        name=name or "",
        name_fault=name_fault,
        is_repeated=name is not None,
        fields=settings_fields(spec, typed.texts, typed.faults),
        credentials=credential_fields(spec),
        reasons=reasons or [],
        missing=view.context.denials.missing("add", spec["slug"]),
    )


def _provider(view: View, slug: str) -> Json:
    providers = view.context.catalogue.read()
    if slug not in providers:
        raise Denied(404, f"There is no provider {slug}.")
    return providers[slug]
