"""Prints the environment that `sam local` would give a function's container, as JSON. Runs in .venv/sam's Python.

Arguments: template, env file, logical id. Nothing is started, so no Docker is needed.
"""

import json
import sys
from pathlib import Path

from samcli.commands.local.lib.local_lambda import LocalLambdaRunner
from samcli.lib.providers.sam_function_provider import SamFunctionProvider
from samcli.lib.providers.sam_stack_provider import SamLocalStackProvider

template, env_file, function_id = sys.argv[1:]
stacks, _ = SamLocalStackProvider.get_stacks(template)
provider = SamFunctionProvider(stacks)
directory, values = str(Path(template).parent), json.loads(Path(env_file).read_bytes())
runner = LocalLambdaRunner(None, provider, directory, directory, env_vars_values=values)
config = runner.get_invoke_config(provider.get(function_id))
layers = [layer.codeuri for layer in config.layers]
json.dump({"code": config.code_abs_path, "layers": layers, "variables": config.env_vars.resolve()}, sys.stdout)
