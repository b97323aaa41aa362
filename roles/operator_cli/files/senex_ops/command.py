"""The command `senex`: finds user, bus and containers by itself; systemd, Podman and the programs of the parts do the work."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import secrets
import shlex
import sys
import time
from collections.abc import Callable

from senex_host import release_history, untrusted, user_manager
from senex_host.host_layout import RELEASES as RECORDS

from . import activity, checks_pooler, config, doctor, golive, logs_of_hosts, occupied, remediation, status, terminal
from .findings import named
from .host import ROOT_ENVIRONMENT, Host
from .postgresql import session

EXAMPLES = """
examples:
  senex status                      how is it? exit status 0 for healthy, 2 for not
  senex doctor                      what is wrong, where it comes from, what cures it
  senex logs web -f                 follow the log of all web instances
  senex logs postgres -n 50 --since '1 hour ago'
  senex logs web --host all         on the host of the group logs: of every host
  senex activity                    who uses the CPU, which statements run, and who holds others up
  senex restart web-1               and wait until it is ready; --now kills what hangs
  senex shell web-1                 a shell in a container
  senex manage check --deploy       a command of the application
  senex psql -c 'select 1'          or: senex psql <file.sql
  senex redis-cli info memory
  senex redis repair                Redis' log is damaged: what can be saved, and do it
  senex backup dump                 or: list, verify, redis, media, offsite; senex backup --help
  senex restore --to latest         what ran goes on running; senex pitr --help for the rest
  senex rollback                    where it would go, and what to type on the controller
  senex watchdog pause 30m          no restarts and no news of them for half an hour
"""

# A record's columns, and what stands where it says nothing: only releases have a tag
NOT_SAID = {"began": "?", "what": "?", "tag": "-", "result": "?", "who": "?"}


class CliError(Exception):
    """One sentence for the person; the command ends with 1."""


def replace(argv: list[str], **environment: str) -> int:
    """Become another program: it streams, and its exit status is ours."""
    sys.stdout.flush()
    try:
        os.execvpe(argv[0], argv, {**ROOT_ENVIRONMENT, "TERM": os.environ.get("TERM", "dumb"), **environment})  # noqa: S606
    except OSError as error:
        raise CliError(f"{argv[0]}: {error.strerror}") from None


# Of a session in a container: what podman exec has begun goes on when that one is gone, a query or an open transaction for as long as it likes
END_SESSION = """
for signal in INT TERM; do
    for process in /proc/[0-9]*; do
        tr '\\0' '\\n' <"$process/environ" 2>/dev/null | grep -qx "SENEX_SESSION=$1" && kill -s $signal "${process#/proc/}" 2>/dev/null
    done
    sleep 1
