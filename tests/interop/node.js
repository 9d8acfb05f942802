// The driver in Node: commands come as lines of JSON, reports go as such. Arguments: the packages' scope.
"use strict";

const readline = require("readline");
const { createRequire } = require("module");
const newDriver = require("./driver.js");

const [scope] = process.argv.slice(2);
const load = createRequire(`${process.env.ETOROX_NODE_MODULES}/`);
const signalR = load(`${scope}/signalr`);
const { MessagePackHubProtocol } = load(`${scope}/signalr-protocol-msgpack`);

const report = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);
const obey = newDriver(signalR, MessagePackHubProtocol, report);
process.on("uncaughtException", (error) => report({ event: "uncaught", error: error.message }));
readline.createInterface({ input: process.stdin }).on("line", (line) => obey(JSON.parse(line)));
process.stdin.on("end", () => process.exit());
report({ event: "ready", version: signalR.VERSION });
