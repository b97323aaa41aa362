from django.db import migrations, models


def fail(apps, schema_editor):
    raise RuntimeError("this migration fails half-way, for tests")


class Migration(migrations.Migration):
    """Its first step stays: a failed migration that is not one transaction leaves the database in between."""

    atomic = False
    dependencies = (("probe", "0002_heartbeat_schedule"),)

    operations = (
        migrations.AddField("row", "half", models.CharField(db_default="", default="", max_length=200)),
        migrations.RunPython(fail, migrations.RunPython.noop),
    )
