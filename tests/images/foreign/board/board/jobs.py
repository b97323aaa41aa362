from celery import Celery

application = Celery("board")
application.config_from_object("django.conf:settings", namespace="CELERY")


@application.task(name="board.jobs.tick")
def tick():
    _entry("tick")


@application.task(name="board.jobs.post")
def post(text):
    _entry(text)


def _entry(text):
    from board.models import Entry

    Entry.objects.create(text=text)
