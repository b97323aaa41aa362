"""What one source may take of a site: by its /64 where it has IPv6, in requests, bodies, WebSockets, health checks and connections."""

import contextlib
import functools
import ipaddress
import os
import random
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time

import pytest
from ansible_collections.senex.trader.plugins.module_utils.host import fileset
from nginx_door import DOMAIN, door, evaluated, needs_nginx, rendered
from test_nginx_ways import UPGRADE

PROXY = "127.0.0.7"
BEHIND = {"nginx_trusted_proxies": [f"{PROXY}/32"]}


@functools.cache
def sources():
    """[pattern, value] of the map, in its order."""
    block = rendered("maps.conf.j2").partition("map $remote_addr $senex_source {")[2].partition("}\n")[0]
    return re.findall(r'"~(\S+)" (\S+);', block)


def source(address):
    for pattern, value in sources():
        if found := re.search(pattern.replace("(?<", "(?P<"), address):
            return re.sub(r"\$(senex_\w)", lambda name: found[name[1]], value)
    return address


def written_by_nginx(address):
    """As nginx writes an IPv6 address: the first of the longest runs of two zeros or more is left out."""
    groups = [f"{int(group, 16):x}" for group in ipaddress.ip_address(address).exploded.split(":")]
    runs = [(len(run[0]), run.start()) for run in re.finditer("0+", "".join("0" if group == "0" else "x" for group in groups))]
    longest, start = max(runs, key=lambda run: (run[0], -run[1]), default=(0, 0))
    if longest < 2:
        return ":".join(groups)
    return ":".join(groups[:start]) + "::" + ":".join(groups[start + longest :])


def test_addresses_of_one_network_are_one_source_and_those_of_two_are_two():
    dice, seen = random.Random(64), {}
    networks = [[0x2001, b, c, d] for b in (0, 0xDB8) for c in (0, 1) for d in (0, 2)]
    networks += [[dice.choice((0x2A00, 0x3FFF)), *dice.choices((0, 5, 0xFF), k=3)] for _ in range(40)]
    for network in networks:
        for _ in range(60):
            groups = network + dice.choices((0, 0, 1, 0xABCD), k=4)
            found = source(written_by_nginx(":".join(f"{group:x}" for group in groups)))
            seen.setdefault(found, set()).add(tuple(network))
            assert seen[found] == {tuple(network)}, found
    assert len(seen) == len({tuple(network) for network in networks})
    assert source("192.0.2.7") == "192.0.2.7"


@needs_nginx
def test_the_other_addresses_of_a_network_have_the_same_limit(tmp_path):
    with door(tmp_path, **BEHIND) as site:

        def log_in(address):
            return site.ask("/accounts/login/", source=PROXY, method="POST", body="x", headers={"X-Forwarded-For": address}).status

        assert [log_in(f"2001:db8:0:7:{number:x}::{number:x}") for number in range(1, 7)] == [200] * 3 + [429] * 3
        assert log_in("2001:db8:0:8::1") == log_in("192.0.2.1") == log_in("192.0.2.2") == 200


@contextlib.contextmanager
def waiting(site, count, head, address="127.0.0.20"):
    """So many connections of one source, each having sent this much."""
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            raw = socket.create_connection(("127.0.0.1", site.https), 5, source_address=(address, 0))
            stream = stack.enter_context(ssl._create_unverified_context().wrap_socket(raw, server_hostname=DOMAIN))
            stream.sendall(head.encode())
            found.append(stream)
        yield found


def answered(streams, seconds=0.5):
    """The statuses of those that were answered."""
    end, found = time.monotonic() + seconds, []
    for stream in streams:
        stream.settimeout(max(0.05, end - time.monotonic()))
        with contextlib.suppress(TimeoutError):
            found.append(int(stream.recv(200).split()[1]))
    return found


SLOW_BODY = f"POST /page HTTP/1.1\r\nHost: {DOMAIN}\r\nContent-Length: 100\r\n\r\nx"
SLOW_GET = f"GET /page HTTP/1.1\r\nHost: {DOMAIN}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nx"
SILENT = f"GET /ws/x HTTP/1.1\r\nHost: {DOMAIN}\r\n{UPGRADE}\r\n"