done
:
"""


# And a query goes on to its end where psql was killed
ATTENDED = "-c client_connection_check_interval=2s"


def become(host: Host, argv: list[str], gone: Callable[[], None] = lambda: None) -> int:
    """Become another program, as the service user and by way of its manager. With --pipe that is handed the descriptors themselves.

    Its manager would go on with it when nobody waits for it any more: whoever is at a terminal has it ended then, and `gone` is called.
    """
    on_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    untrusted.own_keyring()
    words = ["systemd-run", "--user", "--quiet", "--wait", "--collect", "--property=LogLevelMax=warning", "--pty" if on_terminal else "--pipe"]
    unit = f"senex-{os.getpid()}-{secrets.token_hex(4)}.service"
    argv = user_manager.verbatim(argv)

    def end() -> None:
        gone()
        host.systemctl("user", "stop", unit, timeout=20)

    if on_terminal:
        kind = os.environ.get("TERM", "dumb")
        words += [f"--unit={unit}", f"--setenv=TERM={kind}", "--"]
        return terminal.interactive([*words, *argv], host.uid, end, **{**host.account, "env": {**host.environment, "TERM": kind}})
    if terminal.there():
        return terminal.relayed([*words, f"--unit={unit}", "--", *argv], end, **host.account)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # what a script of root's has open
    os.chdir("/")
    os.setgroups([])
    os.setgid(host.gid)
    os.setuid(host.uid)
    return replace([*words, "--", *argv], **host.environment)


def enter(host: Host, container: str, argv: list[str], *options: str) -> int:
    """Run a command in a container, with a terminal where there is one."""
    terminal, session = sys.stdin.isatty() and sys.stdout.isatty(), secrets.token_hex(8)
    words = ["podman", "exec", "--interactive", f"--env=SENEX_SESSION={session}", *(["--tty"] if terminal else []), *options, container, *argv]
    return become(host, words, lambda: host.inside(container, "sh", "-c", END_SESSION, "sh", session) and None)


def instances(settings: config.Config) -> dict[str, list[str]]:
    """Units of which there are several, by the name of them all: `web` of web-1 and web-2, and so of each process of the application."""
    found: dict[str, list[str]] = {"web": [one.unit for one in settings.web.instances]} if settings.web else {}
    for unit in settings.user_units:
        numbered = re.fullmatch(r"(.+)-[0-9]+\.service", unit)
        if numbered and numbered[1] != "web":
            found.setdefault(numbered[1], []).append(unit)
    return found


def parts(settings: config.Config) -> list[str]:
    """Names that a person may use: units without suffix, and those of all instances of something."""
    names = [unit.removesuffix(".service") for unit in settings.user_units + settings.system_units]
    return [*names, *(name for name in instances(settings) if name not in names), "watchdog"]


def units_of(settings: config.Config, part: str) -> list[tuple[str, str]]:
    """Scope and unit of a name."""
    if part == "watchdog":
        return [("system", "senex-watchdog.service")]
    unit = part if "." in part else f"{part}.service"
    for scope, units in (("user", settings.user_units), ("system", settings.system_units)):
        if unit in units:
            return [(scope, unit)]
    if several := instances(settings).get(part):
        return [("user", one) for one in several]
    raise CliError(f"there is no part '{part}' on this host; there are {', '.join(parts(settings))}")


def logs(host: Host, settings: config.Config, options) -> int:
    """The journal of parts. A user below UID 1000 has none of its own, so the system's is asked."""
    if options.host:
        return logs_of_hosts.show(host.uid, options)
    matches: list[str] = []
    for part in options.part or [*settings.user_units, *settings.system_units, "watchdog"]:
        for scope, unit in units_of(settings, part):
            uid, name = f"_UID={host.uid}", unit.removesuffix(".service")
            own = [["_SYSTEMD_UNIT=" + unit], ["UNIT=" + unit]] if scope == "system" else [[uid, "CONTAINER_NAME=" + name], [uid, "USER_UNIT=" + unit]]
            for match in own:
                matches += (["+"] if matches else []) + match
    words = ["journalctl", "--quiet", "--lines", str(options.lines)]
    words += (["--follow"] if options.follow else []) + logs_of_hosts.span(options)
    words += [] if sys.stdout.isatty() else ["--no-pager"]
    return replace([*words, *matches])


def kill(host: Host, scope: str, unit: str) -> bool:
    """End a unit at once; false where nothing of it runs."""
    name = unit.removesuffix(".service")
    done = host.kill_container(name) if scope == "user" else host.run("systemctl", "kill", "--signal=KILL", unit)
    return done.code == 0 and remediation.gone(host, remediation.Remediation(name, scope, unit))


def restart(host: Host, settings: config.Config, options) -> int:
    """Restart a part, one unit after the other, each until it is ready. What hangs does not hear that it is to end: `--now` kills it.

    What an operation of a controller has stopped stays so until its end: the application would write to data that is about to be replaced.
    """
    code, units = 0, units_of(settings, options.part)
    for scope in {scope for scope, _unit in units}:
        states = host.units(scope, [unit for of, unit in units if of == scope])
        if resting := [unit for unit, state in states.items() if state.get("ActiveState") == "inactive"]:
            alone(f"systemctl {f'--user -M {settings.user}@ ' if scope == 'user' else ''}start {' '.join(resting)}")
    for scope, unit in units:
        began, verb = time.monotonic(), "restart"
        if options.now and kill(host, scope, unit):
            verb = "start"  # nothing is left to wait for
        done = host.systemctl(scope, verb, unit, timeout=600)
        code = code or done.code
        outcome = f"did not come up: {untrusted.plain(done.said, 300)}" if done.code else "ready"
        print(f"{unit}: {outcome} after {time.monotonic() - began:.1f} s", flush=True)
    return code


def container_of(settings: config.Config, part: str) -> str:
    """The container of a name."""
    scope, unit = units_of(settings, part)[0]
    if scope != "user":
        raise CliError(f"{part} runs on the host, not in a container: you have a shell there")
    return unit.removesuffix(".service")


