"""What one visitor can do to another, and what nginx must not give away."""

import contextlib
import json
import resource
import shlex
import socket
import sys
import time
from pathlib import Path

import pytest
from conftest import DOMAIN, Visitor

sys.path.append(str(Path(__file__).parents[2] / "shared"))

from parts import apply  # noqa: E402  (the path above must come first)

pytestmark = pytest.mark.usefixtures("journal")
# Not counted: see nginx_rate_limit_exempt_networks of the scenario
UNLIMITED = "127.0.0.200"


@pytest.mark.parametrize(("path", "status"), [("/log-in?q=" + "%C3%A9" * 700, 302), ("/large-header?200000", 502), ("/crash", 502)])
def test_one_client_takes_the_site_from_nobody(host, path, status):
    url = shlex.quote(f"https://{DOMAIN}{path}{'&' if '?' in path else '?'}n=[1-200]")
    host.run(f"(curl -s -k --interface {UNLIMITED} --resolve '*:443:127.0.0.1' -o /dev/null -w '%{{http_code}} ' {url} >/tmp/one 2>&1) >/dev/null 2>&1 &")
    assert Visitor(host, UNLIMITED).statuses(100, "/page") == [200] * 100
    host.run("timeout 60 sh -c 'while pgrep -x curl >/dev/null; do sleep 0.2; done'")
    assert set(host.file("/tmp/one").content_string.split()) == {str(status)}


def test_what_is_too_large_is_not_asked_for_once_more(host):
    one = Visitor(host, UNLIMITED)

    def asked():
        answers = [json.loads(host.check_output(f"curl -s 'http://127.0.0.1:{port}/asked?/large-header'")) for port in (8001, 8002)]
        return sum(answer["asked"] for answer in answers)

    before = asked()
    assert one.get("/large-header?200000").status == 502
    assert asked() == before + 1


@pytest.mark.parametrize("directory", ["media", "staticfiles"])
def test_a_link_that_a_container_made_leads_nowhere(host, visitor, directory):
    url, place = f"/{directory.removesuffix('files')}/", f"/opt/senex-trader/data/{directory}"
    host.check_output(f"cd {place} && mkdir -p sub && echo good >sub/good.txt && ln -sfn /etc/machine-id link.txt && ln -sfn /etc sub/etc")
    identity = host.file("/etc/machine-id").content_string.strip()
    try:
        assert visitor.get(f"{url}sub/good.txt").body == "good\n"
        for path in ("link.txt", "sub/etc/machine-id"):
            answer = visitor.get(url + path)
            assert answer.status in (403, 404) and identity not in answer.body
    finally:
        host.run(f"rm -r {place}/link.txt {place}/sub")


def test_sites_of_others_are_named_and_kept(host, visitor):
    """As on a host that had a site before: the package's main file, and a site in the package's directory."""
    shop = "/etc/nginx/sites-enabled/shop"
    host.check_output("cp -p /etc/nginx/nginx.conf /root/ours && cp -p /etc/nginx/nginx.conf.distrib /etc/nginx/nginx.conf")
    host.check_output(f"mkdir -p /etc/nginx/sites-enabled && echo 'server {{ listen 8099; server_name shop.example; }}' >{shop}")
    refused = apply(check=False)
    assert refused.rc and "shop.example" in refused.message and "nginx_take_over" in refused.message
    assert host.file(shop).exists and "senex.trader" not in host.file("/etc/nginx/nginx.conf").content_string
    apply({"nginx_take_over": "yes"})
    assert visitor.get("/").status == 200
    assert not host.file(shop).exists and host.file(f"/var/lib/senex.trader/aside{shop}").contains("shop.example")
    assert host.file("/etc/nginx/nginx.conf").content_string == host.file("/root/ours").content_string
    assert apply().changed == 0


@pytest.mark.faults
def test_no_given_as_text_is_no(host):
    def listens():
        return host.check_output("ss -Hltn '( sport = :80 or sport = :443 )'")

    apply({"nginx_ipv6": "false", "nginx_rate_limits_enabled": "no"})
    try:
        assert "[::]" not in listens() and "0.0.0.0:443" in listens()
        assert Visitor(host, "127.0.0.9").statuses(100, "/page") == [200] * 100
    finally:
        apply()


def test_aliases_lead_on_and_streams_flow_where_that_is_asked_for(host, visitor):
    apply({"senex_domain_aliases": ["senex.test"], "nginx_redirect_aliases": True, "nginx_unbuffered_paths": ["/events/"]})
    try:
        answer = visitor.get("/a?b=c", domain="senex.test")
        assert (answer.status, answer.headers["location"]) == (301, f"https://{DOMAIN}/a?b=c")
        first = visitor.curl(f"https://{DOMAIN}/events/", "--no-buffer", "--output", "/dev/null", "--write-out", "%{time_starttransfer} %{time_total}")
        begin, end = map(float, first.stdout.split()[-2:])
        assert begin < 0.5 < 1 < end
    finally:
        apply()


