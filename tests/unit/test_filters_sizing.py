"""The sizing filters against the sources' table and their own promises."""

import pathlib
import sys

import pytest
from ansible.errors import AnsibleFilterError

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "plugins" / "filter"))
import sizing

TABLE = {
    4: ("1GB", "3GB", "32MB", "256MB"),
    8: ("2GB", "6GB", "64MB", "512MB"),
    16: ("4GB", "12GB", "128MB", "1GB"),
}
REPORTED = {4: [4096, 3915, 3816], 8: [8192, 7940, 7751], 16: [16384, 15900, 15610]}


@pytest.mark.parametrize(("gigabytes", "ram"), [(g, r) for g, rams in REPORTED.items() for r in rams])
def test_tuning_is_the_table_of_the_sources(gigabytes, ram):
    got = sizing.postgresql_tuning(ram)
    assert (got["shared_buffers"], got["effective_cache_size"], got["work_mem"], got["maintenance_work_mem"]) == TABLE[gigabytes]
    assert got["checkpoint_completion_target"] == 0.9
    assert got["random_page_cost"] == 1.1
    assert got["effective_io_concurrency"] == 200
    assert (got["wal_buffers"], got["min_wal_size"], got["max_wal_size"]) == ("16MB", "1GB", "4GB")


def test_shared_buffers_take_half_of_a_unit_limit():
    assert sizing.postgresql_tuning(8192, limit_mb="2G")["shared_buffers"] == "1GB"
    assert sizing.postgresql_tuning(8192, limit_mb="4G")["shared_buffers"] == "2GB"
    for ram in range(1792, 70000, 97):
        limit = sizing.memory_plan(ram)["postgresql"]
        buffers = sizing.to_megabytes(sizing.postgresql_tuning(ram, limit_mb=limit)["shared_buffers"])
        assert buffers <= limit / 2


def test_more_connections_get_less_memory_each():
    assert sizing.postgresql_tuning(8192, max_connections=400)["work_mem"] == "32MB"
    assert sizing.postgresql_tuning(8192, max_connections=100000)["work_mem"] == "4MB"
    with pytest.raises(AnsibleFilterError, match="max_connections"):
        sizing.postgresql_tuning(8192, max_connections=0)


def test_overrides_win_and_null_removes():
    got = sizing.postgresql_tuning(8192, overrides={"work_mem": "8MB", "wal_buffers": None, "jit": "off"})
    assert got["work_mem"] == "8MB" and got["jit"] == "off" and "wal_buffers" not in got


@pytest.mark.parametrize(
    ("settings", "queries", "megabytes"),
    [
        ({"work_mem": "96MB"}, 1, 864),  # a host of 24 GB: 96 x 2 x 3 processes, and half more
        ({"work_mem": "32MB"}, 2, 576),  # one of 8 GB
        ({"Work_Mem": 32768}, 2, 576),  # a bare number is kB
        ({"work_mem": "32MB", "hash_mem_multiplier": "1"}, 2, 288),
        ({"work_mem": "32MB", "max_parallel_workers_per_gather": 4}, 2, 960),
        ({"work_mem": "32MB", "max_parallel_workers_per_gather": "0"}, 2, 96),  # what a VACUUM takes
        ({"work_mem": "32MB", "max_parallel_workers_per_gather": 0, "max_parallel_maintenance_workers": 0}, 2, 64),
        ({"maintenance_work_mem": "1GB"}, 2, 1536),
        ({"work_mem": "much", "hash_mem_multiplier": "more"}, 2, 96),  # PostgreSQL refuses it, and says so
        ({}, 1, 96),
    ],
)
def test_shared_memory_holds_what_parallel_queries_may_take(settings, queries, megabytes):
    assert sizing.postgresql_shared_memory(settings, queries) == megabytes


def test_shared_memory_fits_into_the_unit_beside_shared_buffers():
    for ram in range(1792, 140000, 97):
        limit = sizing.memory_plan(ram)["postgresql"]
        settings = sizing.postgresql_tuning(ram, limit_mb=limit)
        assert limit > 1.2 * sizing.to_megabytes(settings["shared_buffers"]) + sizing.postgresql_shared_memory(settings), ram


@pytest.mark.parametrize("ram", [8192, 7940, "7940", 7751])
def test_memory_plan_of_8_gb(ram):
    plan = sizing.memory_plan(ram)
    assert plan == {"postgresql": 2048, "redis": 1024, "redis_maxmemory": 512, "web": 1024, "worker": 1536, "beat": 512, "system": 2048}


def test_the_cache_gets_half_of_redis_and_no_more_from_the_host():
    for ram in (1792, 8192, 65536):
        one, two = sizing.memory_plan(ram), sizing.memory_plan(ram, redis_cache=True)
        assert two["redis"] + two["redis_cache"] == one["redis"] and two["system"] == one["system"]
        assert two["redis"] >= 2 * two["redis_maxmemory"] and two["redis_cache"] >= 1.25 * two["redis_cache_maxmemory"] > 64
    assert "redis_cache" not in sizing.memory_plan(8192)


def test_memory_plan_always_fits_and_grows():
    before = None
    for ram in range(1792, 140000, 61):
        plan = sizing.memory_plan(ram)
        limits = {part: limit for part, limit in plan.items() if part not in ("system", "redis_maxmemory")}
        assert sum(limits.values()) <= ram
        assert plan["system"] >= 96
        assert plan["redis"] >= 2 * plan["redis_maxmemory"]
        assert before is None or all(limits[part] >= before[part] for part in limits)
        before = limits


def test_memory_plan_of_a_host_of_its_own():
    assert sizing.memory_plan(8192, ["postgresql"]) == {"postgresql": 6144, "system": 2048}
    with pytest.raises(AnsibleFilterError, match="no component postgres;"):
        sizing.memory_plan(8192, ["postgres"])


def test_memory_plan_refuses_a_tiny_host():
    with pytest.raises(AnsibleFilterError, match="senex_memory_mb: 1024 MB"):
        sizing.memory_plan(1024)


@pytest.mark.parametrize(
    ("text", "megabytes"),
    [("512M", 512), ("2G", 2048), ("512mb", 512), ("1.5GiB", 1536), (512, 512), ("512", 512), ("1k", 1), ("1T", 1048576), (" 64 m ", 64)],
)
def test_to_megabytes(text, megabytes):
    assert sizing.to_megabytes(text) == megabytes


@pytest.mark.parametrize(
    ("body", "megabytes"),
    [
        ("10m", 512),
        ("300m", 1200),
        ("1G", 4096),
        ("1073741824", 4096),
        (1048576000, 4000),
        ("600000k", 2344),
        ("lots", 512),
        (None, 512),
        ("9999999999999g", 4194304),
    ],
)
def test_upload_room(body, megabytes):
    assert sizing.upload_room(body, 4, 512) == megabytes


@pytest.mark.parametrize("text", ["9" * 400, "9999999999G", "", "big", "-1M", "1X", None, True, "512b", 536870912, "0x10"])
def test_to_megabytes_refuses(text):
    with pytest.raises(AnsibleFilterError, match="size|unit"):
        sizing.to_megabytes(text)