def shell(host: Host, settings: config.Config, options) -> int:
    """A shell in a container."""
    return enter(host, container_of(settings, options.part), ["sh", *options.arguments])


def manage(host: Host, settings: config.Config, options) -> int:
    """A command of the application, through its image's own entry point, in the first instance that runs."""
    if not settings.web:
        raise CliError("no web instance is on this host; ask on one of the group web")
    units = [one.unit for one in settings.web.instances]
    states = host.units("user", units)
    running = [unit for unit in units if states.get(unit, {}).get("ActiveState") == "active"]
    if not running:
        raise CliError("no web instance runs; senex status says more")
    container = running[0].removesuffix(".service")
    # A migration wants a session of its own, so it goes past the pooler as a release does
    ways = [f"--env-file={settings.pooler.environment}"] if settings.pooler else []
    return enter(host, container, [*host.entry_point(container), *settings.manage, *options.arguments], *ways)


def pgbouncer(host: Host, settings: config.Config, options) -> int:
    """PgBouncer's console."""
    if not settings.pooler:
        raise CliError("PgBouncer is not on this host; ask on one of the group pgbouncer")
    return replace([checks_pooler.CONSOLE, *options.arguments])


def psql(host: Host, settings: config.Config, options) -> int:
    """psql in the database's container, as the application's role."""
    if not settings.database:
        theirs = [f"{one.host}:{one.port}" for one in settings.elsewhere if one.what == "database"]
        where = f"it is somebody else's server, {theirs[0]}" if theirs else "ask on the one of the group postgresql"
        raise CliError(f"PostgreSQL is not on this host; {where}")
    base = settings.database
    # Whoever owns the database may have set a search path that leads the superuser to functions of that owner's
    guard = f"{session.GUARD} {ATTENDED}" if logs_in_as(options.arguments, base.superuser) else ATTENDED
    ways = [f"--env=PGOPTIONS={guard}", "--env=PSQL_HISTORY=/dev/null"]  # there is no home to keep one in
    return enter(host, base.container, ["psql", "--username", base.user, "--dbname", base.database, *options.arguments], *ways)


def logs_in_as(arguments: list[str], name: str) -> bool:
    """Whether psql's options name this role: -U NAME, -UNAME, --username NAME, --username=NAME, and -XqU NAME."""
    named = rf"(-[A-Za-z]*U|--username=){re.escape(name)}"
    pairs = zip(["", *arguments], arguments, strict=False)
    return any(re.fullmatch(named, one) or (one == name and re.fullmatch("-[A-Za-z]*U|--user(name)?", before)) for before, one in pairs)


def redis_cli(host: Host, settings: config.Config, options) -> int:
    """redis-cli in its container, which logs in by itself."""
    if not settings.broker:
        raise CliError("Redis is not on this host; ask on the one of the group redis")
    return enter(host, settings.broker.container, ["redis-cli", "-e", *options.arguments])


def alone(anyway: str) -> None:
    """Raise while an operation of a controller is at work; `anyway` is the way past it."""
    if who := occupied.refusal(anyway):
        raise CliError(who)


def program(host: Host, settings: config.Config, name: str, arguments: list[str]) -> int:
    """A program of another part; nothing of it that an operation of a controller may be at work with."""
    path = f"{settings.home}/bin/{name}"
    if verb := occupied.called(name, arguments):
        raise CliError(f"{verb}: playbooks and units call it, as a step of theirs; it is none for a person. senex {name} --help lists those that are")
    if occupied.changes(name, arguments):
        alone(f"systemd-run --user -M {settings.user}@ --pipe --wait --quiet --collect {shlex.join([path, *arguments])}")
    if not untrusted.look([path])[path].get("mode", 0) & 0o111:
        raise CliError(f"{path} is not installed: run the playbook with the tag of its part ({name}) on this host, or ask on the one that has it")
    return become(host, [path, *arguments])


def recorded() -> list[dict]:
    """The records of releases, oldest first."""
    rows = []
    with contextlib.suppress(FileNotFoundError), open(RECORDS, encoding="utf-8", errors="replace") as handle:
        for line in handle:
            with contextlib.suppress(ValueError, RecursionError):  # of a line that was cut short by a loss of power the others are there all the same
                rows += [json.loads(line)] if line.startswith("{") else []
    return rows


