"""A way back takes back the migrations that it named, and no others, or none: the scripts as a rollback runs them, real Django, a real database."""

import json
import shlex

import pytest
import undo_cases
from containers import ROOT, address
from test_migration_guard import DEMO, SETTINGS

FILES = ROOT / "playbooks/release/files"
SCRIPTS = {"plan": ("backwards.py", "migration_sql.py", "plan.py"), "undo": ("backwards.py", "undo.py")}


class Left:
    """The image that is left, beside a database with all migrations of the cases."""

    def __init__(self, shared, network, made):
        made.chmod(0o755)
        undo_cases.write(made / "cases", undo_cases.CASES)
        undo_cases.write(made / "squashed", {**undo_cases.CASES, **undo_cases.SQUASHED})
        for name, files in SCRIPTS.items():
            (made / f"{name}.py").write_text("\n".join((FILES / file).read_text() for file in files))
        for path in made.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        self.shared = shared
        self.server = shared.postgres(options=["-e", "POSTGRES_PASSWORD=cases", "-e", "POSTGRES_INITDB_ARGS=--no-sync"], network=network)
        more = {"DB_HOST": address(shared, self.server), "PYTHONDONTWRITEBYTECODE": "1", "PLAN_LOCK_TIMEOUT": "5"}
        settings = [f"--env={name}={value}" for name, value in {**SETTINGS, **more}.items()]
        self.name = shared.start(DEMO, "sleep", "600", options=["-v", f"{made}:/made:ro", *settings], network=network)
        self.migrate()

    def _manage(self, words, *options, image="cases"):
        done = self.shared.execute(self.name, "sh", "-c", f"PYTHONPATH=/made/{image}:/app python /app/manage.py {words}", options=options, check=False)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def migrate(self, *words):
        self._manage(shlex.join(["migrate", "--noinput", "--verbosity", "0", *words]))

    def ask(self, script, *names, image="cases"):
        """What the last line of the script says."""
        said = self._manage(f"shell --verbosity 0 < /made/{script}.py", f"--env=PLAN_UNDO={json.dumps(names)}", image=image)
        return json.loads([line for line in said.splitlines() if line.startswith("senex-plan:")][-1].removeprefix("senex-plan:"))

    def applied(self, app):
        return self.shared.sql(self.server, f"SELECT name FROM django_migrations WHERE app = '{app}' ORDER BY name").split()

    def columns(self, table):
        return set(
            self.shared.sql(self.server, f"SELECT attname FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped").split()
        )


@pytest.fixture(scope="module")
def left(shared, network, tmp_path_factory):
    assert shared.podman("image", "exists", DEMO, check=False).returncode == 0, f"{DEMO} is missing: run tests/lab/lab images"
    return Left(shared, network, tmp_path_factory.mktemp("undo"))


def test_a_branch_goes_and_its_sibling_stays(left):
    """The sibling is of a release before, and has data. What is said before is what is done, and a second run finds it done."""
    names = ["branch.0003_merge", "branch.0002_b"]
    left.shared.sql(left.server, "INSERT INTO branch_row (name, a) VALUES ('kept', 7)")
    try:
        assert left.ask("plan", *names)["undo"] == {"order": names, "back": [], "refused": []}
        assert left.ask("undo", *names) == {"undone": names, "back": [], "failed": ""}
        assert left.applied("branch") == ["0001_initial", "0002_a"]
        assert left.columns("branch_row") == {"id", "name", "a"} and left.shared.sql(left.server, "SELECT a FROM branch_row") == "7"
        assert left.ask("undo", *names) == {"undone": [], "back": names, "failed": ""}
    finally:
        left.migrate()


@pytest.mark.parametrize(
    ("names", "image", "why"),
    [
        (["branch.0002_b"], "cases", "branch.0003_merge would go with branch.0002_b, and no release that is taken back brought it"),
        (["needed.0002_more"], "cases", "leaning.0001_initial would go with needed.0002_more"),
        (["onceonly.0003_more", "onceonly.0002_rows"], "cases", "onceonly.0002_rows cannot be undone"),
        (["gone.0002_more"], "cases", "gone.0002_more is not in this image"),
        (["short.0003_less"], "squashed", "short.0002_more would go with short.0002_squashed, which is in their place"),
        (["short.0003_less", "short.0002_more"], "later", "gone.0003_late was applied after them and is not in this image"),
    ],
)
def test_what_would_take_others_along_is_refused_whole(left, names, image, why):
    """Preview and undo say the same, and nothing was changed."""
    rows = {"gone.0002_more": ("0002_more", "2020-01-01"), "short.0003_less": ("0003_late", "2099-01-01") if image == "later" else None}.get(names[0])
    if rows:
        left.shared.sql(left.server, "INSERT INTO django_migrations (app, name, applied) VALUES ('gone', '{}', '{}')".format(*rows))
    image = "cases" if image == "later" else image
    before = left.shared.sql(left.server, "SELECT app, name FROM django_migrations ORDER BY 1, 2")
    try:
        assert why in "; ".join(left.ask("plan", *names, image=image)["undo"]["refused"])
        said = left.ask("undo", *names, image=image)
        assert said["undone"] == [] and why in said["failed"]
        assert left.shared.sql(left.server, "SELECT app, name FROM django_migrations ORDER BY 1, 2") == before
    finally:
        left.shared.sql(left.server, "DELETE FROM django_migrations WHERE app = 'gone'")


def test_a_squashed_one_goes_with_all_that_it_replaces(left):
    left.shared.sql(
        left.server, "INSERT INTO django_migrations (app, name, applied) VALUES ('gone', '0001_old', '2020-01-01')"
    )  # long gone, and in nobody's way
    try:
        said = left.ask("undo", "short.0003_less", "short.0002_more", image="squashed")
        assert said == {"undone": ["short.0003_less", "short.0002_more"], "back": [], "failed": ""}
        assert left.applied("short") == ["0001_initial"] and left.columns("short_row") == {"id", "name"}
    finally:
        left.shared.sql(left.server, "DELETE FROM django_migrations WHERE app = 'gone'")
        left.migrate()


def test_content_types_get_their_names_back(left):
    model = "SELECT model FROM django_content_type WHERE app_label = 'renamed'"
    left.shared.sql(left.server, "INSERT INTO django_content_type (app_label, model) VALUES ('renamed', 'line')")
    assert left.ask("undo", "renamed.0002_line")["failed"] == ""
    assert left.shared.sql(left.server, model) == "row"
    left.migrate()


def test_what_was_taken_back_before_one_failed_is_told(left):
    said = left.ask("undo", "halfway.0003_more", "halfway.0002_bad")
    assert said["undone"] == ["halfway.0003_more"] and said["failed"].startswith("DataError: division by zero")
    assert left.applied("halfway") == ["0001_initial", "0002_bad"]
    left.migrate()
