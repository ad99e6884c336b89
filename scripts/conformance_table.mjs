// The conformance suite's table: cases passed and largest errors by kernel, op and layer, on WASM and on WebGPU, in Node and in Chromium.
//   node scripts/conformance_table.mjs                                  runs both suites and prints it
//   node scripts/conformance_table.mjs --node a.json,b.json --chromium c.json   of results that vitest's json reporter wrote
//   --write                                                             to docs/webgpu_results.md
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const root = fileURLToPath(new URL("..", import.meta.url));
const page = join(root, "docs/webgpu_results.md");
const { values: given } = parseArgs({
  options: { node: { type: "string" }, chromium: { type: "string" }, write: { type: "boolean" } },
});

/** Runs a suite; what fails in it is counted in the table. */
function results(folder, name, config) {
  const file = join(folder, `${name}.json`);
  const args = ["vitest", "run", "--config", config, "--reporter=json", `--outputFile.json=${file}`];
  const only = ["tests/conformance", "tests/webgpu/ops", "src/nn/norm", "src/nn/layers"];
  try {
    execFileSync("npx", [...args, ...only], { cwd: root, stdio: ["ignore", "ignore", "inherit"] });
  } catch (error) {
    if (error.status !== 1) throw error;
  }
  return [file];
}

/** The cases of some results that were measured. */
const measuredIn = (files) =>
  files
    .flatMap((file) => JSON.parse(readFileSync(file, "utf8")).testResults)
    .flatMap(({ assertionResults }) => assertionResults)
    .filter(({ meta }) => meta?.measured)
    .map(({ status, meta }) => ({ ...meta.measured, passed: status === "passed" }));

function collect() {
  if (given.node || given.chromium) {
    return { node: given.node?.split(",") ?? [], chromium: given.chromium?.split(",") ?? [] };
  }
  const folder = mkdtempSync(join(tmpdir(), "evenkeel-table-"));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  return {
    node: results(folder, "node", "vitest.config.ts"),
    chromium: results(folder, "chromium", "vitest.browser.config.ts"),
  };
}

const files = collect();
const cases = { node: measuredIn(files.node), chromium: measuredIn(files.chromium) };
const columns = [
  ["WASM, Node", cases.node, "wasm"],
  ["WASM, Chromium", cases.chromium, "wasm"],
  ["WebGPU, Node", cases.node, "webgpu"],
  ["WebGPU, Chromium", cases.chromium, "webgpu"],
];
const gpuColumns = columns.slice(2);

const shown = (error) => (error === 0 ? "0" : error.toExponential(1));
const passed = (list) => `${list.filter((c) => c.passed).length} of ${list.length}`;
const largest = (list) => list.reduce((a, b) => (b.error > a.error ? b : a));
function by(list, key) {
  const groups = new Map();
  for (const item of list) groups.set(key(item), [...(groups.get(key(item)) ?? []), item]);
  return groups;
}
const all = [...cases.node, ...cases.chromium];
const row = (cells) => `| ${cells.join(" | ")} |`;
const table = (heads, rows) => [row(heads), row(heads.map(() => "---")), ...rows.map(row)].join("\n");

function kernels() {
  const of = (list, on) => list.filter((c) => c.kind === "kernel" && c.on === on);
  const names = [
    ...by(
      all.filter((c) => c.kind === "kernel"),
      (c) => `${c.family}: ${c.name}`,
    ).keys(),
  ].sort();
  const cell = (list) => (list.length === 0 ? "" : `${passed(list)}, ${shown(largest(list).error)}`);
  const rows = names.map((name) => [
    name,
    ...columns.map(([, list, on]) => cell(of(list, on).filter((c) => `${c.family}: ${c.name}` === name))),
  ]);
  const folder = join(root, "tests/conformance");
  const texts = readdirSync(folder).map((file) =>
    file.endsWith(".test.ts") ? readFileSync(join(folder, file), "utf8") : "",
  );
  const families = texts.flatMap((text) => [...text.matchAll(/^conformance\(\s*"([^"]+)"/gm)].map((match) => match[1]));
  const absent = families.filter((family) =>
    columns.some(([, list, on]) => !of(list, on).some((c) => c.family === family)),
  );
  const total = ["all", ...columns.map(([, list, on]) => cell(of(list, on)))];
  const made = table(["family: kernels called", ...columns.map(([head]) => head)], [...rows, total]);
  return absent.length > 0 ? `${made}\n\nNot measured everywhere in this run: ${absent.join(", ")}.` : made;
}

/** Ops or layers: which run, with their errors, and which are refused. */
function onDevice(kind) {
  const of = (list) => list.filter((c) => c.kind === kind);
  const names = by(of(all), (c) => c.name);
  const refused = [...names]
    .filter(([, list]) => list.some((c) => c.refused))
    .map(([name]) => name)
    .sort();
  const ran = [...names.keys()].filter((name) => !refused.includes(name)).sort();
  const cell = (list) =>
    list.length === 0 ? "" : `${shown(largest(list).error)}${list.every((c) => c.passed) ? "" : ", failed"}`;
  const rows = ran.map((name) => [
    name,
    ...gpuColumns.map(([, list]) => cell(of(list).filter((c) => c.name === name))),
  ]);
  const reasons = refused.map((name) => [name, names.get(name).find((c) => c.refused).refused]);
  const heads = [kind, ...gpuColumns.map(([head]) => head)];
  return [
    `${ran.length} of ${names.size} run, forward and backward.`,
    ...(reasons.length > 0 ? [`Those that do not:\n\n${table([kind, "why"], reasons)}`] : []),
    table(heads, rows),
  ].join("\n\n");
}

const text = `# Conformance, measured

Written by \`npm run conformance:table -- --write\`: cases passed of all, and the largest error of any output, \`max|y - want| / max|want|\`.
Here on software GPUs: in Node Mesa's lavapipe 25.0, in headless Chromium the SwiftShader that comes with it.

## Kernels

Against the reference in float64. A case counts for the kernels it calls, results of the earlier ones being inputs of the later ones.

${kernels()}

## Ops

Public functions and methods of Tensor on WebGPU, against the CPU in float64.

${onDevice("op")}

## Layers

Layers on WebGPU against the CPU in float32, result and gradients to the input and to parameters.

${onDevice("layer")}
`;

if (given.write) {
  writeFileSync(page, text);
  execFileSync("npx", ["biome", "format", "--write", page], { cwd: root, stdio: "ignore" });
} else process.stdout.write(text);
if (all.some((c) => !c.passed)) process.exitCode = 1;
