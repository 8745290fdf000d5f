"""Uses the generated Python client on a running server: places, reads and cancels an order, and sends mails."""

import os
import uuid
from concurrent.futures import ThreadPoolExecutor

from sagaline_client import AuthenticatedClient
from sagaline_client.api.inventory import create_product, get_product_ledger, update_stock, upsert_products
from sagaline_client.api.notifications import create_notification, get_notification, list_notification_templates
from sagaline_client.api.orders import cancel_order, create_order, get_order, list_customer_orders
from sagaline_client.api.workflows import get_workflow, get_workflow_history
from sagaline_client.models import (
    Currency,
    NewOrder,
    NewOrderItem,
    NewProduct,
    NotificationStatus,
    OrderCancellation,
    OrderStatus,
    Problem,
    ProblemCode,
    ProductBatch,
    ProductOutcome,
    ProductUpsert,
    StepDirection,
    StepOutcome,
    StockAdjustment,
    StockCount,
    TemplatedNotification,
    TemplatedNotificationVariables,
    WrittenNotification,
)

client = AuthenticatedClient(
    os.environ["SAGALINE_URL"], os.environ["SAGALINE_KEY"], timeout=60.0, raise_on_unexpected_status=True
)
customer = uuid.uuid4()


def ok(result):
    """The result of a call that has to succeed."""
    assert result is not None and not isinstance(result, Problem), result
    return result


# Stock.
product = ok(
    create_product.sync(
        client=client,
        body=NewProduct(sku="CLIENT-1", name="Oolong", category="tea", price=1490, currency=Currency.EUR, initial_stock=5),
        idempotency_key=str(uuid.uuid4()),
    )
)
counted = ok(update_stock.sync(product.product_id, client=client, body=StockCount(set_=8, reason="count")))
assert counted.stock.on_hand == 8
adjusted = ok(update_stock.sync(product.product_id, client=client, body=StockAdjustment(adjust=-1, reason="damaged")))
assert adjusted.stock.on_hand == 7
batch = ok(
    upsert_products.sync(
        client=client,
        body=ProductBatch(
            items=[
                ProductUpsert(sku="CLIENT-1", name="Oolong", category="tea", price=1590, currency=Currency.EUR),
                ProductUpsert(sku="CLIENT-1", name="Oolong", category="tea", price=1, currency=Currency.EUR),
            ]
        ),
    )
)
assert [item.outcome for item in batch.items] == [ProductOutcome.UPDATED, ProductOutcome.REFUSED]
assert batch.items[0].problem is None and batch.items[1].problem.code is ProblemCode.INVALID_BODY
ledger = ok(get_product_ledger.sync(product.product_id, client=client))
assert [entry.delta_on_hand for entry in ledger.items] == [-1, 3, 5] and ledger.next_cursor is None

# An order, sent twice with one key: it is placed once.
key = str(uuid.uuid4())
new = NewOrder(
    customer_id=customer, customer_email="ann@example.com", items=[NewOrderItem(sku="CLIENT-1", quantity=2)]
)
with ThreadPoolExecutor() as pool:
    send = lambda _: create_order.sync(client=client, body=new, idempotency_key=key, prefer="wait=30")
    placed = [result for result in pool.map(send, range(2)) if not isinstance(result, Problem)]
assert placed and len({order.order_id for order in placed}) == 1
order = ok(get_order.sync(placed[0].order_id, client=client))
assert order.status is OrderStatus.CONFIRMED and order.total == 3180 and order.status_reason is None
workflow = ok(get_workflow.sync(order.workflow_id, client=client))
assert workflow.cause is None and workflow.direction is StepDirection.ACTION
history = ok(get_workflow_history.sync(order.workflow_id, client=client))
assert history.items and all(entry.outcome is StepOutcome.DONE for entry in history.items)

# More than there is: the workflow compensates, and says why.
greedy = NewOrder(
    customer_id=customer, customer_email="ann@example.com", items=[NewOrderItem(sku="CLIENT-1", quantity=100)]
)
rejected = ok(create_order.sync(client=client, body=greedy, prefer="wait=30"))
assert rejected.status is OrderStatus.REJECTED and "CLIENT-1" in rejected.status_reason
cause = ok(get_workflow.sync(rejected.workflow_id, client=client)).cause
assert cause.kind.value == "failed" and cause.failure.code == "insufficient-stock", cause

# Its cancellation.
cancelled = ok(
    cancel_order.sync(order.order_id, client=client, body=OrderCancellation(reason="changed my mind"))
)
while cancelled.status is not OrderStatus.CANCELLED:
    assert cancelled.status in (OrderStatus.CONFIRMED, OrderStatus.CANCELLING), cancelled
    cancelled = ok(get_order.sync(order.order_id, client=client))
orders = ok(list_customer_orders.sync(customer, client=client))
assert {one.order_id for one in orders.items} == {order.order_id, rejected.order_id}

# Mails, of both kinds.
written = ok(
    create_notification.sync(
        client=client,
        body=WrittenNotification(to="ann@example.com", subject="Closed on Monday", text="See you on Tuesday."),
        prefer="wait=30",
    )
)
assert written.status is NotificationStatus.SENT and written.html is None
low = next(template for template in ok(list_notification_templates.sync(client=client)).items if template.name == "low-stock")
templated = ok(
    create_notification.sync(
        client=client,
        body=TemplatedNotification(
            to="ann@example.com",
            template=low.name,
            variables=TemplatedNotificationVariables.from_dict(low.example.to_dict()),
        ),
    )
)
assert ok(get_notification.sync(templated.notification_id, client=client)).subject == low.subject

# A problem.
missing = get_order.sync(uuid.uuid4(), client=client)
assert isinstance(missing, Problem) and missing.code is ProblemCode.NOT_FOUND and missing.status == 404

client.get_httpx_client().close()
print("The Python client placed, read and cancelled an order and sent two mails.")
