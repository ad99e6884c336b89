// Damages the newest checkpoint in many ways: one byte changed at a random place, cut short, emptied. Each time the one before must be taken
// with a warning, and training go on with the bits of the undisturbed run. Needs dist (npm run build).
// Run: node tests/training/crash_damage.mjs --bytes 1000
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loopback } from "../../dist/distributed/index.js";
import { argumentsOf, randomOf } from "./crash/launch.mjs";
import { makeTrainer } from "./crash/parts.mjs";

const { bytes: places, seed } = argumentsOf({ bytes: 1000, seed: 1 });
const random = randomOf(seed);
const root = mkdtempSync(join(tmpdir(), "evenkeel-crash-"));
const communicator = loopback;

const template = join(root, "template");
mkdirSync(template);
const { lossHash, steps } = await makeTrainer({ folder: template, communicator }).fit();
const whole = readFileSync(join(template, "run.evk"));

/** Each gives the bytes of a damaged copy. */
const changed = () => {
  const copy = Buffer.from(whole);
  copy[Math.floor(random() * copy.length)] ^= 1 + Math.floor(random() * 255);
  return copy;
};
const kinds = [
  ...Array.from({ length: places }, () => ["one byte", changed]),
  ...Array.from({ length: Math.ceil(places / 20) }, () => [
    "cut short",
    () => whole.subarray(0, Math.floor(random() * whole.length)),
  ]),
  ["emptied", () => Buffer.alloc(0)],
  ["zeros", () => Buffer.alloc(whole.length)],
  ["one byte more", () => Buffer.concat([whole, Buffer.of(0)])],
];

const warnings = [];
console.warn = (text) => warnings.push(text);
const counts = {};
for (const [kind, damaged] of kinds) {
  const folder = join(root, "copy");
  mkdirSync(folder);
  for (const name of readdirSync(template)) copyFileSync(join(template, name), join(folder, name));
  // The newest has two names for the same bytes.
  const bytes = damaged();
  for (const name of ["run.evk", `run-step${steps}.evk`]) writeFileSync(join(folder, name), bytes);
  warnings.length = 0;
  const trainer = makeTrainer({ folder, communicator });
  let found = null;
  try {
    found = trainer.resume("auto");
  } catch (error) {
    console.error(`${kind}: ${error.message}`);
  }
  const result = found && (await trainer.fit());
  counts[kind] ??= { copies: 0, passedOver: 0, warned: 0, sameBits: 0 };
  const count = counts[kind];
  count.copies++;
  if (found?.skipped.length === 2 && found.step < steps) count.passedOver++;
  if (warnings.filter((text) => /passed over: .*run(-step\d+)?\.evk.*Taking/.test(text)).length === 2) count.warned++;
  if (result?.lossHash === lossHash) count.sameBits++;
  rmSync(folder, { recursive: true });
}
rmSync(root, { recursive: true });
const good = Object.values(counts).every((c) => [c.passedOver, c.warned, c.sameBits].every((n) => n === c.copies));
console.log(JSON.stringify({ fileBytes: whole.length, ...counts }));
process.exitCode = good ? 0 : 1;
