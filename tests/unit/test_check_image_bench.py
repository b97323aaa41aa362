"""The check of images: what it does with Podman, and which containers it begins. None of them runs."""

import base64
from unittest import mock

import pytest
from ansible_collections.senex.trader.plugins.module_utils.contract import bench, podman, points
from ansible_collections.senex.trader.plugins.modules import check_image
from image_check import handed_over


class Recorder(podman.Podman):
    """Podman that is not there."""

    def __init__(self, listed=()):
        super().__init__(600, [])
        self.calls, self.given, self.listed = [], [], listed

    def call(self, *words, data="", **_more):
        self.calls.append(words)
        self.given.append(data)
        return podman.Done(0, "\n".join(self.listed) if words[0] == "ps" else "")


def test_only_what_is_its_own_or_over_is_removed():
    over, others = "senex-check-10000-aabbccdd", "senex-check-ffffffff-aabbccdd"
    engine = Recorder()
    mine = f"{engine.name}-web"
    engine.listed = (mine, f"{over}-web", f"{others}-web", "web-1", "senex-checker", "senex-check-10000-aabbccdd-x.y")
    engine.begin("app:1")
    assert [words[-1] for words in engine.calls if words[0] == "rm"] == [f"{over}-web"]
    engine.calls.clear()
    engine.remove()
    assert [words[-1] for words in engine.calls if words[0] == "rm"] == [mine]


def test_a_container_is_bounded_and_has_no_port():
    engine = Recorder()
    engine.start("web", "app:1", ["web"], ["--read-only"])
    (words,) = engine.calls
    assert {"--timeout=600", "--pull=never", f"--network={engine.name}", "--log-opt=max-size=1mb"} <= set(words)
    assert not [word for word in words if word.startswith(("--publish", "-p"))]
    engine.begin("app:1")
    assert ("network", "create", "--internal", engine.name) in engine.calls


def test_a_check_has_an_end():
    engine = podman.Podman(0, [])
    with pytest.raises(podman.Broken, match="did not end within 0 s"):
        engine.call("ps")


def bench_of(wanted, engine):
    made = bench.Bench(engine, wanted | {"image": "app:1"})
    made.services = mock.Mock(addresses=lambda: {"postgres": "10.0.0.2", "redis": "10.0.0.3"})
    made.config = {"Config": {"Env": ["PATH=/venv/bin", "PYTHONPATH=/app/lib"]}}
    return made


def test_a_web_instance_is_started_as_its_unit_says():
    engine = Recorder()
    bench_of(handed_over()["wanted"], engine).begin("web", "web", modules=bench.PAGE)
    words, environment = engine.calls[-1], dict(line.split("=", 1) for line in engine.given[-1].splitlines())
    assert {"--read-only", "--cap-drop=all", "--user=1000", "--add-host=postgres:10.0.0.2"} <= set(words) and words[-2:] == ("app:1", "web")
    assert any(word.startswith("--security-opt=seccomp=/proc/self/fd/") for word in words)
    mounts = [word for word in words if word.startswith(("--volume=", "--secret="))]
    assert f"--volume={engine.name}-data-static-2026-11-1:/app/staticfiles:ro,nocopy" in mounts
    assert f"--volume={engine.name}-data-media:/app/media:U,nocopy" in mounts
    assert {word.partition("target=")[2].partition(",")[0] for word in mounts if word.startswith("--secret=")} == {
        "/run/senex/ca.crt",
        "/run/senex/health.py",
        "/run/senex/drain.py",
        "/run/senex/check/senex_check_settings.py",
        "/run/senex/check/senex_check_page.py",
    }
    assert environment["DJANGO_SETTINGS_MODULE"] == "senex_check_settings" and environment["PYTHONPATH"] == "/run/senex/check:/app/lib"
    assert environment["SENEX_CHECK_SETTINGS"] == "shop.settings.production"
    assert environment["DB_PASSWORD"] not in " ".join(words), "others can read a command line"


def test_a_container_without_the_checks_modules_has_the_environment_of_the_unit_alone():
    engine, wanted = Recorder(), handed_over()["wanted"]
    bench_of(wanted, engine).begin("release", "release")
    assert engine.given[-1] == wanted["environment"]


