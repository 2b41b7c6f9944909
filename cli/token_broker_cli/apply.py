"""`connections apply`: compares the settings in a file with the broker's, and stores those that differ."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from token_broker_cli.connection_trials import TrialOptions, current_credentials, replace_credentials
from token_broker_cli.credential_sources import credentials_by_connection, read_credentials
from token_broker_cli.problems import Exit, Problem, problem_of
from token_broker_cli.prompts import Spec, checked_credentials
from token_broker_cli.settings_files import Json, diff_lines, read_connections
from token_broker_cli.target import Target
from token_broker_client.errors import TokenBrokerError

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


@dataclass(frozen=True)
class GivenCredentials:
    """What became of the credentials of one connection. `problem`: why they were not kept."""

    provider: str
    name: str
    problem: Problem | None = None

    @property
    def line(self) -> str:
        """As text."""
        result = "uses the given credentials." if self.problem is None else self.problem.what
        return f"{self.provider}/{self.name}: {result}"


def apply(target: Target, options: argparse.Namespace) -> Exit:
    """Shows the differences and stores them, each only if nobody else changed it. --check stores nothing."""
    wanted = read_connections(options.file)
    if options.prune and not wanted:
        raise Problem("The file names no connection.", "--prune would remove them all.", exit_code=Exit.USAGE)
    credentials = _read_credentials(target, options.credentials, wanted) if options.credentials else {}
    with target.screen.progress("Comparing"):
        providers = {provider["slug"]: provider for provider in target.api.providers()}
        _check_names(providers, wanted)
        stored = {(item["provider"], item["connection"]): item for item in target.api.connections(details=True)}
    changes = [_change(stored.get(name), *name, settings) for name, settings in sorted(wanted.items())]
    others = {f"{name[0]}/{name[1]}": item for name, item in stored.items() if name not in wanted}
    given = []
    if not options.check:
        if options.prune and others:
            what = f"{len(others)} connections and their tokens are deleted; their secrets stay: {', '.join(others)}."
            target.screen.confirm(what, yes=options.yes)
        for change in changes:
            if change.kind != "same":
                _store(target, change)
        given = [_give(target, providers[name[0]], name[1], values) for name, values in credentials.items()]
        if options.prune:
            _remove(target, others)
    _show(target, options, changes, list(others), given)
    if options.check:
        differs = any(change.kind != "same" for change in changes) or (options.prune and others)
        return Exit.NO if differs else Exit.DONE
    return Exit.REFUSED if any(found.problem for found in given) else Exit.DONE


def _read_credentials(
    target: Target, source: str, wanted: Mapping[tuple[str, str], Settings]
) -> dict[tuple[str, str], Mapping[str, Any]]:
    found = credentials_by_connection(read_credentials(target, source), source)
    if unknown := sorted(f"{provider}/{name}" for provider, name in set(found) - set(wanted)):
        what = f"The file of settings does not name {', '.join(unknown)}."
        raise Problem(what, "Credentials are stored for connections of that file.", exit_code=Exit.USAGE)
    return found


def _give(target: Target, provider: Spec, name: str, values: Mapping[str, Any]) -> GivenCredentials:
    """Tries credentials and makes them current, if they are not that already."""
    slug = provider["slug"]
    try:
        before = current_credentials(target.secret(slug, name), replace_pending=False)
        known = before.values if before else {}
        credentials = checked_credentials(provider, values, known=known, todo="")
        if any(known.get(field) != value for field, value in credentials.items()):
            replace_credentials(target, provider, name, before, credentials, TrialOptions())
    except (Problem, TokenBrokerError, ClientError) as error:
        return GivenCredentials(slug, name, problem_of(error, is_local=target.is_local))
    return GivenCredentials(slug, name)


def _remove(target: Target, others: Mapping[str, Json]) -> None:
    for name, item in others.items():
        with target.screen.progress(f"Removing {name}"):
            target.api.delete(item["provider"], item["connection"], version=item["version"])


def _change(found: Json | None, provider: str, name: str, settings: Settings) -> Change:
    if found is None:
        return Change(provider, name, None, {}, settings)
    before = found["settings"]
    wanted = dict(settings)
    # A suspension is a measure in an incident. A file that does not mention it does not end it.
    if "suspended" in before:
        wanted.setdefault("suspended", before["suspended"])
    return Change(provider, name, found["version"], before, wanted)


def _check_names(providers: Mapping[str, Spec], wanted: Mapping[tuple[str, str], Settings]) -> None:
    """Raises Problem with every provider and setting that does not exist, and every missing setting."""
    known = {slug: provider["settings"] for slug, provider in providers.items()}
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


def _show(
    target: Target, options: argparse.Namespace, changes: list[Change], others: list[str], given: list[GivenCredentials]
) -> None:
    """Each connection that differs, and how many there are."""
    differing = [change for change in changes if change.kind != "same"]
    lines = []
    for change in differing:
        lines += [f"{change.kind:8} {change.provider}/{change.name}", *diff_lines(change.before, change.wanted)]
    if options.prune:
        lines += [f"{'would be removed' if options.check else 'removed'} {name}" for name in others]
    elif others:
        lines.append(f"Not in the file, and left as they are: {', '.join(others)}")
    if differing:
        lines.append(f"{len(differing)} of {len(changes)} {'would be stored' if options.check else 'stored'}.")
    else:
        lines.append(f"Nothing differs in {len(changes)} connections.")
    lines += [found.line for found in given]
    with_credentials = {(found.provider, found.name) for found in given}
    lines += [
        f"New, needs credentials: {target.command(f'connections rotate {change.provider} {change.name}')}"
        for change in differing
        if change.kind == "new" and not options.check and (change.provider, change.name) not in with_credentials
    ]
    shown = {
        "connections": [
            {"provider": item.provider, "connection": item.name, "change": item.kind, "wanted": dict(item.wanted)}
            for item in changes
        ],
        "not_in_file": others,
        "credentials": [
            {"provider": item.provider, "connection": item.name, "problem": item.problem and item.problem.code}
            for item in given
        ],
    }
    target.screen.show(shown, *lines)
