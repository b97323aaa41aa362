"""What roles hand to the engine, as the filters make it."""

from ansible_collections.senex.trader.plugins.filter.building import (
    backup_job_files,
    backup_job_units,
    chosen,
    error_pages,
    home_directories,
    job_ages,
    program_files,
    web_files,
    web_instances,
    web_servers,
    web_units,
    worker_files,
    worker_pools,
    worker_units,
)

POOLS = [{"name": "celery-worker", "queues": ["a"], "instances": "2"}, {"name": "celery-worker-slow", "queues": ["b"]}]
WEB = {
    "instances": "2", "address": "127.0.0.1", "base_port": "8001", "domain": "www.example.com", "ready_path": "/ready/", "smoke_paths": [],
    "load_balanced": False, "drain": "30", "pre_stop_hook": ["/usr/bin/podman", "exec", "python3", "drain.py"], "traffic_gate": {}, "skip_first_gate": False,
}  # fmt: skip


def test_what_is_not_wanted_is_left_out_and_the_order_stays():
    assert chosen([{"use": ["a", "b"]}, {"when": False, "use": ["c"]}, {"when": True, "use": ["d"]}, {"when": [], "use": ["e"]}]) == ["a", "b", "d"]
    assert chosen([]) == []


def test_each_worker_has_its_own_name():
    pools = worker_pools(POOLS)
    assert [pool["name"] for pool in pools] == ["celery-worker", "celery-worker-2", "celery-worker-slow"]
    assert [pool["queues"] for pool in pools] == [["a"], ["a"], ["b"]]
    assert POOLS[0]["name"] == "celery-worker", "what was given stays as it is"
    assert worker_pools([{"name": "celery-worker", "instances": 0}]) == []


def test_a_worker_and_its_stand_in():
    pools = worker_pools(POOLS[1:])
    alone, both = worker_files(pools, False), worker_files(pools, True)
    assert [item["dest"] for item in alone] == ["celery-worker-slow.container"]
    assert [item["dest"] for item in both] == ["celery-worker-slow.container", "celery-worker-slow-next.container"]
    assert both[1]["vars"] == {"__celery_pool": pools[0], "__celery_name": "celery-worker-slow-next"}
    assert worker_units(pools, False) == [{"name": "celery-worker-slow.service"}]
    assert worker_units(pools, True) == [{"name": "celery-worker-slow.service", "surge_unit": "celery-worker-slow-next.service"}]


def test_each_instance_is_asked_at_its_own_port():
    first, second = web_units(WEB)
    assert (first["name"], second["name"]) == ("web-1.service", "web-2.service")
    assert [probe["url"] for unit in (first, second) for probe in unit["readiness_probe"]] == ["http://127.0.0.1:8001/ready/", "http://127.0.0.1:8002/ready/"]
    assert first["readiness_probe"][0]["headers"] == {"Host": "www.example.com", "X-Forwarded-Proto": "https"}
    assert set(first) == {"name", "readiness_probe"}, "and nothing that is not asked for"
    assert [item["dest"] for item in web_files(2)] == ["web-1.container", "web-2.container"]


def test_other_pages_are_asked_at_the_start_alone():
    (unit,) = web_units({**WEB, "instances": 1, "smoke_paths": ["/login/"]})
    assert [probe.get("startup_only", False) for probe in unit["readiness_probe"]] == [False, True]
    assert unit["readiness_probe"][1]["status_below"] == 500 and "status_below" not in unit["readiness_probe"][0]


def test_nginx_of_the_same_host_is_told_of_the_instance():
    _first, second = web_units({**WEB, "load_balanced": True})
    assert second["load_balancer"] == {
        "contract": "/etc/nginx/senex/upstream.json", "server": "127.0.0.1:8002", "drain": 30,
        "pre_stop_hook": ["/usr/bin/podman", "exec", "web-2", "python3", "drain.py"],
    }  # fmt: skip


def test_gates_of_a_release():
    first, second = web_units({**WEB, "traffic_gate": {"max_failed": 0}, "skip_first_gate": True})
    assert first["traffic_gate"] == second["traffic_gate"] == {"max_failed": 0}
    assert first["parallel_with_previous"] is True and "parallel_with_previous" not in second


def test_servers_of_one_host_and_of_several():
    assert web_servers(["one"], {}, "one", True, 2, 8001) == ["127.0.0.1:8001", "127.0.0.1:8002"]
    hosts = {"one": {"senex_private_address": "10.0.0.5"}, "two": {"ansible_host": "192.0.2.2", "senex_web_instances": "1"}, "three": {}}
    found = web_servers(["two", "one", "three", "stranger"], hosts, "one", False, "2", "8001")
    assert found == ["192.0.2.2:8001", "10.0.0.5:8001", "three:8001", "stranger:8001", "10.0.0.5:8002", "three:8002", "stranger:8002"], "in turn"
    assert web_servers(["one"], {"one": {}}, "one", False, 1, 8001) == ["one:8001"]


def test_a_file_for_each_name():
    assert program_files(["a"], "x/%s.py", "/lib/%s.py") == [{"src": "x/a.py", "dest": "/lib/a.py"}]
    found = program_files(["a", "b"], "%s", "%s", ["watchdog"])
    assert [item["notify"] for item in found] == [["watchdog"], ["watchdog"]]


def test_jobs_of_backups():
    assert [(item["src"], item["dest"]) for item in backup_job_files(["dump"])] == [
        ("backup.service.j2", "backup-dump.service"), ("backup.timer.j2", "backup-dump.timer"),
    ]  # fmt: skip
    assert backup_job_units(["dump", "redis"]) == [{"name": "backup-dump.timer"}, {"name": "backup-redis.timer"}]
    assert job_ages(["dump"], {"dump": "60", "media": 5}) == {"dump": {"max_age": 60}}


def test_pages_and_instances():
    (page,) = error_pages({404: {"title": "t", "text": "x"}}, "/usr/share/pages")
    assert page["dest"] == "/usr/share/pages/404.html" and page["vars"] == {"title": "t", "text": "x", "code": 404}
    assert web_instances(["web-1.service", "web-2.service"], "127.0.0.1", "8001")[1] == {"unit": "web-2.service", "address": "127.0.0.1", "port": 8002}


def test_directories_of_a_home_are_its_users_and_an_empty_path_is_the_home_itself():
    found = home_directories({"": "0751", "data/x": "0700"}, "/srv/s", "u")
    assert found == [{"path": "/srv/s", "owner": "u", "group": "u", "mode": "0751"}, {"path": "/srv/s/data/x", "owner": "u", "group": "u", "mode": "0700"}]
