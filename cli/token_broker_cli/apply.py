"""`connections apply`: compares the settings in a file with the broker's, and stores those that differ."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from token_broker_cli.problems import Exit, Problem
from token_broker_cli.settings_files import read_connections
from token_broker_cli.target import Target

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Change:
    """What the file changes on one connection. `version`: of the stored settings; None if there are none."""

    provider: str
    name: str
    version: str | None
    before: Settings
    wanted: Settings

    @property
    def kind(self) -> str:
        """new, changed or same."""
        if self.version is None:
            return "new"
        return "same" if self.before == self.wanted else "changed"

    @property
    def lines(self) -> list[str]:
        """Each setting that differs, as `- before` and `+ after`."""
        lines = []
        for setting in sorted(set(self.before) | set(self.wanted)):
            if self.before.get(setting) == self.wanted.get(setting):
                continue
            if setting in self.before:
                lines.append(f"    - {setting} = {self.before[setting]!r}")
            if setting in self.wanted:
                lines.append(f"    + {setting} = {self.wanted[setting]!r}")
        return lines


def apply(target: Target, options: argparse.Namespace) -> Exit:
    """Shows the differences and stores them, each only if nobody else changed it. --check stores nothing."""
    wanted = read_connections(options.file)
    with target.screen.progress("Comparing"):
        _check_names(target, wanted)
        changes = [_change(target, *name, settings) for name, settings in sorted(wanted.items())]
        others = [
            f"{item['provider']}/{item['connection']}"
            for item in target.api.connections()
            if (item["provider"], item["connection"]) not in wanted
        ]
    differing = [change for change in changes if change.kind != "same"]
    if not options.check:
        for change in differing:
            _store(target, change)
    _show(target, changes, others, is_check=options.check)
    return Exit.NO if options.check and differing else Exit.DONE


def _change(target: Target, provider: str, name: str, settings: Settings) -> Change:
    found = target.api.find(provider, name)
    if found is None:
        return Change(provider, name, None, {}, settings)
    before = found["settings"]
    wanted = dict(settings)
    # A suspension is a measure in an incident. A file that does not mention it does not end it.
    if "suspended" in before:
        wanted.setdefault("suspended", before["suspended"])
    return Change(provider, name, found["version"], before, wanted)


def _check_names(target: Target, wanted: Mapping[tuple[str, str], Settings]) -> None:
    """Raises Problem with every provider and setting that does not exist, and every missing setting."""
    known = {provider["slug"]: provider["settings"] for provider in target.api.providers()}
    faults = []
    for (slug, name), settings in wanted.items():
        if slug not in known:
            faults.append(f"{slug}.{name}: there is no provider {slug}")
            continue
        names = {spec["name"] for spec in known[slug]}
        required = {spec["name"] for spec in known[slug] if spec["required"]}
        faults += [f"{slug}.{name}: there is no setting {setting}" for setting in sorted(set(settings) - names)]
        faults += [f"{slug}.{name}: {setting} is missing" for setting in sorted(required - set(settings))]
    if faults:
        todo = "`token-broker providers show NAME` lists a provider's settings."
        raise Problem("; ".join(faults) + ".", todo, code="invalid_request")


def _store(target: Target, change: Change) -> None:
    with target.screen.progress(f"Storing the settings of {change.provider}/{change.name}"):
        if change.version is None:
            target.api.create(change.provider, change.name, change.wanted)
        else:
            target.api.replace(change.provider, change.name, change.wanted, version=change.version)


def _show(target: Target, changes: list[Change], others: list[str], *, is_check: bool) -> None:
    lines = []
    for change in changes:
        lines += [f"{change.kind:8} {change.provider}/{change.name}", *change.lines]
    if others:
        lines.append(f"Not in the file, and left as they are: {', '.join(sorted(others))}")
    count = sum(change.kind != "same" for change in changes)
    if count == 0:
        lines.append("Nothing differs.")
    else:
        lines.append(f"{count} of {len(changes)} {'would be stored' if is_check else 'stored'}.")
    if not is_check:
        lines += [
            f"New, needs credentials: {target.command(f'connections rotate {change.provider} {change.name}')}"
            for change in changes
            if change.kind == "new"
        ]
    shown = [
        {"provider": change.provider, "connection": change.name, "change": change.kind, "wanted": dict(change.wanted)}
        for change in changes
    ]
    target.screen.show({"connections": shown, "not_in_file": sorted(others)}, *lines)