def releases(host: Host, settings: config.Config, options) -> int:
    """What was released, newest last."""
    rows = recorded()
    for row in rows[-options.lines :] if options.lines > 0 else []:
        began, what, tag, result, who = (untrusted.plain(row.get(name) or NOT_SAID[name]) for name in NOT_SAID)
        print(f"{began}  {what:9} {tag:20} {result:12} {who}  {untrusted.plain(row.get('reason') or '', 500)}".rstrip())
    if not rows:
        print("nothing was released by playbooks/deploy.yml yet")
    return 0


def rollback(host: Host, settings: config.Config, options) -> int:
    """What to type where the inventory and the vault are, and what would happen: a rollback needs both, and every host of the environment."""
    try:
        found = release_history.target(recorded(), options.release)
    except KeyError as error:
        raise CliError(f"{RECORDS}: a record of a release lacks {error}; playbooks/rollback.yml says more") from None
    tag, reference, current = (untrusted.plain(found[name] or "?") for name in ("tag", "reference", "from"))
    asked = host.podman("image", "exists", found["reference"])
    missing = "not on this host: it is pulled, so the registry has to answer" if asked.code == 1 else f"cannot be looked for: {untrusted.plain(asked.said)}"
    print(f"from {current} back to {tag}, by this host's history (senex releases)")
    print(f"image {reference}: {'on this host' if asked.code == 0 else missing}")
    if found["undo"]:
        print(f"migrations since then, newest first: {', '.join(untrusted.plain(name) for name in found['undo'])}")
        print("  it says what undoing them would lose, and asks: -e release_keep_migrations=true leaves them, -e release_undo_migrations=true undoes them")
    else:
        print("no migration came in between")
    named_release = f" -e release={named(options.release)}" if options.release else ""
    print("\non the controller, in the directory with the inventory of this environment:\n")
    print(f"    ansible-playbook playbooks/rollback.yml -i inventory/{named(settings.environment)}{named_release}")
    return 0


def seconds(text: str) -> float:
    """`90s`, `30m`, `2h` in seconds."""
    found = re.fullmatch(r"(\d+)([smh]?)", text)
    if not found:
        raise CliError(f"'{text}' is no duration; write such as 90s, 30m or 2h")
    return int(found[1]) * {"": 60, "s": 1, "m": 60, "h": 3600}[found[2]]


def watchdog(host: Host, settings: config.Config, options) -> int:
    """Its state; pause and resume it."""
    if options.verb == "pause":
        now = time.time()
        until = now + min(seconds(options.duration), remediation.LONGEST_PAUSE)
        with open(remediation.PAUSE, "w", encoding="utf-8") as handle:
            json.dump({"at": now, "until": until}, handle)
        print(f"no restarts until {time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(until))} UTC; senex watchdog resume ends it")
        return 0
    if options.verb == "resume":
        if os.path.exists(remediation.PAUSE):
            os.unlink(remediation.PAUSE)
        print("it watches")
        return 0
    return replace(["systemctl", "--no-pager", "--lines=20", "status", "senex-watchdog.service"])


# What comes after these is for another program, as it stands
PASSED = {
    "manage": manage,
    "psql": psql,
    "redis-cli": redis_cli,
    "pgbouncer": pgbouncer,
    "redis": lambda host, settings, options: program(host, settings, "redis", options.arguments),
    "backup": lambda host, settings, options: program(host, settings, "backup", options.arguments),
    "pitr": lambda host, settings, options: program(host, settings, "pitr", options.arguments),
    "prune-images": lambda host, settings, options: program(host, settings, "senex-prune-images", options.arguments),
    "restore": lambda host, settings, options: program(host, settings, "pitr", ["restore", *options.arguments]),
}