@needs_nginx
@pytest.mark.parametrize(
    ("name", "head", "expected"),
    [
        ("bodies", SLOW_BODY, [429, 429]),
        ("bodies", SLOW_GET, [429, 429]),
        ("websockets", SILENT, [101] * 3 + [429, 429]),
        ("requests", SLOW_BODY, [429, 429]),
    ],
)
def test_what_takes_its_time_is_counted_by_source(tmp_path, name, head, expected):
    with door(tmp_path, **{f"nginx_source_{name}": 3}) as site, waiting(site, 5, head) as streams:
        assert sorted(answered(streams)) == expected
        with waiting(site, 1, head, "127.0.0.21") as other:
            assert 429 not in answered(other), "another source"
        assert site.ask("/page", source="127.0.0.20").status == (429 if name == "requests" else 200)


@needs_nginx
def test_a_header_that_does_not_come_is_waited_for_no_longer_than_asked(tmp_path):
    with door(tmp_path, nginx_client_header_timeout=1) as site, waiting(site, 2, "GET /page HTTP/1.1\r\n") as streams:
        began = time.monotonic()
        for stream in streams:
            stream.settimeout(5)
            with contextlib.suppress(ConnectionError):
                assert stream.recv(100) == b""
        assert time.monotonic() - began < 3
    assert "client_header_timeout 5s;" in rendered("nginx.conf.j2")


@needs_nginx
def test_health_pages_are_limited_and_whoever_has_to_ask_is_not(tmp_path):
    networks = {"nginx_health_networks": [], "nginx_general_burst": 5, "nginx_health_rate": "1r/s", "nginx_health_burst": 3}
    with door(tmp_path, **BEHIND, **networks) as site:
        for path in ("/health/", "/health/simple/"):
            found = site.statuses(20, path, at_once=4, source="127.0.0.30")
            assert 200 in found and found.count(429) >= 8, (path, found)
            for who in ("127.0.0.1", PROXY):
                assert site.statuses(20, path, source=who) == [200] * 20, "this host itself, and a load balancer's own question"
        through = {"source": PROXY, "headers": {"X-Forwarded-For": "192.0.2.9"}}
        assert 429 in site.statuses(20, "/health/", **through), "a visitor that comes by the load balancer"


@needs_nginx
@pytest.mark.parametrize("name", ["nginx_alive_path", "nginx_health_path"])
def test_a_login_page_that_is_a_health_path_too_stays_limited(tmp_path, name):
    with door(tmp_path, **{"nginx_health_networks": [], "nginx_general_burst": 50, "nginx_health_burst": 50, name: "/accounts/login/"}) as site:
        tried = [site.ask("/accounts/login/", source="127.0.0.31", method="POST", body="x").status for _ in range(12)]
        assert 200 in tried and tried.count(429) >= 8, tried
        assert site.ask("/accounts/login/", source="127.0.0.31").status == 200, "who only looks is counted as before"


@needs_nginx
def test_health_networks_are_not_counted(tmp_path):
    with door(tmp_path, nginx_health_networks=["127.0.0.40"], nginx_health_path="/health/simple/") as site:
        assert site.statuses(20, "/health/simple/", source="127.0.0.40") == [200] * 20


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """One with all of its defaults, which a few requests do not exhaust."""
    with door(tmp_path_factory.mktemp("plain")) as site:
        yield site


