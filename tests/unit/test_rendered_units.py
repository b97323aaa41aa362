"""Every unit that the roles make, from their own defaults and from a few other inputs: what Podman of each version says, and what they mean."""

import functools
import json
import re

import pytest
from ansible_collections.senex.trader.plugins.module_utils.engine import unit_text
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_keys import check_unit
from ansible_collections.senex.trader.plugins.plugin_utils.components import registry
from rendered import ROLES as ROLE_DIRECTORY
from rendered import component, loaded, value

SECRET = "hunter2-hunter2-hunter2"
BASE = {
    "senex_domain": "www.acme.io",
    "senex_registry": "registry.acme.io/team",
    "senex_image_tag": "2026.11.1",
    **{f"senex_{name}": SECRET for name in ("database_password", "redis_password", "secret_key", "field_encryption_key", "ca_passphrase")},
    "senex_ca_certificate": "CA", "senex_ca_private_key": "KEY", "celery_flower_password": SECRET,
    "senex_registry_login": {"username": "u", "password": SECRET},
    **{f"vault_{secret}": SECRET for one in registry().values() for secret in one.secrets},
    "senex_celery_queues": ["celery", "accounts", "trading", "services"],
}  # fmt: skip
POOLS = [
    {"name": "celery-worker-fast", "queues": ["celery", "accounts"], "concurrency": 2},
    {"name": "celery-worker-trading", "queues": ["trading", "services"]},
]
DIGEST = "sha256:" + "a" * 64
VARIANTS = {
    "defaults": {},
    "one instance": {"senex_web_instances": 1},
    "three instances on other ports": {"senex_web_instances": 3, "senex_web_base_port": 9001},
    "worker pools and Flower": {"celery_workers": POOLS, "celery_flower_enabled": True},
    "a digest": {"senex_image_tag": DIGEST},
    "images of Debian": {"postgresql_image": "docker.io/library/postgres:15", "redis_image": "docker.io/library/redis:7"},
    "PostgreSQL 17": {"postgresql_version": 17, "senex_database_name": "trading-1", "senex_database_user": "trader_1"},
    "PostgreSQL 18": {"postgresql_version": 18, "senex_database_superuser": "cluster-1"},
    "no stand-ins": {"celery_surge_worker": False},
    "a schedule in a file": {"celery_beat_scheduler": "file"},
    "a scheduler of the application's own": {"celery_beat_scheduler": "other"},
    "a Redis for the cache alone": {"senex_redis_cache_instance": True},
    "volumes and processes": {
        "senex_application_volumes": [
            {"name": "index", "mount": "/app/index"},
            {"name": "models", "mount": "/srv/models", "parts": ["feed"], "read_only": True},
        ],
        "senex_application_processes": [
            {"name": "feed", "command": ["manage", "feed", "--currency=US$"], "count": 2},
            {"name": "bot", "command": ["bot"], "health_command": ["python3", "/app/ok.py"], "stop_timeout": 90, "memory": 300, "group": "web"},
        ],
    },
    "limits of the CPU": {f"{component}_cpu_percent": 150 for component in ("postgresql", "redis", "django", "celery")},
}
ROLES = ("podman", *(name for name, one in registry().items() if one.image), "backup")
# Units of components that not every environment has: they are on hosts of their own groups, and take nothing from others
OTHERS = {unit.removesuffix(".service") for name, one in registry().items() if one.image and name not in ("postgresql", "redis", "django", "celery")
          for unit in one.user_units}  # fmt: skip
PODMANS = [(4, 9, 3), (5, 4, 2), (5, 7, 0), (6, 1, 0)]


def files_of(inputs):
    """{dest: (text, item)} of every file of every role; not to be changed, for the next one gets the same."""
    return _files_of(json.dumps(inputs, sort_keys=True))


@functools.cache
def _files_of(asked):
    inputs, found = json.loads(asked), {}
    for role in ROLES:
        found |= component(role, **{**BASE, **inputs})[0]
    return found | (component("redis", "redis-cache", **{**BASE, **inputs})[0] if "senex_redis_cache_instance" in inputs else {})


def units_of(inputs):
    """{file name: text} of the unit files of every role."""
    texts = {dest: text for dest, (text, _) in files_of(inputs).items()}
    suffixes = unit_text.QUADLET_SUFFIXES + unit_text.SYSTEMD_SUFFIXES
    return {dest.rpartition("/")[2]: text for dest, text in texts.items() if dest.endswith(suffixes)}


