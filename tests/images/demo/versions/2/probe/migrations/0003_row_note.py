from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = (("probe", "0002_heartbeat_schedule"),)

    operations = (migrations.AddField("row", "note", models.CharField(db_default="", default="", max_length=200)),)
