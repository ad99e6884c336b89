import { execFileSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  statSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { UsageError } from "../command_line.js";

const root = fileURLToPath(new URL("../../", import.meta.url));
/** Parts of the C library, which belong to the machine and its kernel. */
const SYSTEM = /^(linux-vdso|ld-linux|lib(c|m|dl|rt|pthread)\.so)/;
const VULKAN = "libvulkan.so.1";
const DAWN = "dist/linux-x64/dawn.node";

/** The files of libraries that a program or library is linked to, by name. */
function librariesOf(file) {
  const lines = execFileSync("ldd", [file], { encoding: "utf8" }).split("\n");
  const found = lines.map((line) => line.match(/^\s*(\S+) => (\/\S+)/)).filter(Boolean);
  return found.map(([, name, path]) => [name, path]).filter(([name]) => !SYSTEM.test(name));
}

function findVulkan() {
  const path = `${process.env.PATH}:/sbin:/usr/sbin`;
  const known = execFileSync("ldconfig", ["-p"], { encoding: "utf8", env: { ...process.env, PATH: path } });
  return known.match(/libvulkan\.so\.1 \(libc6,x86-64\) => (\S+)/)?.[1] ?? null;
}

/** The package `webgpu` with what Linux on x86-64 loads of it. */
function copyDawn(to) {
  const from = dirname(fileURLToPath(import.meta.resolve("webgpu")));
  mkdirSync(dirname(join(to, DAWN)), { recursive: true });
  for (const name of ["package.json", "index.js", "LICENSE.md", DAWN]) copyFileSync(join(from, name), join(to, name));
  return join(to, DAWN);
}

/** `strip`, where it is there, takes a tenth off Node: names that only a debugger reads. */
function strip(file) {
  try {
    execFileSync("strip", [file], { stdio: "ignore" });
  } catch {
    // It only makes the archive smaller.
  }
}

function fill(folder) {
  const app = join(folder, "app");
  const copy = (name, filter) =>
    cpSync(join(root, name), join(app, name), { recursive: true, ...(filter ? { filter } : {}) });
  copy("dist", (name) => !name.endsWith(".d.ts"));
  copy("bench", (name) => !/node_modules|__pycache__|runs$/.test(name.slice(root.length)));
  for (const name of ["package.json", "LICENSE"]) copy(name);
  const dawn = copyDawn(join(app, "node_modules/webgpu"));
  const node = join(folder, "node");
  copyFileSync(realpathSync(process.execPath), node);
  chmodSync(node, 0o755);
  strip(node);
  const vulkan = findVulkan();
  const libraries = [...librariesOf(node), ...librariesOf(dawn)];
  if (vulkan) libraries.push([VULKAN, vulkan], ...librariesOf(vulkan));
  mkdirSync(join(folder, "lib"));
  for (const [name, path] of libraries) copyFileSync(realpathSync(path), join(folder, "lib", name));
  return { vulkan: vulkan !== null, libraries: [...new Set(libraries.map(([name]) => name))] };
}

/**
 * Writes run.sh and payload.tar.gz into `to`: Node, the built library, the bench, Dawn, the Vulkan loader and what they are linked
 * to, for a Linux machine on x86-64 with a driver and perhaps a Python with torch.
 */
export function pack(to) {
  if (process.platform !== "linux" || process.arch !== "x64") {
    throw new UsageError(
      `--pack packs the Node it runs on, for Linux on x64; this is ${process.platform} on ${process.arch}`,
    );
  }
  if (existsSync(to) && !statSync(to).isDirectory()) throw new UsageError(`--pack takes a folder; ${to} is a file`);
  const folder = mkdtempSync(join(tmpdir(), "evenkeel-pack-"));
  try {
    const { vulkan, libraries } = fill(folder);
    mkdirSync(to, { recursive: true });
    const archive = join(to, "payload.tar.gz");
    execFileSync("tar", ["-czf", archive, "-C", folder, "."]);
    copyFileSync(fileURLToPath(new URL("run.sh", import.meta.url)), join(to, "run.sh"));
    chmodSync(join(to, "run.sh"), 0o755);
    const size = (statSync(archive).size / 1e6).toFixed(1);
    console.log(`${to}: run.sh and payload.tar.gz, ${size} MB, with ${libraries.join(", ")}`);
    if (!vulkan) console.log(`${VULKAN} is not on this machine: the other one must have it (Debian: libvulkan1)`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