@pytest.fixture(scope="module", params=VARIANTS)
def stack(request):
    """{dest: text} of every file of every role, and {dest: item}."""
    found = files_of(VARIANTS[request.param])
    return request.param, {dest: text for dest, (text, _) in found.items()}, {dest: item for dest, (_, item) in found.items()}


def containers(texts):
    return {name: text for name, text in texts.items() if name.endswith(".container")}


def seconds(text, key, section="Service"):
    return int(unit_text.values(text, section, key)[-1].rstrip("s"))


def test_the_units_are_those_of_the_variant(stack):
    variant, texts, _ = stack
    count = {"one instance": 1, "three instances on other ports": 3}.get(variant, 2)
    workers = {pool["name"] for pool in POOLS} | {"celery-flower"} if variant.startswith("worker pools") else {"celery-worker"}
    if variant != "no stand-ins":
        workers |= {f"{name}-next" for name in workers - {"celery-flower"}}
    workers |= {"redis-cache"} if variant == "a Redis for the cache alone" else set()
    workers |= {"feed-1", "feed-2", "bot-1"} if variant == "volumes and processes" else set()
    wanted = {"postgres", "redis", "release", "celery-beat", *workers, *OTHERS, *(f"web-{number}" for number in range(1, count + 1))}
    assert {name.removesuffix(".container") for name in containers(texts)} == wanted
    assert {"web.target", "senex-network.network", "senex-prune-images.timer", "senex-prune-images.service"} <= set(texts)


@pytest.mark.parametrize("podman", PODMANS, ids=lambda version: ".".join(map(str, version)))
def test_every_supported_podman_knows_every_key(stack, podman):
    _, texts, _ = stack
    assert [problem for name, text in texts.items() if name.endswith(unit_text.QUADLET_SUFFIXES) for problem in check_unit(text, name, podman)] == []


def test_containers_run_with_little(stack):
    for name, text in containers(stack[1]).items():
        get = lambda key, section="Container", text=text: unit_text.values(text, section, key)  # noqa: E731
        assert get("NoNewPrivileges") == ["true"] and get("DropCapability") == ["all"] and get("ReadOnly") == ["true"], name
        assert get("Pull") == ["never"], f"{name}: a pull inside a unit's start runs into its timeout"
        assert get("User") and get("User") != ["0"], name
        assert get("ContainerName") == [name.removesuffix(".container")]
        assert not get("AutoUpdate") and not re.search(r":(latest)?$", get("Image")[0]), name
        assert all(value.startswith("127.0.0.1:") for value in get("PublishPort")), name
        assert not get("Requires", "Unit") and not get("BindsTo", "Unit"), f"{name}: a restart of the database would stop it"


def test_what_lies_in_memory_has_a_size(stack):
    """Without one each takes half of the host's, /var/tmp too, which Podman makes one where the root is read-only."""
    for name, text in containers(stack[1]).items():
        sizes = {mount.split(":")[0]: int(re.search(r",size=(\d+)m$", mount)[1]) for mount in unit_text.values(text, "Container", "Tmpfs")}
        assert set(sizes) == {"/tmp", "/var/tmp"}, name
        assert set(sizes.values()) == ({64} if name.startswith(("postgres", "redis")) else {512}), name


def test_only_the_web_tier_is_published(stack):
    variant, texts, _ = stack
    base = 9001 if "other ports" in variant else 8001
    published = {name: unit_text.values(text, "Container", "PublishPort") for name, text in containers(texts).items()}
    published.pop("celery-flower.container", None)
    assert {name: values for name, values in published.items() if values} == {
        f"web-{number}.container": [f"127.0.0.1:{base + number - 1}:8000"] for number in range(1, sum("web-" in name for name in published) + 1)
    }


def test_limits_are_the_units_and_fit_into_8_gb(stack):
    total, slices = 0, {}
    for name, text in containers(stack[1]).items():
        maximum, high = (int(unit_text.values(text, "Service", key)[-1].rstrip("M")) for key in ("MemoryMax", "MemoryHigh"))
        assert 64 <= high < maximum, name
        assert not unit_text.values(text, "Container", "Memory")
        place = unit_text.values(text, "Service", "Slice")
        if place:  # instances of one kind share a limit, however many they are
            shared = int(unit_text.values(stack[1][place[0]], "Slice", "MemoryMax")[-1].rstrip("M"))
            assert shared == maximum
            slices[place[0]] = shared
        else:
            total += maximum if not name.startswith(("release", "celery-flower", *OTHERS)) else 0
        if stack[0] == "limits of the CPU" and not name.startswith(("release", "celery-beat", *OTHERS)):
            assert unit_text.values(text, "Service", "CPUQuota") == ["150%"], name
    assert set(slices) == {"web.slice", "celery.slice"}
    assert total + sum(slices.values()) <= 0.8 * 8192


