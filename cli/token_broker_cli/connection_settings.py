"""`connections set`, `edit` and `history`: changes of one connection's settings, if nobody else changed them."""

import argparse
import os
import shlex
import subprocess
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from token_broker_cli import screen
from token_broker_cli.problems import Exit, Problem
from token_broker_cli.prompts import Spec, read_value
from token_broker_cli.providers import find_provider
from token_broker_cli.settings_files import diff_lines, read_settings, table_of
from token_broker_cli.target import Target
from token_broker_cli.wording import NOTHING, relative

Json = dict[str, Any]
SHORT: Final = 12  # digits of a version, as the table shows it


def set_values(target: Target, options: argparse.Namespace) -> Exit:
    """`connections set`: changes single settings. `name=` removes one."""
    specs: Mapping[str, Spec] = {spec["name"]: spec for spec in find_provider(target, options.provider)["settings"]}
    found = target.api.show(options.provider, options.name)
    settings = dict(found["settings"])
    for assignment in options.assignments:
        name, equals, text = assignment.partition("=")
        if not equals or name not in specs:
            todo = f"Type NAME=VALUE with one of: {', '.join(specs)}."
            raise Problem(f"{options.provider} has no setting {name}.", todo, exit_code=Exit.USAGE)
        if not text:
            settings.pop(name, None)
            continue
        try:
            settings[name] = read_value(specs[name], text)
        except ValueError as error:
            raise Problem(f"{name} {error}.", exit_code=Exit.USAGE) from None
    return _store(target, found, settings)


def edit(target: Target, options: argparse.Namespace) -> Exit:
    """`connections edit`: the settings in an editor, until the broker finds no fault."""
    if not target.screen.interactive:
        todo = "`connections set` and `connections apply` need none."
        raise Problem("There is no terminal to edit on.", todo, exit_code=Exit.USAGE)
    found = target.api.show(options.provider, options.name)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{options.name}.toml"
        file.write_text(table_of(found["settings"]), encoding="utf-8")
        while True:
            _open_editor(file)
            try:
                settings = read_settings(file)
                faults = target.api.faults(options.provider, options.name, settings)
                reasons = [f"{fault['field']} {fault['reason']}." for fault in faults]
            except Problem as problem:
                reasons = [problem.what]
            if not reasons:
                return _store(target, found, settings)
            target.screen.say("\n".join(reasons), "yellow")
            if input("Edit again (Enter: yes; no: give up): ").strip().lower().startswith("n"):
                raise Problem("Nothing was changed.", exit_code=Exit.NO)


def history(target: Target, options: argparse.Namespace) -> Exit:
    """`connections history`: the last versions; --diff: what each changed; --restore: puts one again."""
    versions = target.api.history(options.provider, options.name)
    if options.restore:
        return _restore(target, options, versions)
    now = datetime.now(UTC)
    rows = [
        (
            version["version"][:SHORT],
            relative(version["at"], now),
            version["caller"] or NOTHING,
            ", ".join(version["changed"]) or NOTHING,
        )
        for version in versions
    ]
    if not options.diff:
        target.screen.show(versions, screen.table(("version", "stored", "by", "changed"), rows))
        return Exit.DONE
    lines = []
    for row, version, before in zip(rows, versions, [*versions[1:], None], strict=True):
        lines.append(" ".join(row[:3]))
        lines += diff_lines(before["settings"] if before else {}, version["settings"])
    target.screen.show(versions, *lines)
    return Exit.DONE


def _restore(target: Target, options: argparse.Namespace, versions: list[Json]) -> Exit:
    name = f"{options.provider}/{options.name}"
    wanted = [version for version in versions if version["version"].startswith(options.restore)]
    if len(wanted) != 1:
        what = f"{'Several versions begin' if wanted else 'No version begins'} with {options.restore}."
        raise Problem(what, target.command(f"connections history {options.provider} {options.name}"))
    current = versions[0]
    version = wanted[0]
    # The broker leaves `suspended` as it is.
    before = {setting: value for setting, value in current["settings"].items() if setting != "suspended"}
    after = {setting: value for setting, value in version["settings"].items() if setting != "suspended"}
    lines = diff_lines(before, after)
    if not lines:
        target.screen.show(current, "Nothing differs.")
        return Exit.DONE
    target.screen.say("\n".join(lines))
    target.screen.confirm(f"This changes {name}.", yes=options.yes)
    with target.screen.progress("Restoring the settings"):
        stored = target.api.restore(options.provider, options.name, version["version"], current=current["version"])
    target.screen.show(stored, f"{name} has the settings of {version['version'][:SHORT]} again.")
    return Exit.DONE


def _store(target: Target, found: Json, settings: Json) -> Exit:
    """Shows what differs and stores it."""
    lines = diff_lines(found["settings"], settings)
    if not lines:
        target.screen.show(found, "Nothing differs.")
        return Exit.DONE
    with target.screen.progress("Storing the settings"):
        stored = target.api.replace(found["provider"], found["connection"], settings, version=found["version"])
    text = f"{found['provider']}/{found['connection']} is changed. The change counts within 30 s."
    target.screen.show(stored, *lines, text)
    return Exit.DONE


def _open_editor(file: Path) -> None:
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        subprocess.run([*shlex.split(editor), str(file)], check=True)  # noqa: S603  # the editor that the user chose
    except (OSError, ValueError, subprocess.CalledProcessError):
        raise Problem(f"The editor {editor} failed.", "Set EDITOR.", exit_code=Exit.USAGE) from None
