// @microsoft/signalr on Node, used as its documentation does: a function that is called with each item.
"use strict";
const signalR = require("@microsoft/signalr");
const { MessagePackHubProtocol } = require("@microsoft/signalr-protocol-msgpack");

const task = JSON.parse(process.argv[2]);
const processorTime = () => { const used = process.cpuUsage(); return (used.user + used.system) / 1e6; };
const wallTime = () => Number(process.hrtime.bigint()) / 1e9;

const times = [];
const isTimed = task.measure === "latency";
let left = task.measure === "first" ? 1 : task.warmup;
let isWarm = task.measure === "first";
let warm = 0;
let cpu = processorTime();
let wall = wallTime();

function turn(item) {
  if (isWarm) {
    const fields = task.fields ?? Array(11);
    if (Object.keys(item).length !== fields.length) throw new Error("another item was expected");
    const figures = {
      cpu: processorTime() - cpu, wall: wallTime() - wall, events: task.events, times, warm,
      memory: process.memoryUsage.rss(), peak: process.resourceUsage().maxRSS * 1024,
    };
    process.stdout.write(JSON.stringify(figures) + "\n", () => process.exit(0));
    left = Infinity;
    return;
  }
  isWarm = true;
  left = task.events;
  warm = process.memoryUsage.rss();
  cpu = processorTime();
  wall = wallTime();
}

function next(item) {
  if (isTimed) times.push(Number(process.hrtime.bigint()));
  if (--left === 0) turn(item);
}

async function main() {
  let builder = new signalR.HubConnectionBuilder().withUrl(task.hub_url).configureLogging(signalR.LogLevel.Error);
  if (task.encoding === "messagepack") builder = builder.withHubProtocol(new MessagePackHubProtocol());
  const connection = builder.build();
  await connection.start();
  connection.stream("subscribe", { channels: ["btcusd"], event: "marketData" })
    .subscribe({ next, complete: () => {}, error: (error) => { console.error(error); process.exit(1); } });
}

main().catch((error) => { console.error(error); process.exit(1); });
