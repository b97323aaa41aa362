from django.db import migrations

NAME = "heartbeat"


def add(apps, schema_editor):
    every, _ = apps.get_model("django_celery_beat", "IntervalSchedule").objects.get_or_create(every=10, period="seconds")
    apps.get_model("django_celery_beat", "PeriodicTask").objects.update_or_create(
        name=NAME,
        # Expires: beats that piled up while no worker ran say nothing any more.
        defaults={"task": "probe.tasks.heartbeat", "interval": every, "expire_seconds": 30},
    )


def remove(apps, schema_editor):
    apps.get_model("django_celery_beat", "PeriodicTask").objects.filter(name=NAME).delete()


class Migration(migrations.Migration):
    dependencies = (
        ("probe", "0001_initial"),
        ("django_celery_beat", "0019_alter_periodictasks_options"),
    )

    operations = (migrations.RunPython(add, remove),)
