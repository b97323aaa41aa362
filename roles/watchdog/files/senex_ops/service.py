"""The loop: asks, counts, restarts, tells. Nothing in it waits for anybody; what takes time runs in threads with limits."""

from __future__ import annotations

import logging
import logging.handlers
import os
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from senex_host import untrusted

from . import checks, checks_containers, checks_release, checks_web, config, decide, delivery, metrics, notices, remediation
from .findings import FAIL, OK, WARN, Check, Finding, Sample, age, fail, ok
from .host import Answer, Host
from .jobs import Job, Own
from .state import State

STATE = "/var/lib/senex-watchdog"
RUNTIME = "/run/senex-watchdog"
LOG = "/var/log/senextrader/watchdog.log"
TICK = 0.5
LOOP_LAG_LIMIT = 1.0  # seconds late from which on the loop is starved
STUCK = 600  # no job may take so long: it is told, and the others go on
SUPPRESSED_DURING_MAINTENANCE = ("web", "public", "ready", "outside", "dns", "units", "containers")  # what a release or a pause disturbs
log = logging.getLogger("senex.watchdog")


def notify(text: str) -> None:
    """Tell systemd."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.connect("\0" + address[1:] if address.startswith("@") else address)
            channel.sendall(text.encode())


class Watchdog(State):
    """All of it. `now` is the time of day, `clock` runs evenly."""

    def __init__(self, settings: config.Config, secrets: config.Secrets, host: Host, state: str = STATE, runtime: str = RUNTIME):
        told = settings.notify
        super().__init__(state, runtime, notices.Notices(told.digest, told.gap, told.reminder, told.per_hour))
        self.config, self.secrets, self.host = settings, secrets, host
        self.findings: dict[str, list[Finding]] = {}
        self.samples: dict[str, list[Sample]] = {}
        self.starved_until, self.cure, self.held = 0.0, None, {}
        # A part that was restarted, until its first good answer and until its unit has started
        self.settling, self.settled_at, self.starting = "", 0.0, set()
        self.release_until = self.paused_until = 0.0
        self.stopping = False
        self.control = Own()
        self.channels: list[delivery.Channel] = []
        self.jobs = self._jobs()
        # A thread for each job and for a restart, so that those which do not end leave the others theirs
        self.pool = ThreadPoolExecutor(len(self.jobs) + 2, "senex")

    # --- What is asked ---------------------------------------------------------------------------------------------------------

    def _jobs(self) -> list[Job]:
        probe, web, jobs = self.config.probe, self.config.web, []
        jobs.append(Job("control", probe.interval, lambda: self.control.ask(probe.timeout), self._take_control))
        for one in web.instances if web else []:
            jobs.append(Job(
                one.unit, probe.interval,
                lambda one=one: self.host.get(one.address, one.port, web.alive_path, web.domain, probe.timeout),
                lambda answer, now, unit=one.unit: self._take_web(unit, answer, now),
            ))  # fmt: skip
        if self.config.public:
            jobs.append(Job("public", probe.interval, lambda: checks_web.read_public(self.host, self.config), self._take_public))
        takes = {"ready": self._take_ready, "dns": self._take_dns}
        for check in checks.every():
            if check.name in ("web", "public") or not check.applies(self.config):
                continue
            jobs.append(Job(
                check.name, check.interval(probe), lambda check=check: self._find(check),
                takes.get(check.name, lambda found, now, name=check.name: self._tell(name, found, now, 2 if name in SUPPRESSED_DURING_MAINTENANCE else 1)),
            ))  # fmt: skip
        if self.secrets.heartbeat_url:
            jobs.append(Job("heartbeat", self.config.heartbeat_interval, lambda: delivery.fetch(self.secrets.heartbeat_url, 10), lambda *_: None))
        return jobs

    def _find(self, check: Check) -> list[Finding]:
        found, self.samples[check.name] = check.look(self.host, self.config, time.time())
        return found

    def _job(self, name: str) -> Job | None:
        return next((job for job in self.jobs if job.name == name), None)

    def _sooner(self, name: str, seconds: float) -> None:
        job = self._job(name)
        if job:
            job.next = min(job.next, time.monotonic() + seconds)

    # --- What the answers mean -------------------------------------------------------------------------------------------------

    def _mark_self_degraded(self, why: str) -> None:
        if time.monotonic() >= self.starved_until:
            log.warning("own trouble, failures do not count: %s", why)
        self.starved_until = time.monotonic() + 3 * self.config.probe.interval
        for part in self.parts.values():
            part.passed()
        self.notices.discard_unconfirmed()

    @property
    def starved(self) -> bool:
        """Whether the watchdog's own asking is in trouble."""
        return time.monotonic() < self.starved_until

    def _take_control(self, answer: Answer, now: float) -> None:
        if answer.status != 200 or answer.seconds > self.config.probe.timeout / 2:
            self._mark_self_degraded(f"its own answer took {answer.seconds:.1f} s {answer.error}")

    def _count(self, name: str, good: bool, says: str, now: float) -> decide.Part:
        part = self.parts.setdefault(name, decide.Part(name))
        if good:
            part.passed()
            self.settling = "" if self.settling == name else self.settling
        elif not self.starved:
            part.failed(now, says)
            log.info("%s: failure %d: %s", name, part.failures, says)
        return part

    def _take_web(self, unit: str, answer: Answer, now: float) -> None:
        name = unit.removesuffix(".service")
        found = checks_web.judge_web({unit: answer}, self.config, now)
        self.samples[f"web {name}"] = checks_web.measure_web({unit: answer}, now)
        part = self._count(name, answer.status == 200, found[0].says, now)
        self._tell(f"web {name}", found, now, self.config.probe.failures)
        if part.failures >= self.config.probe.failures and answer.status not in remediation.NO_CURE:
            silent, slow = answer.status == 0, answer.error.startswith("no answer")
            cure = remediation.Remediation(name, "user", unit, name if silent else "", needed=self.config.probe.failures, patience=4 if slow else 1)
            self._try(part, cure, now)

    def _take_public(self, answer: Answer, now: float) -> None:
        found = checks_web.judge_public(answer, self.config, now)
        part = self._count("nginx", answer.status == 200, found[0].says, now)
        self._tell("public", found, now, self.config.probe.failures)
        instances = self.config.web.instances if self.config.web else []
        alive = not instances or any(self.parts.get(one.unit.removesuffix(".service"), decide.Part("")).failures == 0 for one in instances)
        # An answer of nginx, even 502, is not cured by another start of it
        silent = answer.status == 0
        if part.failures >= self.config.probe.failures and alive and silent and "nginx.service" in self.config.system_units:
            self._try(part, remediation.Remediation("nginx", "system", "nginx.service", test=("nginx", "-t", "-q"), needed=self.config.probe.failures), now)

    def _take_ready(self, found: list[Finding], now: float) -> None:
        if found[0].level != OK:
            self._sooner("dns", 0)
            self._sooner("units", 0)
        self._tell("ready", found, now, self.config.probe.failures)

    def _take_dns(self, found: list[Finding], now: float) -> None:
        part = self._count("dns", found[0].level != FAIL, found[0].says, now)
        self._tell("dns", found, now, 2)
        if part.failures:
            self._sooner("dns", self.config.probe.interval)
            self._sooner("outside", 0)
        if part.failures >= 2:
            cure = remediation.Remediation("dns", "user", self.config.web.instances[0].unit, needed=2, resolver=True)
            # Without slirp4netns no resolver helps. Names and process are both gone, so there is nothing left that this restart would cost
            if any(one.level == FAIL and one.key == checks_containers.WAY_OUT for one in self.findings.get("outside", [])):
                cure = remediation.Remediation("dns", "system", f"user@{self.host.uid}.service", needed=2)
            self._try(part, cure, now)

    def _tell(self, name: str, found: list[Finding], now: float, needed: int) -> None:
        quiet = name.split()[0] in SUPPRESSED_DURING_MAINTENANCE and (self.starved or max(self.release_until, self.paused_until) > now)
        known = {one.key for one in self.findings.get(name, [])}
        gone = [Finding(key, OK, "is over") for key in known - {one.key for one in found}]
        self.findings[name] = found
        for one in [*gone, *found]:
            if quiet and one.level != OK:
                continue
            # A unit that is starting gets a while; one that failed does not
            change = self.notices.finding(one, now, 2 * needed if name == "units" and one.level == WARN else needed)
            if change:
                log.log(logging.INFO if change == "closed" else logging.WARNING, "%s: %s: %s", change, one.key, one.says)

    # --- Restarts --------------------------------------------------------------------------------------------------------------

    def _try(self, part: decide.Part, cure: remediation.Remediation, now: float) -> None:
        if self.cure is not None:
            return
        log.info("%s: thinks of a restart after %d failures", part.name, part.failures)
        says = part.says
        future = self.pool.submit(remediation.attempt, self.host, self.config, part, cure, self.starved, now, lambda: self._begun(part, now))
        self.cure = (part, says, future, time.monotonic())

    def _begun(self, part: decide.Part, now: float) -> None:
        """Written before it is done: the process may not live to see the end of it, and the next one has to know. Where the disk takes nothing,
        memory does; where neither does nothing is restarted, for nobody could count it."""
        moments = [*decide.recent(part.restarts, now), now]
        if not self._keep({**self.restarts(), part.name: moments}):
            raise OSError("that it is restarted can be written down nowhere, so nothing is restarted")
        part.restarts = moments

    def _take_cure(self, now: float) -> None:
        if self.cure is None or not self.cure[2].done():
            return
        (part, says, future, _), self.cure = self.cure, None
        try:
            outcome = future.result()
        except Exception as error:  # before anything was touched: an answer that nobody foresaw must not end the watchdog
            outcome = remediation.Outcome(decide.Decision(decide.WAIT, untrusted.plain(f"{type(error).__name__}: {error}", 300)))
        decision = outcome.decision
        if decision.what == decide.WAIT:
            if decision.why != self.held.get(part.name):
                log.info("%s: no restart: %s", part.name, decision.why)
            self.held[part.name] = decision.why
            return
        self.held.pop(part.name, None)
        if decision.what == decide.ESCALATE:
            if not part.escalated:
                part.escalated = True
                log.error("%s: given up: %s", part.name, decision.why)
                self.notices.event(f"HELP  {part.name}: {says}. {decision.why}; it is left alone now, somebody has to look: senex doctor", now, urgent=True)
            return
        line = remediation.told(part.name, says, outcome)
        log.warning(line)
        part.restarted(now, now + 2)
        self.settling, self.settled_at = part.name, time.monotonic() + max(30, 4 * self.config.probe.interval)
        self.starting = {f"unit {part.name}.service"}
        self.notices.event(line, now)
        if part.name == "dns":
            self._sooner("dns", 1)
        self._keep(self.restarts())
        self.save()

    # --- The loop --------------------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """One turn."""
        clock, now = time.monotonic(), time.time()
        self.paused_until = remediation.paused_until(now)
        try:
            holder = checks_release.read_release(self.host, self.config)
            self.release_until = now + checks_release.left(holder, now)
        except OSError:
            self.release_until = 0.0
        for job in self.jobs:
            if job.future is not None and job.future.done():
                future, job.future = job.future, None
                try:
                    job.take(future.result(), now)
                except Exception as error:  # one answer that nobody foresaw must not end the others
                    log.warning("%s: %s", job.name, untrusted.plain(error, 500))
                if job.stuck:
                    job.stuck = False
                    self._tell(f"stuck {job.name}", [ok(f"check {job.name}", "has ended")], now, 1)
            if job.future is None and clock >= job.next:
                job.next, job.began, job.future = clock + job.interval, clock, self.pool.submit(job.run)
            elif job.future is not None and clock - job.began > STUCK and not job.stuck:
                if job.name == "control":  # by which the watchdog sees whether it works itself: systemd starts it anew
                    raise RuntimeError(f"its own answer has not come within {STUCK} s")
                job.stuck = True
                says = f"has not ended within {age(STUCK)}, and is not asked again until it does; everything else is"
                self._tell(f"stuck {job.name}", [fail(f"check {job.name}", says, "senex doctor; systemctl restart senex-watchdog")], now, 1)
        for step in (self._take_cure, self._out):
            try:
                step(now)
            except Exception as error:  # as with the jobs
                log.warning("%s: %s", step.__name__.strip("_"), untrusted.plain(error, 500))

    def _out(self, now: float) -> None:
        settling = time.monotonic() < self.settled_at and (bool(self.settling) or bool(self.starting & set(self.notices.open)))
        lines = self.notices.message(now, self.cure is not None or settling)
        if lines:
            title = notices.subject(lines, self.config.environment, self.config.host)
            log.info("tells: %s", title)
            for channel in self.channels:
                try:
                    channel.put({"created": now, "subject": title, "lines": lines})
                except Exception as error:  # the others are to have it all the same
                    log.error("%s: a message is lost: %s", channel.label, untrusted.plain(error, 300))
            self.save()

    def show(self) -> None:
        """What `senex watchdog` reads."""
        self._write(f"{self.runtime}/status.json", {
            "at": time.time(), "paused_until": self.paused_until, "release": self.release_until > time.time(), "starved": self.starved,
            "restarts": {name: part.restarts for name, part in self.parts.items()}, "open": self.notices.saved()["open"],
            "waiting": {channel.label: {"messages": len(channel.names()) + len(channel.unsaved), "trouble": channel.trouble} for channel in self.channels},
        })  # fmt: skip

    def measure(self) -> None:
        """What Prometheus reads, where the environment has one. That it fails must not end the watch."""
        if not self.config.metrics:
            return
        now = time.time()
        restarts = [Sample("watchdog_restarts", len(decide.recent(part.restarts, now)), {"part": name}) for name, part in list(self.parts.items())]
        known = [one for found in list(self.samples.values()) for one in found]
        try:
            more = [*metrics.of_checks(dict(self.findings)), *metrics.connections(self.config.web), *metrics.last_release()]
            metrics.write(self.config.metrics, [*known, *restarts, *more, Sample("watchdog_paused", self.paused_until > now)])
        except OSError as error:
            log.warning("figures cannot be written: %s", untrusted.plain(error, 300))

    def open_channels(self) -> None:
        """The ways out that are configured."""
        told, secrets, queue = self.config.notify, self.secrets, f"{self.state}/queue"
        if told.mail:
            self.channels.append(delivery.Channel("mail", queue, told.retry, lambda *words: delivery.send_mail(told.mail, secrets.smtp_password, *words)))
        if told.webhook and secrets.webhook_url:
            about = {"host": self.config.host, "environment": self.config.environment}
            self.channels.append(delivery.Channel(
                "webhook", queue, told.retry, lambda *words: delivery.send_webhook(told.webhook, secrets.webhook_url, *words, about)
            ))  # fmt: skip
        for channel in self.channels:
            channel.start()

    def run(self) -> None:
        """Until told to end."""
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "stopping", True))
        self.load()
        self.open_channels()
        log.info("watches %s", ", ".join(job.name for job in self.jobs))
        notify("READY=1")
        due, shown = time.monotonic(), 0.0
        while not self.stopping:
            lag = time.monotonic() - due
            if lag > LOOP_LAG_LIMIT:
                self._mark_self_degraded(f"the loop is {lag:.1f} s late")
            self.tick()
            notify("WATCHDOG=1")
            if time.monotonic() - shown > 5:
                self.show()
                self.measure()
                self.save()
                shown = time.monotonic()
            due = time.monotonic() + TICK
            time.sleep(TICK)
        notify("STOPPING=1")
        self.save()


def main(paths: list[str]) -> int:
    """`senex-watchdog [--check]`: run, or say whether the configuration is good."""
    try:
        settings, secrets = config.read(config.CONFIGURATION), config.read(config.SECRETS, config.Secrets)
        host = Host(settings.user, settings.home)
    except (config.ConfigError, LookupError) as error:
        print(f"senex-watchdog: {error}", file=sys.stderr)
        return 78
    if "--check" in paths:
        return 0
    rotating = logging.handlers.RotatingFileHandler(LOG, maxBytes=5_000_000, backupCount=5)
    rotating.setFormatter(logging.Formatter("%(asctime)sZ %(levelname)s %(message)s"))
    logging.Formatter.converter = time.gmtime
    logging.raiseExceptions = False  # a full disk must not end the watch
    journal = logging.StreamHandler()
    journal.setLevel(logging.WARNING)
    logging.basicConfig(level=logging.INFO, handlers=[rotating, journal])
    watchdog = Watchdog(settings, secrets, host)
    try:
        watchdog.run()
        code = 0
    except Exception:
        log.exception("ends")
        code = 1
    logging.shutdown()
    os._exit(code)  # threads that wait for a slow mail server must not hold the end up
