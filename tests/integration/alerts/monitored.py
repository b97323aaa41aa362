"""Prometheus and Alertmanager of the host, as the tests use them."""

import base64
import json
import re
import time

import yaml
from stack import ROOT

RULES = ROOT / "roles/monitoring/files/rules.yml"
SHIPPED = yaml.safe_load(RULES.read_text(encoding="utf-8"))
ALERTS = {rule["alert"]: rule for group in SHIPPED["groups"] for rule in group["rules"] if "alert" in rule}
# By which every `for` is shorter than it is shipped: a week is three minutes and a half
FASTER = 3000
UNITS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
API = "curl -sS -u metrics:alerts-metrics-password http://127.0.0.1:9090/api/v1"
METRICS = "/etc/senex-trader/metrics"
# A sink that is there before anything is sent to it
SINK = "base64 -d >/root/mail_server.py; systemctl stop sink; systemd-run --quiet --collect --unit=sink python3 /root/mail_server.py 2525 /root/mails"
# Of three days and some hours, each half minute, two days ago half an hour of failures. Written as Prometheus writes its own; what it has of itself stays
HISTORY = """
set -e
python3 - >/root/history <<'END'
import json, sys, time, urllib.request, base64, urllib.parse
login = base64.b64encode(b"metrics:alerts-metrics-password").decode()
def asked(question):
    url = "http://127.0.0.1:9090/api/v1/query?" + urllib.parse.urlencode({"query": question})
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Authorization": "Basic " + login}), timeout=20) as answer:
        return json.load(answer)["data"]["result"]
first = int(float(asked('min(min_over_time(timestamp(probe_success{job="probe-site"})[1h:5s]))')[0]["value"][1]))
print("# TYPE probe_success gauge")
for one in asked('probe_success{job="probe-site"}'):
    labels = ",".join(f'{name}="{value}"' for name, value in one["metric"].items() if name != "__name__")
    for moment in range(first - 76 * 3600, first, 30):
        print(f"probe_success{{{labels}}} {0 if 0 <= moment - (first - 48 * 3600) < 1800 else 1} {moment}")
print("# EOF")
END
promtool tsdb create-blocks-from openmetrics /root/history /root/blocks >/dev/null
chown -R prometheus:prometheus /root/blocks
mv /root/blocks/* /var/lib/prometheus/metrics2/
systemctl restart prometheus
"""


def shortened(patience):
    """A duration of Prometheus, so much shorter."""
    return f"{sum(int(number) * UNITS[unit] for number, unit in re.findall(r'([0-9]+)([smhd])', patience)) // FASTER}ms"


def rules(lowered):
    """The shipped file with every `for` shorter, and no expression changed but those thresholds: {alert: (as shipped, here)}."""
    text = re.sub(r"^( +for: )(\S+)$", lambda found: found[1] + shortened(found[2]), RULES.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for alert, (was, now) in lowered.items():
        assert ALERTS[alert]["expr"].count(was) == 1 and text.count(f"expr: {ALERTS[alert]['expr']}\n") == 1
        text = text.replace(f"expr: {ALERTS[alert]['expr']}\n", f"expr: {ALERTS[alert]['expr'].replace(was, now)}\n")
    return text


class Monitored:
    def __init__(self, stack):
        self.stack, self.sh = stack, stack.sh
        program = base64.b64encode((ROOT / "tests/integration/mail_server.py").read_bytes()).decode()
        self.sh(f"echo {program} | {SINK}")
        self.sh(HISTORY)

    def put(self, lowered):
        """These rules in the place of the shipped ones, as promtool takes them; nothing is known of what was told before."""
        text = base64.b64encode(rules(lowered).encode()).decode()
        self.sh(f"echo {text} | base64 -d >{METRICS}/rules.yml; promtool check rules {METRICS}/rules.yml; systemctl reload prometheus")

    def forget(self):
        """Alertmanager told nobody anything yet."""
        self.sh("systemctl stop prometheus-alertmanager; rm -rf /var/lib/prometheus/alertmanager/*; : >/root/mails; systemctl start prometheus-alertmanager")

    def mails(self):
        """Subject to text of those that came."""
        text = self.stack.ssh("cat /root/mails").stdout.replace("=\r\n", "").replace("=\n", "")
        return [(one.partition("\n")[0], one) for one in text.split("Subject: ")[1:]]

    def told(self, alert, says, until):
        """The mail that says so of this alert; what Prometheus and the sink know, where none came."""
        while True:
            found = [text for subject, text in self.mails() if f"FIRING {alert} " in subject and says in text]
            if found:
                return found[0]
            if time.time() > until:
                return None
            time.sleep(2)

    def known(self, alert):
        """What the parts of its rule have now, for whoever looks why it did not come."""
        expression = ALERTS[alert]["expr"]
        parts = [
            expression,
            *sorted(set(re.findall(r"\b(?:senex_|node_|redis_|pg_|nginx_|probe_|prometheus_|alertmanager_)\w+(?:\{[^}]*\})?|\bup\b", expression))),
        ]
        found = {}
        for part in parts:
            answer = json.loads(self.sh(f"{API}/query --data-urlencode query='{part}'"))
            found[part] = [(one["metric"], one["value"][1]) for one in answer["data"]["result"]][:6] if answer["status"] == "success" else answer
        return f"{found}\nsubjects: {[subject for subject, _ in self.mails()]}"
