"""nginx's own view of what the role renders, for old and new versions, without a host."""

import subprocess

import pytest
from nginx_door import ROLE, evaluated, needs_nginx, pair, rendered, written


def test_http2_is_written_as_the_version_knows_it():
    assert "http2 on;" in rendered("site.conf.j2")
    old = rendered("site.conf.j2", nginx="1.22.1")
    assert "http2 on;" not in old
    assert "listen 443 ssl http2;" in old


def test_post_quantum_group_only_where_openssl_has_it():
    assert "ssl_ecdh_curve ?X25519MLKEM768:X25519:prime256v1:secp384r1;" in rendered("nginx.conf.j2")
    assert "ssl_ecdh_curve X25519:prime256v1:secp384r1;" in rendered("nginx.conf.j2", openssl="3.0.13")


def test_instances_of_other_hosts_by_their_private_address():
    other = {"senex_private_address": "10.0.0.6", "senex_web_instances": 3}
    text = rendered("maps.conf.j2", groups={"web": ["web1", "web2"]}, hostvars={"web2": other})
    pools = [[line.split()[1] for line in pool.splitlines() if line.strip().startswith("server ")] for pool in text.split("upstream senex_web")[1:]]
    servers = pools[0]
    assert sorted(servers) == ["10.0.0.6:8001", "10.0.0.6:8002", "10.0.0.6:8003", "127.0.0.1:8001", "127.0.0.1:8002"]
    without, elsewhere = pools[1:6], pools[6:]
    assert without == [[other for other in servers if other != server] for server in servers], "one pool without each, for releases"
    hosts = [[server for server in servers if server.startswith(one)] for one in ("10.", "127.")]
    assert elsewhere == hosts, "and one without each host"
    site = rendered("site.conf.j2", groups={"web": ["web1", "web2"]}, hostvars={"web2": other})
    assert "(-f /run/senex.trader/out/10.0.0.6) {\n            set $senex_pool senex_web_elsewhere_2;" in site


def test_a_web_host_that_two_doors_reach_listens_where_both_do():
    hosts = {name: {"senex_private_address": address} for name, address in (("web1", "10.0.0.5"), ("web2", "10.0.0.6"))}
    text = rendered("maps.conf.j2", groups={"web": ["web1", "web2"], "nginx": ["web1", "web2"]}, hostvars=hosts)
    assert "server 127.0.0.1" not in text and "server 10.0.0.5:8001 " in text and "server 10.0.0.6:8001 " in text


def test_files_are_served_from_disk_only_where_they_are():
    assert evaluated("nginx_static_directory", senex_home="/h") == "/h/data/staticfiles"
    assert evaluated("nginx_static_directory ~ nginx_media_directory", groups={"web": ["web2"], "nginx": ["web1"]}) == ""


def test_retry_after_follows_the_rate():
    assert "default 20;" in rendered("maps.conf.j2", nginx_login_rate="3r/m")


def test_no_location_adds_a_header():
    """It would lose all of the server's."""
    text = rendered("site.conf.j2", nginx_status_port=8090, nginx_health_networks=["10.0.0.0/8"])
    depth_of_headers = {len(line) - len(line.lstrip()) for line in text.splitlines() if line.lstrip().startswith("add_header")}
    assert depth_of_headers == {4}


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"senex_domain": "no domain"}, "senex_domain"),
        ({"senex_domain_aliases": ["-bad.example.com"]}, "senex_domain_aliases"),
        ({"nginx_login_rate": "five a minute"}, "nginx_login_rate"),
        ({"nginx_api_rate": "0r/s"}, "nginx_api_rate"),
        ({"nginx_tls_mode": "letsencrypt"}, "senex_admin_email"),
        ({"nginx_tls_mode": "provided", "nginx_tls_certificate": "/nonexistent.pem"}, "nginx_tls_certificate: /nonexistent.pem"),
        ({"nginx_content_security_policy": 'default-src "self"'}, "nginx_content_security_policy"),
        ({"nginx_static_url": "static"}, "nginx_static_url"),
        ({"nginx_client_max_body_size": "10 MB"}, "nginx_client_max_body_size"),
        ({"nginx_client_max_body_size": "0"}, "nginx_client_max_body_size: 0 is no limit for nginx"),
        ({"nginx_client_max_body_size": "0m"}, "nginx_client_max_body_size: 0m is no limit for nginx"),
        ({"nginx_proxy_max_temp_file_size": "1g"}, "nginx_proxy_max_temp_file_size: is no size of nginx"),
        ({"nginx_proxy_max_temp_file_size": "0"}, "nginx_proxy_max_temp_file_size: is no size of nginx"),
        ({"nginx_proxy_max_temp_file_size": "16k"}, "nginx_proxy_max_temp_file_size: 16k must be at least 32k"),
    ],
)
def test_a_bad_input_gives_one_line_that_names_it(inputs, words):
    problems = evaluated("__nginx_input_problems", **inputs)
    assert len(problems) == 1
    assert words in problems[0]


