import asyncio

from celery.result import AsyncResult
from channels.layers import get_channel_layer
from django.conf import settings
from django.db.models import Count, Q
from django.http import JsonResponse
from django.utils import timezone
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from probe.consumers import GROUP
from probe.http import body, endpoint, problem
from probe.models import Heartbeat, Row, TaskRun
from probe.sealed import seal, unseal
from probe.tasks import KINDS


@endpoint("POST")
def tasks(request):
    """{"kind": "add", "x": 1, "y": 2, "key": "optional", "queue": "optional"}: the rest goes to the task."""
    arguments = body(request)
    kind = arguments.pop("kind", None)
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}")
    queue = arguments.pop("queue", settings.CELERY_TASK_DEFAULT_QUEUE)
    try:
        result = KINDS[kind].apply_async(kwargs=arguments, queue=queue)
    except TypeError as error:
        raise ValueError(str(error)) from None
    except (OperationalError, RedisError) as error:
        return problem(f"the broker does not answer: {type(error).__name__}", 503)
    return JsonResponse({"id": result.id}, status=202)


@endpoint("GET")
def task(request, task_id):
    result = AsyncResult(task_id)
    state = result.state
    value = result.result if state == "SUCCESS" else str(result.result) if state == "FAILURE" else None
    return JsonResponse({"id": task_id, "state": state, "result": value})


@endpoint("GET")
def ledger(request):
    """Counts of all runs, and by key of those whose key starts with ?prefix= (none: only what ran to its end twice)."""
    prefix = request.GET.get("prefix", "")
    runs = TaskRun.objects.filter(key__startswith=prefix)
    finished = Count("pk", filter=Q(finished__isnull=False))
    by_key = runs.values("key").annotate(runs=Count("pk"), finished=finished)
    twice = {row["key"]: row["finished"] for row in by_key.filter(finished__gt=1)}
    answer = runs.aggregate(runs=Count("pk"), finished=finished, keys=Count("key", distinct=True))
    if prefix:
        answer["by_key"] = {row["key"]: {"runs": row["runs"], "finished": row["finished"]} for row in by_key}
    return JsonResponse({**answer, "twice": twice})


@endpoint("GET", "POST")
def rows(request):
    if request.method == "POST":
        row = Row.objects.create(sealed=seal(str(body(request).get("text", ""))))
        return JsonResponse({"number": row.pk}, status=201)
    newest = Row.objects.order_by("-pk").first()
    if newest is None:
        return JsonResponse({"count": 0, "newest": None})
    detail = {"number": newest.pk, "text": unseal(newest.sealed), "created": newest.created}
    return JsonResponse({"count": Row.objects.count(), "newest": detail})


@endpoint("GET", "POST")
async def slow(request):
    seconds = float(request.GET.get("seconds", 2))
    if not 0 <= seconds <= 300:
        raise ValueError("seconds must be between 0 and 300")
    await asyncio.sleep(seconds)
    return JsonResponse({"slept": seconds, "instance": settings.INSTANCE})


@endpoint("POST")
async def broadcast(request):
    message = {"text": str(body(request).get("text", "")), "sender": settings.INSTANCE}
    await get_channel_layer().group_send(GROUP, {"type": "broadcast.message", **message})
    return JsonResponse({"sent": True, "sender": settings.INSTANCE}, status=202)


@endpoint("GET")
def heartbeat(request):
    newest = Heartbeat.objects.order_by("-time").first()
    if newest is None:
        return JsonResponse({"age": None, "worker": None, "count": 0})
    age = (timezone.now() - newest.time).total_seconds()
    return JsonResponse({"age": round(age, 1), "worker": newest.worker, "count": Heartbeat.objects.count()})


@endpoint("GET")
async def client(request):
    """What the proxy says of the client."""
    return JsonResponse({"address": request.META.get("REMOTE_ADDR"), "secure": request.is_secure(), "host": request.get_host()})
