"""What one visitor's requests cost another, and what the files' directories give away, behind a real nginx."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from nginx_door import door, evaluated, needs_nginx, rendered

UNLIMITED = {"nginx_rate_limit_exempt_networks": ["127.0.0.0/8"]}
LONG = "/log-in?q=" + "%C3%A9" * 700


@pytest.fixture
def site(tmp_path):
    with door(tmp_path, **UNLIMITED) as opened:
        yield opened


def beside(opened, path, count=200):
    """The statuses of so many requests of one client, and of a hundred of another one who comes meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        one = pool.submit(opened.statuses, count, path, 4, source="127.0.0.5")
        time.sleep(0.1)
        other = opened.statuses(100, "/page", source="127.0.0.6")
        return one.result(), other


@needs_nginx
def test_a_long_address_that_the_log_in_repeats_costs_nobody_anything(site):
    """4,200 characters, as anonymous as can be: the redirect to the log-in has them in its header, quoted once more."""
    one, other = beside(site, LONG)
    assert other == [200] * 100
    assert one == [302] * 200, "an answer of that size is usual"


@needs_nginx
@pytest.mark.parametrize("path", ["/large-header?200000", "/crash"])
def test_an_answer_that_nginx_cannot_take_is_its_askers_matter_alone(site, path):
    one, other = beside(site, path)
    assert (set(one), other) == ({502}, [200] * 100)


@needs_nginx
def test_what_is_too_large_is_not_asked_for_once_more(site):
    assert site.statuses(5, "/large-header?200000") == [502] * 5
    assert site.asked("/large-header") == 5


@needs_nginx
def test_what_takes_too_long_is_its_askers_matter_alone(tmp_path):
    with door(tmp_path, nginx_proxy_read_timeout=1, **UNLIMITED) as site:
        threads = [threading.Thread(target=site.statuses, args=(1, "/slow")) for _ in range(4)]
        for thread in threads:
            thread.start()
        until, seen = time.monotonic() + 2, []
        while time.monotonic() < until:
            seen.append(site.ask("/page", source="127.0.0.6").status)
        for thread in threads:
            thread.join()
        assert set(seen) == {200}, seen
        assert site.asked("/slow") == 4, "an instance that is slow is not helped by asking the next one too"


@needs_nginx
def test_dead_instances_are_passed_over_however_many_they_are(tmp_path):
    with door(tmp_path, senex_web_instances=5, **UNLIMITED) as site:
        for process in site.processes[:4]:
            process.kill()
            process.wait()
        assert site.statuses(40, "/page") == [200] * 40
        assert site.statuses(10, "/page", method="POST", body="x=1") == [200] * 10


def test_no_instance_is_left_alone_for_what_it_answered():
    """nginx counts answers it cannot read and slow ones as it counts refused connections, whatever proxy_next_upstream says."""
    text = rendered("maps.conf.j2", senex_web_instances=3)
    servers = [line for line in text.splitlines() if line.strip().startswith("server ")]
    assert len(servers) == 3 + 3 * 2
    assert all(line.endswith(" max_fails=0;") for line in servers), servers


def test_a_second_try_goes_to_another_host():
    hosts = {"web2": {"senex_private_address": "10.0.0.6", "senex_web_instances": 3}}
    servers = evaluated("__nginx_servers", groups={"web": ["web1", "web2"]}, hostvars=hosts)
    assert servers == ["127.0.0.1:8001", "10.0.0.6:8001", "127.0.0.1:8002", "10.0.0.6:8002", "10.0.0.6:8003"]


@pytest.mark.parametrize(
    ("inputs", "names"),
    [
        ({"nginx_proxy_buffer_size": "32 kB"}, ["nginx_proxy_buffer_size"]),
        ({"nginx_proxy_buffers": "32k"}, ["nginx_proxy_buffers"]),
        ({"nginx_large_client_header_buffers": "4 x 8k"}, ["nginx_large_client_header_buffers"]),
        ({"nginx_proxy_buffer_size": "128k"}, ["nginx_proxy_busy_buffers_size"]),
        ({"nginx_proxy_buffers": "4 16k"}, ["nginx_proxy_busy_buffers_size"]),
        ({"nginx_proxy_buffer_size": "64k", "nginx_proxy_buffers": "8 32k", "nginx_proxy_busy_buffers_size": "64k"}, []),
    ],
)
def test_sizes_that_nginx_would_refuse_are_refused_by_name(inputs, names):
    problems = evaluated("__nginx_input_problems", **inputs)
    assert [problem.split(":")[0] for problem in problems] == names


def linked(directory):
    """A directory as a container could leave it: good files, and links out of it."""
    secret, inside = directory.parent / "secret", directory / "sub"
    inside.mkdir(parents=True)
    secret.write_text("secret")
    (inside / "good.txt").write_text("good")
    (directory / "link.txt").symlink_to(secret)
    (inside / "up.txt").symlink_to("../../secret")
    (directory / "above").symlink_to(directory.parent)
    (directory / "same.txt").symlink_to("sub/good.txt")
    return directory


