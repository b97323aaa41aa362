"""Minor releases of PostgreSQL and Redis while people use the site, what is refused, and the rollback."""

import json

import pytest
from conftest import PREFIX
from load import Load
from stack import HOME

pytestmark = pytest.mark.faults

PLAYBOOK = "playbooks/update_images.yml"


def version(stack):
    return stack.user("podman", "exec", "postgres", "psql", "-XAtU", "postgres", "-d", "postgres", "-c", "show server_version").split()[0]


def image(stack, container):
    return stack.user("podman", "inspect", "--format", "{{.Image}}", container).strip()


def named(stack, reference):
    return stack.user("podman", "image", "inspect", "--format", "{{.Id}}", reference).strip()


def said(run):
    return " ".join(str(result.get("msg", "")) for _name, result in run.results)


@pytest.fixture
def update(stack, registry):
    def run(**inputs):
        return stack.play(playbook=PLAYBOOK, tags="all", variables={**registry.inputs, **inputs}, timeout=600)

    return run


@pytest.fixture(scope="module")
def earlier(stack, registry):
    """The stack with both servers in the build from before; their versions."""
    stack.play(variables=registry.inputs).expect()
    stack.ready(120)
    return stack


def unchanged(stack, registry, starts):
    """Nothing restarted, and the next site.yml has nothing to do."""
    again = stack.play(variables=registry.inputs).expect()
    assert again.changed == [] and stack.moved(starts) == []


def test_nothing_new_is_said_and_nothing_changes(earlier, update):
    starts = earlier.starts()
    run = update(update_images_confirm=True).expect()
    assert "the registry has nothing newer" in said(run) and "Nothing to do" in said(run)
    assert run.changed == [] and earlier.moved(starts) == []


def test_another_major_version_is_refused(earlier, registry, update):
    """And does not keep Redis from its update."""
    starts = earlier.starts()
    registry.push(registry.postgres, f"{PREFIX}/postgres:17")
    run = update(update_images_confirm=True)
    assert run.code != 0 and run.changed == [] and earlier.moved(starts) == []
    assert "is another major version" in run.errors[0] and "playbooks/upgrade_postgresql.yml" in run.errors[0]
    assert "Nothing to do" in said(update(update_images_only="redis").expect())
    unchanged(earlier, registry, starts)


def test_a_misspelt_variable_is_refused(earlier, update):
    run = update(update_images_bakc=True)
    assert run.code != 0 and "update_images_bakc: is no variable of an update" in run.errors[0]
    run = update(update_images_only="nginx")
    assert run.code != 0 and "update_images_only: nginx has no image here" in run.errors[0]


def test_an_image_that_does_not_start_gives_way_to_the_one_before(earlier, registry, update, broken, figure):
    before, ran = version(earlier), image(earlier, "postgres")
    registry.push(registry.postgres, broken)
    with Load(earlier) as load:
        run = update(update_images_confirm=True)
    assert run.code != 0 and "postgres.service did not come up" in run.errors[-1] and "runs with the image from before" in run.errors[-1], run.errors
    earlier.ready(60)
    assert version(earlier) == before and image(earlier, "postgres") == ran == named(earlier, registry.postgres)
    figure("failed requests while an image of PostgreSQL that does not start was tried", len(load.failures), "requests")
    figure("requests meanwhile", load.requests, "requests")
    starts = earlier.starts()
    assert earlier.ssh("test -e /var/lib/senex.trader/deploy.lock").returncode != 0, "the lock is given up"
    record = json.loads(earlier.sh("tail -n 1 /var/lib/senex.trader/releases.jsonl"))
    assert record["kind"] == "images" and record["result"] == "failed"
    unchanged(earlier, registry, starts)


def test_the_plan_changes_nothing(earlier, registry, update):
    ran = image(earlier, "postgres"), image(earlier, "redis")
    registry.push(registry.postgres, f"{PREFIX}/postgres:15")
    registry.push(registry.redis, f"{PREFIX}/redis:latest")
    starts = earlier.starts()
    run = update().expect()
    assert run.changed == [] and "Nothing was changed. To carry it out: -e update_images_confirm=true" in said(run)
    assert f"postgresql: {version(earlier)} (" in said(run) and "-> " in said(run)
    assert ran == (named(earlier, registry.postgres), named(earlier, registry.redis))
    unchanged(earlier, registry, starts)


def test_both_are_updated_and_no_request_fails(earlier, registry, update, figure):
    before, ran = version(earlier), image(earlier, "postgres")
    earlier.post("/api/rows/", {"text": "before the update"})
    count = json.loads(earlier.get("/api/rows/")[1])["count"]
    starts = earlier.starts()
    with Load(earlier) as load:
        run = update(update_images_confirm=True).expect()
    assert load.failures == [] and load.requests > 100, load.failures[:5]
    figure("update of PostgreSQL and Redis: slowest of the requests meanwhile", load.slowest)
    figure("update of PostgreSQL and Redis: requests meanwhile", load.requests, "requests")
    figure("update of PostgreSQL and Redis: wall", run.wall)
    assert set(earlier.moved(starts)) == {"postgres", "redis"}
    assert [int(part) for part in version(earlier).split(".")] > [int(part) for part in before.split(".")]
    assert image(earlier, "postgres") == named(earlier, registry.postgres) != ran
    assert named(earlier, "localhost/senex.trader/previous-postgresql:latest") == ran
    assert json.loads(earlier.get("/api/rows/")[1])["count"] == count
    record = json.loads(earlier.sh("tail -n 1 /var/lib/senex.trader/releases.jsonl"))
    assert record["result"] == "succeeded" and version(earlier) in record["reason"] and earlier.sh(f"ls {record['backup']}")
    assert earlier.sh(f"find {HOME}/backups/redis -type f -mmin -10")
    assert earlier.sh("senex releases -n 1").split("update of images (postgresql, redis)")[1].split()[:2] == ["-", "succeeded"]
    starts = earlier.starts()
    unchanged(earlier, registry, starts)
    earlier.user("python3", "-I", f"{HOME}/bin/senex-prune-images", "--keep", "1")
    assert named(earlier, "localhost/senex.trader/previous-postgresql:latest") == ran, "the rollback is not pruned"


def test_status_names_versions_and_ages(earlier):
    text = " ".join(earlier.ssh("senex status").stdout.split())
    assert f"PostgreSQL {version(earlier)} answers" in text and "Redis 7." in text and "image postgres of " in text and "image redis of " in text, text


def test_a_rollback(earlier, registry, update, figure):
    """Of PostgreSQL alone; it stays although the registry has the newer one."""
    newer = version(earlier)
    asked = update(update_images_back=True, update_images_only="postgresql").expect()
    assert asked.changed == [] and version(earlier) == newer
    with Load(earlier) as load:
        update(update_images_back=True, update_images_only="postgresql", update_images_confirm=True).expect()
    assert load.failures == []
    figure("rollback of PostgreSQL's image: slowest of the requests meanwhile", load.slowest)
    assert version(earlier) != newer and image(earlier, "postgres") == named(earlier, registry.postgres)
    assert "no earlier image is kept" in said(update(update_images_back=True, update_images_only="postgresql").expect())
    unchanged(earlier, registry, earlier.starts())
    update(update_images_confirm=True).expect()
    assert version(earlier) == newer
