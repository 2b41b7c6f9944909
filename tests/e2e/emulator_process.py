"""Runs an emulator: `python -m tests.e2e.emulator_process --task-root DIR --python-path DIRS COMMAND...`.

It runs between the test run and the emulator, so that the emulator always ends with the test run.
"""

import argparse
import os
import signal
import subprocess
import sys
import threading


def main() -> int:
    """Starts the command, ends it when standard input closes or on SIGTERM, and returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.emulator_process", description=__doc__)
    parser.add_argument("--task-root", required=True, help="the function's code: the working directory")
    parser.add_argument("--python-path", required=True, help="the layers' directories, as PYTHONPATH takes them")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    emulator = subprocess.Popen(
        options.command,
        cwd=options.task_root,
        env={**os.environ, "LAMBDA_TASK_ROOT": options.task_root, "PYTHONPATH": options.python_path},
        stdin=subprocess.DEVNULL,
    )

    def end_with_parent() -> None:
        while os.read(0, 1024):
            pass
        emulator.terminate()  # the emulator then ends the function's process, which has its own group

    signal.signal(signal.SIGTERM, lambda *_: emulator.terminate())
    threading.Thread(target=end_with_parent, name="end-with-parent", daemon=True).start()
    return emulator.wait()


if __name__ == "__main__":
    sys.exit(main())
