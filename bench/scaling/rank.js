// The program of a rank: measures what its argument asks for, and rank 0 writes it to a file.
import { writeFileSync } from "node:fs";
import { setThreads } from "../../dist/index.js";
import { openGroup } from "./group.js";
import { timeMessages, timeSynchronization } from "./messages.js";
import { timeSteps } from "./steps.js";
import { paces } from "./turns.js";

const { parts, models, quick, file } = JSON.parse(process.argv[2]);
setThreads(1);
const group = openGroup();
const pace = paces[quick ? "quick" : "full"];
const results = { version: group.version };
if (parts.includes("messages")) {
  results.messages = timeMessages(group, pace.messages);
  results.synchronization = timeSynchronization(group, pace.messages);
}
if (parts.includes("steps")) results.steps = timeSteps(group, pace.steps, models);
if (group.ordered.rank === 0) writeFileSync(file, JSON.stringify(results));
