"""What Prometheus on this host says of the site's availability and of alerts, for `senex status`. The watchdog does not ask: Prometheus tells of its alerts."""

from __future__ import annotations

import base64
import http.client
import json
import pwd
import urllib.parse

from senex_host import bounded, untrusted

from .findings import Check, Finding, is_number, ok, warn

PORT = 9090
ACCOUNT = "prometheus"
USER = "metrics"
PASSWORD = "/etc/senex-trader/metrics/password"  # noqa: S105  (role monitoring's file)
TABLE = "/proc/net/tcp"
LISTENS = "0A"
OBJECTIVE = 0.999
QUESTIONS = {"errors": "senex:site_errors:ratio_30d", "alerts": 'count by (alertname) (ALERTS{alertstate="firing"})'}


def theirs(table: str, port: int) -> set[int]:
    """Whose processes listen at a port of the loopback, by the kernel's table."""
    words = [line.split() for line in untrusted.records(table)[1:]]
    return {int(one[7]) for one in words if len(one) > 7 and one[3] == LISTENS and one[1].endswith(f":{port:04X}")}


def asked(question: str, login: str) -> list[dict]:
    """The rows of an answer of Prometheus'."""
    path = f"/api/v1/query?{urllib.parse.urlencode({'query': question})}"
    try:
        answer = bounded.ask("127.0.0.1", PORT, path, {"Host": "127.0.0.1", "Authorization": f"Basic {login}"}, 10)
    except (OSError, http.client.HTTPException) as error:
        raise OSError(f"Prometheus does not answer: {error}") from None
    if answer.status != 200:
        raise OSError(f"Prometheus answers {answer.status}")
    return json.loads(answer.body)["data"]["result"]


def read_monitoring(host, config) -> dict:
    """Asked at its port, if it is Prometheus that listens there: nobody else is told the password."""
    with open(TABLE, encoding="ascii") as handle:
        table = handle.read()
    if theirs(table, PORT) != {pwd.getpwnam(ACCOUNT).pw_uid}:
        raise OSError(f"Prometheus does not listen at port {PORT}")
    with open(PASSWORD, encoding="utf-8") as handle:
        login = base64.b64encode(f"{USER}:{handle.read()}".encode()).decode()
    rows = {name: asked(question, login) for name, question in QUESTIONS.items()}
    errors = [float(row["value"][1]) for row in rows["errors"]]
    return {"errors": errors[0] if errors and is_number(errors[0]) else None, "alerts": sorted(row["metric"]["alertname"] for row in rows["alerts"])}


def judge_monitoring(data: dict, config, now: float) -> list[Finding]:
    """The objective is met, and no alert fires."""
    errors, found = data["errors"], []
    if errors is None:
        found.append(ok("availability", "is not known yet"))
    else:
        left = 100 * (1 - errors / (1 - OBJECTIVE))
        says = f"{100 * (1 - errors):.2f} % in 30 days, the objective is {100 * OBJECTIVE:g} %; {max(0.0, left):.0f} % of the error budget are left"
        found.append(ok("availability", says) if left > 0 else warn("availability", says, "docs/operations/runbook.md#the-error-budget-is-used-up"))
    if data["alerts"]:
        found.append(warn("alerts", f"Prometheus has these: {', '.join(data['alerts'])}", "docs/operations/monitoring.md#alerts; the mail names the section"))
    else:
        found.append(ok("alerts", "none"))
    return found


CHECKS = [Check("monitoring", read_monitoring, judge_monitoring, lambda config: "monitoring" in config.components)]
