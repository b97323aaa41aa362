import time
from contextlib import contextmanager
from datetime import timedelta

from celery import shared_task
from celery.utils.log import get_task_logger
from django.utils import timezone

from probe.models import Heartbeat, Row, TaskRun
from probe.sealed import seal

log = get_task_logger(__name__)


@contextmanager
def recorded(task, key):
    run = TaskRun.objects.create(key=key or task.request.id, task_id=task.request.id, worker=task.request.hostname)
    yield
    run.finished = timezone.now()
    run.save(update_fields=["finished"])


@shared_task(bind=True)
def add(self, x=0, y=0, key=""):
    with recorded(self, key):
        return x + y


@shared_task(bind=True)
def sleep(self, seconds=1, key=""):
    with recorded(self, key):
        time.sleep(seconds)
        return seconds


@shared_task(bind=True)
def write(self, text="", key=""):
    with recorded(self, key):
        return Row.objects.create(sealed=seal(text)).pk


@shared_task(bind=True, ignore_result=True)
def heartbeat(self):
    Heartbeat.objects.create(worker=self.request.hostname)
    Heartbeat.objects.filter(time__lt=timezone.now() - timedelta(days=1)).delete()


KINDS = {"add": add, "sleep": sleep, "write": write}
