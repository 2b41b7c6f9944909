"""One connection: what is wrong and what to do, its tokens, settings, deadlines and history."""

from collections.abc import Mapping
from typing import Any

from token_broker_cli.console import actions
from token_broker_cli.console.context import View
from token_broker_cli.console.forms import SUSPENDED, changes, setting_as_typed
from token_broker_cli.console.life_line import life_line
from token_broker_cli.console.messages import Denied, Request, Response, redirect
from token_broker_cli.console.remedies import remedy
from token_broker_client.errors import TokenBrokerError

Json = Mapping[str, Any]


def show(view: View, _request: Request, provider: str, name: str) -> Response:
    """`GET /connections/{provider}/{name}`."""
    found = view.context.target.api.show(provider, name)
    now = view.context.now()
    failure = found["last_failure"]
    return view.page(
        "connection.html",
        connection=found,
        provider=view.context.catalogue.read().get(provider),
        tokens=[(token, life_line(token, now)) for token in found["tokens"]],
        settings=[(setting, setting_as_typed(value)) for setting, value in sorted(found["settings"].items())],
        failure=failure,
        remedy=remedy(failure) if failure else None,
        actions=actions.offered(view, found),
        edit_missing=view.context.denials.missing("edit", f"{provider}/{name}"),
    )


def history(view: View, _request: Request, provider: str, name: str) -> Response:
    """`GET /connections/{provider}/{name}/history`: the last versions of the settings, and what each changed."""
    versions = view.context.target.api.history(provider, name)
    earlier: list[Json] = [version["settings"] for version in versions[1:]]
    steps = [
        (version, changes(before, version["settings"]) if version["changed"] else [])
        for version, before in zip(versions, [*earlier, {}], strict=True)
    ]
    return view.page("history.html", provider=provider, name=name, steps=steps)


def confirm_restore(view: View, request: Request, provider: str, name: str) -> Response:
    """`GET /connections/{provider}/{name}/restore?version=`: what would change back."""
    return _restoration(view, provider, name, request.parameters.get("version", ""))


def restore(view: View, request: Request, provider: str, name: str) -> Response:
    """`POST /connections/{provider}/{name}/restore`: stores an earlier version of the settings again."""
    version = request.form.get("version", "")
    try:
        view.context.target.api.restore(provider, name, version, current=request.form.get("current", ""))
    except TokenBrokerError as error:
        return _restoration(view, provider, name, version, error)
    view.context.connections.changed(provider, name)
    view.say("The earlier settings are stored again. They take effect within 30 seconds.")
    return redirect(f"/connections/{provider}/{name}")


def _restoration(view: View, provider: str, name: str, version: str, error: Exception | None = None) -> Response:
    versions = view.context.target.api.history(provider, name)
    chosen = next((found for found in versions if found["version"] == version), None)
    if chosen is None:
        raise Denied(404, "This version is not kept any more.", "The history holds the last 20.")
    full_name = f"{provider}/{name}"
    return view.page(
        "restore.html",
        status=422 if error else 200,
        provider=provider,
        name=name,
        version=chosen,
        current=versions[0]["version"],
        # A suspension is a measure in an incident. It stays as it is.
        changes=[change for change in changes(versions[0]["settings"], chosen["settings"]) if change.name != SUSPENDED],
        reasons=actions.explain(view, "restore", full_name, error) if error else [],
        missing=view.context.denials.missing("restore", full_name),
    )
