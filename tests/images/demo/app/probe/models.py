from django.db import models

from probe.row import Row

__all__ = ["Heartbeat", "Row", "TaskRun"]


class TaskRun(models.Model):
    """One execution of a task. `key` is not unique: a task that ran twice must show."""

    key = models.CharField(max_length=200, db_index=True)
    task_id = models.CharField(max_length=64)
    worker = models.CharField(max_length=200)
    started = models.DateTimeField(auto_now_add=True)
    finished = models.DateTimeField(null=True)


class Heartbeat(models.Model):
    """Written by a worker at Beat's request: a young row means that Beat, broker, worker and database all work."""

    kind = models.CharField(max_length=20, default="beat")
    worker = models.CharField(max_length=200)
    time = models.DateTimeField(auto_now_add=True, db_index=True)
