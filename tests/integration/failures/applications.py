"""Further releases of the demo application, made on a test host of its version 1 and a few files: no registry has them."""

import shlex
import subprocess

from stack import SSH_CONFIG

# Writes beside its uploads as soon as it is imported, and has another name for a column: version 1 cannot serve beside its migration
ROW = """import os
from pathlib import Path

from django.db import models

Path("/app/media/started").write_text(os.environ.get("INSTANCE", "a script"))


class Row(models.Model):
    sealed = models.TextField(db_column="body")
    created = models.DateTimeField(auto_now_add=True)
"""
RENAMES = """from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = (("probe", "0002_heartbeat_schedule"),)
    operations = (migrations.AlterField("row", "sealed", models.TextField(db_column="body")),)
"""
CANNOT_BE_UNDONE = """from django.db import migrations


class Migration(migrations.Migration):
    dependencies = (("probe", "0003_row_body"),)
    operations = (migrations.RunPython(lambda apps, editor: None),)
"""
RENAMED = {"probe/row.py": ROW, "probe/migrations/0003_row_body.py": RENAMES}
ONE_WAY = {**RENAMED, "probe/migrations/0004_one_way.py": CANNOT_BE_UNDONE}
CRASH = {"crash": "Its web process ends at once.\n"}
NAME = "registry.senex.test:5000/senex/demo"


def image(stack, directory, tag, files):
    """An archive for senex_image_from with these files over those of version 1."""
    lines = [f"mkdir -p $(dirname {name}); printf %s {shlex.quote(text)} >{name}" for name, text in files.items()]
    build = "\n".join(["set -e; rm -rf /tmp/made; mkdir -p /tmp/made/app; cd /tmp/made/app", *lines, "chmod -R a+rX /tmp/made"])
    stack.sh(f"{build}\nprintf 'FROM {NAME}:1\\nCOPY app /app\\nENV VERSION={tag}\\n' >/tmp/made/Containerfile")
    stack.user("podman", "build", "--isolation=chroot", "--quiet", "--tag", f"{NAME}:{tag}", "/tmp/made")  # noqa: S108  (of the test host)
    stack.user("podman", "save", "--quiet", "--output", f"/opt/senex-trader/{tag}.tar", f"{NAME}:{tag}")
    stack.user("podman", "rmi", f"{NAME}:{tag}")
    place = directory / f"{tag}.tar"
    subprocess.run(["scp", "-q", "-F", SSH_CONFIG, f"{stack.name}:/opt/senex-trader/{tag}.tar", place], check=True, timeout=120)
    stack.sh(f"rm /opt/senex-trader/{tag}.tar; rm -r /tmp/made")
    return place
