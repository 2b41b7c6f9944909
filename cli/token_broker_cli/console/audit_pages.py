"""The audit: is a leaked token one of ours, and who received it?"""

from typing import Final

from token_broker_cli.console.context import View
from token_broker_cli.console.messages import Denied, Request, Response
from token_broker_cli.token_find import find_token, is_token_id

DAYS: Final = 7
MAX_DAYS: Final = 365


def show(view: View, request: Request) -> Response:
    """`GET /audit?token_id=`: the search, and what it found. The browser computes the token_id: no token comes here."""
    token_id = request.parameters.get("token_id", "").strip().lower()
    if token_id and not is_token_id(token_id):
        raise Denied(
            400, "A token_id has 16 hexadecimal digits.", "Paste the token itself into the field on this page."
        )
    days = request.parameters.get("days", str(DAYS))
    if not days.isdecimal() or not 1 <= int(days[:4]) <= MAX_DAYS:
        raise Denied(400, f"The number of days must be between 1 and {MAX_DAYS}.")
    found = find_token(view.context.target, token_id, days=int(days), log=view.context.log) if token_id else None
    return view.page("audit.html", token_id=token_id, days=int(days), found=found)
