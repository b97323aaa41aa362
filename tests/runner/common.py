"""What the parts of tests/run share."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
ARTIFACTS = REPOSITORY / "artifacts"
LAB = REPOSITORY / "tests" / "lab" / "lab"


class Failure(Exception):
    """Something that keeps a layer from running."""


@dataclass
class Result:
    passed: int = 0
    failed: int = 0

    def __add__(self, other):
        return Result(self.passed + other.passed, self.failed + other.failed)


def say(message):
    print(message, flush=True)


def seconds(value):
    return f"{value:.1f} s" if value < 100 else f"{int(value // 60)} min {int(value % 60)} s"


def call(*argv):
    """Run with the output shown; the exit code."""
    return subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL, check=False).returncode


def need(*argv):
    code = call(*argv)
    if code:
        raise Failure(f"exit {code} from: {' '.join(map(str, argv))}")
