from django.db import models


class Row(models.Model):
    sealed = models.TextField()
    created = models.DateTimeField(auto_now_add=True)
    # The database's own default: version 1 goes on inserting rows while both versions run.
    note = models.CharField(max_length=200, default="", db_default="")
