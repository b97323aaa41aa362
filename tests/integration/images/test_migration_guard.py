"""What a release says of migrations, asked as it asks: the plan's script in the demo image beside a real database."""

import base64
import json

import migration_cases
import pytest
from containers import ROOT, address

DEMO = "localhost/senex-lab/demo:1"
FILES = ROOT / "playbooks/release/files"
# What the demo application's settings want; nothing but the database is asked
SETTINGS = {
    **dict.fromkeys(("SECRET_KEY", "ALLOWED_HOSTS"), "x"),
    "FIELD_ENCRYPTION_KEY": base64.urlsafe_b64encode(bytes(32)).decode(),
    **dict.fromkeys(("REDIS_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"), "redis://x"),
    **{"DB_NAME": "postgres", "DB_USER": "postgres", "DB_PASSWORD": "cases", "LOG_DIR": ""},
    **{"DJANGO_SETTINGS_MODULE": "cases", "CASES_BASE": "demo.settings"},
}
RUN = """set -e
export PYTHONDONTWRITEBYTECODE=1
PYTHONPATH=/cases/first:/app python /app/manage.py migrate --noinput --verbosity 0
for size in 0 64; do PYTHONPATH=/cases/pending:/app PLAN_SMALL_TABLE_MB=$size python /app/manage.py shell --verbosity 0 < /cases/script.py; done
"""


@pytest.fixture(scope="module")
def said(shared, network, tmp_path_factory):
    """{"small" or "large": {case: what the plan says of it}}: one container for all cases, and the plan twice."""
    assert shared.podman("image", "exists", DEMO, check=False).returncode == 0, f"{DEMO} is missing: run tests/lab/lab images"
    made = tmp_path_factory.mktemp("cases")
    made.chmod(0o755)
    migration_cases.write(made / "first", pending=False)
    migration_cases.write(made / "pending", pending=True)
    (made / "script.py").write_text("\n".join((FILES / name).read_text() for name in ("backwards.py", "migration_sql.py", "plan.py")))
    for path in made.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    server = shared.postgres(options=["-e", "POSTGRES_PASSWORD=cases", "-e", "POSTGRES_INITDB_ARGS=--no-sync"], network=network)
    settings = [f"--env={name}={value}" for name, value in {**SETTINGS, "DB_HOST": address(shared, server)}.items()]
    name = shared.start(DEMO, "sh", "-c", RUN, options=["-v", f"{made}:/cases:ro", *settings], network=network)
    assert shared.podman("wait", name, timeout=300).stdout.split()[-1] == "0", shared.logs(name)
    lines = [line for line in shared.logs(name).splitlines() if line.startswith("senex-plan:")]
    found = {}
    for kind, line in zip(("large", "small"), lines, strict=True):
        pending = json.loads(line.removeprefix("senex-plan:"))["pending"]
        found[kind] = {one["name"].partition(".")[0].removeprefix("case_"): one for one in pending}
    found["rows"] = shared.sql(server, "SELECT count(*) FROM case_eager_thing")
    return found


def expected(name, part):
    return part.replace("case_", f"case_{name}_")


@pytest.mark.parametrize("name", migration_cases.UNSAFE)
def test_what_the_version_in_service_fails_at_is_refused(said, name):
    for size in ("small", "large"):
        one = said[size][name]
        assert any(expected(name, migration_cases.UNSAFE[name][1]) in line for line in one["unsafe"]), one


@pytest.mark.parametrize("name", migration_cases.LARGE)
def test_a_long_lock_is_refused_where_the_table_is_large(said, name):
    part = expected(name, migration_cases.LARGE[name][1])
    small, large = said["small"][name], said["large"][name]
    assert any(part in line for line in large["unsafe"]), large
    assert not small["unsafe"] and any(part in line for line in small["notes"]), small


@pytest.mark.parametrize("name", migration_cases.SAFE)
def test_what_it_bears_is_not(said, name):
    part = expected(name, migration_cases.SAFE[name][1])
    for size in ("small", "large"):
        one = said[size][name]
        assert not one["unsafe"] and (any(part in line for line in one["notes"]) if part else not one["notes"]), one


def test_nothing_was_run(said):
    assert said["rows"] == "1"
    assert "unsafe" in said["small"]["code"], "its migration raises when it is run"
