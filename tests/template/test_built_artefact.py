"""The result of `make build` in .aws-sam/build runs with the runtime's Python, from the built layers only."""

import importlib.util
import subprocess
from pathlib import Path

import pytest

from local.resources import TEMPLATE, Document

pytestmark = pytest.mark.built

ROOT = TEMPLATE.parent
BUILD = ROOT / ".aws-sam" / "build"
LAYERS = ["VendorLayer", "BrokerLayer"]
# Packages of Lambda's runtime: boto3 and its dependencies. urllib3 comes from the vendor layer: /opt is first.
RUNTIME_PACKAGES = ["boto3", "botocore", "dateutil", "jmespath", "s3transfer", "six", "urllib3"]
HANDLERS = {
    "GetTokenFunction": "get_token",
    "ManageConnectionsFunction": "manage_connections",
    "SweepDueFunction": "sweep_due",
    "RenewTokenFunction": "renew_token",
    "SecretChangedFunction": "secret_changed",
    "ObtainConsentFunction": "obtain_consent",
    "ExchangeCodeFunction": "exchange_code",
    "ReceiveCodeFunction": "receive_code",
}
IMPORT = """
import importlib, sys
sys.path[:0] = sys.argv[2:]
handler = importlib.import_module(sys.argv[1] + ".app").lambda_handler
assert callable(handler)
outside = [
    f"{name} from {module.__file__}"
    for name, module in sys.modules.items()
    if name != "__main__"
    and getattr(module, "__file__", None)
    and not module.__file__.startswith((sys.base_prefix, *sys.argv[2:]))
]
assert not outside, outside
print(handler.__module__)
"""


@pytest.fixture(scope="module")
def python() -> str:
    found = subprocess.run([ROOT / ".ci/find-python", "3.13"], capture_output=True, text=True, check=True)
    return found.stdout.strip()


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with only boto3 and its dependencies."""
    directory = tmp_path_factory.mktemp("runtime")
    for name in RUNTIME_PACKAGES:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        source = Path(spec.origin)
        source = source.parent if source.name == "__init__.py" else source
        (directory / source.name).symlink_to(source)
    return directory


@pytest.mark.parametrize("function", HANDLERS)
def test_a_handler_imports_only_from_the_built_layers(
    translated: Document, python: str, runtime: Path, function: str
) -> None:
    assert translated["Resources"][function]["Properties"]["Handler"] == f"{HANDLERS[function]}.app.lambda_handler"
    path = [BUILD / function, *(BUILD / layer / "python" for layer in LAYERS), runtime]
    # -I and -S: no environment, no working directory, no site-packages. Settings are read at the first request.
    command = [
        python,
        "-I",
        "-S",
        "-B",
        "-W",
        "error::SyntaxWarning",
        "-c",
        IMPORT,
        HANDLERS[function],
        *map(str, path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env={"AWS_REGION": "eu-west-1"}, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{HANDLERS[function]}.app"


@pytest.mark.parametrize("part", [*LAYERS, "ClientLayer", *HANDLERS])
def test_every_module_is_compiled_for_the_runtime_without_source_checks(part: str) -> None:
    sources = sorted((BUILD / part).rglob("*.py"))
    assert sources
    for source in sources:
        compiled = source.parent / "__pycache__" / f"{source.stem}.cpython-313.pyc"
        assert compiled.is_file(), f"{source.relative_to(BUILD)} is not compiled"
        flags = int.from_bytes(compiled.read_bytes()[4:8], "little")
        assert flags == 0b01, f"{compiled.relative_to(BUILD)} is not an unchecked hash .pyc (PEP 552)"
    other = [path for path in (BUILD / part).rglob("*.pyc") if ".cpython-313." not in path.name]
    assert not other


def test_the_layers_stay_small() -> None:
    size = sum(path.stat().st_size for path in BUILD.glob("*Layer/**/*") if path.is_file())
    assert size <= 45 * 1024 * 1024


def test_the_vendor_layer_has_no_package_of_the_runtime() -> None:
    vendored = {path.name for path in (BUILD / "VendorLayer" / "python").iterdir()}
    assert not vendored & {"boto3", "botocore", "s3transfer"}


def test_the_client_layer_has_only_the_client() -> None:
    assert [path.name for path in (BUILD / "ClientLayer" / "python").iterdir()] == ["token_broker_client"]