# A header's value that a server reads as lines
@needs_nginx
@pytest.mark.parametrize("byte", [b"\x0b", b"\x0c", b"\x1c", b"\x1d", b"\x1e", b"\x85", b"\x1f"])
def test_no_header_of_a_clients_making_comes_by_an_upgrade(plain, byte):
    def spoken(request):
        raw = socket.create_connection(("127.0.0.1", plain.https), 10)
        with ssl._create_unverified_context().wrap_socket(raw, server_hostname=DOMAIN) as stream:
            stream.sendall(request + b"\r\n")
            return stream.recv(100).split()[1]

    def upgrade(target=b"/ws/x", more=b""):
        return b"GET %s HTTP/1.1\r\nHost: %s\r\n%s%s" % (target, DOMAIN.encode(), UPGRADE.encode(), more)

    smuggled = b"a" + byte + b"X-Forwarded-For: 6.6.6.6"
    assert spoken(upgrade(more=b"Cookie: " + smuggled + b"\r\n")) == b"400"
    assert spoken(upgrade(more=b"Origin: " + smuggled + b"\r\n")) == b"400"
    assert spoken(upgrade(b"/ws/x?a=" + smuggled.replace(b" ", b""))) == b"400"
    assert spoken(upgrade(more=b"X-Other: " + smuggled + b"\r\n")) == b"101", "not passed on, see below"
    # Wherever an upgrade is passed on, headers are looked at
    assert spoken(upgrade(b"/WS/x", b"Cookie: " + smuggled + b"\r\n")) == b"200"


@needs_nginx
def test_headers_that_reach_a_websocket(tmp_path):
    with door(tmp_path, nginx_websocket_headers=["Cookie", "X-Api-Key"]) as site:
        headers = {"X-Other": "1", "X-Api-Key": "2", "Cookie": "a=b; c=\u00e9".encode("latin1"), "X-Forwarded-For": "6.6.6.6", "Forwarded": "for=6.6.6.6"}
        seen = site.ask("/ws/x", headers=headers, method="POST", body="body").json
        assert seen["headers"]["X-Api-Key"] == "2" and seen["headers"]["Cookie"].startswith("a=b; c=") and seen["method"] == "POST"
        assert seen["headers"]["Content-Length"] == "4" and seen["headers"]["X-Forwarded-For"] == "127.0.0.1" and seen["headers"]["Host"] == DOMAIN
        assert not {"X-Other", "Forwarded"} & set(seen["headers"])
    problems = evaluated("__nginx_input_problems", nginx_websocket_headers=["Cookie", "X-Forwarded-For", "Host", "Daphne-Root-Path", "a b"])
    assert len(problems) == 1 and "a b, host, daphne-root-path, x-forwarded-for" in problems[0]


# What is sent twice, and what never is
class Half:
    """Stands in for an instance that is just starting: Podman takes the connection at its port, and nobody is behind."""

    def __init__(self, port):
        self.code = f"""
import socket
server = socket.create_server(("127.0.0.1", {port}))
while True:
    connection = server.accept()[0]
    connection.close()
"""

    def __enter__(self):
        self.process = subprocess.Popen([sys.executable, "-c", self.code])
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


@needs_nginx
def test_a_post_goes_to_the_next_instance_only_where_none_of_it_was_sent(tmp_path):
    with door(tmp_path, nginx_rate_limit_exempt_networks=["127.0.0.0/8"]) as site:
        site.processes[0].kill()
        site.processes[0].wait()
        assert site.statuses(12, "/refused", method="POST", body="x") == [200] * 12, "refused, so nothing was sent"
        with Half(site.first):
            site.wait_for(site.first)
            assert site.statuses(12, "/get") == [200] * 12, "a GET may be sent twice"
            found = site.statuses(12, "/post", method="POST", body="x")
            assert set(found) == {200, 502}, "what was sent is not sent again: the instance may have done it"


# The firewall
BEFORE = """#
# rules.before
#
*nat
:POSTROUTING ACCEPT [0:0]
COMMIT
# Don't delete these required lines, otherwise there will be errors
*filter
:{chain} - [0:0]
-A {chain} -i lo -j ACCEPT
# my own
-A {chain} -p tcp --dport 9 -j ACCEPT
# don't delete the 'COMMIT' line or these rules won't be processed
COMMIT
"""


def blocks(**inputs):
    found = []
    for item in evaluated("__nginx_firewall_blocks", **inputs):
        found.append((item["dest"], rendered("ufw.rules.j2", **inputs, **item["vars"]) or "", item["block_at"]))
    return found