def parser() -> argparse.ArgumentParser:
    """All subcommands."""
    made = argparse.ArgumentParser(prog="senex", description="The stack of this host, for whoever is on call.", epilog=EXAMPLES,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    verbs = made.add_subparsers(dest="verb_", metavar="COMMAND", required=True)

    def verb(name: str, run, says: str):
        one = verbs.add_parser(name, help=says, description=says)
        one.set_defaults(run=run)
        return one

    one = verb("status", lambda host, settings, options: status.show(host, settings, options.json), "every check, a line each; 0 for healthy, 2 for not")
    one.add_argument("--json", action="store_true", help="for machines")
    one = verb("doctor", lambda host, settings, options: doctor.show(host, settings, options.json), "known troubles: cause and cure of each that is found")
    one.add_argument("--json", action="store_true", help="for machines, with what is well")
    one = verb("golive", lambda host, settings, options: golive.show(host, settings, options.json, options.notice),
               "before the public comes: status, and what changes by decisions alone; 0 for ready, 2 for not")  # fmt: skip
    one.add_argument("--json", action="store_true", help="for machines")
    one.add_argument("--notice", action="store_true", help="send a test notice each way that is configured")
    one = verb("logs", logs, "the journal of one part, of several, or of all; with --host that of other hosts, where the group logs is")
    one.add_argument("part", nargs="*")
    one.add_argument("-f", "--follow", action="store_true")
    one.add_argument("-n", "--lines", type=int, default=100)
    one.add_argument("--since", default="", help="such as -5min, '1 hour ago' or '2026-01-31 03:00'")
    one.add_argument("--until", default="", help="likewise")
    one.add_argument("--host", action="append", default=[], help="of this host, on the one of the group logs; several times, or: all")
    verb("activity", lambda host, settings, options: activity.show(host, settings), "CPU and memory by unit, statements that run, and who holds others up")
    one = verb("restart", restart, "restart a part and wait until it is ready; of `web` or a process, one instance after the other")
    one.add_argument("part")
    one.add_argument("--now", action="store_true", help="kill it first: what it is doing is lost, and nothing is waited for")
    one = verb("shell", shell, "a shell in a container, or a script: senex shell web-1 -c 'env | sort'")
    one.add_argument("part", nargs="?", default="web")
    one.add_argument("arguments", nargs=argparse.REMAINDER)
    for name, says in (
        ("manage", "a command of the application: senex manage showmigrations"),
        ("psql", "psql in the database, as the application (-U postgres: as the superuser)"),
        ("redis-cli", "redis-cli in its container"),
        ("pgbouncer", "PgBouncer beside the application: senex pgbouncer show, pause, resume"),
        ("redis", "Redis' files when they are damaged: senex redis check, senex redis repair"),
        ("backup", "the program of role backup"),
        ("pitr", "the program of role pitr"),
        ("prune-images", "remove images that nothing runs: senex prune-images --keep 1"),
        ("restore", "a copy of the database as of a moment, beside the data; a dump is restored from the control machine, by playbook"),
    ):
        verb(name, PASSED[name], says)
    one = verb("releases", releases, "what was released, newest last")
    one.add_argument("-n", "--lines", type=int, default=20)
    one = verb("rollback", rollback, "where a rollback would go, and the command for it on the controller; it changes nothing")
    one.add_argument("release", nargs="?", default="", help="id or tag of senex releases; without one, what ran before the newest release")
    one = verb("watchdog", watchdog, "state of the watchdog; pause it for a while, or resume it")
    one.add_argument("verb", nargs="?", choices=["status", "pause", "resume"], default="status")
    one.add_argument("duration", nargs="?", default="30m")
    one = verb("parts", lambda host, settings, options: print("\n".join(parts(settings))) or 0, "names that the other commands take")
    return made


def moments(arguments: list[str]) -> list[str]:
    """`--since -5min` as `--since=-5min`: argparse takes what begins with a dash for another option, and journalctl has times that do."""
    joined: list[str] = []
    for word in arguments:
        if joined and joined[-1] in ("--since", "--until") and re.match(r"-[0-9]", word):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def main(arguments: list[str]) -> int:
    """Run one subcommand."""
    if arguments[:1] and arguments[0] in PASSED:  # argparse would take the first option for its own
        options = argparse.Namespace(verb_=arguments[0], run=PASSED[arguments[0]], arguments=arguments[1:])
    else:
        options = parser().parse_args(moments(arguments))
    if os.geteuid():
        return replace(["sudo", "--", "/usr/local/bin/senex", *arguments])
    try:
        settings = config.read(config.CONFIGURATION)
        return options.run(Host(settings.user, settings.home), settings, options)
    except (CliError, config.ConfigError, LookupError, OSError) as error:
        print(f"senex {options.verb_}: {untrusted.plain(error, 1000)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
