"""Runs only the simulated providers, until SIGINT or SIGTERM: python -m local.providers --port 4600."""

from __future__ import annotations

import argparse
import signal
import threading

from .server import start_providers


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m local.providers", description="Simulated token providers.")
    parser.add_argument("--port", type=int, default=4600, help="port on 127.0.0.1 (default 4600, 0 for a free one)")
    parser.add_argument("--time-scale", type=float, default=1.0, help="multiplies lifetimes and windows (default 1.0)")
    arguments = parser.parse_args()
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with start_providers(arguments.port, time_scale=arguments.time_scale) as providers:
        print(f"simulated providers on {providers.url}, controlled at {providers.url}/_control", flush=True)
        stopped.wait()


main()
