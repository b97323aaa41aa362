"""The memory plan as the kernel has it: each part's limit, what all of them leave for the rest, and what becomes of a part that wants more."""

import shlex

import pytest
from stack import AS_USER, HOME, wait

from ansible_collections.senex.trader.plugins.filter.sizing import memory_plan

pytestmark = pytest.mark.faults
MB = 2**20
PARTS = {"postgres": "postgresql", "redis": "redis"}
# More than its limit and its swap, in one value; and what is allowed to be kept is no hindrance
TOO_MUCH = "redis-cli config set maxmemory 0 && redis-cli setrange too-much 500000000 x"


def in_force(megabytes):
    """What the kernel says of a part with this limit."""
    numbers = {"max": megabytes, "high": int(megabytes * 0.9), "swap.max": int(megabytes * 0.5)}
    return {name: str(number * MB) for name, number in numbers.items()}


def container(machine, name):
    return machine.user("podman", "inspect", "--format", "{{.Id}} {{.State.StartedAt}}", name, timeout=300).strip()


def swap(machine):
    return machine.sh("swapon --show=NAME,SIZE --bytes --noheadings").split()


def test_each_part_has_its_limit_of_the_plan_for_this_host(converged):
    plan = memory_plan(converged.memory_mb())
    assert {unit: converged.limits(f"{unit}.service") for unit in PARTS} == {unit: in_force(plan[part]) for unit, part in PARTS.items()}
    # Of the container itself, not of Podman beside it
    for name in PARTS:
        assert f"/{name}.service/" in converged.sh(f"cat /proc/{converged.main_pid(name)}/cgroup")


def test_the_plan_leaves_room_for_the_rest_of_the_host(converged):
    """The smallest host that is promised: nothing but its containers takes what the plan leaves."""
    plan = memory_plan(converged.memory_mb())
    limited = sum(plan[part] for part in ("postgresql", "redis", "web", "worker", "beat"))
    names = " ".join(f"{unit}.service" for unit in PARTS)
    current = converged.sh(f"{AS_USER} systemctl --user show --property MemoryCurrent --value {names}").split()
    used = converged.sh("awk '/^MemTotal|^MemAvailable/ {print $2 * 1024}' /proc/meminfo").split()
    rest = int(used[0]) - int(used[1]) - sum(map(int, current))
    assert rest < int(used[0]) - limited * MB, f"{rest // MB} MB are used beside {limited} MB of limits, of {int(used[0]) // MB} MB"


def test_swap_is_there_and_comes_back_by_its_unit(converged):
    assert swap(converged)[0] == "/swapfile" and abs(int(swap(converged)[1]) - 256 * MB) <= 4096
    converged.sh("swapoff /swapfile && systemctl start swap.target && systemctl is-enabled swapfile.swap && systemctl restart swapfile.swap")
    assert swap(converged)[:1] == ["/swapfile"]


def test_a_container_that_takes_more_is_ended_alone_and_comes_back(converged):
    before, killed = container(converged, "redis"), converged.killed("redis.service")
    neighbour = container(converged, "postgres")
    converged.user("podman", "exec", "redis", "redis-cli", "set", "kept", "yes")
    converged.ssh(f"{AS_USER} timeout 240 podman exec redis sh -c '{TOO_MUCH}'", timeout=300)
    wait(lambda: container(converged, "redis") != before, 300, "another container of Redis", 2)
    assert "Out of memory" in converged.sh("journalctl --dmesg --no-pager --grep 'oom|Out of memory'") or killed < converged.killed("redis.service")
    wait(lambda: converged.user("podman", "exec", "redis", "redis-cli", "get", "kept").strip() == "yes", 300, "Redis with what it kept", 2)
    assert container(converged, "postgres") == neighbour and converged.killed("postgres.service") == 0


def test_what_the_workers_take_together_ends_at_their_slice(converged):
    """The limit that all workers share, as its file says it; made small, it ends a process in it and no neighbour."""
    said = converged.sh(f"{AS_USER} systemctl --user start celery.slice web.slice && grep -h ^MemoryMax= {HOME}/.config/systemd/user/*.slice")
    for name, line in zip(("celery.slice", "web.slice"), said.split(), strict=True):
        assert converged.limits(name) == in_force(int(line.removeprefix("MemoryMax=").removesuffix("M")))
    before = [container(converged, name) for name in PARTS]
    converged.user("systemctl", "--user", "set-property", "--runtime", "celery.slice", "MemoryHigh=infinity", "MemoryMax=64M", "MemorySwapMax=0")
    hungry = ["systemd-run", "--user", "--wait", "--quiet", "--slice=celery.slice", "--unit=hungry", "python3", "-c", "bytearray(b'x') * (256 << 20)"]
    assert converged.ssh(f"{AS_USER} {shlex.join(hungry)}").returncode
    assert converged.killed("celery.slice") == 1
    assert [container(converged, name) for name in PARTS] == before
