""".ci/find-python prints the best Python that can make a venv."""

import subprocess
from pathlib import Path

import pytest

from local.process import ROOT

# A Python that prints its own path, as the script asks each candidate to do; and one that cannot make a venv.
WORKS = '#!/bin/sh\necho "$0"\n'
FAILS = "#!/bin/sh\nexit 1\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder at the front of PATH. The versions in it exist nowhere else."""
    for name, script in {"python3.97": WORKS, "python3.98": WORKS, "python3.99": FAILS}.items():
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def find(folder: Path, *minors: str) -> tuple[int, str]:
    """The exit code and the printed path."""
    command = [str(ROOT / ".ci" / "find-python"), *minors]
    environment = {"PATH": f"{folder}:/usr/bin:/bin"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return ended.returncode, ended.stdout.strip()


def test_the_first_version_given_wins(folder: Path) -> None:
    assert find(folder, "3.98", "3.97") == (0, str(folder / "python3.98"))
    assert find(folder, "3.97", "3.98") == (0, str(folder / "python3.97"))


def test_a_version_that_is_missing_or_makes_no_venv_is_passed_over(folder: Path) -> None:
    assert find(folder, "3.96", "3.99", "3.97") == (0, str(folder / "python3.97"))


def test_without_any_of_the_versions_it_fails(folder: Path) -> None:
    assert find(folder, "3.96", "3.99") == (1, "")