@pytest.mark.faults
def test_tls_may_end_at_a_load_balancer(host):
    balancer, stranger = Visitor(host, "127.0.0.207"), Visitor(host, "127.0.0.208")
    forwarded = ["--header", "X-Forwarded-Proto: https", "--header", "X-Forwarded-For: 203.0.113.9"]
    apply({"nginx_tls_mode": "upstream", "nginx_trusted_proxies": ["127.0.0.207/32"]})
    try:
        seen = balancer.get("/a", *forwarded, scheme="http").json["headers"]
        assert (seen["X-Forwarded-Proto"], seen["X-Forwarded-For"]) == ("https", "203.0.113.9")
        assert stranger.get("/a", *forwarded, scheme="http").status == balancer.get("/a", scheme="http").status == 301
        assert balancer.get("/health/simple/", scheme="http", domain="10.0.0.5").status == 200
        assert stranger.get("/health/simple/", scheme="http", domain="10.0.0.5").status == 0
        assert stranger.get("/a").status == 200, "the host's own checks come by HTTPS"
    finally:
        apply()


FLOOD = 3000


def connected(one):
    try:
        return bool(one.getpeername())
    except OSError:
        return False


def test_half_open_requests_of_one_address_leave_the_others_the_site(host):
    """From this machine, which is one source for the host; its firewall has rules of somebody else's besides."""
    address = host.check_output("hostname -I").split()[0]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, FLOOD + 1000), hard))
    opened = []
    try:
        for _ in range(FLOOD):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex((address, 443))
            opened.append(one)
            if len(opened) % 50 == 0:  # at once, or nginx takes back those that have said nothing
                time.sleep(0.02)
                for half in opened[-50:]:
                    with contextlib.suppress(OSError):
                        half.send(b"\x16\x03\x01")  # the beginning of a handshake, and no more
        begun = sum(1 for one in opened if connected(one))
        seen = host.check_output("ss -Htn state established '( sport = :443 )' | grep -vc '127.0.0' || true")
        assert 100 <= begun <= 512 and int(seen) <= 512, (begun, seen)
        assert Visitor(host, UNLIMITED).statuses(20, "/page") == [200] * 20
    finally:
        for one in opened:
            one.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_firewalls_own_rules_and_those_of_others_stay(host):
    def rules():
        return host.check_output("iptables -S")

    assert "-A ufw-before-input -p tcp -m tcp --dport 9 -j ACCEPT" in rules() and "-A senex-web -m connlimit" in rules()
    assert "senex-web" in host.check_output("ip6tables -S") and "senex-try" not in rules()
    host.check_output("ufw allow 81/tcp && ufw reload && ufw delete allow 81/tcp")
    assert "-A senex-web -m connlimit" in rules()
    host.check_output("sed -i '/^# BEGIN senex.trader/,/^# END senex.trader/d' /etc/ufw/before.rules && ufw reload")
    # Beside that: a certificate that is written and not read, a unit that is masked, one that is disabled, a file that nginx has read as somebody left it
    tls, site, certificate = "/etc/nginx/senex/tls/ownca", "/etc/nginx/conf.d/senex-site.conf", "openssl x509 -noout -fingerprint"
    served = f"openssl s_client -connect 127.0.0.1:443 -servername www.senex.test </dev/null 2>/dev/null | {certificate}"
    host.check_output(
        f"cp -a {tls}.crt {tls}.crt.kept && cp -a {tls}.key {tls}.key.kept && echo '# by hand' >>{site}"
        f" && openssl req -x509 -newkey rsa:2048 -nodes -keyout {tls}.key -out {tls}.crt -days 9 -subj /CN=by-hand 2>&1 && systemctl reload nginx"
        f" && mv {tls}.crt.kept {tls}.crt && mv {tls}.key.kept {tls}.key && systemctl mask nginx && systemctl disable senex-nginx-logs.timer"
    )
    assert host.check_output(served) != host.check_output(f"{certificate} -in {tls}.crt")
    assert apply().changed and "--connlimit-above 512" in rules()
    assert host.check_output(served) == host.check_output(f"{certificate} -in {tls}.crt")
    assert host.check_output("systemctl is-enabled nginx senex-nginx-logs.timer").split() == ["enabled"] * 2 and not host.file(site).contains("by hand")
    try:
        apply({"nginx_source_connections": 0, "nginx_source_connection_rate": "0"})
        assert "-A ufw-before-input -p tcp -m tcp --dport 9 -j ACCEPT" in rules() and "-j senex-web" not in rules()
    finally:
        apply()
    assert apply().changed == 0
