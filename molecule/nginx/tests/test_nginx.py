"""What a visitor of the site sees, and what the host shows."""

import re
import shlex
import time

import pytest
from conftest import DOMAIN, Visitor

pytestmark = pytest.mark.usefixtures("journal")


def test_http_redirects_to_https(visitor):
    answer = visitor.get("/a/b?c=d", scheme="http")
    assert (answer.status, answer.headers["location"]) == (301, f"https://{DOMAIN}/a/b?c=d")


def test_challenges_of_acme_are_answered_without_tls(host, visitor):
    host.run("cd /var/lib/senex-acme && mkdir -p .well-known/acme-challenge && echo token > .well-known/acme-challenge/t")
    answer = visitor.get("/.well-known/acme-challenge/t", scheme="http")
    assert (answer.status, answer.body) == (200, "token\n")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_another_name_gets_no_answer(visitor, scheme):
    assert visitor.get("/", scheme=scheme, domain="other.example").status == 0
    assert visitor.get("/", "--header", "Host: other.example").status in (0, 421)


def test_application_sees_the_real_address_and_name(visitor):
    forged = {"X-Forwarded-For": "6.6.6.6", "X-Real-IP": "6.6.6.6", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "evil.example", "Forwarded": "for=6.6.6.6",
              "Daphne-Root-Path": "/x"}  # fmt: skip
    options = [word for name, value in forged.items() for word in ("--header", f"{name}: {value}")]
    seen = visitor.get("/", *options).json["headers"]
    assert seen["X-Forwarded-For"] == seen["X-Real-IP"] == visitor.address
    assert seen["X-Forwarded-Proto"] == "https"
    assert seen["Host"] == seen["X-Forwarded-Host"] == DOMAIN
    assert not {"Forwarded", "Daphne-Root-Path"} & set(seen)


def test_both_instances_answer(visitor):
    assert {visitor.get("/").json["port"] for _ in range(6)} == {8001, 8002}


def start_upstreams(host):
    """Both listen; nginx asks them with the next request, for it leaves none alone."""
    host.run("systemctl start upstream@8001 upstream@8002")
    for port in (8001, 8002):
        host.run(f"timeout 20 sh -c 'until curl -s -o /dev/null http://127.0.0.1:{port}/; do sleep 0.2; done'")


def test_a_dead_instance_is_not_noticed(host, visitor):
    visitor.get("/")
    host.run("systemctl stop upstream@8001.service")
    try:
        assert visitor.statuses(30, "/") == [200] * 30
        assert [visitor.post("/").status for _ in range(4)] == [200] * 4
    finally:
        start_upstreams(host)
    assert {visitor.get("/").json["port"] for _ in range(6)} == {8001, 8002}


def test_a_rolling_restart_loses_nothing(host):
    visitor = Visitor(host, "127.0.0.200")
    restart = "sleep 1.5; systemctl stop upstream@$port; sleep 1; systemctl start upstream@$port; sleep 2"
    host.run(f"(for port in 8001 8002; do {restart}; done) >/dev/null 2>&1 &")
    deadline, seen = time.time() + 9, []
    while time.time() < deadline:
        seen += visitor.statuses(200, "/")
    assert set(seen) == {200}, {code: seen.count(code) for code in set(seen)}


def test_without_any_instance_a_page_of_our_own(host, visitor):
    host.run("systemctl stop upstream@8001 upstream@8002")
    try:
        answer = visitor.get("/")
        posted = visitor.post("/")
    finally:
        start_upstreams(host)
    for got in (answer, posted):
        assert got.status == 502
        assert "does not answer" in got.body
        assert got.headers["retry-after"] == "10"
        assert got.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(("path", "status"), [("/missing", 404), ("/unavailable", 503)])
def test_errors_of_the_application_stay_its_own(visitor, path, status):
    answer = visitor.get(path)
    assert (answer.status, answer.json["application"]) == (status, "stand-in")


def test_a_websocket_is_upgraded(host, visitor):
    script = f"""
import base64, os, socket, ssl
context = ssl._create_unverified_context()
plain = socket.create_connection(("127.0.0.1", 443), source_address=("{visitor.address}", 0))
s = context.wrap_socket(plain, server_hostname="{DOMAIN}")
s.sendall(b"GET /ws/echo/ HTTP/1.1\\r\\nHost: {DOMAIN}\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
          b"Sec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: " + base64.b64encode(os.urandom(16)) + b"\\r\\n\\r\\n")
f = s.makefile("rb")
print(f.readline().decode().strip())
while f.readline().strip():
    pass
s.sendall(bytes([0x81, 0x85, 0, 0, 0, 0]) + b"hello")
print(f.read(7)[2:].decode())
"""
    seen = host.run("python3 -c %s", script)
    assert seen.stdout.split("\n")[:2] == ["HTTP/1.1 101 Switching Protocols", "hello"], seen.stderr


