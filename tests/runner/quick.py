"""For use while working: what changed since the last commit, or in it where nothing is uncommitted."""

import subprocess
from concurrent.futures import ThreadPoolExecutor

import layers
from common import REPOSITORY, Result, say


def _git(*words):
    return subprocess.check_output(["git", *words], cwd=REPOSITORY, text=True).splitlines()


def changed():
    """Paths, relative to the repository."""
    found = _git("diff", "--name-only", "HEAD") + _git("ls-files", "-o", "--exclude-standard")
    return sorted(set(found or _git("diff", "--name-only", "HEAD~1", "HEAD")))


def scenarios_of(paths, known):
    """The scenarios of the roles that changed, and those that changed themselves."""
    places = [path.split("/") for path in paths]
    return sorted({parts[1] for parts in places if parts[0] in ("roles", "molecule") and len(parts) > 2} & set(known))


def quick():
    """Lint of what changed, all unit tests, and the scenarios of the roles that changed, from snapshots."""
    paths = changed()
    scenarios = scenarios_of(paths, layers.scenarios())
    say(f"{len(paths)} changed files; scenarios: {', '.join(scenarios) or 'none'}")
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(lambda job: job(), (lambda: layers.lint(paths), layers.unit)))
    if scenarios:
        results.append(layers.molecule(scenarios))
    return sum(results, Result())
