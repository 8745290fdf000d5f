// Uses the generated TypeScript client on a running server: places, reads and cancels an order, and sends mails.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import createClient from "openapi-fetch";
import type { components, paths } from "./contract.js";

type Schemas = components["schemas"];

const { SAGALINE_URL: baseUrl, SAGALINE_KEY: key } = process.env;
assert(baseUrl && key, "SAGALINE_URL and SAGALINE_KEY say where the server is");
const client = createClient<paths>({ baseUrl, headers: { authorization: `Bearer ${key}` } });
const customer = randomUUID();

/** The data of a call that has to succeed. */
async function ok<T>(call: Promise<{ data?: T | undefined; error?: Schemas["Problem"] | undefined }>): Promise<T> {
  const { data, error } = await call;
  if (data === undefined) throw new Error(JSON.stringify(error));
  return data;
}

/** Why a workflow compensated, in words: each kind has its own fields. */
function words(cause: Schemas["WorkflowCause"]): string {
  switch (cause.kind) {
    case "failed":
      return `${cause.step}: ${cause.failure.code}`;
    case "cancelled":
      return `${cause.origin} by ${cause.actor}: ${cause.reason}`;
    case "deadline_passed":
      return "too late";
    case "parent":
      return `its parent ${cause.workflow_id} compensates`;
  }
}

// Stock.
const product: Schemas["NewProduct"] = {
  sku: "CLIENT-2", name: "Sencha", category: "tea", price: 1290, currency: "EUR", initial_stock: 5,
};
const { product_id } = await ok(client.POST("/api/products", {
  body: product, params: { header: { "Idempotency-Key": randomUUID() } },
}));
const stock = await ok(client.PUT("/api/products/{product_id}/stock", {
  params: { path: { product_id } }, body: { set: 8, reason: "count" },
}));
assert.equal(stock.stock.on_hand, 8);

// An order.
const order = (quantity: number): Schemas["NewOrder"] =>
  ({ customer_id: customer, customer_email: "bob@example.com", items: [{ sku: product.sku, quantity }] });
const header = { "Idempotency-Key": randomUUID(), Prefer: "wait=30" };
const placed = await ok(client.POST("/api/orders", { body: order(2), params: { header } }));
const again = await ok(client.POST("/api/orders", { body: order(2), params: { header } }));
assert.equal(again.order_id, placed.order_id);
const path = { order_id: placed.order_id };
const read = await ok(client.GET("/api/orders/{order_id}", { params: { path } }));
assert.equal(read.status, "confirmed");
assert.equal(read.total, 2580);
assert.equal(read.status_reason, null);

// More than there is: the workflow compensates, and says why.
const rejected = await ok(client.POST("/api/orders", { body: order(100), params: { header: { Prefer: "wait=30" } } }));
assert.equal(rejected.status, "rejected");
const { cause } = await ok(client.GET("/api/workflows/{workflow_id}", {
  params: { path: { workflow_id: rejected.workflow_id } },
}));
assert(cause !== null && words(cause).endsWith("insufficient-stock"));

// Its cancellation.
let cancelled = await ok(client.POST("/api/orders/{order_id}/cancel", {
  params: { path }, body: { reason: "changed my mind" },
}));
while (cancelled.status !== "cancelled") {
  assert(cancelled.status === "confirmed" || cancelled.status === "cancelling", cancelled.status);
  cancelled = await ok(client.GET("/api/orders/{order_id}", { params: { path } }));
}
const orders = await ok(client.GET("/api/customers/{customer_id}/orders", {
  params: { path: { customer_id: customer } },
}));
assert.equal(orders.items.length, 2);
assert.equal(orders.next_cursor, null);

// Mails, of both kinds.
const mails: Schemas["NewNotification"][] = [
  { to: "bob@example.com", subject: "Closed on Monday", text: "See you on Tuesday." },
  { to: "bob@example.com", template: "low-stock", variables: { products: [{ sku: "TEA-1", available: 4, threshold: 5 }] } },
];
for (const body of mails) {
  const sent = await ok(client.POST("/api/notifications", { body, params: { header: { Prefer: "wait=30" } } }));
  assert.equal(sent.status, "sent");
  const { subject } = await ok(client.GET("/api/notifications/{notification_id}", {
    params: { path: { notification_id: sent.notification_id } },
  }));
  assert.equal(subject, sent.subject);
}

// A problem.
const missing = await client.GET("/api/orders/{order_id}", { params: { path: { order_id: randomUUID() } } });
assert.equal(missing.error?.code, "not-found" satisfies Schemas["ProblemCode"]);

console.log("The TypeScript client placed, read and cancelled an order and sent two mails.");