def test_no_upgrade_elsewhere(visitor):
    options = ["--http1.1", "--header", "Upgrade: h2c", "--header", "Connection: Upgrade"]
    assert not {"Upgrade", "Connection"} & set(visitor.get("/", *options).json["headers"])


HEADERS = {
    "strict-transport-security": "max-age=63072000",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "strict-origin-when-cross-origin",
}


PATHS = ["/", "/missing", "/static/plain.js", "/static/none.js", "/media/picture.png", "/health/simple/", "/api/x"]


@pytest.mark.parametrize("path", PATHS)
def test_security_headers_are_on_every_answer_once(visitor, path):
    answer = visitor.get(path)
    for name, value in HEADERS.items():
        assert answer.headers.get(name) == value, name
    for name in [*HEADERS, "content-security-policy", "permissions-policy"]:
        assert answer.names.count(name) == 1, name
    assert answer.headers["server"] == "nginx"


def test_policy_lets_the_page_open_its_own_websocket(visitor):
    policy = visitor.get("/").headers["content-security-policy"]
    assert f"connect-src 'self' wss://{DOMAIN};" in policy
    assert "'unsafe-inline'" not in policy


def test_policy_of_the_application_wins(visitor):
    answer = visitor.get("/own-policy")
    assert answer.headers["content-security-policy"] == "default-src 'none'"
    assert answer.headers["x-frame-options"] == "SAMEORIGIN"
    assert answer.names.count("content-security-policy") == 1


def test_static_files_are_cached_and_compressed(visitor):
    hashed = visitor.get("/static/site.0123456789ab.css")
    assert (hashed.status, hashed.body) == (200, "body{}")
    assert hashed.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert hashed.headers["content-type"] == "text/css"
    plain = visitor.get("/static/plain.js", "--header", "Accept-Encoding: gzip", "--output", "-", "--head")
    assert plain.headers["cache-control"] == "public, max-age=3600"
    assert plain.headers["content-encoding"] == "gzip"
    missing = visitor.get("/static/none.0123456789ab.css")
    assert (missing.status, missing.headers["cache-control"]) == (404, "no-store")
    assert "nothing at this address" in missing.body


def test_static_files_cannot_be_left(visitor):
    for path in ("/static../media/evil.html", "/static/../../secret", "/static/%2e%2e/%2e%2e/etc/passwd"):
        assert "root:" not in visitor.get(path, "--path-as-is").body


def test_uploads_do_not_run(visitor):
    evil = visitor.get("/media/evil.html")
    assert evil.headers["content-disposition"] == "attachment"
    assert "sandbox" in evil.headers["content-security-policy"]
    assert "content-disposition" not in visitor.get("/media/picture.png").headers


def test_three_of_twenty_logins_pass(visitor):
    assert visitor.statuses(20, "/accounts/login/", "--data", "x=1") == [200] * 3 + [429] * 17
    refused = visitor.post("/accounts/login/")
    assert refused.status == 429
    assert refused.headers["retry-after"] == "12"
    assert "many requests" in refused.body
    assert visitor.get("/accounts/login/").status == 200
    assert visitor.get("/").status == 200
    assert visitor.post("/admin/login/").status == 429


def test_limits_by_kind_of_path(visitor):
    api = visitor.statuses(100, "/api/orders")
    assert 41 <= api.count(200) < 100 and set(api) == {200, 429}, api
    assert visitor.get("/").status == 200
    general = visitor.statuses(100, "/page")
    assert 40 <= general.count(200) < 100 and set(general) == {200, 429}, general
    assert visitor.get("/page").headers.get("retry-after", "1") == "1"
    assert visitor.statuses(150, "/static/plain.js") == [200] * 150
    asked = visitor.statuses(150, "/health/simple/")
    assert 41 <= asked.count(200) < 150 and set(asked) == {200, 429}, asked
    health = Visitor(visitor.host, "127.0.0.9").statuses(100, "/health/")
    assert health == [200] * 100, "whoever is named to see it may ask"


def test_exempt_network_is_not_counted(host):
    assert Visitor(host, "127.0.0.200").statuses(100, "/accounts/login/", "--data", "x=1") == [200] * 100


def test_health_is_shown_to_the_networks_named(host, visitor):
    assert visitor.get("/health/simple/").status == 200
    assert visitor.get("/health/").status == 403
    assert Visitor(host, "127.0.0.9").get("/health/").status == 200


def test_a_body_too_large_gets_a_page(host, visitor):
    host.run("head -c 100000 /dev/zero > /tmp/large")
    answer = visitor.get("/upload", "--data-binary", "@/tmp/large", "--header", "Expect:")
    assert answer.status == 413
    assert "larger than this site accepts" in answer.body


def test_maintenance(host, visitor):
    host.run("touch /etc/nginx/senex/maintenance.on")
    try:
        for answer in (visitor.get("/"), visitor.post("/accounts/login/")):
            assert answer.status == 503
            assert answer.headers["retry-after"] == "120"
            assert "Maintenance" in answer.body
        assert visitor.get("/health/simple/").status == 200
    finally:
        host.run("rm /etc/nginx/senex/maintenance.on")
    assert visitor.get("/").status == 200


