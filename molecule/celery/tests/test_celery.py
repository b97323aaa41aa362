"""Workers and Beat as the application sees them. The order matters: the later tests change the role's inputs."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from parts import HOME, Part, apply, eventually

QUEUES = ["celery", "accounts", "trading", "services"]


def test_worker_takes_from_every_queue(application):
    for queue in QUEUES:
        assert application.works(queue=queue), queue


def test_containers_are_confined(worker, beat):
    for part in (worker, beat):
        part.is_confined(uid=1000)
        assert part.podman(f"port {part.name}") == ""


def test_limits_stand_in_the_unit(worker):
    assert int(worker.show("MemoryHigh")) < int(worker.show("MemoryMax")) == 768 * 2**20
    assert worker.show("TimeoutStopUSec") == "5min 10s"
    assert worker.inspect(".Config.StopTimeout") == "300"


def test_beat_sends(application, beat):
    assert eventually(lambda: application.ask("/api/heartbeat/")["age"], 40) < 40
    assert beat.inspect(".State.Health.Status") == "healthy"


def test_the_check_of_an_older_beat_finds_the_application(beat):
    """From `celery_beat_max_silence` on it reads Beat's tables, which a fixture cannot wait for."""
    older = "sed 's/^if age < LIMIT:/if False:/' /run/senex/beat_health.py >/tmp/older.py && grep -q 'if False' /tmp/older.py && python3 /tmp/older.py"
    beat.podman(f'exec celery-beat sh -c "{older}"')


def test_running_tasks_end_and_queued_ones_stay(application, worker):
    """Four fill the worker; its checks, each 5 s, leave it alone while it is busy and while it stops."""
    started = worker.started
    for number in range(4):
        application.enqueue("sleep", seconds=20, key=f"warm-running-{number}")
    eventually(lambda: application.ledger("warm-running")["runs"] == 4)
    for number in range(6):
        application.enqueue("add", x=1, y=number, key=f"warm-queued-{number}")
    busy = worker.check()
    assert busy.rc == 0, busy.stdout
    assert worker.started == started
    seconds = worker.systemctl("stop")
    print(f"stopped after {seconds:.0f} s")
    assert 5 < seconds < 60
    running = application.ledger("warm-running")
    assert (running["runs"], running["finished"], running["twice"]) == (4, 4, {})
    assert application.ledger("warm-queued")["runs"] == 0
    print(f"ready after {worker.systemctl('start'):.1f} s")
    eventually(lambda: application.ledger("warm-queued")["finished"] == 6)
    assert application.ledger("warm")["twice"] == {}


def test_worker_that_consumes_nothing_is_found_and_restarted(application, worker):
    assert worker.check().rc == 0
    started = worker.started
    for queue in QUEUES:
        worker.control(f"cancel_consumer {queue}")
    found = worker.check()
    assert (found.rc, "takes from none of its queues" in found.stdout) == (1, True), found.stdout
    assert application.works(seconds=90)
    eventually(lambda: worker.show("ActiveState") == "active" and worker.started != started)


def test_killed_worker_is_back(application, worker):
    print(f"killed and back in {worker.kill():.1f} s")
    assert application.works()


def test_worker_outlives_its_broker(host, application, worker, beat):
    """A short absence and one of some failed checks: the worker stays, and takes tasks again."""
    redis, before = Part(host, "redis"), (worker.started, beat.started)
    redis.systemctl("restart")
    begin = time.monotonic()
    assert application.works()
    print(f"consumes {time.monotonic() - begin:.1f} s after Redis was back")
    redis.systemctl("stop")
    time.sleep(20)
    redis.systemctl("start")
    begin = time.monotonic()
    assert application.works(seconds=40)
    print(f"consumes {time.monotonic() - begin:.1f} s after Redis was back")
    assert (worker.started, beat.started) == before


def test_another_worker_stands_in_while_one_restarts(host, application, worker):
    """What is queued meanwhile goes on: only a task that the old worker was handed in its last moment waits for those that it ends."""
    before = worker.started
    for number in range(2):
        application.enqueue("sleep", seconds=20, key=f"stand-running-{number}")
    eventually(lambda: application.ledger("stand-running")["runs"] == 2)
    waits = []
    with ThreadPoolExecutor() as pool:
        applied = pool.submit(apply, {"celery_max_tasks_per_child": 99})
        while not applied.done():
            key = f"stand-queued-{len(waits):04d}"
            application.enqueue("add", x=1, y=2, key=key)
            began = time.monotonic()
            eventually(lambda key=key: application.ledger(key)["finished"])
            waits.append(time.monotonic() - began)
        applied.result()
    print(f"{len(waits)} tasks, the longest waited {max(waits):.1f} s")
    assert worker.started != before and max(waits) < 30
    assert sum(one > 5 for one in waits) <= 2, "one in the old worker, one in the stand-in"
    ledger = application.ledger("stand-")
    assert (ledger["finished"], ledger["twice"]) == (len(waits) + 2, {})
    stand_in = Part(host, "celery-worker-next")
    eventually(lambda: stand_in.show("ActiveState") == "inactive")  # it is told to stop, and not waited for
    assert stand_in.show("Result") == "success"
    assert "celery-worker-next" not in worker.podman("ps -a --format '{{.Names}}'")


@pytest.mark.faults
def test_split_pools_and_flower(host, application, worker):
    pools = [
        {"name": "celery-worker", "queues": ["celery", "accounts", "services"], "concurrency": 2},
        {"name": "celery-worker-trading", "queues": ["trading"], "concurrency": 1},
    ]
    password = "flower-molecule:%$x"
    apply({"celery_workers": pools, "celery_flower_enabled": True, "celery_flower_password": password})
    key = "pool-trading"
    task = application.enqueue("add", x=2, y=3, queue="trading", key=key)
    eventually(lambda: application.state(task) == "SUCCESS")
    assert task in Part(host, "celery-worker-trading").journal()
    assert application.works(queue="services")

    status = "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:5555/"
    assert host.check_output(status) == "401"
    assert host.check_output(f"{status} --user 'admin:wrong-password'") == "401"
    assert host.check_output(f"{status} --user 'admin:{password}'") == "200"
    listening = [line.split()[3] for line in host.check_output("ss -Hltn").splitlines()]
    assert [address for address in listening if address.endswith(":5555")] == ["127.0.0.1:5555"]
    file = host.file(f"{HOME}/config/celery/flower.env")
    assert (file.user, file.mode) == ("senex", 0o600)
    assert host.run(f"grep -rF '{password}' {HOME}/.config/containers").rc == 1

    apply()
    assert host.run(status).stdout == "000"
    assert not host.file(f"{HOME}/config/celery/flower.env").exists
    units = host.check_output(f"cd {HOME}/.config/containers/systemd && ls celery-*")
    assert sorted(units.split()) == ["celery-beat.container", "celery-worker-next.container", "celery-worker.container"]
    assert application.works(queue="trading")


@pytest.mark.faults
def test_removed(host, application, worker, beat):
    """Units and files are gone; what the web tier reads too, and what is queued, is not."""
    task = application.enqueue("add", x=2, y=3)
    eventually(lambda: application.state(task) == "SUCCESS")
    apply({"celery_state": "absent"})
    assert (worker.show("LoadState"), beat.show("LoadState")) == ("not-found", "not-found")
    assert not host.file(f"{HOME}/config/celery/worker_health.py").exists
    assert host.file(f"{HOME}/.config/containers/systemd/.env").exists
    task = application.enqueue("add", x=2, y=3)
    apply()
    eventually(lambda: application.state(task) == "SUCCESS")