def test_good_inputs_give_no_problem():
    assert evaluated("__nginx_input_problems") == []
    assert evaluated("__nginx_input_problems", nginx_tls_mode="letsencrypt", senex_admin_email="a@senex.test") == []


def test_a_provided_pair_is_looked_at(tmp_path):
    good, wildcard = pair(tmp_path, "good", "www.senex.test"), pair(tmp_path, "wildcard", "*.senex.test")
    assert evaluated("__nginx_input_problems", **good) == evaluated("__nginx_input_problems", **wildcard) == []
    mixed = evaluated("__nginx_input_problems", **good | {"nginx_tls_private_key": wildcard["nginx_tls_private_key"]})
    assert len(mixed) == 1 and "does not belong" in mixed[0]
    other = evaluated("__nginx_input_problems", **pair(tmp_path, "other", "elsewhere.test"))
    assert len(other) == 1 and "not for www.senex.test" in other[0]
    deep = evaluated("__nginx_input_problems", **wildcard | {"senex_domain": "a.www.senex.test"})
    assert len(deep) == 1 and "not for a.www.senex.test" in deep[0]
    alone = evaluated("__nginx_input_problems", **good | {"nginx_tls_ca_certificate": ""})
    assert len(alone) == 1 and "no authority of the system's" in alone[0] and "nginx_tls_ca_certificate" in alone[0]
    unread = evaluated("__nginx_input_problems", **good | {"nginx_tls_ca_certificate": "/nonexistent.pem"})
    assert len(unread) == 1 and "/nonexistent.pem cannot be read" in unread[0]
    expired = evaluated("__nginx_input_problems", **pair(tmp_path, "expired", "www.senex.test", days=-1))
    assert len(expired) == 1 and "expired" in expired[0]


@needs_nginx
@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"nginx_rate_limits_enabled": False},
        {"nginx_login_paths": [], "nginx_api_paths": []},
        {"nginx_trusted_proxies": ["10.0.0.0/8"], "nginx_health_networks": ["10.0.0.0/8"], "nginx_status_port": 8090},
        {"nginx_static_directory": "", "nginx_ipv6": False, "senex_web_instances": 1},
        {
            "nginx_tls_mode": "upstream",
            "nginx_trusted_proxies": ["10.0.0.0/8", "10.0.0.0/8", "fd00::/8"],
            "nginx_redirect_aliases": True,
            "senex_domain_aliases": ["senex.test"],
            "nginx_websocket_paths": [],
            "nginx_unbuffered_paths": ["/events"],
        },
    ],
)
def test_nginx_accepts_it(tmp_path, inputs):
    main = written(tmp_path, **{"nginx_ipv6": True} | inputs)
    checked = subprocess.run(["nginx", "-t", "-c", main], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "[warn]" not in checked.stderr


@pytest.mark.parametrize(("size", "code", "ends", "rotated"), [(0, 0, 0, False), (256 << 20, 0, 0, True), (256 << 20, 3, 0, True), (256 << 20, 1, 1, True)])
def test_a_full_log_rotates_before_its_day_is_over(tmp_path, size, code, ends, rotated):
    (tmp_path / "logrotate").write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/asked\nexit {code}\n')
    (tmp_path / "logrotate").chmod(0o755)
    with (tmp_path / "access.log").open("wb") as log:
        log.truncate(size)  # takes no room
    script = rendered("rotate-logs.sh.j2").replace("/usr/sbin/", f"{tmp_path}/").replace("/var/log/nginx", str(tmp_path))
    assert subprocess.run(["/bin/sh", "-c", script], check=False).returncode == ends
    assert (tmp_path / "asked").exists() is rotated
    assert not rotated or (tmp_path / "asked").read_text() == "--force /etc/logrotate.d/nginx\n"


def test_the_timer_that_rotates_full_logs_is_there():
    """And goes with the role."""
    files = {item["dest"] for item in evaluated("__nginx_files")}
    assert {"/etc/nginx/senex/rotate-logs", "/etc/systemd/system/senex-nginx-logs.service", "/etc/systemd/system/senex-nginx-logs.timer"} <= files
    tasks = {name: (ROLE / f"tasks/{name}.yml").read_text() for name in ("present", "absent")}
    assert "'senex-nginx-logs.timer'" in tasks["present"] and "disable, --now, senex-nginx-logs.timer" in tasks["absent"]
