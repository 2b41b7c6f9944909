"""Writes the two files that `sam local` needs to run the built functions in containers against the local stack.

SAM gives a container only variables that its template declares, so the built template gets AWS_ENDPOINT_URL added. The
values are in the env file, by function. A container reaches this machine as host.docker.internal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import yaml
from samtranslator.yaml_helper import yaml_parse

from local.aws import REGION
from local.process import ROOT
from local.stack import Stack

BUILT: Final = ROOT / ".aws-sam" / "build" / "template.yaml"
DIRECTORY: Final = ROOT / "build" / "sam-local"
HOST: Final = "host.docker.internal"
# As in the local stack: a provider may use http and be on this machine.
LOCAL: Final = {"TOKEN_BROKER_LOCAL": "1", "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION}


def write(stack: Stack, built: Path = BUILT, directory: Path = DIRECTORY) -> bool:
    """Writes template.yaml and env.json for this stack. Returns False if there is no build."""
    if not built.exists():
        return False
    directory.mkdir(parents=True, exist_ok=True)
    environment = variables(stack)
    plain = json.loads(json.dumps(yaml_parse(built.read_text(encoding="utf-8"))))  # into plain dicts
    template = container_template(plain, environment, built.parent)
    (directory / "template.yaml").write_text(yaml.safe_dump(template, sort_keys=False), encoding="utf-8")
    (directory / "env.json").write_text(json.dumps(environment, indent=2) + "\n", encoding="utf-8")
    return True


def variables(stack: Stack) -> dict[str, dict[str, str]]:
    """Each function's variables in a container."""
    endpoint = urlsplit(stack.endpoint_url)._replace(netloc=f"{HOST}:{urlsplit(stack.endpoint_url).port}").geturl()
    return {
        function: {**environment, **LOCAL, "AWS_ENDPOINT_URL": endpoint}
        for function, environment in stack.resources.environments.items()
    }


def container_template(template: Any, environment: Mapping[str, Mapping[str, str]], built: Path) -> Any:
    """The built template with every variable declared and the code under absolute paths."""
    for name, resource in template["Resources"].items():
        properties = resource.get("Properties", {})
        for place in ("CodeUri", "ContentUri"):
            if isinstance(properties.get(place), str):
                properties[place] = str(built / properties[place])
        if name in environment:
            properties["Environment"] = {"Variables": dict.fromkeys(environment[name], "")}
    return template
