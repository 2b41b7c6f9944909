"""The surroundings of measurements with one caller: AWS in its own process, simulated providers, connections.

Measured handlers run in their own process too, which is started as the local stack starts its environments. Nothing
else runs there.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from email.message import Message
from pathlib import Path
from typing import Any, Final, Self

from local.aws import AwsProcess
from local.connections import aws_client
from local.events import Event, api_gateway_event
from local.lambda_environments import CODE, Function, MakeEnvironment, ProcessEnvironment, lambda_environment
from local.ports import listen
from local.process import LOGS, ROOT
from local.providers import DEFAULT_ACCOUNTS, default_settings, start_providers
from local.resources import create_resources
from local.sigv4 import LOCAL, ReceivedRequest

PROVIDER: Final = "unidy"
SCOPE: Final = "users:read"
RESOURCE: Final = "/v1/tokens/{provider}/{connection}"
GET_TOKEN: Final = "GetTokenFunction"
COURSE_S: Final = 900.0
KEY_BYTES: Final = 32
FLOORS: Final = Path(__file__).parent / "floors"


class Ground:
    """A running AWS endpoint with the template's resources, and providers that respond at once."""

    def __init__(self) -> None:
        self._endings = ExitStack()
        LOGS.mkdir(parents=True, exist_ok=True)
        with ExitStack() as endings:
            aws = AwsProcess(listen(0), LOGS / "bench-aws.log")
            endings.callback(aws.close)
            self.endpoint_url = aws.endpoint_url
            self.providers = endings.enter_context(start_providers())
            aws.wait_until_ready()
            self.resources = create_resources(self.endpoint_url)
            self._endings = endings.pop_all()
        self.dynamodb, self._secrets, self._kms = (
            aws_client(service, self.endpoint_url) for service in ("dynamodb", "secretsmanager", "kms")
        )

    def connect(self, connection: str) -> str:
        """Stores a connection as PUT does, with its secret. Returns its full name."""
        name = f"{PROVIDER}/{connection}"
        settings = {"allowed_callers": [LOCAL.arn], **default_settings(PROVIDER, self.providers.url)}
        self.dynamodb.put_item(
            TableName=self.resources.connection_table,
            Item={
                "pk": {"S": f"C#{name}"},
                "settings": {"S": json.dumps(settings)},
                "format": {"N": "1"},
                "version": {"S": "v1"},
            },
        )
        secret = json.dumps(DEFAULT_ACCOUNTS[PROVIDER]["secret"])
        self._secrets.create_secret(Name=self.secret_id(name), SecretString=secret)
        return name

    def secret_id(self, name: str) -> str:
        return f"{self.resources.secret_prefix}/{name}"

    def token_items(self, name: str) -> list[dict[str, Any]]:
        """The token keys of a connection, as stored."""
        found: list[dict[str, Any]] = self.dynamodb.query(
            TableName=self.resources.token_table,
            KeyConditionExpression="pk = :pk AND begins_with(sk, :token)",
            ExpressionAttributeValues={":pk": {"S": f"C#{name}"}, ":token": {"S": "T#"}},
        )["Items"]
        return found

    def floor(self, name: str) -> dict[str, str]:
        """The variable for tests.bench.floors: what a request for the connection's token reads."""
        (item,) = self.token_items(name)
        key, context = self.resources.sealing_key_arn, {"purpose": "bench"}
        sealed = self._kms.generate_data_key(KeyId=key, NumberOfBytes=KEY_BYTES, EncryptionContext=context)
        wanted = {
            "items": {
                self.resources.connection_table: {"Keys": [{"pk": item["pk"]}], "ConsistentRead": True},
                self.resources.token_table: {
                    "Keys": [{"pk": item["pk"], "sk": item["sk"]}, {"pk": item["pk"], "sk": {"S": "HEALTH"}}],
                    "ConsistentRead": True,
                },
            },
            "sealed": base64.b64encode(sealed["CiphertextBlob"]).decode(),
            "context": context,
            "key": key,
            "secret": self.secret_id(name),
            "scope": SCOPE,
            "token_url": f"{self.providers.url}/{PROVIDER}/oauth/token",
        }
        return {"FLOOR": json.dumps(wanted)}

    def variables(self, function: Function, **more: str) -> dict[str, str]:
        """The variables of a function's process."""
        return lambda_environment(function, self.endpoint_url, {"TOKEN_BROKER_LOCAL": "1", **more})

    def function(self, function_id: str, handler: str | None = None, *code: Path) -> Function:
        """A function of the template, or another handler in its environment."""
        return Function(
            function_id,
            handler or self.resources.handlers[function_id],
            self.resources.environments[function_id],
            timeout_s=self.resources.timeouts[function_id] if handler is None else COURSE_S,
            memory_mb=self.resources.memory[function_id],
            code=code or CODE,
        )

    def fetch(self, name: str) -> None:
        """Lets the broker store a connection's first token."""
        function = self.function(GET_TOKEN)
        with running(ProcessEnvironment, function, self.variables(function)) as invoke:
            response = invoke(event(name))
        assert response["statusCode"] == 200, response["body"]

    def course(self, function_id: str, course: str, order: Mapping[str, Any], **more: str) -> Any:
        """Runs a course of tests.bench.courses in a new process, with the variables of a function and `more`."""
        function = self.function(function_id, f"tests.bench.courses.{course}", *CODE, ROOT)
        # There are up to 100,000 log lines, so they are discarded. Failures are returned as the course's error.
        with running(ProcessEnvironment, function, self.variables(function, **more), Path(os.devnull)) as invoke:
            return invoke(order)

    def close(self) -> None:
        """Ends everything that was started. Idempotent."""
        self._endings.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def running(
    make: MakeEnvironment, function: Function, variables: Mapping[str, str], log: Path = LOGS / "bench.log"
) -> Iterator[Any]:
    """Runs one environment until the block ends. Yields its invocation."""
    environment = make(function, variables, log)
    try:
        yield environment.run
    finally:
        environment.kill()


def event(name: str, *, scope: str | None = None) -> Event:
    """API Gateway's event of GET /v1/tokens/{name} by the local caller."""
    provider, _, connection = name.partition("/")
    headers = Message()
    headers["Host"] = "api.local"
    query = "" if scope is None else f"scope={scope}"
    return api_gateway_event(
        ReceivedRequest("GET", f"/v1/tokens/{name}", query, headers, b""),
        resource=RESOURCE,
        path_parameters={"provider": provider, "connection": connection},
        stage="api",
        caller=LOCAL,
        request_id="00000000-0000-4000-8000-000000000000",
        now=datetime.now(UTC),
    )