def test_sources_that_are_trusted_are_not_counted_by_the_firewall():
    inputs = {"nginx_trusted_proxies": ["10.0.0.0/8", "fd00::/8", "unix:"], "nginx_rate_limit_exempt_networks": ["192.0.2.1"], "nginx_ipv6": "yes"}
    (_, four, _), (_, six, _) = blocks(**inputs)
    assert "-A senex-web -s 10.0.0.0/8 -j RETURN\n-A senex-web -s 192.0.2.1 -j RETURN\n" in four and ":/8" not in four
    assert "-s fd00::/8 -j RETURN" in six and "10.0.0.0" not in six and "--connlimit-mask 64" in six and "--hashlimit-srcmask 64" in six
    assert "unix" not in four + six and "ufw6-before-input" in six


@pytest.mark.parametrize(
    ("inputs", "empty"),
    [
        ({"nginx_rate_limits_enabled": "no"}, [True, True]),
        ({"nginx_source_connections": 0, "nginx_source_connection_rate": "0"}, [True, True]),
        ({"nginx_ipv6": "false"}, [False, True]),
        ({"nginx_source_connections": 0}, [False, False]),
    ],
)
def test_where_no_limit_is_asked_for_there_is_no_rule(inputs, empty):
    assert [not text.strip() for _, text, _ in blocks(**{"nginx_ipv6": True} | inputs)] == empty


@pytest.mark.parametrize(("number", "chain"), [(0, "ufw-before-input"), (1, "ufw6-before-input")])
def test_the_block_goes_to_the_end_of_ufws_own_table(number, chain):
    path, text, at = blocks(nginx_ipv6=True)[number]
    before = BEFORE.format(chain=chain).encode()
    after = fileset.with_block(before, text.encode(), at, path)
    nat, table = after.split(b"*filter")
    assert b"senex" not in nat and fileset.with_block(after, b"", at, path) == before
    jump = f"-A {chain} ! -i lo -p tcp --syn -m multiport --dports 80,443 -j senex-web".encode()
    assert table.index(b"--dport 9") < table.index(jump) < table.index(b"COMMIT\n")


