"""The layers of tests. Each gives the number of checks that passed and failed."""

import functools
import os
import re
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import demo
import jobs
import sanity
import usage
from common import ARTIFACTS, LAB, REPOSITORY, Failure, Result, call, need, say, seconds

PYTEST_LIMIT = 3600
# One more than the cores: every job waits for something most of the time
JOBS = (os.cpu_count() or 1) + 1
# Folders of tests/integration that have hosts, containers or programs of their own, and look at no clock
BESIDE = (
    "changes", "controller", "crashes", "failures", "foreign", "images", "operations", "pgbouncer", "playbooks", "recovery", "secrecy", "security", "servers",
    "site", "upgrade",
)  # fmt: skip
# Jobs in this order, for what takes longest must not be left at the end; the others follow. The first ones need no layer, which are made meanwhile
FIRST = (
    "foreign", "failures", "controller", "changes", "operations", "pitr", "watchdog", "backup", "two_web_hosts", "phase2", "upgrade", "security", "playbooks",
    "nginx", "crashes", "celery", "recovery", "secrecy", "django", "servers", "bed",
)  # fmt: skip
# Those with tests that make test has no time for, which are marked; `make faults` runs these alone
FAULTS = (
    "interrupted", "ledger", "failures", "controller", "recovery", "upgrade", "oncall", "conversion", "operations", "security", "memory", "fulldisk",
    "contract", "parts", "updates", "removal", "foreign", "changes", "crashes", "playbooks", "move", "alerts",
)  # fmt: skip
FAULTS_OF_SCENARIOS = ("watchdog", "pitr", "two_web_hosts", "nginx", "celery", "backup", "nginx_letsencrypt")
# Seconds that these may take where it is more than jobs.LIMIT: dozens of cases one after the other on the same hosts
LONGER = {"interrupted": 7200, "ledger": 3600, "controller": 2400, "foreign": 2400, "failures": 2400, "recovery": 2400, "alerts": 7200}
# Unit tests in groups that run beside each other. The first two start programs and wait for them, which costs a core little; each of the others keeps a
# core busy, this one with templates, whose compiled code its tests share
UNIT_GROUPS = {
    "unit-programs": (
        "test_start_checks", "test_traffic_probe", "test_nginx_upstream", "test_release_record", "test_bounded", "test_bounded_commands", "test_terminals",
        "test_dead_locks", "test_demo_reset", "test_engine_interrupted", "test_held_locks", "test_lab_lock", "test_untrusted",
    ),
    "unit-servers": ("test_nginx_sources", "test_nginx_ways", "test_nginx_floods", "test_request_hold", "test_watchdog_site"),
    "unit-rendering": (
        "test_application_parts", "test_by_hand", "test_bucket_keys", "test_check_image", "test_check_image_bench", "test_check_image_judge",
        "test_common_preflight", "test_component_ports", "test_elsewhere", "test_engine_rendering", "test_environment", "test_environments",
        "test_hardening_docs", "test_input_checks", "test_input_forms", "test_input_types", "test_kept_data", "test_lean_checks", "test_maintenance",
        "test_nginx_templates", "test_old_netavark", "test_optional_parts", "test_page_policy", "test_pooler", "test_redis_users", "test_refused_early",
        "test_release_gates", "test_rendered_units", "test_seccomp", "test_topology", "test_unfit_inputs",
    ),
}  # fmt: skip
# By pytest's marker
IN_TEST, IN_FAULTS = "not faults", "faults"
ROLES_BEFORE = re.compile(r"molecule_roles_before: \[([a-z_, ]*)\]")
SNAPSHOTS = {"made": 0, "reused": 0}
_counting = threading.Lock()


def lint(files=None):
    """All of it, or these files alone."""
    everything = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard"], text=True).splitlines()
    listed = files if files is not None else everything
    there = [name for name in listed if (REPOSITORY / name).is_file() and not (REPOSITORY / name).is_symlink()]
    scripts = [name for name in there if re.match(rb"#!\s*/(usr/)?bin/(env )?(ba|da)?sh\b", (REPOSITORY / name).read_bytes()[:80])]
    yaml = [name for name in there if name.endswith((".yml", ".yaml"))]
    python = [name for name in there if name.endswith(".py") or name in ("tests/run", "tests/lab/lab")]
    whole = files is None
    tools = [
        (["ansible-lint", *([] if whole else yaml)], yaml),
        (["yamllint", "--strict", *(["."] if whole else yaml)], yaml),
        (["ruff", "check", *(["."] if whole else python)], python),
        (["shellcheck", *sorted(scripts)], scripts),
    ]
    steps = [(tool[0], functools.partial(_told, tool)) for tool, subjects in tools if subjects]
    if whole or any(map(sanity.LOOKED_AT.match, there)):
        # Of the whole collection, whatever changed: documents, imports and the fragments of the changelog
        steps.append(("ansible-test sanity", functools.partial(sanity.sanity, everything)))
    total = Result()
    for name, job in steps:
        start = time.monotonic()
        code, said = job()
        # Said in one piece: the unit tests may run beside
        say(f"{said}{name}: {'clean' if code == 0 else 'FAILED'}, {seconds(time.monotonic() - start)}")
        total += Result(passed=int(code == 0), failed=int(code != 0))
    return total


