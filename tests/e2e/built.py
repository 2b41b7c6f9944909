"""The result of `make build`: where each function's code and layers are, by the built template."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from samtranslator.yaml_helper import yaml_parse

from local.process import ROOT

BUILD: Final = ROOT / ".aws-sam" / "build"


class NotBuilt(RuntimeError):
    """There is no built artefact."""


@dataclass(frozen=True)
class Code:
    """The directory that Lambda mounts as /var/task, and the layers' python directories, as from /opt."""

    task_root: Path
    layers: Sequence[Path] = ()


def built_functions() -> dict[str, Code]:
    """The code of each function by logical id. Raises NotBuilt."""
    try:
        document = yaml_parse((BUILD / "template.yaml").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotBuilt(f"there is no {BUILD.relative_to(ROOT)}: run `make build`") from None
    resources, shared = document["Resources"], document["Globals"]["Function"]

    def code(function: dict[str, Any]) -> Code:
        # SAM adds a function's own layers to the global ones. That of own provider files is not built here.
        layers = [layer for layer in (*shared.get("Layers", []), *function.get("Layers", [])) if "Ref" in layer]
        contents = [resources[layer["Ref"]]["Properties"]["ContentUri"] for layer in layers]
        return Code(BUILD / function["CodeUri"], [BUILD / content / "python" for content in contents])

    return {
        function_id: code(resource["Properties"])
        for function_id, resource in resources.items()
        if resource["Type"] == "AWS::Serverless::Function"
    }


def digest() -> str:
    """The digest of all built files. Nothing may write there, as in Lambda."""
    return subprocess.run([ROOT / ".ci" / "digest", BUILD], capture_output=True, text=True, check=True).stdout