@needs_nginx
@pytest.mark.parametrize("closing", [False, True])
def test_no_link_leads_out_of_what_a_container_can_write(tmp_path, closing):
    static, media = linked(tmp_path / "a/static"), linked(tmp_path / "b/media")
    # The operator's own link to another disk is above what a container can write
    (tmp_path / "disk").symlink_to(media)
    with door(tmp_path, nginx_static_directory=f"{static}/", nginx_media_directory=str(tmp_path / "disk")) as site:
        if closing:
            (tmp_path / "run/nginx-closing").touch()
        for url in ("/static", "/media"):
            assert (site.ask(f"{url}/sub/good.txt").status, site.ask(f"{url}/sub/good.txt").body) == (200, b"good")
            for path in ("link.txt", "sub/up.txt", "above/secret", "same.txt"):
                answer = site.ask(f"{url}/{path}")
                assert answer.status in (403, 404) and b"secret" not in answer.body, f"{url}/{path}: {answer.status}"


def test_every_directory_from_disk_is_served_without_links():
    """Each location with an alias or root says so, but the two that root alone can write."""
    locations = rendered("site.conf.j2", nginx_static_directory="/h/static", nginx_media_directory="/h/media").split("location ")[1:]
    served = [text for text in locations if "alias " in text or "root " in text]
    roots = [text for text in served if "/usr/share/senex-nginx" in text or "/var/lib/senex-acme" in text]
    open_ones = [text.split(" {")[0] for text in served if "disable_symlinks on from=" not in text and text not in roots]
    assert len(served) == 6 and open_ones == []


@needs_nginx
@pytest.mark.parametrize("closing", [False, True])
@pytest.mark.parametrize("path", ["/up/", "/health/", "/"])
def test_one_page_may_say_both_that_it_is_alive_and_well(tmp_path, path, closing):
    inputs = {"nginx_alive_path": path, "nginx_health_path": path, "nginx_health_networks": ["127.0.0.9"]}
    with door(tmp_path, **inputs) as site:
        if closing:
            (tmp_path / "run/nginx-closing").touch()
        assert site.statuses(100, path) == [200] * 100, "never limited"
        assert site.ask(path, source="127.0.0.9").status == 200
        assert site.ask(path, source="127.0.0.8").status == 403, "the stricter of the two"


@needs_nginx
@pytest.mark.parametrize(("alive", "status"), [("/up/", 200), ("/", 503)])
def test_a_load_balancer_keeps_a_host_whose_application_a_release_has_stopped(tmp_path, alive, status):
    """Nothing is behind nginx, and nobody gets a 502."""
    with door(tmp_path, nginx_alive_path=alive, nginx_health_path="/health/", nginx_websocket_paths=["/ws/"]) as site:
        for process in site.processes[:-1]:
            process.kill()
        for name in ("maintenance.on", "stopped.on"):
            (tmp_path / name).touch()
        for path in ("/", "/a/b", "/ws/x", "/health/"):
            answer = site.ask(path)
            assert (answer.status, answer.headers["retry-after"]) == (503, "120") and b"Maintenance" in answer.body, path
        asked = site.ask(alive)
        assert asked.status == status and (status == 503 or (asked.body, asked.headers["content-type"]) == (b"maintenance", "text/plain"))
        (tmp_path / "maintenance.on").unlink()
        (tmp_path / "stopped.on").unlink()
        assert site.ask("/health/").status == 502, "the flags alone make the difference"


@pytest.mark.parametrize(
    ("inputs", "name"),
    [
        ({"nginx_media_url": "/static/"}, "nginx_media_url"),
        ({"nginx_websocket_path": "/media/"}, "nginx_websocket_path"),
        ({"nginx_websocket_path": "/"}, "nginx_websocket_path"),
        ({"nginx_websocket_paths": ["/ws/", "/ws/"]}, "nginx_websocket_paths"),
        ({"nginx_websocket_paths": ["/ws/", "chat/"]}, "nginx_websocket_paths"),
        ({"nginx_websocket_paths": ["/ws", "/health"], "nginx_alive_path": "/health"}, "nginx_websocket_paths"),
        ({"nginx_unbuffered_paths": ["/ws/"]}, "nginx_unbuffered_paths"),
        ({"nginx_unbuffered_paths": ["/"]}, "nginx_unbuffered_paths"),
        ({"nginx_static_url": "/senex-pages/"}, "nginx_static_url"),
        ({"nginx_alive_path": "health"}, "nginx_alive_path"),
        ({"nginx_health_path": "/health/ {"}, "nginx_health_path"),
    ],
)
def test_paths_that_cannot_be_told_apart_are_refused_by_name(inputs, name):
    problems = evaluated("__nginx_input_problems", **inputs)
    assert len(problems) == 1 and name in problems[0], problems
