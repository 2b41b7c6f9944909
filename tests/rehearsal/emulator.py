"""MiniStack, an emulator of AWS, as a process of its own on 127.0.0.1 with TLS and IAM. It runs the functions as well.

It takes requests of an AWS API and of the deployed REST API on one port, whose number is in every URL.
"""

from __future__ import annotations

import os
import shutil
import signal
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import boto3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from local.aws import ACCOUNT_ID, REGION
from local.ports import LOOPBACK, listen
from local.process import ROOT, StartFailed, end

PYTHON: Final = ROOT / ".venv" / "rehearse" / "bin" / "python"
# What the template, the consumer and sam use, and nothing else: other services would open ports of their own.
SERVICES: Final = (
    *("apigateway", "cloudformation", "dynamodb", "events", "iam", "kms", "lambda", "logs", "monitoring", "s3"),
    *("scheduler", "secretsmanager", "sqs", "sts", "tagging"),
)
ROOT_KEY: Final = "rehearsal"  # the emulator's root user, who may do everything
START_TIMEOUT_S: Final = 120.0


class Emulator:
    """A running emulator, whose files are in `directory`. `environment` is what a process needs to use it as AWS."""

    def __init__(self, directory: Path, variables: dict[str, str]) -> None:
        """`variables` reach the emulator and so every function. Raises StartFailed."""
        self._unpacked = directory / "unpacked"
        self._unpacked.mkdir(parents=True, exist_ok=True)
        self.certificate = directory / "certificate.pem"
        self.log = directory / "emulator.log"
        key = directory / "key.pem"
        _write_certificate(self.certificate, key)
        with listen(0) as listener:
            self.port: int = listener.getsockname()[1]
        self.endpoint_url = f"https://{LOOPBACK}:{self.port}"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),  # no configuration of the user's, neither AWS's nor sam's
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_CA_BUNDLE": str(self.certificate),
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": ROOT_KEY,
            "AWS_SECRET_ACCESS_KEY": ROOT_KEY,
        }
        settings = {
            "AUTH": "true",
            "BIND_HOST": LOOPBACK,
            "GATEWAY_PORT": str(self.port),
            "SERVICES": ",".join(SERVICES),
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "USE_SSL": "1",
            "MINISTACK_SSL_CERT": str(self.certificate),
            "MINISTACK_SSL_KEY": str(key),
            "MINISTACK_ACCOUNT_ID": ACCOUNT_ID,
            "MINISTACK_REGION": REGION,
            "TMPDIR": str(self._unpacked),
            "S3_DATA_DIR": str(directory / "s3"),
            "STATE_DIR": str(directory / "state"),
        }
        kept = ("PATH", "HOME", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [PYTHON, "-m", "ministack"],
                cwd=directory,
                env={**{name: self.environment[name] for name in kept}, **settings, **variables},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # its functions' processes are in its group
            )
        try:
            self._wait_until_ready()
        except StartFailed:
            self.close()
            raise

    def client(self, service: Any, key: str = ROOT_KEY, secret: str = ROOT_KEY, token: str | None = None) -> Any:
        """A boto3 client, of the root user or with these credentials."""
        return boto3.client(
            service,
            endpoint_url=self.endpoint_url,
            region_name=REGION,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            aws_session_token=token,
            verify=str(self.certificate),
        )

    def _wait_until_ready(self) -> None:
        context = ssl.create_default_context(cafile=str(self.certificate))
        give_up, pause = time.monotonic() + START_TIMEOUT_S, threading.Event()
        while time.monotonic() < give_up and self._process.poll() is None:
            with suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                urllib.request.urlopen(f"{self.endpoint_url}/_ministack/ready", timeout=5, context=context).close()  # noqa: S310  # https, loopback
                return
            pause.wait(0.2)
        raise StartFailed(f"the emulator did not start; see {self.log}")

    def close(self) -> None:
        """Ends the emulator and the functions that it runs, and deletes what they were unpacked to. Idempotent."""
        end(self._process)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        shutil.rmtree(self._unpacked, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _write_certificate(certificate: Path, key: Path) -> None:
    """A certificate of the loopback address that signs itself."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "rehearsal")])
    addresses = x509.SubjectAlternativeName([x509.IPAddress(ip_address(LOOPBACK)), x509.DNSName("localhost")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(addresses, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    key.touch(mode=0o600)
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
