// An HTTP server as node's manual has it.
const http = require("http");

http
  .createServer((_request, response) => response.end("hello\n"))
  .listen(Number(process.argv[2]), "127.0.0.1");