def test_while_a_release_has_stopped_the_application(host, visitor):
    """A load balancer keeps the host, for its visitors get the page; who asks for database and Redis is told that they are not served."""
    host.run("touch /etc/nginx/senex/maintenance.on /etc/nginx/senex/stopped.on")
    try:
        alive, ready = visitor.get("/health/simple/"), Visitor(host, "127.0.0.9").get("/health/")
        assert (alive.status, alive.body) == (200, "maintenance") and ready.status == 503 and ready.headers["retry-after"] == "120"
    finally:
        host.run("rm /etc/nginx/senex/maintenance.on /etc/nginx/senex/stopped.on")
    assert visitor.get("/health/simple/").body != "maintenance"


def handshake(host, *options):
    """The cipher that was agreed on, or (NONE)."""
    words = ["openssl", "s_client", "-connect", "127.0.0.1:443", "-servername", DOMAIN, *options]
    return re.search(r"Cipher is (\S+)", host.run(shlex.join(words) + " </dev/null 2>&1").stdout)[1]


@pytest.mark.parametrize(("option", "works"), [("-tls1_3", True), ("-tls1_2", True), ("-tls1_1", False), ("-tls1", False)])
def test_tls_versions(host, option, works):
    assert (handshake(host, option, "-cipher", "DEFAULT@SECLEVEL=0") != "(NONE)") == works


@pytest.mark.parametrize("cipher", ["AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384"])
def test_weak_ciphers_are_refused(host, cipher):
    assert handshake(host, "-tls1_2", "-cipher", f"{cipher}@SECLEVEL=0") == "(NONE)"


def test_certificate_verifies_for_the_domain(host):
    trust = "--cacert /etc/nginx/senex/tls/ca.crt"
    checked = host.run(f"curl -s -o /dev/null {trust} --resolve {DOMAIN}:443:127.0.0.1 https://{DOMAIN}/health/simple/")
    assert checked.rc == 0, checked.stderr


def test_key_is_for_root_alone_and_the_authoritys_key_is_not_here(host):
    key = host.file("/etc/nginx/senex/tls/ownca.key")
    assert (key.user, key.group, key.mode) == ("root", "root", 0o600)
    assert not host.run("grep -rl 'ENCRYPTED PRIVATE KEY' /etc /root /tmp /var/lib/senex.trader").stdout


def test_http2_without_a_warning(host, visitor):
    assert visitor.get("/", "--http2").version == "HTTP/2"
    assert "warn" not in host.run("nginx -t").stderr


def test_only_the_two_ports_are_open_to_the_world(host):
    sockets = host.run("ss -Hltnp").stdout.splitlines()
    listening = {line.split()[3] for line in sockets if "nginx" in line}
    world = {address for address in listening if not address.startswith("127.")}
    assert {address.rsplit(":", 1)[1] for address in world} == {"80", "443"}
    assert "Active connections" in host.run("curl -s http://127.0.0.1:8090/nginx_status").stdout


def test_a_broken_file_is_not_loaded_and_the_site_goes_on(host, visitor):
    host.run("echo 'nonsense on;' > /etc/nginx/conf.d/broken.conf")
    try:
        assert host.run("systemctl reload nginx.service").rc != 0
        assert visitor.get("/").status == 200
    finally:
        host.run("rm /etc/nginx/conf.d/broken.conf")
    assert host.run("systemctl reload nginx.service").rc == 0


def test_sandbox(host):
    score = host.run("systemd-analyze security nginx.service --no-pager | tail -1").stdout
    assert float(re.search(r"(\d+\.\d+)", score).group(1)) <= 4.0, score
    pid = host.run("systemctl show --property=MainPID --value nginx.service").stdout.strip()
    assert re.search(r"NoNewPrivs:\s+1", host.file(f"/proc/{pid}/status").content_string)
    assert {process.user for process in host.process.filter(comm="nginx")} == {"root", "www-data"}


def test_logs_rotate_and_go_on(host, visitor):
    assert host.run("logrotate --force /etc/logrotate.d/nginx").rc == 0
    visitor.get("/after-rotation")
    assert "/after-rotation" in host.file("/var/log/nginx/access.log").content_string


def test_comes_back_when_killed(host, visitor):
    main = "systemctl show --property=MainPID --value nginx.service"
    before = host.check_output(main)
    host.run("systemctl kill --signal=KILL nginx.service")
    host.check_output(f"for i in $(seq 100); do case $({main}) in 0 | {before}) sleep 0.1;; *) exit;; esac; done; exit 1")
    host.check_output("for i in $(seq 50); do systemctl is-active nginx.service && exit; sleep 0.1; done; exit 1")
    assert visitor.get("/").status == 200
