"""One connection: what is wrong and what to do, its tokens, settings, deadlines and history."""

from collections.abc import Mapping
from typing import Any

from token_broker_cli.console import actions
from token_broker_cli.console.context import View
from token_broker_cli.console.forms import setting_as_typed
from token_broker_cli.console.life_line import life_line
from token_broker_cli.console.messages import Request, Response
from token_broker_cli.console.remedies import remedy

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
