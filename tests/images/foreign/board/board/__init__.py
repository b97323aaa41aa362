from board.jobs import application as celery_application

__all__ = ["celery_application"]
