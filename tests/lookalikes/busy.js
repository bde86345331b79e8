// Two loops in one process: the main one burns 10 ms for each request, the worker's answers at once.
// Prints "ready PORT PORT"; ends with its standard input.
"use strict";
const http = require("node:http");
const { Worker, isMainThread, parentPort } = require("node:worker_threads");

function serve(workMs, ready) {
  const server = http.createServer((request, response) => {
    for (const end = performance.now() + workMs; performance.now() < end; );
    response.writeHead(200, { Connection: "close" });
    response.end("awake\n");
  });
  server.listen(0, "127.0.0.1", () => ready(server.address().port));
}

if (isMainThread) {
  process.stdin.on("end", () => process.exit(0)).resume();
  new Worker(__filename).on("message", (other) => serve(10, (port) => console.log(`ready ${port} ${other}`)));
} else {
  serve(0, (port) => parentPort.postMessage(port));
}
