"""Starts and stops the whole local stack: AWS, providers, resources, functions, front, triggers, demo connections.

If the start fails half-way, everything that was started is stopped.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from local.aws import AwsProcess
from local.connections import aws_client, create_demo_connections
from local.console import console
from local.docs_page import Page, pages
from local.front import Front, Gateway, Route
from local.lambda_environments import EnvironmentPool, Function, MakeEnvironment, ProcessEnvironment
from local.lambda_process import VENDORS
from local.ports import listen_on_all
from local.process import LOGS
from local.providers import ProvidersServer, start_providers
from local.resources import LocalStack as Resources
from local.resources import create_resources
from local.sigv4 import LOCAL, STRANGER, Caller, SignatureVerifier
from local.triggers import QueuePump, Schedule, SecretWatch
from token_broker_cli.console.site import Site

STAGE: Final = "api"
SHORTEST_SWEEP_S: Final = 0.5
NOMINAL_SWEEP_S: Final = 60.0
BY_HAND: Final = frozenset({"ObtainConsentFunction", "ReceiveCodeFunction"})  # people call them, few at a time
PROVIDER_FILES: Final = "PROVIDER_FILES"  # the template's variable for the directory in the layer
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """How to run the stack. Port 0: any free one."""

    port: int = 0
    aws_port: int = 0
    providers_port: int = 0
    api_environments: int = 8
    worker_environments: int = 2
    time_scale: float = 1.0
    sweep_interval_s: float | None = None  # None: a minute by the time scale
    log_dir: Path = LOGS
    caller: Caller = LOCAL  # the demo connections allow it
    strangers: tuple[Caller, ...] = (STRANGER,)
    verify_signatures: bool = True
    ticks: bool = True  # run the triggers: schedule, queue and secret events
    simulate_vendors: bool = False  # requests for https hosts go to the vendors that are simulated from examples
    provider_files: Path | None = None  # a directory of a platform team's own, as in a layer
    pages: bool = False  # serve the documentation page at /docs and the console at /
    make_environment: MakeEnvironment = ProcessEnvironment
    settings: Mapping[str, Mapping[str, Any]] = field(
        default_factory=dict
    )  # additional ones of a demo connection, by provider
    parameters: Mapping[str, str] = field(default_factory=dict)  # of the template

    @property
    def sweep_every_s(self) -> float:
        """Seconds between sweeps."""
        if self.sweep_interval_s is not None:
            return self.sweep_interval_s
        return max(SHORTEST_SWEEP_S, NOMINAL_SWEEP_S * self.time_scale)


class Stack:
    """A running local stack. `url` is the broker's, `endpoint_url` AWS's, `providers_url` the simulated providers'."""

    url: str
    endpoint_url: str
    providers_url: str
    front: Front
    console: Site | None  # with `pages`
    providers: ProvidersServer
    resources: Resources
    pools: dict[str, EnvironmentPool]  # by logical id

    def __init__(self, options: Options, progress: Progress = lambda _: None) -> None:
        """Start everything or nothing. `progress` is called with each step. Raises ports.PortInUse at once."""
        self.options = options
        self._progress = progress
        self._endings = ExitStack()
        with ExitStack() as endings:
            self._start(endings)
            self._endings = endings.pop_all()

    def _start(self, endings: ExitStack) -> None:
        options = self.options
        options.log_dir.mkdir(parents=True, exist_ok=True)
        listeners = listen_on_all(
            {"PORT": options.port, "AWS_PORT": options.aws_port, "PROVIDERS_PORT": options.providers_port}
        )
        for listener in listeners.values():
            endings.enter_context(listener)

        self._progress("AWS endpoint (moto)")
        aws = AwsProcess(listeners["AWS_PORT"], options.log_dir / "aws.log")
        endings.callback(aws.close)
        self.endpoint_url = aws.endpoint_url

        self._progress("simulated providers")
        listeners["PROVIDERS_PORT"].close()  # the server opens its own
        self.providers = start_providers(options.providers_port, time_scale=options.time_scale)
        endings.callback(self.providers.close)
        self.providers_url = self.providers.url

        aws.wait_until_ready()
        self._progress("tables, queues and keys from template.yaml")
        self.resources = create_resources(self.endpoint_url, parameters=dict(options.parameters))
        self.pools = {
            function_id: endings.enter_context(self.make_pool(function_id, size=self._size(function_id)))
            for function_id in self.resources.handlers
        }

        self._progress("API Gateway front")
        self.front = Front(listeners["PORT"], self.gateway(self.pools), self._pages())
        endings.callback(self.front.close)
        self.url = self.front.url
        self.console = console(self.url, self.endpoint_url, options.log_dir) if options.pages else None
        if self.console is not None:
            self.front.serve_console(self.console)

        self._progress("execution environments and demo connections")
        for function_id in sorted(self._api_functions - BY_HAND):
            self.pools[function_id].prewarm()
        self._create_connections()
        if options.ticks:
            self._start_ticks(endings)

    @property
    def _api_functions(self) -> set[str]:
        return {route.function for route in self.resources.routes}

    def _size(self, function_id: str) -> int:
        options = self.options
        is_busy = function_id in self._api_functions - BY_HAND
        return options.api_environments if is_busy else options.worker_environments

    def make_pool(
        self, function_id: str, *, size: int, timeout_s: float | None = None, **variables: str
    ) -> EnvironmentPool:
        """A pool of one of the functions, which the caller must close. `timeout_s` None: the template's."""
        resources = self.resources
        options = self.options
        return EnvironmentPool(
            Function(
                function_id,
                resources.handlers[function_id],
                resources.environments[function_id],
                timeout_s=resources.timeouts[function_id] if timeout_s is None else timeout_s,
                memory_mb=resources.memory[function_id],
            ),
            endpoint_url=self.endpoint_url,
            variables={
                "TOKEN_BROKER_LOCAL": "1",
                "TOKEN_BROKER_TIME_SCALE": repr(options.time_scale),
                **({VENDORS: self.providers_url} if options.simulate_vendors else {}),
                **({PROVIDER_FILES: str(options.provider_files.resolve())} if options.provider_files else {}),
                **variables,
            },
            size=size,
            log=options.log_dir / f"{function_id}.log",
            make_environment=options.make_environment,
        )

    def gateway(self, pools: Mapping[str, EnvironmentPool]) -> Gateway:
        """API Gateway as the template has it, with these pools behind its routes."""
        options = self.options
        resources = self.resources
        return Gateway(
            [Route(route.method, route.path, pools[route.function], route.signed) for route in resources.routes],
            verifier=SignatureVerifier((options.caller, *options.strangers)) if options.verify_signatures else None,
            gateway_responses=resources.gateway_responses,
            stage=STAGE,
            unsigned_caller=options.caller,
        )

    def _pages(self) -> Mapping[str, Page]:
        if not self.options.pages:
            return {}
        return pages(self.options.caller, self.providers_url, sign=self.options.verify_signatures)

    def _create_connections(self) -> None:
        create_demo_connections(
            broker_url=self.url,
            endpoint_url=self.endpoint_url,
            providers_url=self.providers_url,
            secret_prefix=self.resources.secret_prefix,
            caller=self.options.caller,
            settings=self.options.settings,
        )

    def _start_ticks(self, endings: ExitStack) -> None:
        resources = self.resources
        pools = self.pools
        sqs = aws_client("sqs", self.endpoint_url)
        secrets = aws_client("secretsmanager", self.endpoint_url)
        schedule = Schedule(pools[resources.sweep_function], resources.sweep_input, self.options.sweep_every_s)
        watch = SecretWatch(secrets, pools[resources.secret_changed_function], f"{resources.secret_prefix}/")
        pumps = [
            QueuePump(sqs, resources.renewal_queue_url, pools[resources.renew_function], name=f"queue-{number}")
            for number in range(self.options.worker_environments)
        ]
        pumps.append(
            QueuePump(sqs, resources.consent_queue_url, pools[resources.exchange_function], name="consent-queue")
        )
        for ticker in (schedule, watch, *pumps):
            ticker.start()
            endings.callback(ticker.close)

    def close(self) -> None:
        """Stop everything that was started, in reverse order. Idempotent."""
        self._endings.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
