"""The layers of tests. Each gives the number of checks that passed and failed."""

import os
import re
import subprocess
import time
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor

import demo
from common import ARTIFACTS, LAB, REPOSITORY, Failure, Result, call, need, say, seconds

STAGE = re.compile(r"\[\S+ > (\w+)\] Executing$")
TAIL = 80
# Seconds after which a hanging scenario, or a hanging pytest layer, is ended and counts as failed
SCENARIO_LIMIT = 2700
PYTEST_LIMIT = 3600
# One more than the cores: every job waits for something most of the time
JOBS = (os.cpu_count() or 1) + 1
# In this order: the watchdog's tests wait most of their 13 minutes, which costs little beside others and much alone at the end
LONGEST = ("watchdog", "backup", "two_web_hosts", "pitr", "celery", "django")
# On hosts, which share two cores with everything else, a test that fails has a second try; the summary names each that needed it, its log says why
SECOND_TRY = ["--reruns", "1", "--reruns-delay", "5", "-rR", "--rerun-show-tracebacks"]
SECOND_TRIES: list[str] = []
# Folders of tests/integration that have hosts or containers of their own, and look at no clock
BESIDE = ("recovery", "upgrade", "changes", "failures", "operations", "secrecy", "images")
# Those with tests that make test has no time for; `make faults` runs these alone
FAULTS = ("failures", "recovery", "upgrade", "oncall")


def lint():
    scripts = []
    for name in subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard"], text=True).splitlines():
        path = REPOSITORY / name
        if path.is_file() and not path.is_symlink():
            with open(path, "rb") as handle:
                if re.match(rb"#!\s*/(usr/)?bin/(env )?(ba|da)?sh\b", handle.readline(80)):
                    scripts.append(name)
    tools = [["ansible-lint"], ["yamllint", "--strict", "."], ["ruff", "check", "."], ["shellcheck", *sorted(scripts)]]
    total = Result()
    for tool in tools:
        start = time.monotonic()
        # Said in one piece: the unit tests may run beside
        done = subprocess.run(tool, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        good = done.returncode == 0
        say(f"{done.stdout}{tool[0]}: {'clean' if good else 'FAILED'}, {seconds(time.monotonic() - start)}")
        total += Result(passed=int(good), failed=int(not good))
    return total


def _counted(report):
    """What a junit file says; a run without one has failed."""
    if not report.exists():
        return Result(failed=1)
    total = Result()
    for suite in ElementTree.parse(report).getroot().iter("testsuite"):  # noqa: S314  (pytest wrote it a moment ago)
        bad = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        total += Result(passed=int(suite.get("tests", 0)) - bad - int(suite.get("skipped", 0)), failed=bad)
    return total


def _pytest(name, *wrapper):
    report = ARTIFACTS / f"{name}.xml"
    report.unlink(missing_ok=True)
    options = ["-v", "--durations=40", "--durations-min=5", f"--junitxml={report}", *(f"--ignore=tests/{name}/{folder}" for folder in {*BESIDE, *FAULTS})]
    options += SECOND_TRY if wrapper else []
    code = call("timeout", "--kill-after=30", str(PYTEST_LIMIT), *wrapper, "pytest", *options, f"tests/{name}")
    result = _counted(report)
    # A crash after the last test, or no test at all, must not pass for green.
    return result if code == 0 or result.failed else result + Result(failed=1)


def unit():
    return _pytest("unit")


def integration():
    demo.down()  # a first deploy starts from a bare host
    os.environ["SENEX_FIRST_DEPLOY_SECONDS"] = str(demo.up()[demo.CONVERGE])
    return _pytest("bed") + _pytest("integration", LAB, "run", "--")


def faults():
    """What costs minutes each: a lost host, a release killed at every step. One folder beside another."""
    need(LAB, "registry")
    need(LAB, "images", "host-ready")
    with ThreadPoolExecutor(max_workers=JOBS) as pool:
        return sum(pool.map(_beside, FAULTS, ["faults"] * len(FAULTS)), Result())


def bench():
    """Measures the figures of docs/figures.json on the demo host, or on the host that SENEX_TEST_HOST names."""
    code = call(LAB, "run", "--", "pytest", "-v", "-s", "tests/integration/bench_figures.py", "tests/integration/bench_hardening.py")
    return Result(passed=int(code == 0), failed=int(code != 0))


def soak():
    """Half an hour of moderate load, or SENEX_SOAK_MINUTES, on the demo host or the host that SENEX_TEST_HOST names."""
    code = call(LAB, "run", "--", "pytest", "-v", "-s", "tests/integration/bench_soak.py")
    return Result(passed=int(code == 0), failed=int(code != 0))


def scenarios():
    found = sorted(p.parent.name for p in REPOSITORY.glob("molecule/*/molecule.yml"))
    return sorted(found, key=lambda name: LONGEST.index(name) if name in LONGEST else len(LONGEST))  # what takes longest must not be left at the end


def molecule(roles=None):
    """The scenarios of all roles and what can run beside them, a few jobs at a time."""
    wanted = roles or scenarios()
    for name in set(wanted) - set(scenarios()):
        raise Failure(f"no scenario {name}; there are {', '.join(scenarios())}")
    need(LAB, "registry")
    need(LAB, "images", "host-ready")
    with ThreadPoolExecutor(max_workers=JOBS) as pool:
        beside = [] if roles else [pool.submit(_beside, folder) for folder in BESIDE]
        results = list(pool.map(_scenario, wanted))
        results += [job.result() for job in beside]
    call(LAB, "run", "--", "podman", "volume", "prune", "--force")
    return sum(results, Result())


def _scenario(name):
    result = _logged(f"molecule {name}", [LAB, "run", "--", "molecule", "test", "-s", name])
    return result + Result(passed=int(not result.failed), failed=int(bool(result.failed)))


def _beside(folder, chosen="not faults"):
    command = [LAB, "run", "--", "pytest", "-v", "--durations=15", "--durations-min=5", "-m", chosen, f"tests/integration/{folder}"]
    return _logged(folder if chosen.startswith("not") else f"{folder} {chosen}", command)


def _logged(label, command):
    """A job whose output goes to a file: its stages are said, and the end of it where it failed."""
    name = label.replace(" ", "-")
    log, report = ARTIFACTS / f"{name}.log", ARTIFACTS / f"{name}.xml"
    report.unlink(missing_ok=True)
    environment = {
        **os.environ,
        "PYTEST_ADDOPTS": f"--junitxml={report} {' '.join(SECOND_TRY)}",
        "MOLECULE_COMMAND_BORDERS": "false",
        "NO_COLOR": "1",
        "ANSIBLE_NOCOLOR": "1",
        "COLUMNS": "160",
    }
    start = time.monotonic()
    with open(log, "w", encoding="utf-8") as handle:
        process = subprocess.Popen(
            ["timeout", "--kill-after=30", str(SCENARIO_LIMIT), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
        )
        for line in process.stdout:
            handle.write(line)
            handle.flush()
            if found := STAGE.search(line.rstrip()):
                say(f"{label}: {found[1]}")
            if line.startswith("RERUN "):
                SECOND_TRIES.append(f"{label}: {line.split()[1]}")
        good = process.wait() == 0
    result = _counted(report) if report.exists() else Result()
    if not good and not result.failed:
        result += Result(failed=1)
    say(f"{label}: {'passed' if good else 'FAILED'}, {seconds(time.monotonic() - start)}, all of it in {log.relative_to(REPOSITORY)}")
    if not good:
        say("\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:]))
    return result
