"""The commands of POST /_control/<slug>: make a simulator fail, change or forget.

{"faults": [{"kind": "status", "status": 503, "times": 2, "on": "token", "when": "before"}]}    fields of `Fault`
{"clear_faults": true}    {"release": true}: held requests continue    {"reset": true}: as at the start
{"options": {"lifetime_s": 20}}    {"lock_after": 3}    GET /_control/<slug> shows the options
{"revoke_all": true}    {"revoke": "<token_id>"}
{"accounts": [{"name": "second", "secret": {...}}]}    {"rotate_secret": {"secret": {...}, "account": "demo"}}
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .faults import Fault
from .simulator import Simulator


class CommandError(ValueError):
    """A command that does not exist or is not well-formed. Commands before it in `COMMANDS` were already done."""


def apply(simulator: Simulator, document: object) -> None:
    """Does the document's commands in the order of `COMMANDS`. Raises `CommandError`."""
    if not isinstance(document, dict):
        raise CommandError("a command is a JSON object")
    if unknown := sorted(set(document) - set(COMMANDS)):
        raise CommandError(f"no such command: {', '.join(unknown)}; there are {', '.join(COMMANDS)}")
    for name, command in COMMANDS.items():
        if name in document:
            try:
                command(simulator, document[name])
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise CommandError(f"{name}: {error}") from None


def _if_true(action: Callable[[Simulator], object]) -> Callable[[Simulator, Any], None]:
    def command(simulator: Simulator, argument: Any) -> None:
        if argument is not True:
            raise ValueError("takes true")
        action(simulator)

    return command


def _add_faults(simulator: Simulator, argument: Any) -> None:
    # All are checked before the first is queued.
    for fault in [Fault(**details) for details in argument]:
        simulator.add_fault(fault)


def _add_accounts(simulator: Simulator, argument: Any) -> None:
    for account in argument:
        simulator.add_account(account)


COMMANDS: dict[str, Callable[[Simulator, Any], object]] = {
    "reset": _if_true(Simulator.reset),
    "clear_faults": _if_true(Simulator.clear_faults),
    "release": _if_true(lambda simulator: simulator.waits.release()),
    "accounts": _add_accounts,
    "rotate_secret": lambda simulator, argument: simulator.rotate_secret(
        argument["secret"], account=argument.get("account", "demo")
    ),
    "options": lambda simulator, argument: simulator.configure(**argument),
    "lock_after": lambda simulator, argument: simulator.configure(lock_after=argument),
    "revoke_all": _if_true(lambda simulator: simulator.revoke_tokens()),
    "revoke": lambda simulator, argument: simulator.revoke_tokens(str(argument)),
    "faults": _add_faults,
}
