import { closeSync, openSync } from "node:fs";
import { createServer } from "node:net";
import { expect, test } from "vitest";
import { CommunicationError } from "../../base/errors.js";
import { restoreConnection } from "./connection.js";

test("a connection to the launcher that was not handed on, and that nobody else has, is named", async () => {
  const none = () => -1;
  expect(() => restoreConnection({}, none)).not.toThrow();
  expect(() => restoreConnection({ PMI_FD: "999" }, none)).toThrow(CommunicationError);
  expect(() => restoreConnection({ PMI_FD: "999" }, none)).toThrow(/none with its number 999: npx .*-pmi-port/);
  const file = openSync("/dev/null", "r");
  expect(() => restoreConnection({ PMI_FD: String(file) }, none)).toThrow(CommunicationError);
  closeSync(file);
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { fd } = (server as unknown as { _handle: { fd: number } })._handle;
  expect(() => restoreConnection({ PMI_FD: String(fd) }, none)).not.toThrow();
  server.close();
});
