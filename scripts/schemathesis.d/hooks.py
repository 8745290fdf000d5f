"""What a client of Sagaline does and a schema can't say.

An opaque cursor comes from the page before; an Idempotency-Key is new for each request; the input of a workflow fits the
definition that it names, which are registered at run time, and it waits for no signal; the variables of a mail fit
the template that it names; a workflow is moved from a graph that there is; an order is for products that there are; a pause has a reason; a
stream of events is read from where there are some; a SKU is composed, and has nothing invisible beyond the 16 bits that
its pattern can name.
"""

import os
import re
import unicodedata
import uuid

import schemathesis
from schemathesis import GenerationMode

START = {
    "definition": "deliver-notification",
    "input": {"to": "ann@example.com", "subject": "Hello", "text": "Hello.\n"},
}

LOW = {"sku": "TEA-1", "available": 4, "threshold": 5}
TEMPLATED = {"template": "low-stock", "variables": {"products": [LOW]}}


def is_positive(case):
    return case.meta is not None and case.meta.generation.mode == GenerationMode.POSITIVE


INVISIBLE = re.compile("[\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]")


def compose_skus(value):
    if isinstance(value, list):
        for one in value:
            compose_skus(one)
    elif isinstance(value, dict):
        for name, one in value.items():
            if name == "sku" and isinstance(one, str):
                value[name] = unicodedata.normalize("NFC", INVISIBLE.sub("-", one))[:64].strip()
            else:
                compose_skus(one)


def header(case, name):
    for key in case.headers or {}:
        if key.lower() == name:
            return key
    return None


@schemathesis.hook
def before_call(context, case, kwargs):
    if not is_positive(case):
        return
    compose_skus(case.body)
    if case.query and "cursor" in case.query:
        del case.query["cursor"]
    key = header(case, "idempotency-key")
    if key:
        case.headers[key] = str(uuid.uuid4())
    key = header(case, "if-match")
    if key:
        case.headers[key] = "*"
    if case.operation.path == "/api/workflows" and case.operation.method.lower() == "post":
        if isinstance(case.body, dict):
            case.body.update(START)
            case.body.pop("signal", None)
    if case.operation.path == "/api/notifications" and isinstance(case.body, dict) and "template" in case.body:
        case.body.update(TEMPLATED)
    if case.operation.path == "/api/queues/{name}":
        # Orders would wait for the other one.
        case.path_parameters["name"] = "notifications"
        if isinstance(case.body, dict) and case.body.get("paused"):
            case.body["reason"] = case.body.get("reason") or "the mail server moves"
    if case.operation.path == "/api/orders" and isinstance(case.body, dict):
        for item in case.body.get("items") or []:
            if isinstance(item, dict):
                item["sku"] = "TEA-1"
    if case.operation.path == "/api/events":
        # From the beginning, where there are events: a stream of those to come may have none.
        case.query = {"after": 0}
        key = header(case, "last-event-id")
        if key:
            del case.headers[key]
    if case.operation.path == "/api/workflows/move" and isinstance(case.body, dict):
        case.body.update({"definition": "deliver-notification", "from": os.environ["GRAPH_HASH"]})
    job = os.environ.get("DEAD_JOB_ID")
    if job and case.path_parameters and "dead_job_id" in case.path_parameters and case.operation.method.lower() == "get":
        case.path_parameters["dead_job_id"] = job
