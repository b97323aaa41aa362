"""Services on their own hosts: the hosts over ssh, the site over HTTPS, what goes over the wire between them, and who reaches which port."""

import base64
import json
import shlex
import ssl
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
sys.path[:0] = [str(ROOT / "molecule/shared"), str(ROOT / "tests/integration")]

from two_hosts import Host, journals, pytest_runtest_makereport  # noqa: E402, F401  (the path above must come first)

# All that comes and goes at the ports of the servers, as the wire has it: payloads of TCP alone, 64 MB at most
CAPTURE = """
import signal, socket, sys, time
end, ports, left = time.time() + 250, {PORTS}, 64 * 2**20
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * 2**20)
wire.bind(("eth0", 0x0800))
wire.settimeout(1)
out = {port: open(f"/root/wire-{port}", "wb", buffering=0) for port in ports}
while time.time() < end and left > 0:
    try:
        packet = wire.recv(65536)
    except TimeoutError:
        continue
    head = (packet[0] & 15) * 4
    if packet[9] != 6:
        continue
    ends = int.from_bytes(packet[head:head + 2], "big"), int.from_bytes(packet[head + 2:head + 4], "big")
    data = packet[head + (packet[head + 12] >> 4) * 4:int.from_bytes(packet[2:4], "big")]
    for port in ports:
        if data and port in ends:
            left -= len(data)
            out[port].write(data)
"""

# Questions of standard input, to Prometheus on that host
ASK = """
import base64, json, sys, urllib.parse, urllib.request
login = base64.b64encode(b"metrics:" + open("/etc/senex-trader/metrics/password", "rb").read()).decode()
def asked(question):
    url = "http://127.0.0.1:9090/api/v1/query?" + urllib.parse.urlencode({"query": question})
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Authorization": "Basic " + login}), timeout=20) as answer:
        return json.load(answer)["data"]["result"]
print(json.dumps({question: asked(question) for question in json.load(sys.stdin)}))
"""

# The ports of these addresses that answer
SCAN = """
import asyncio, json
async def open_at(address, port):
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(address, port), 2)
    except OSError:
        return None
    writer.close()
    return address, port
async def scan():
    return [one for one in await asyncio.gather(*(open_at(address, port) for address in {ADDRESSES} for port in {PORTS})) if one]
print(json.dumps(asyncio.run(scan())))
"""


class Site:
    """The three hosts, and what the traffic needs to know."""

    def __init__(self):
        self.app, self.database, self.queue = self.hosts = Host("molecule-app", 122, 2), Host("molecule-database", 123, 0), Host("molecule-queue", 124, 0)
        self.address = self.app.address
        self.context = ssl.create_default_context(cadata=self.database.sh("cat /etc/senex-trader/tls/ca.crt"))

    def listening(self):
        """Every port that something listens at on any of the hosts."""
        found = [host.sh("ss -Hltn | awk '{print $4}'").split() for host in self.hosts]
        return sorted({int(one.rpartition(":")[2]) for lines in found for one in lines})

    def scan(self):
        return SCAN.replace("{ADDRESSES}", str([host.address for host in self.hosts])).replace("{PORTS}", str([*range(1, 101), *self.listening()]))

    def named(self, found):
        """{host: the ports that answered there}."""
        return {host.name.removeprefix("molecule-"): {port for address, port in found if address == host.address} for host in self.hosts}


class Wire:
    """What a host sends and gets at some ports while the block runs."""

    def __init__(self, host, *ports):
        self.host, self.ports = host, ports

    def __enter__(self):
        script = CAPTURE.replace("{PORTS}", str(self.ports))
        self.pid = self.host.sh(f"setsid python3 -c {shlex.quote(script)} >/dev/null 2>/root/wire.log & echo $!").strip()
        return self

    def __exit__(self, *_):
        assert self.host.run(f"kill {self.pid}").returncode == 0, self.host.sh("cat /root/wire.log")

    def captured(self, port):
        return base64.b64decode(self.host.sh(f"base64 -w0 /root/wire-{port}"))


@pytest.fixture(scope="session")
def site():
    return Site()


@pytest.fixture(scope="session")
def open_ports(site):
    """{who asks: {host: ports}}; `stranger` is this machine, which is none of the environment's."""
    script = site.scan()

    def asked(host):
        return site.named(json.loads(host.sh(f"python3 -c {shlex.quote(script)}", 100)))

    with ThreadPoolExecutor() as pool:
        stranger = pool.submit(lambda: site.named(json.loads(_here(script))))
        return {host.name.removeprefix("molecule-"): found for host, found in zip(site.hosts, pool.map(asked, site.hosts), strict=True)} | {
            "stranger": stranger.result()
        }


def _here(script):
    import subprocess

    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=True).stdout


@pytest.fixture(scope="session", autouse=True)
def trouble(site):
    """From the first test on the exporter of nginx does not reach it, and a sink waits for the mail about that: what an alert takes passes meanwhile."""
    program = base64.b64encode((ROOT / "tests/integration/mail_server.py").read_bytes()).decode()
    site.app.sh(f"echo {program} | base64 -d >/root/mail_server.py; systemd-run --quiet --collect --unit=sink python3 /root/mail_server.py 2525 /root/mails")
    rule = "INPUT -i lo -p tcp --dport 8090 -j REJECT --reject-with tcp-reset"
    site.app.sh(f"iptables -I {rule}")
    began = time.monotonic()
    yield Trouble(site.app, rule, began)
    site.app.run(f"iptables -D {rule}; systemctl stop sink")


class Trouble:
    """What was broken, and the mail about it."""

    def __init__(self, host, rule, began):
        self.host, self.rule, self.began = host, rule, began

    def mail(self, about, within):
        """The one with this subject, in so many seconds after it began."""
        while (left := self.began + within - time.monotonic()) > 0:
            mails = self.host.run("cat /root/mails").stdout.replace("=\r\n", "").replace("=\n", "")
            found = [one for one in mails.split("Subject: ")[1:] if about in one.partition("\n")[0]]
            if found:
                return found[0]
            time.sleep(min(2, left))
        pytest.fail(f"no mail with {about} within {within} s: {mails}")

    def mend(self):
        self.host.sh(f"iptables -D {self.rule}")


@pytest.fixture(scope="session")
def prometheus(site, trouble):
    """What it answers to several questions: {question: rows}."""

    def asked(*questions):
        given = base64.b64encode(json.dumps(questions).encode()).decode()
        return json.loads(site.app.sh(f"echo {given} | base64 -d | python3 -c {shlex.quote(ASK)}", 100))

    return asked
