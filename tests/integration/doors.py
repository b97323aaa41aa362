"""Whether passwords open database and Redis, asked over the network as the application does."""

# In a container of the application, over its own network: what opens the doors, and what doesn't
DOORS = """
import json, os, sys, urllib.parse
import psycopg, redis
asked = json.load(sys.stdin)
def database(password):
    try:
        psycopg.connect(host=os.environ["DB_HOST"], dbname=os.environ["DB_NAME"], user=os.environ["DB_USER"], password=password).close()
        return "open"
    except psycopg.OperationalError as error:
        return "refused" if "password authentication failed" in str(error) or "no password supplied" in str(error) else repr(error)
def cache(password):
    try:
        redis.Redis(host="redis", username=urllib.parse.urlsplit(os.environ["CELERY_BROKER_URL"]).username, password=password).ping()
        return "open"
    except redis.AuthenticationError:
        return "refused"
urls = [os.environ[name] for name in ("REDIS_URL", "CHANNELS_REDIS_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND")]
passwords = {urllib.parse.unquote(urllib.parse.urlsplit(url).password) for url in urls}
json.dump({"database": [database(p) for p in asked["database"]], "redis": [cache(p) for p in asked["redis"]],
           "told": sorted(passwords) == [asked["redis"][0]]}, sys.stdout)
"""
