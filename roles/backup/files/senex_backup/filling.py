"""A new database filled with what a dump holds: what the application has written runs in no session of the superuser's."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator

from senex_backup.around import CLUSTER
from senex_backup.common import PODMAN, BackupError, Settings, rows, server, sql
from senex_backup.postgresql import dump_entries, psql
from senex_backup.postgresql.session import PATIENT_17, target

# Who may do what in the whole cluster, a line each; the settings of roles as well, which lead a session elsewhere
RIGHTS = """
select format('role %I', rolname) || concat_ws(' ', '', case when rolsuper then 'superuser' end, case when rolcreaterole then 'createrole' end,
  case when rolcreatedb then 'createdb' end, case when rolreplication then 'replication' end, case when rolbypassrls then 'bypassrls' end) from pg_roles
union all select format('role %I in role %I', pg_get_userbyid(member), pg_get_userbyid(roleid)) from pg_auth_members
union all select format('setting %s of %s', split_part(c, '=', 1), coalesce(format('role %I', pg_get_userbyid(nullif(setrole, 0))), 'all roles'))
  from pg_db_role_setting, unnest(setconfig) c where setdatabase = 0 order by 1;
"""


@contextlib.contextmanager
def no_rights_gained(settings: Settings, path: str) -> Iterator[None]:
    """What a dump holds has changed who may do what meanwhile: then it is not used."""
    before = {right for (right,) in rows(settings, RIGHTS, CLUSTER)}
    yield
    if changed := sorted({right for (right,) in rows(settings, RIGHTS, CLUSTER)} ^ before):
        raise BackupError(f"{os.path.basename(path)} is not restored: rights in this cluster changed meanwhile: {'; '.join(changed[:10])}. Look who did that")


def fill(settings: Settings, path: str, new: str) -> None:
    """All of it; the first error ends it."""
    role = settings["database"]["owner"]
    try:
        with gzip.open(path) as packed:
            given = False
            for (stage, who), lines in itertools.groupby(dump_entries.parts(packed, role), key=lambda part: part[:2]):
                filling = stage == "main" and who == dump_entries.APPLICATION
                if filling or (given and stage != "main"):
                    sql(settings, dump_entries.script(dump_entries.GIVE if filling else dump_entries.TAKE, psql.argument(role)), new)
                    given = filling
                _say(settings, os.path.basename(path), new, role if who == dump_entries.APPLICATION else settings["database"]["role"], lines)
        if given:
            sql(settings, dump_entries.script(dump_entries.TAKE, psql.argument(role)), new)
    except ValueError as error:
        raise BackupError(f"{os.path.basename(path)} is not restored: {error}") from error


def _say(settings: Settings, name: str, new: str, role: str, lines: Iterable[tuple[str, str, bytes]]) -> None:
    """A part of a dump to psql, which ends at the first error."""
    there = server(settings)
    words = [PODMAN, *there.words(*there.client("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "--single-transaction", "-d", target(new), role=role))]
    # Into a file: what nobody reads until the end must not fill a pipe
    with tempfile.TemporaryFile() as errors, subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors) as loading:
        try:
            with loading.stdin:
                loading.stdin.write(PATIENT_17.encode())  # a dump of an earlier version does not know that limit
                for _, _, line in lines:
                    loading.stdin.write(line)
        except BrokenPipeError:
            pass  # psql has ended, and says why
        except BaseException:
            loading.kill()  # what it has until now is not taken for all
            raise
        loading.wait()
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip()
    if loading.returncode:
        raise BackupError(f"psql ended with {loading.returncode} while it restored {name}: {said[-800:]}")
