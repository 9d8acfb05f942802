// The exchange's guide to streaming in Node, step by step, against whatever exchange it is given. Arguments: the client's
// package, the exchange, the API key, the file of the private key. Prints each event that arrives as a line of JSON.
"use strict";

const crypto = require("crypto");
const fs = require("fs");
const { createRequire } = require("module");

const [scope, exchange, apiKey, keyFile] = process.argv.slice(2);
const load = createRequire(`${process.env.ETOROX_NODE_MODULES}/`);

// 1. Prepare: the client, and what the exchange gave.
const signalR = load(`${scope}/signalr`);
const privateKey = fs.readFileSync(keyFile, "utf8");

async function main() {
  // 2. Connect.
  const url = `${exchange}/streams/v1/${apiKey}/signalr?correlationId=${crypto.randomUUID()}`;
  const connection = new signalR.HubConnectionBuilder()
    .withUrl(url, { transport: signalR.HttpTransportType.WebSockets })
    .configureLogging(signalR.LogLevel.Error)
    .build();
  await connection.start();

  // 3. Sign. The key is encrypted, under an empty passphrase.
  const nonce = crypto.randomUUID();
  const timestamp = Date.now();
  const signer = crypto.createSign("RSA-SHA256");
  signer.update(`${nonce}${timestamp}`);
  const signature = signer.sign({ key: privateKey, passphrase: "" }, "base64");

  // 4. Set up.
  const answer = await connection.invoke("setup", { apiKey, nonce, timestamp, signature });
  if (answer.status !== "success") throw new Error(`setup: ${JSON.stringify(answer)}`);

  // 5. Subscribe.
  const topic = { channels: ["btcusd"], event: "marketData" };
  if (process.env.FIELDS) topic.fields = process.env.FIELDS.split(",");
  let wanted = Number(process.env.COUNT);
  connection.stream("subscribe", topic).subscribe({
    next: (event) => {
      if (wanted === 0) return;
      console.log(JSON.stringify(event));
      wanted -= 1;
      if (wanted === 0) connection.stop().then(() => process.exit());
    },
    complete: () => {},
    error: (error) => wanted === 0 || console.error(error.message),
  });
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
