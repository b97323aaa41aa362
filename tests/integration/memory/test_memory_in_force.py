"""The memory plan as the kernel has it: each part's limit, what all of them leave for the rest, and what becomes of a part that wants more."""

import shlex

import pytest
from ansible_collections.senex.trader.plugins.filter.sizing import memory_plan
from stack import AS_USER, wait

pytestmark = pytest.mark.faults
MB = 2**20
# unit → its part of the plan; the two slices without what runs in them, which takes minutes to start here
CONTAINERS = {"postgres.service": "postgresql", "redis.service": "redis"}
SLICES = {"web.slice": "web", "celery.slice": "worker"}
# A value that takes more than the limit, in a Redis that was told to take as much as it likes
TOO_MUCH = "redis-cli config set maxmemory 0 && redis-cli setrange too-much 500000000 x"


@pytest.fixture(scope="module")
def plan(machine):
    machine.sh(f"{AS_USER} systemctl --user start {' '.join(SLICES)}")
    wait(lambda: machine.sh(f"{AS_USER} systemctl --user is-active {' '.join(CONTAINERS)}"), 600, "database and Redis", 5)
    return memory_plan(int(machine.sh("awk '/^MemTotal/ {print int($2 / 1024)}' /proc/meminfo")))


def in_force(megabytes):
    """What the kernel says of a part with this limit."""
    numbers = {"max": megabytes, "high": int(megabytes * 0.9), "swap.max": int(megabytes * 0.5)}
    return {name: str(number * MB) for name, number in numbers.items()}


def container(machine, name):
    return machine.user("podman", "inspect", "--format", "{{.Id}}", name).strip()


def test_each_part_has_its_limit_of_the_plan_for_this_host(machine, plan):
    units = CONTAINERS | SLICES
    assert {unit: machine.limits(unit) for unit in units} == {unit: in_force(plan[part]) for unit, part in units.items()}
    for unit in CONTAINERS:
        # The container's own processes, not Podman's beside them
        assert f"/{unit}/" in machine.sh(f"cat /proc/{machine.main_pid(unit.partition('.')[0])}/cgroup")


def test_the_plan_leaves_room_for_the_rest_of_the_host(machine, plan):
    limited = sum(plan[part] for part in ("postgresql", "redis", "web", "worker", "beat"))
    total, available = (int(word) // 1024 for word in machine.sh("awk '/^MemTotal|^MemAvailable/ {print $2}' /proc/meminfo").split())
    mine = sum(int(machine.in_cgroup(unit, "cat memory.current")) for unit in CONTAINERS) // MB
    rest = total - available - mine
    print(f"{rest} MB are used beside {limited} MB of limits, of {total} MB")
    assert limited + rest < total


def test_a_container_that_takes_more_is_ended_alone_and_comes_back(machine, plan):
    before, neighbour = container(machine, "redis"), container(machine, "postgres")
    machine.user("podman", "exec", "redis", "redis-cli", "set", "kept", "yes")
    # It slows what comes near the limit, here to minutes
    machine.user("systemctl", "--user", "set-property", "--runtime", "redis.service", "MemoryHigh=infinity")
    machine.ssh(f"{AS_USER} timeout 240 podman exec redis sh -c {shlex.quote(TOO_MUCH)}")
    wait(lambda: container(machine, "redis") != before, 300, "another container of Redis", 2)
    wait(lambda: machine.user("podman", "exec", "redis", "redis-cli", "get", "kept").strip() == "yes", 300, "Redis with what it kept", 2)
    said = machine.sh("journalctl --dmesg --no-pager --output=cat --grep 'oom-kill|Memory cgroup out of memory'")
    assert "redis.service" in said and "postgres.service" not in said
    assert container(machine, "postgres") == neighbour and machine.killed("postgres.service") == 0
    assert machine.limits("redis.service") == in_force(plan["redis"]) | {"high": "max"}


def test_what_the_workers_take_together_ends_at_their_slice(machine, plan):
    """Another process in the place of a worker."""
    before = [container(machine, unit.partition(".")[0]) for unit in CONTAINERS]
    command = ["systemd-run", "--user", "--wait", "--quiet", "--slice=celery.slice", "python3", "-c", f"bytearray(b'x') * ({2 * plan['worker']} << 20)"]
    assert machine.ssh(f"{AS_USER} {shlex.join(command)}").returncode
    assert machine.killed("celery.slice") == 1
    assert [container(machine, unit.partition(".")[0]) for unit in CONTAINERS] == before


def test_swap_is_made_and_comes_back_by_its_unit(machine):
    """By the role; what is off in the machine, and what takes long to look at, is left out."""
    inputs = {"common_swap_mb": 128, "common_firewall_enabled": False, "common_fail2ban_enabled": False, "common_unattended_upgrades_enabled": False}
    machine.play(tags="common", variables={"ansible_port": int(machine.port), "ansible_timeout": 120, **inputs}, timeout=900).expect()
    for command in ("true", 'systemctl stop swapfile.swap && systemctl is-enabled swapfile.swap && test -z "$(swapon)" && systemctl restart swap.target'):
        name, size = machine.sh(f"({command}) >/dev/null && swapon --show=NAME,SIZE --bytes --noheadings").split()
        assert name == "/swapfile" and 0 <= 128 * MB - int(size) <= 4096