@pytest.mark.parametrize("version", [15, 16, 17, 18])
def test_postgresql_has_its_data_in_one_place_whatever_the_version(version):
    """The image of 18 has another place, below which it would make a volume, and refuses a mount here while it is not told."""
    lines = component("postgresql", postgresql_version=version)[0]["postgres.container"][0].splitlines()
    assert f"Image=docker.io/library/postgres:{version}-alpine" in lines
    place = "/var/lib/postgresql/data"
    assert {f"Environment=PGDATA={place}", f"Volume=/opt/senex-trader/data/postgres:{place}", "PodmanArgs=--image-volume=ignore"} <= set(lines)
    assert version in loaded(ROLE_DIRECTORY / "postgresql/meta/argument_specs.yml")["argument_specs"]["main"]["options"]["postgresql_version"]["choices"]


def test_the_superuser_comes_in_by_the_socket_alone():
    files = {name: text for name, (text, _) in component("postgresql", senex_database_superuser="cluster-1", senex_database_password="x" * 12)[0].items()}
    remote = [line.split() for line in files["config/postgresql/pg_hba.conf"].splitlines() if line.startswith("host")]
    first = next(words for words in remote if words[2] in ('"cluster-1"', "all"))
    assert (first[0], first[2], first[-1]) == ("hostssl", '"cluster-1"', "reject")
    assert 'postgres         "cluster-1"' in files["config/postgresql/pg_ident.conf"]
    assert unit_text.values(files["postgres.container"], "Container", "Environment")[1] == 'POSTGRES_USER="cluster-1"'


SHARED = {"data_directory": "data", "socket_directory": "sockets", "archive_role": "archive_role", "container_uid": "container_uid"}


@pytest.mark.parametrize(("name", "key"), SHARED.items())
def test_recovery_works_where_postgresql_does(name, key):
    """One input, whose other name is no input any more."""
    changed = {"postgresql_" + name: 4711 if key == "container_uid" else "elsewhere"}
    settings = value("pitr", "__pitr_settings", **changed)
    assert settings[key] == changed["postgresql_" + name]
    assert value("pitr", "__pitr_settings")[key] == value("postgresql", "postgresql_" + name)
    if key in ("sockets", "archive_role"):
        assert "elsewhere" in component("pitr", **changed)[0]["config/pitr/barman.conf"][0].partition("conninfo")[2]


@pytest.mark.parametrize(
    ("inputs", "megabytes"),
    [({}, 576), ({"postgresql_parallel_queries": "1"}, 384), ({"postgresql_shared_memory": "1G"}, 1024), ({"postgresql_settings": {"work_mem": "16MB"}}, 384),
     ({"senex_memory_mb": 24576}, 1728)],
)  # fmt: skip
def test_postgresql_shares_as_much_memory_as_its_settings_ask_for(inputs, megabytes):
    """384 MB is what a VACUUM takes with the maintenance_work_mem of a host of 8 GB."""
    files, _ = component("postgresql", **inputs)
    assert f"PodmanArgs=--shm-size={megabytes}m" in files["postgres.container"][0].splitlines()


def test_every_container_has_a_limit_of_processes(stack):
    for name, text in containers(stack[1]).items():
        assert 128 <= int(unit_text.values(text, "Service", "TasksMax")[-1]) <= 512, name
        assert not unit_text.values(text, "Container", "PidsLimit"), "Podman refuses to start one where the kernel counts no processes"
    assert not [name for name, text in stack[1].items() if name.endswith(".slice") and "TasksMax" in text], "several instances share it"
    assert "TasksMax=756" in units_of({"postgresql_max_connections": "500"})["postgres.container"], "a process for each connection"


def test_podman_gives_up_before_systemd_does(stack):
    for name, text in containers(stack[1]).items():
        stops = re.findall(r"--stop-timeout=(\d+)", " ".join(unit_text.values(text, "Container", "PodmanArgs")))
        if name == "release.container":
            continue
        assert stops and int(stops[-1]) < seconds(text, "TimeoutStopSec"), name
        assert unit_text.values(text, "Service", "Restart") == ["always"] and unit_text.values(text, "Unit", "StartLimitIntervalSec") == ["0"], name
    worker = next(text for name, text in containers(stack[1]).items() if name.startswith("celery-worker"))
    assert "--stop-timeout=300" in worker and seconds(worker, "TimeoutStopSec") > 300


