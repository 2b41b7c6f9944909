"""Changing the settings of a connection: a form, a review of what differs, and the change."""

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from token_broker_cli.connection_trials import checker
from token_broker_cli.console.actions import explain
from token_broker_cli.console.context import View
from token_broker_cli.console.forms import (
    Typed,
    changes,
    faults_by_setting,
    read_form,
    settings_fields,
    texts_of,
)
from token_broker_cli.console.messages import Denied, Request, Response, redirect
from token_broker_cli.problems import Problem
from token_broker_client.errors import InvalidRequest, TokenBrokerError

Json = Mapping[str, Any]


def show(view: View, _request: Request, provider: str, name: str) -> Response:
    """`GET /connections/{provider}/{name}/edit`: the form."""
    found = view.context.target.api.show(provider, name)
    return _form(view, found, Typed(texts_of(found["settings"]), dict(found["settings"]), {}), found["version"])


def change(view: View, request: Request, provider: str, name: str) -> Response:
    """`POST /connections/{provider}/{name}/edit`: reviews what was typed, or stores what was reviewed."""
    found = view.context.target.api.show(provider, name)
    version = request.form.get("version", "")
    typed = read_form(_provider(view, found), request.form, found["settings"])
    if typed.faults:
        return _form(view, found, typed, version)
    if found["version"] != version:
        reasons = ["Somebody else has changed these settings meanwhile. This form shows what you typed."]
        return _form(view, found, typed, found["version"], reasons)
    if request.form.get("step") == "store":
        return _store(view, found, typed)
    return _review(view, found, typed)


def _review(view: View, found: Json, typed: Typed) -> Response:
    provider = _provider(view, found)
    differing = changes(found["settings"], typed.settings)
    if not differing:
        return _form(view, found, typed, found["version"], ["Nothing differs from what is stored."])
    faults = checker(view.context.target, found["provider"], found["connection"])(typed.settings)
    by_setting, others = faults_by_setting(faults, provider)
    if faults:
        return _form(view, found, Typed(typed.texts, typed.settings, by_setting), found["version"], others)
    return view.page("review.html", connection=found, changes=differing, texts=typed.texts)


def _store(view: View, found: Json, typed: Typed) -> Response:
    provider = found["provider"]
    name = found["connection"]
    try:
        view.context.target.api.replace(provider, name, typed.settings, version=found["version"])
    except (TokenBrokerError, ClientError, BotoCoreError, Problem) as error:
        reasons = explain(view, "edit", f"{provider}/{name}", error)
        if isinstance(error, InvalidRequest):
            by_setting, reasons = faults_by_setting(error.problem.get("errors", ()), _provider(view, found))
            typed = Typed(typed.texts, typed.settings, by_setting)
        return _form(view, found, typed, found["version"], reasons)
    view.context.connections.changed(provider, name)
    view.say("The settings are stored. They take effect within 30 seconds.")
    return redirect(f"/connections/{provider}/{name}")


def _form(view: View, found: Json, typed: Typed, version: str, reasons: list[str] | None = None) -> Response:
    name = f"{found['provider']}/{found['connection']}"
    return view.page(
        "edit.html",
        status=422 if typed.faults or reasons else 200,
        connection=found,
        fields=settings_fields(_provider(view, found), typed.texts, typed.faults),
        version=version,
        reasons=reasons or [],
        missing=view.context.denials.missing("edit", name),
    )


def _provider(view: View, found: Json) -> Json:
    providers = view.context.catalogue.read()
    if found["provider"] not in providers:
        raise Denied(
            404, f"The catalogue has no provider {found['provider']} any more.", "Its settings cannot be checked."
        )
    return providers[found["provider"]]
