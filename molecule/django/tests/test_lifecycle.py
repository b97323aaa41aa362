"""Instances killed, and the web tier gone. Runs after test_django.py."""

import time

from parts import HOME, SYSTEMCTL, Part, apply


def test_killed_instance_is_back_by_itself(web):
    seconds = web[1].kill_and_wait()
    print(f"killed and back in {seconds:.1f} s")
    assert seconds < 20  # 5 s where nothing else runs


def test_target_restarts_all_instances(host, web):
    before = [web[number].started for number in (1, 2)]
    host.check_output(f"{SYSTEMCTL} restart web.target")
    for number in (1, 2):
        assert web[number].started != before[number - 1]
        assert web[number].alive


def test_application_outlives_its_database(web):
    postgres = Part(web[1].host, "postgres")
    before = web[1].started
    postgres.systemctl("restart")
    deadline = time.monotonic() + 20
    while web[1].get("/health/")[0] != 200:
        assert time.monotonic() < deadline
        time.sleep(0.3)
    assert web[1].started == before


def test_removed_and_put_back(host, web):
    host.check_output(f"echo keep | tee {HOME}/data/media/keep.txt")
    apply({"django_state": "absent"})
    assert host.run(f"ls {HOME}/.config/containers/systemd/.env {HOME}/.config/containers/systemd/web-1.container").rc != 0
    assert web[1].show("LoadState") == "not-found"
    assert not web[1].alive
    assert host.file(f"{HOME}/data/media/keep.txt").content_string == "keep\n"
    assert host.check_output(f"find {HOME}/data/staticfiles -name '*.css'")
    assert Part(host, "postgres").show("ActiveState") == "active"
    apply()
    assert [web[number].alive for number in (1, 2)] == [True, True]
