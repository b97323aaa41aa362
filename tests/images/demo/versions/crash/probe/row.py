from django.db import models


class Row(models.Model):
    sealed = models.TextField()
    created = models.DateTimeField(auto_now_add=True)