def test_a_unit_is_ready_when_it_is_healthy(stack):
    for name, text in containers(stack[1]).items():
        if name.startswith(("release", "celery-flower")):
            continue
        if name.startswith("feed-"):  # has no check, so it has to run for some seconds
            assert unit_text.values(text, "Service", "ExecStartPost") == ["/usr/bin/sleep 5"] and not unit_text.values(text, "Container", "HealthCmd")
            continue
        own = name.removesuffix(".container")
        assert any(f"podman wait --condition=healthy {own}" in value for value in unit_text.values(text, "Service", "ExecStartPost")), name
        assert unit_text.values(text, "Container", "HealthCmd") and unit_text.values(text, "Container", "HealthOnFailure") == ["kill"], name
        assert not re.search(r"['\"]", unit_text.values(text, "Container", "HealthCmd")[0]), "quotes in HealthCmd break easily"


def test_a_check_of_the_start_waits_for_its_service_and_ends_below_its_limit(stack):
    """A check that fails at once is asked each second, which systemd refuses after the fifth (Podman before 5.8); then the unit never gets ready."""
    for name, text in containers(stack[1]).items():
        checked, starting = (unit_text.values(text, "Container", key) for key in ("HealthCmd", "HealthStartupCmd"))
        if not checked:
            continue
        ((check,), (start,)) = checked, starting
        if name.startswith("bot-"):  # the application's own words, so it is asked less often
            assert start == check and seconds(text, "HealthStartupInterval", "Container") >= 3
            continue
        waits = [path for path, other in stack[1].items() if path.endswith("started.sh") and start == f"sh {inside(text, path)} {check}" and "sleep" in other]
        assert start == f"{check} start" or waits, name
        assert not re.search(r"['\"$%]", start), f"{name}: quotes and variables in a check break easily"
        assert waits == [] or seconds(text, "HealthStartupTimeout", "Container") >= 4 + 4 + 1 and re.search(r"-t 3 |timeout 4 ", check), name
    own = {"config/redis-cache/started.sh"} if "redis-cache.container" in stack[1] else set()
    assert {path for path in stack[1] if path.endswith("started.sh")} >= {"config/postgresql/started.sh", "config/redis/started.sh"} | own


def inside(text, path):
    """Where a container sees a file of the home."""
    for volume in unit_text.values(text, "Container", "Volume"):
        outer, inner, *_ = volume.split(":")
        if f"/opt/senex-trader/{path}".startswith(f"{outer}/"):
            return inner + f"/opt/senex-trader/{path}".removeprefix(outer)
    return None


def test_the_application_starts_after_what_it_needs_and_survives_it(stack):
    for name, text in containers(stack[1]).items():
        if name.startswith(("web-", "celery", "release")):
            needs = {"postgres.service", "redis.service", *(["redis-cache.service"] if "redis-cache.container" in stack[1] else [])}
            assert needs <= set(unit_text.values(text, "Unit", "After")) & set(unit_text.values(text, "Unit", "Wants")), name


def test_the_web_tier_is_one_target(stack):
    for name, text in containers(stack[1]).items():
        if name.startswith("web-"):
            assert unit_text.values(text, "Unit", "PartOf") == ["web.target"]
            assert set(unit_text.values(text, "Install", "WantedBy")[0].split()) == {"web.target", "default.target"}
    assert "[Install]" not in stack[1]["release.container"] and unit_text.values(stack[1]["release.container"], "Service", "Type") == ["oneshot"]


def test_no_secret_is_in_a_file_that_is_not_marked(stack):
    _, texts, items = stack
    assert {dest for dest, text in texts.items() if SECRET in text or text == "KEY"} <= {dest for dest, item in items.items() if item["secret"]}
    assert all(item["mode"] == "0600" for item in items.values() if item["secret"])
    assert any(SECRET in text for text in texts.values()), "the test would see one"


def test_images_are_the_ones_asked_for(stack):
    variant, texts, _ = stack
    image = unit_text.image(texts["web-1.container"])
    assert image == ("registry.acme.io/team/shop@" + DIGEST if variant == "a digest" else "registry.acme.io/team/shop:2026.11.1")
    postgres, redis = texts["postgres.container"], texts["redis.container"]
    debian = variant == "images of Debian"
    assert unit_text.values(postgres, "Container", "User") == (["999"] if debian else ["70"]), "the image of Alpine has another postgres"
    version = variant.removeprefix("PostgreSQL ") if "PostgreSQL" in variant else "15"
    assert unit_text.image(postgres) == f"docker.io/library/postgres:{version}{'' if debian else '-alpine'}"
    assert unit_text.image(redis) == "docker.io/library/redis:" + ("7" if debian else "7-alpine")


