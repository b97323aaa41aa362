"""Checks of what is asked as a client would: web instances, readiness, the public address, servers that are somebody else's."""

from __future__ import annotations

from .findings import Check, Finding, Sample, fail, ok
from .host import Answer


def read_web(host, config) -> dict[str, Answer]:
    """Each instance at its port on the host."""
    web = config.web
    return {one.unit: host.get(one.address, one.port, web.alive_path, web.domain, config.probe.timeout) for one in web.instances}


def why(answer: Answer, domain: str) -> str:
    """What a wrong answer is a sign of."""
    if answer.status == 400:
        return f"400, so the application does not know the name {domain}: ALLOWED_HOSTS (senex_domain, senex_domain_aliases)"
    if answer.status in (301, 302, 308):
        return f"{answer.status} to {answer.location}: it does not see that the request came by https (SECURE_PROXY_SSL_HEADER), or knows another name"
    return f"answers {answer.status}" if answer.status else answer.error


def judge_web(data: dict[str, Answer], config, now: float) -> list[Finding]:
    """Each instance is alive."""
    found = []
    for unit, answer in data.items():
        name = unit.removesuffix(".service")
        if answer.status == 200:
            found.append(ok(f"web {name}", f"alive in {answer.seconds * 1000:.0f} ms"))
        else:
            found.append(fail(f"web {name}", why(answer, config.web.domain), f"senex logs {name}; senex restart {name}"))
    return found


def measure_web(data: dict[str, Answer], now: float) -> list[Sample]:
    """Whether each answers as it should, and how fast."""
    found = [(answer, {"unit": unit.removesuffix(".service")}) for unit, answer in data.items()]
    return [one for answer, of in found for one in (Sample("web_up", answer.status == 200, of), Sample("web_seconds", answer.seconds, of))]


def read_ready(host, config) -> Answer:
    """Database and Redis as the application sees them, by the first instance that is alive."""
    web, answer = config.web, Answer(0, "no instance is alive")
    for one in web.instances:
        answer = host.get(one.address, one.port, web.ready_path, web.domain, 2 * config.probe.timeout)
        if answer.status == 200:
            break
    return answer


def judge_ready(data: Answer, config, now: float) -> list[Finding]:
    """The readiness page is good. What the application looks at for it, nobody else knows; database and Redis have checks of their own."""
    if data.status == 200:
        only = "; it is the liveness page too" if config.web.ready_path == config.web.alive_path else ""
        return [ok("application", f"{config.web.ready_path} answers 200 in {data.seconds * 1000:.0f} ms{only}")]
    body = " ".join(data.body.split())[:200] if data.status == 503 else ""
    says = f"{config.web.ready_path} {why(data, config.web.domain)}{': ' + body if body else ''}"
    stands = [name for name in ("postgres", "redis") if f"{name}.service" in config.user_units]
    theirs = [f"{one.what} ({one.host}:{one.port})" for one in config.elsewhere]
    logs = "".join(f"; senex logs {name}" for name in stands)
    ask = f"senex status shows which of {', '.join(stands or ['database'])} and name resolution{logs}" if stands or not theirs else ""
    return [fail("application", says, "; ".join(filter(None, [ask, f"ask whoever has {', '.join(theirs)}" if theirs else ""])))]


def read_public(host, config) -> Answer:
    """The site through nginx."""
    public = config.public
    return host.get(public.address, public.port, public.path, public.domain, config.probe.timeout, True)


def judge_public(data: Answer, config, now: float) -> list[Finding]:
    """The site answers."""
    name = f"https://{config.public.domain}{config.public.path}"
    if data.status == 200:
        return [ok("public", f"{name} answers in {data.seconds * 1000:.0f} ms")]
    return [fail("public", f"{name}: {why(data, config.public.domain)}", "nginx -t; journalctl -u nginx -n 50; senex status for the instances behind it")]


def read_elsewhere(host, config) -> list[dict]:
    """Somebody else's servers, and why one takes no connection."""
    return [{"what": one.what, "server": f"{one.host}:{one.port}", "says": one.says, "trouble": host.connects(one.host, one.port, config.probe.timeout)}
            for one in config.elsewhere]  # fmt: skip


def judge_elsewhere(data: list[dict], config, now: float) -> list[Finding]:
    """They are there; what else is known of them the application says."""
    return [
        fail(one["what"], f"{one['server']}, somebody else's server, takes no connection: {one['trouble']}", "ask whoever has it; is its firewall open?")
        if one["trouble"] else ok(one["what"], f"{one['server']}, somebody else's server, takes connections; {one['says']}")
        for one in data
    ]  # fmt: skip


CHECKS = [
    Check("web", read_web, judge_web, lambda config: config.web, measure=measure_web),
    Check("public", read_public, judge_public, lambda config: config.public),
    Check("ready", read_ready, judge_ready, lambda config: config.web, interval=lambda probe: 2 * probe.interval),
    Check("elsewhere", read_elsewhere, judge_elsewhere, lambda config: config.elsewhere),
]
