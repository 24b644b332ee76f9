// Calls calculator.multiply without Celery and prints the result: `node multiply.mjs 6 7`.
// BROKER_URL and REDIS_URL hold user and password. The format is explained in docs/messages.md.
import { randomUUID } from "node:crypto";
import amqp from "amqplib";
import { createClient } from "redis";

const PATIENCE = 30_000;
const [a, b] = process.argv.slice(2).map(Number);
const id = randomUUID();

const broker = await amqp.connect(process.env.BROKER_URL);
// With confirms: without them, what the broker does not take disappears in silence.
const channel = await broker.createConfirmChannel();
let unroutable = false;
channel.on("return", () => (unroutable = true));
const body = [[], { a, b }, { callbacks: null, errbacks: null, chain: null, chord: null }];
channel.publish("tasks", "calculator.multiply", Buffer.from(JSON.stringify(body)), {
  contentType: "application/json",
  contentEncoding: "utf-8",
  correlationId: id,
  deliveryMode: 2,
  mandatory: true,
  headers: {
    lang: "js",
    task: "calculator.multiply",
    id,
    root_id: id,
    parent_id: null,
    group: null,
    retries: 0,
    eta: null,
    expires: null,
    timelimit: [null, null],
    ignore_result: false,
    origin: `node@${process.pid}`,
  },
});
await channel.waitForConfirms();
await broker.close();
if (unroutable) throw new Error("no queue takes calculator.multiply");

const results = await createClient({ url: process.env.REDIS_URL }).connect();
const deadline = Date.now() + PATIENCE;
let answer = null;
while (answer === null || !["SUCCESS", "FAILURE", "REVOKED"].includes(answer.status)) {
  if (Date.now() > deadline) throw new Error(`no answer from ${id}`);
  await new Promise((resolve) => setTimeout(resolve, 50));
  answer = JSON.parse(await results.get(`celery-task-meta-${id}`));
}
await results.quit();
console.log(JSON.stringify(answer));
process.exit(answer.status === "SUCCESS" ? 0 : 1);