def in_a_network_of_its_own(code, *words):
    return subprocess.run(["unshare", "--net", sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60, check=False)


FLOOD = r"""
import contextlib, select, socket, subprocess, sys, time
def sh(text):
    subprocess.run(text, shell=True, check=True)
tool, rules, mine, same, other = sys.argv[1:]
six = ":" in mine
flag, length, more = ("-6", 32, "nodad") if six else ("", 16, "")
sleeper = subprocess.Popen(["unshare", "--net", "sleep", "50"])
time.sleep(0.3)
inside = f"nsenter --net --target {sleeper.pid}"
try:
    sh(f"ip link set lo up; ip link add senex0 type veth peer name senex1 netns {sleeper.pid}")
    sh(f"ip {flag} addr add {mine}/{length} dev senex0 {more}; ip link set senex0 up")
    for one in same.split(",") + [other]:
        sh(f"{inside} ip {flag} addr add {one}/{length} dev senex1 {more}")
    sh(f"{inside} ip link set senex1 up")
    chain = "ufw6-before-input" if six else "ufw-before-input"
    sh(f"{tool} -N {chain}; {tool} -A INPUT -j {chain}")
    subprocess.run([f"{tool}-restore", "--noflush"], input=rules, text=True, check=True)
    server = socket.create_server((mine, 80), family=socket.AF_INET6 if six else socket.AF_INET, backlog=4096)
    client = '''
import select, socket, sys, time
mine, *sources = sys.argv[1:]
family = socket.AF_INET6 if ":" in mine else socket.AF_INET
opened = []
for number in range(60):
    one = socket.socket(family)
    one.setblocking(False)
    one.bind((sources[number % len(sources)], 0))
    one.connect_ex((mine, 80))
    opened.append(one)
time.sleep(1)
print(sum(1 for one in opened if one in select.select([], [one], [], 0)[1] and not one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)), flush=True)
sys.stdin.read()
'''
    def begun(code, *words):
        argv = [*inside.split(), sys.executable, "-c", code, mine, *words]
        return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    flood = begun(client, *same.split(","))
    taken = flood.stdout.readline().strip()
    visitor = begun(client.replace("range(60)", "range(1)"), other)
    print(taken, visitor.stdout.readline().strip())
    for one in (flood, visitor):
        one.communicate()
finally:
    sleeper.kill()
"""
CAN = os.geteuid() == 0 and all(shutil.which(name) for name in ("unshare", "nsenter", "ip", "iptables-restore", "ip6tables-restore"))


@pytest.mark.skipif(not CAN, reason="needs root and iptables")
@pytest.mark.parametrize(("limits", "most"), [({"nginx_source_connections": 20}, 20), ({"nginx_source_connections": 0, "nginx_source_connection_rate": 1,
                                                                                           "nginx_source_connection_burst": 10}, 13)])  # fmt: skip
@pytest.mark.parametrize(
    ("tool", "mine", "same", "other"),
    [
        ("iptables", "10.9.0.1", "10.9.0.2", "10.9.0.3"),
        ("ip6tables", "2001:db8:0:1::1", "2001:db8:0:2::2,2001:db8:0:2:ffff::3", "2001:db8:0:3::2"),
    ],
)
def test_a_flood_of_connections_leaves_the_others_theirs(tool, mine, same, other, limits, most):
    """With the kernel's own counting, between two networks that nobody else sees; ufw hands these lines to the same program."""
    _, text, _ = blocks(nginx_ipv6=True, **limits)[tool == "ip6tables"]
    done = in_a_network_of_its_own(FLOOD, tool, f"*filter\n{text}COMMIT\n", mine, same, other)
    if "unshare failed" in done.stderr:
        pytest.skip("no network of one's own here")
    assert done.returncode == 0, done.stderr
    taken, visitor = map(int, done.stdout.split())
    assert 5 <= taken <= most and visitor == 1, done.stdout


@pytest.mark.skipif(not CAN, reason="needs root and iptables")
def test_rules_that_the_kernel_does_not_take_are_refused_before_the_firewall_hears_of_them(tmp_path):
    script = tmp_path / "firewall.sh"
    script.write_text(rendered("firewall.sh.j2").replace("/etc/ufw/", f"{tmp_path}/").replace("command -v ufw", "true"))
    _, text, _ = blocks()[0]
    for rules, code in ((text, 0), (text.replace("--connlimit-above", "--connlimit-unheard-of"), 1), ("", 0)):
        (tmp_path / "before.rules").write_text(f"*filter\n# BEGIN senex.trader: x\n{rules}# END senex.trader\nCOMMIT\n")
        left = "; iptables --list senex-try >/dev/null 2>&1 && echo left >&2; exit $code"
        done = subprocess.run(["unshare", "--net", "sh", "-c", f"sh {script} try; code=$?{left}"], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == code, done.stderr
        assert ("this kernel cannot limit connections" in done.stderr) == bool(code) and "left" not in done.stderr.split()


@pytest.fixture(scope="module")
def below_api(tmp_path_factory):
    rates = {f"nginx_{name}": value for zone in ("api", "general", "static") for name, value in ((f"{zone}_rate", "1r/m"), (f"{zone}_burst", 1))}
    place = tmp_path_factory.mktemp("below")
    places = {
        "senex_static_url": "/api/static/",
        "senex_media_url": "/api/media/",
        "nginx_static_directory": str(place),
        "nginx_media_directory": str(place),
    }
    (place / "a.png").write_text("x")
    with door(place, nginx_websocket_paths=["/api/ws/"], nginx_unbuffered_paths=["/api/events/"], **rates, **places) as site:
        yield site


@needs_nginx
@pytest.mark.parametrize(("number", "path"), list(enumerate(["/api/ws/chat", "/api/static/a.png", "/api/media/a.png", "/api/events/all"])))
def test_what_lies_below_a_path_of_the_api_has_a_limit_too(below_api, number, path):
    """Of a WebSocket, a file and a stream there is a limit by name or by kind; where a path is of both, each other one's counted it no more."""
    assert below_api.statuses(5, path, source=f"127.0.0.{50 + number}")[2:] == [429] * 3
