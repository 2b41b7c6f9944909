"""The AWS endpoint of the local stack: moto behind one lock, because its conditional writes are not atomic.

A long poll would hold the lock for its whole wait, so callers here poll SQS with WaitTimeSeconds=0. Region and account
are those of the events: eu-west-1, 123456789012.
"""

import argparse
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from local import process
from local.ports import LOOPBACK, listen, port_of

REGION: Final = "eu-west-1"
ACCOUNT_ID: Final = "123456789012"
START_TIMEOUT_S: Final = 60.0

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


class OneAtATime:
    """A WSGI application that handles one request at a time."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with self._lock:
            return self._application(environ, start_response)


class AwsServer:
    """A running AWS endpoint in this process; `endpoint_url` is what AWS_ENDPOINT_URL takes."""

    def __init__(self, listener: socket.socket) -> None:
        # Imported here: Flask and moto take half a second, and only the process that serves them needs them.
        from moto.moto_server.werkzeug_app import (
            DomainDispatcherApplication,
            MotoRequestHandler,
            create_backend_app,
        )
        from werkzeug.serving import make_server

        from local.kms_signing import sign_as_aws

        sign_as_aws()

        class QuietHandler(MotoRequestHandler):
            # Head and body are two writes. Without this, Nagle and the delayed ACK cost 40 ms per response.
            disable_nagle_algorithm = True
            protocol_version = "HTTP/1.1"

            def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
                """No access log."""

        port = port_of(listener)
        self._server = make_server(
            LOOPBACK,
            port,
            OneAtATime(DomainDispatcherApplication(create_backend_app)),
            threaded=True,
            request_handler=QuietHandler,
            fd=listener.fileno(),
        )
        listener.close()  # make_server duplicated it
        self.endpoint_url = f"http://{LOOPBACK}:{port}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="aws", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Serve until closed by another thread or a signal."""
        self._thread.join()

    def close(self) -> None:
        """Stop serving and free the port. Idempotent."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def start_aws(port: int = 0) -> AwsServer:
    """An AWS endpoint on 127.0.0.1:`port` in this process, for tests. Raises ports.PortInUse."""
    return AwsServer(listen(port))


class AwsProcess:
    """An AWS endpoint in a process of its own, so that moto and the front do not share an interpreter lock."""

    def __init__(self, listener: socket.socket, log: Path | None = None) -> None:
        self.endpoint_url = f"http://{LOOPBACK}:{port_of(listener)}"
        arguments = ["--fd", str(listener.fileno())]
        self._process = process.start_module("local.aws", arguments, pass_fds=[listener.fileno()], log=log)
        listener.close()

    def wait_until_ready(self) -> None:
        """Return once it responds. The socket listens already, so one request is enough; it fails if the child died."""
        try:
            with urllib.request.urlopen(f"{self.endpoint_url}/moto-api/data.json", timeout=START_TIMEOUT_S) as response:
                response.read()
        except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
            raise process.StartFailed(f"the AWS endpoint did not start ({error})") from None

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        """End the process. Idempotent."""
        process.end(self._process)


def main() -> None:
    """Serve until SIGTERM. With --fd also until the parent process is gone."""
    parser = argparse.ArgumentParser(prog="python -m local.aws", description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--port", type=int, help="listen on 127.0.0.1:PORT (0 takes a free one)")
    where.add_argument("--fd", type=int, help="serve this inherited listening socket, and end with the parent process")
    options = parser.parse_args()
    if options.fd is None:
        server = start_aws(options.port)
        print(server.endpoint_url, flush=True)
    else:
        process.end_with_parent()
        server = AwsServer(socket.socket(fileno=options.fd))
    with server:
        try:
            server.wait()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