def _told(command):
    """Exit code and output."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout


def _pytest(name, *wrapper, label=None, paths=None, without=()):
    label = label or name
    report = ARTIFACTS / f"{label}.xml"
    report.unlink(missing_ok=True)
    more = [f"--ignore={path}" for path in (*(f"tests/{name}/{folder}" for folder in {*BESIDE, *FAULTS}), *without)]
    pytest = ["pytest", "-v", "--durations=40", "--durations-min=5", *more, *(paths or [f"tests/{name}"])]
    command = ["timeout", "--kill-after=30", str(PYTEST_LIMIT), *wrapper, *pytest]
    process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, env={**os.environ, **jobs.options(report)})
    meter = usage.Meter(label, process.pid, ("demo",) if name == "integration" else ())
    # Left unwaited until it is measured: what a process used is gone once it is waited for
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    meter.end()
    result = jobs.counted(report)
    # A crash after the last test, or no test at all, must not pass for green.
    return result if process.wait() == 0 or result.failed else result + Result(failed=1)


def unit():
    """In groups beside each other."""
    groups = {label: [f"tests/unit/{name}.py" for name in names] for label, names in UNIT_GROUPS.items()}
    with ThreadPoolExecutor() as pool:
        beside = [pool.submit(_pytest, "unit", label=label, paths=paths) for label, paths in groups.items()]
        return sum((job.result() for job in beside), _pytest("unit", without=[path for paths in groups.values() for path in paths]))


def snapshot(*names):
    """Make the snapshots that are missing or stale; progress goes to the terminal."""
    process = subprocess.Popen([LAB, "snapshot", *names], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    meter = usage.Meter(f"snapshot {names[-1]}", process.pid, ("demo",) if "stack" in names else ("molecule-layers",))
    for line in process.stderr:
        say(line.rstrip())
        if found := re.match(r"lab: snapshot (made|reused): ", line):
            with _counting:
                SNAPSHOTS[found[1]] += 1
    meter.end()
    if process.wait():
        raise Failure(f"no snapshot {', '.join(names)}")


def images():
    need(LAB, "registry")
    need(LAB, "images", "host", "host-ready")


def integration():
    with demo.held():
        need(LAB, "down", "demo")
        images()
        snapshot("stack")
        need(LAB, "up", "demo", "--from", "stack")
        os.environ["SENEX_FIRST_DEPLOY_SECONDS"] = first_deploy()
        return _pytest("integration", LAB, "run", "--")


def first_deploy():
    """Seconds that the first deploy took from which the snapshot was made."""
    return subprocess.check_output([LAB, "noted", "stack", "site.yml, phase 1"], text=True).strip()


def faults():
    """What costs minutes each: a lost host, a release killed at every step. One folder or scenario beside another."""
    images()
    snapshot("stack", "two_web_hosts")
    known = layers()
    starts = {name: start_of(name, known) for name in FAULTS_OF_SCENARIOS}
    snapshot(*sorted({start for start in starts.values() if known.get(start)}, key=lambda name: len(known[name])))
    tasks = [functools.partial(_folder, folder, IN_FAULTS) for folder in FAULTS if folder != "interrupted"]
    tasks += [functools.partial(_scenario, name, start, chosen=IN_FAULTS) for name, start in starts.items() if name != "two_web_hosts"]

    def on_the_two_hosts():
        # Of the same names, so not beside each other
        return _folder("interrupted", IN_FAULTS) + _scenario("two_web_hosts", starts["two_web_hosts"], chosen=IN_FAULTS)

    with ThreadPoolExecutor(max_workers=JOBS) as pool:
        running = [pool.submit(task) for task in (on_the_two_hosts, *tasks)]
        return sum((job.result() for job in running), Result())


def bench():
    """Measures the figures of docs/figures.json on the demo host, or on the host that SENEX_TEST_HOST names."""
    code = call(LAB, "run", "--", "pytest", "-v", "-s", "tests/integration/bench_figures.py", "tests/integration/bench_hardening.py")
    return Result(passed=int(code == 0), failed=int(code != 0))


def soak():
    """Half an hour of moderate load, or SENEX_SOAK_MINUTES, on the demo host or the host that SENEX_TEST_HOST names."""
    code = call(LAB, "run", "--", "pytest", "-v", "-s", "tests/integration/bench_soak.py")
    return Result(passed=int(code == 0), failed=int(code != 0))


def scenarios():
    return sorted(p.parent.name for p in REPOSITORY.glob("molecule/*/molecule.yml") if p.parent.name != "layers")


def layers():
    """{name: the roles that a host of it has}, as the lab tells."""
    lines = subprocess.check_output([LAB, "layers"], text=True).splitlines()
    return {name: roles.split() for name, roles in (line.split(":") for line in lines)}


def start_of(scenario, known):
    """The snapshot that a scenario starts from: its own, or the highest layer whose roles it wants; None where it starts from nothing."""
    if scenario in known and not known[scenario]:
        return scenario
    found = ROLES_BEFORE.search((REPOSITORY / "molecule" / scenario / "molecule.yml").read_text(encoding="utf-8"))
    wanted = [role.strip() for role in found[1].split(",")] if found else []
    fitting = [name for name, roles in known.items() if roles and roles == wanted[: len(roles)]]
    return max(fitting, key=lambda name: len(known[name]), default=None)


def molecule(roles=None):
    """The scenarios of all roles and what can run beside them, a few jobs at a time."""
    wanted = roles or scenarios()
    for name in set(wanted) - set(scenarios()):
        raise Failure(f"no scenario {name}; there are {', '.join(scenarios())}")
    images()
    known = layers()
    starts = {name: start_of(name, known) for name in wanted}
    if not roles:
        # Alone, because it is the first deploy whose time is told
        snapshot("stack")
    tasks = {name: functools.partial(_scenario, name) for name in wanted}
    if not roles:
        tasks |= {folder: functools.partial(_folder, folder) for folder in BESIDE} | {"bed": _bed}
    order = sorted(tasks, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    with ThreadPoolExecutor(max_workers=JOBS) as pool:
        making = _making(pool, set(starts.values()) - {None}, known)
        running = [pool.submit(tasks[name], **({"start": starts[name], "making": making.get(starts[name])} if name in starts else {})) for name in order]
        results = [job.result() for job in running]
    return sum(results, Result())


def _making(pool, starts, known):
    """{snapshot: the job that makes it}; one job goes through all layers."""
    chain = sorted((start for start in starts if known[start]), key=lambda name: len(known[name]))
    jobs_of = dict.fromkeys(chain, pool.submit(snapshot, *chain)) if chain else {}
    return jobs_of | {start: pool.submit(snapshot, start) for start in starts if not known[start]}


def hosts_of(scenario):
    text = (REPOSITORY / "molecule" / scenario / "molecule.yml").read_text(encoding="utf-8")
    return re.findall(r"^  - name: (\S+)", text, flags=re.MULTILINE) or [f"molecule-{scenario}"]


def _scenario(name, start=None, making=None, chosen=IN_TEST):
    hosts = hosts_of(name)
    if making:
        try:
            making.result()
        except Failure as error:
            say(f"molecule {name}: {error}")
            return Result(failed=1)
    source = [word for host in hosts for word in ("--host", host)]
    command = [LAB, "run", *(["--from", start, *source] if start else []), "--", "molecule", "test", "-s", name]
    result = jobs.run(_label(f"molecule {name}", chosen), command, hosts, chosen=chosen)
    subprocess.run([LAB, "run", "--", "podman", "volume", "rm", "--force", *(f"{host}-opt" for host in hosts)], capture_output=True, check=False)
    return result + Result(passed=int(not result.failed), failed=int(bool(result.failed)))


def _bed():
    return jobs.run("bed", ["pytest", "-v", "tests/bed"])


def _folder(folder, chosen=IN_TEST):
    command = [LAB, "run", "--", "pytest", "-v", "--durations=15", "--durations-min=5", f"tests/integration/{folder}"]
    # A folder's hosts are named after it, but for two
    hosts = {"secrecy": ("secrets",), "interrupted": ("molecule-web-one", "molecule-web-two")}.get(folder, (folder,))
    return jobs.run(_label(folder, chosen), command, hosts, limit=LONGER.get(folder, jobs.LIMIT), chosen=chosen)


def _label(name, chosen):
    return name if chosen == IN_TEST else f"{name} {chosen}"
