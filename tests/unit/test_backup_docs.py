"""The table of jobs in docs/operations/backups.md is what the role does."""

import re
from pathlib import Path

import yaml
from ansible_collections.senex.trader.plugins.plugin_utils import components

ROOT = Path(__file__).parents[2]
ROWS = {
    cells[1].strip("` "): [cell.strip("` ") for cell in cells[2:-1]]
    for cells in (line.split("|") for line in (ROOT / "docs/operations/backups.md").read_text(encoding="utf-8").splitlines() if line.startswith("| `"))
}
DEFAULTS = yaml.safe_load((ROOT / "roles/backup/defaults/main.yml").read_text(encoding="utf-8"))
JOBS = yaml.safe_load((ROOT / "roles/backup/vars/main.yml").read_text(encoding="utf-8"))["__backup_own"]


# Those that components bring, with what they are by the registry
REGISTERED = {job.job: job for _, job in components.copying_jobs("backup") if job.schedule}


def test_every_job_has_its_row():
    assert set(ROWS) == {*JOBS, *REGISTERED} and set(JOBS) == set(DEFAULTS["backup_max_age"])


def test_rows_have_the_defaults():
    for job, (_what, when, kept, where, age) in ROWS.items():
        if one := REGISTERED.get(job):
            assert (when, kept, age) == (one.schedule, f"{one.days} days", f"{one.max_age} s") and where
            continue
        schedule = re.search(r"\w+", JOBS[job]["schedule"].strip("{} "))[0]
        assert when.removesuffix(" s") == str(DEFAULTS[schedule]), job
        assert age == f"{DEFAULTS['backup_max_age'][job]} s"
        days = {"dump": "daily"}.get(job, job)
        if f"backup_{days}_days" in DEFAULTS:
            assert kept == f"{DEFAULTS[f'backup_{days}_days']} days"
        assert bool(where) == (job != "offsite-check")
