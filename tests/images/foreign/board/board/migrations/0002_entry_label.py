from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("board", "0001_initial")]
    operations = [migrations.AddField("entry", "label", models.TextField(null=True))]