def test_workers_take_every_queue_once(stack):
    workers = [text for name, text in containers(stack[1]).items() if "-next" not in name]
    taken = [queue for text in workers for found in re.findall(r"--queues=([\w,]+)", text) for queue in found.split(",")]
    taken = [queue for queue in taken if "health" not in queue]  # each worker has one for its own health check besides
    assert sorted(taken) == ["accounts", "celery", "services", "trading"]


def test_a_stand_in_is_its_worker_under_another_name_and_never_starts_by_itself(stack):
    for name, text in containers(stack[1]).items():
        if "-next" not in name:
            continue
        own = name.removesuffix(".container")
        worker = stack[1][name.replace("-next", "")]
        assert "[Install]" in worker and "[Install]" not in text
        lines = text.replace(own, own.removesuffix("-next")).splitlines()
        pairs = zip(lines, worker.split("\n[Install]")[0].splitlines(), strict=True)
        assert [one for one, other in pairs if one != other and not one.startswith("Description")] == []


@pytest.mark.parametrize(("tag", "release"), [("2026.11.1", "2026.11.1"), (DIGEST, "a" * 12)])
def test_static_files_of_a_release_lie_apart(tag, release):
    found, arguments = component("django", **{**BASE, "senex_image_tag": tag})
    volumes = {
        name: dict(value.split(":", 1) for value in unit_text.values(found[name][0], "Container", "Volume"))
        for name in ("web-1.container", "release.container")
    }
    own = f"/opt/senex-trader/data/static/{release}"
    assert volumes["web-1.container"][own] == "/app/staticfiles:ro" and volumes["release.container"][own] == "/app/staticfiles"
    assert "/opt/senex-trader/data/staticfiles" not in volumes["web-1.container"]
    assert {"path": f"data/static/{release}", "container_user": 1000} in arguments["directories"]


def test_an_instance_is_asked_before_it_gets_traffic_and_told_before_it_stops():
    _, arguments = component("django", **{**BASE, "django_smoke_paths": ["/", "/accounts/login/"], "django_drain_timeout": 7})
    web = arguments["units"][2]
    assert [(one["url"], one.get("status_below"), one.get("startup_only")) for one in web["readiness_probe"]] == [
        ("http://127.0.0.1:8002/health/", None, None), ("http://127.0.0.1:8002/", 500, True), ("http://127.0.0.1:8002/accounts/login/", 500, True),
    ]  # fmt: skip
    assert (web["load_balancer"]["server"], web["load_balancer"]["drain"]) == ("127.0.0.1:8002", 7)
    assert web["load_balancer"]["pre_stop_hook"] == ["/usr/bin/podman", "exec", "web-2", "python3", "/run/senex/drain.py"]


def test_instances_of_two_hosts_have_names_of_their_own():
    groups = {name: ["one", "two"] for name in ("web", "nginx")} | {name: ["one"] for name in ("postgresql", "redis", "celery", "celery_beat")}
    for inputs, instance in (({}, "web-1"), ({"groups": groups}, "web-1.one")):
        found, _ = component("django", **{**BASE, **inputs})
        assert f"INSTANCE={instance}" in unit_text.values(found["web-1.container"][0], "Container", "Environment")


def test_parts_for_other_hosts_listen_at_the_address_that_is_named_and_nowhere_else():
    before = {"senex_host_snapshot": {"installed": ["redis", "postgresql"], "unchanged": {}}}
    for role, own, name, ports, earlier in (("postgresql", None, "postgres", "5432:5432", []), ("redis", None, "redis", "6390:6390", ["6379:6379"]),
                                            ("redis", "redis-cache", "redis-cache", "6391:6390", ["6380:6379"])):  # fmt: skip
        inputs = {**BASE, "senex_redis_cache_instance": True, f"{role}_publish_address": "10.0.0.5"}
        text = component(role, own, **inputs)[0][f"{name}.container"][0]
        assert unit_text.values(text, "Container", "PublishPort") == [f"10.0.0.5:{ports}"]
        moving = component(role, own, **inputs, **before)[0][f"{name}.container"][0]
        assert unit_text.values(moving, "Container", "PublishPort") == [f"10.0.0.5:{one}" for one in (ports, *earlier)], "until no client needs it"
        assert [problem for podman in PODMANS for problem in check_unit(text, f"{name}.container", podman)] == []
