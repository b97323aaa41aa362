"""Jobs of the test runner: a command whose output goes to a file, measured and counted."""

import os
import re
import shlex
import subprocess
import time
import xml.etree.ElementTree as ElementTree

import usage
from common import ARTIFACTS, REPOSITORY, Result, say, seconds

STAGE = re.compile(r"\[\S+ > (\w+)\] Executing$")
TAIL = 40
# Seconds after which a job that hangs is ended, and counts as failed
LIMIT = 1500
SECOND_TRIES: list[str] = []
# What the summary says of each failed test, for the log may be long, or lost
FAILED: list[str] = []
WORDS = 800
FURTHER_WORDS = 100


def options(report, more=()):
    """pytest's options and environment in every layer."""
    words = [f"--junitxml={report}", "-p", "senex_quarantine", "-rR", *more]
    return {"PYTEST_ADDOPTS": shlex.join(words), "PYTHONPATH": str(REPOSITORY / "tests" / "plugins")}


def counted(report):
    """What a junit file says; a run without one has failed."""
    if not report.exists():
        return Result(failed=1)
    total = Result()
    for suite in ElementTree.parse(report).getroot().iter("testsuite"):  # noqa: S314  (pytest wrote it a moment ago)
        bad = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        total += Result(passed=int(suite.get("tests", 0)) - bad - int(suite.get("skipped", 0)), failed=bad)
        cases = [case for case in suite.iter("testcase") if case.find("failure") is not None or case.find("error") is not None]
        # What fails after the first of a job mostly fails for it
        FAILED.extend(_said(report.stem, case, FURTHER_WORDS if number else WORDS) for number, case in enumerate(cases))
    return total


def _said(label, case, words):
    """The name of a failed test and its message: so many characters of its beginning, and of its end, where Ansible says why."""
    failure = case.find("failure")
    failure = case.find("error") if failure is None else failure
    # The attribute is cut by pytest; its report marks the lines of the message
    lines = [line[1:].strip() for line in (failure.text or "").splitlines() if line.startswith("E ")]
    message = "\n".join(lines) or failure.get("message", "").strip()
    if len(message) > 2 * words:
        message = f"{message[:words]}\n[...]\n{message[-words:]}"
    return f"{label}: {case.get('name')}\n" + "\n".join(f"    {line}" for line in message.splitlines())


def run(label, command, hosts=(), environment=None, limit=LIMIT, chosen=None):
    """Run a job. Its stages are said, and the end of its output where it failed. `hosts`: beginnings of the names of its test hosts; `chosen`: of its
    tests those with these markers."""
    name = label.replace(" ", "-")
    log, report = ARTIFACTS / f"{name}.log", ARTIFACTS / f"{name}.xml"
    report.unlink(missing_ok=True)
    fixed = {"MOLECULE_COMMAND_BORDERS": "false", "NO_COLOR": "1", "ANSIBLE_NOCOLOR": "1", "COLUMNS": "160"}
    # Not for the demo host, whose runs are timed as a user's are
    fixed["ANSIBLE_CALLBACK_PLUGINS"] = str(REPOSITORY / "tests" / "plugins" / "callback")
    begin = time.monotonic()
    with open(log, "w", encoding="utf-8") as handle:
        process = subprocess.Popen(
            ["timeout", "--kill-after=30", str(limit), *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, **options(report, ["-m", chosen] if chosen else []), **fixed, **(environment or {})},
        )
        meter = usage.Meter(label, process.pid, hosts)
        for line in process.stdout:
            handle.write(line)
            handle.flush()
            if found := STAGE.search(line.rstrip()):
                meter.stage(found[1])
            if line.startswith("RERUN "):
                SECOND_TRIES.append(f"{label}: {line.split()[1]}")
        meter.end()
        good = process.wait() == 0
    result = counted(report) if report.exists() else Result()
    listed = result.failed
    if not good and not result.failed:
        result += Result(failed=1)
    say(f"{label}: {'passed' if good else 'FAILED'}, {seconds(time.monotonic() - begin)}, all of it in {log.relative_to(REPOSITORY)}")
    # Failed tests are in the summary, and what they print beside their message can be thousands of lines of a journal
    if not good and not listed:
        say("\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:]))
    return result