def test_a_machine_that_cannot_limit_runs_all_the_same():
    class Refusing(Recorder):
        def call(self, *words, **more):
            super().call(*words, **more)
            refused = words[0] == "run" and "--cgroups=disabled" not in words
            return podman.Done(126, "crun: setrlimit (RLIM_MEMLOCK): Operation not permitted") if refused else podman.Done(0, "")

    engine = Refusing()
    assert engine.start("web", "app:1", [], ["--memory=1m", "--pids-limit=9", "--read-only"]).code == 0
    assert "--read-only" in engine.calls[-1] and not {"--memory=1m", "--pids-limit=9"} & set(engine.calls[-1]) and not engine.limited


@pytest.mark.parametrize("path", ["/app/lib\n*", "/app/lib\nANSIBLE_VAULT_PASSWORD_FILE"])
def test_an_image_gets_no_variable_of_whoever_runs_the_check(path):
    """In Podman's file of variables a name without a value is taken from Podman's own environment, with * any that begins so."""
    engine = Recorder()
    made = bench_of(handed_over()["wanted"], engine)
    made.config["Config"]["Env"] = ["PATH=/venv/bin", "alone", f"PYTHONPATH={path}"]
    with pytest.raises(podman.Broken, match="PYTHONPATH of the image has a line break"):
        made.begin("web", "web", modules=bench.PAGE)
    made.begin("release", "release")
    assert not [line for line in engine.given[-1].splitlines() if "=" not in line]
    assert "--http-proxy=false" in engine.calls[-1]


def test_an_answer_of_another_kind_ends_the_check_with_a_sentence(monkeypatch):
    """Whatever its python3 is."""
    monkeypatch.setattr(check_image, "look", lambda *_: {"versions": []}["django"])
    monkeypatch.setattr(check_image, "AnsibleModule", mock.Mock())
    module = check_image.AnsibleModule.return_value
    module.params = {"image": "app:1", "points": [], "time_limit": 1, "podman_options": [], "payload": base64.b64encode(b"{}").decode()}
    module.fail_json.side_effect = SystemExit
    with pytest.raises(SystemExit):
        check_image.main()
    assert "a program of the check gave another answer" in module.fail_json.call_args[1]["msg"]


def test_of_what_is_printed_without_end_the_end_is_kept(monkeypatch, tmp_path):
    (tmp_path / "podman").write_text("#!/bin/sh\nyes 0123456789 | head -c 50000000\necho last; exit 3\n")
    (tmp_path / "podman").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(podman.tempfile, "TemporaryFile", mock.Mock(side_effect=AssertionError("on the disk")))
    done = podman.Podman(60, []).call("exec", "x", check=False)
    assert (done.code, done.output[-5:], len(done.output)) == (3, "last\n", podman.OUTPUT)
    client, said = podman.Podman(60, []).talk("web", "python3")
    assert client.wait(30) == 3 and said.text().endswith("last\n") and len(said.kept) == podman.OUTPUT


def test_a_task_that_is_not_acknowledged_is_known_by_its_own_name():
    """Another one's, which a worker that was killed has left, or which waits behind it, says nothing of this worker."""
    made = bench.Bench(Recorder(), {**handed_over()["wanted"], "image": "image"})
    kept = {"unacked": '[{"headers": {"id": "senex-check-1"}}, "", "celery"]', "shop.unacked": '[{"properties": {"correlation_id": "senex-check-2"}}, "", ""]'}
    made.services = mock.Mock(redis=lambda *words: "\n".join(kept) if words[0] == "--scan" else kept[words[1]])
    assert [made._unacknowledged(f"senex-check-{number}") for number in (1, 2, 3)] == [True, True, False]


def test_the_program_that_names_the_user_is_bounded_too():
    """It is the image's own, and may not end."""

    class Answering(Recorder):
        def call(self, *words, **more):
            super().call(*words, **more)
            return podman.Done(0, {"inspect": '{"ExitCode": 0}', "logs": "1000\n"}.get(words[0], ""))

    engine = Answering()
    made = bench_of(handed_over()["wanted"], engine)
    made.config["Config"]["User"] = "app"
    assert points._user(made) == ("1000", "1000")
    (words,) = [words for words in engine.calls if words[0] == "run"]
    assert {f"--name={engine.name}-user", "--timeout=600", "--cap-drop=all", "--read-only", "--entrypoint=id"} <= set(words)
    assert not [word for word in words if word.startswith("--user")] and words[-2:] == ("app:1", "-u")
    assert ("rm", "--force", "--time=0", "--volumes", f"{engine.name}-user") in engine.calls
