"""Stands in for sam in `.ci/deploy`: adapts the built template for the emulator, then runs sam on it."""

import json
import os
import sys
from pathlib import Path

from samtranslator.yaml_helper import yaml_parse

from tests.rehearsal.adaptations import Template, adapt
from tests.rehearsal.breakages import BREAKAGES
from tests.rehearsal.deployment import BREAKAGES_VARIABLE, SAM_VARIABLE


def main(arguments: list[str]) -> None:
    position = arguments.index("--template-file") + 1
    built = Path(arguments[position])
    template: Template = yaml_parse(built.read_text(encoding="utf-8"))
    overrides = arguments[arguments.index("--parameter-overrides") + 1 :]
    parameters = dict(override.split("=", 1) for override in overrides if "=" in override)
    adapt(template, parameters)
    for breakage in filter(None, os.environ[BREAKAGES_VARIABLE].split(",")):
        BREAKAGES[breakage](template)
    # The adapted template is elsewhere, and its paths are relative to the built one.
    for resource in template["Resources"].values():
        for name in ("CodeUri", "ContentUri"):
            if name in resource["Properties"]:
                resource["Properties"][name] = str(built.parent / resource["Properties"][name])
    adapted = Path(os.environ["HOME"]) / "template.json"
    adapted.write_text(json.dumps(template), encoding="utf-8")
    sam = os.environ[SAM_VARIABLE]
    os.execv(sam, [sam, *arguments[:position], str(adapted), *arguments[position + 1 :]])  # noqa: S606  # our own sam


if __name__ == "__main__":
    main(sys.argv[1:])
