// Compiles src/kernels/wasm/assembly to one WebAssembly module and writes it as base64 into a TypeScript file,
// so that every bundler and runtime gets the kernels by plain import, with nothing to fetch.
import { mkdirSync, writeFileSync } from "node:fs";
import asc from "assemblyscript/asc";

const entry = "src/kernels/wasm/assembly/index.ts";
const out = "src/kernels/wasm/generated/kernels_wasm.ts";

async function compile(shared) {
  const flags = ["-O3", "--converge", "--noAssert", "--runtime", "stub", "--use", "abort=", "--importMemory"];
  const memory = ["--initialMemory", "16", "--maximumMemory", "65536", ...(shared ? ["--sharedMemory"] : [])];
  let bytes;
  const { error, stderr } = await asc.main(
    [entry, ...flags, "--enable", "simd,threads", ...memory, "-o", "kernels.wasm"],
    {
      writeFile: (name, contents) => {
        if (name.endsWith(".wasm")) bytes = contents;
      },
    },
  );
  const text = stderr.toString();
  if (error || !bytes) {
    console.error(text);
    throw error ?? new Error("asc wrote no module");
  }
  if (text.trim()) console.error(text);
  return bytes;
}

// One module serves threads and no threads: the two differ in the flag byte of the imported memory alone
// (3 = shared, 1 = not). Both are compiled here to prove that, and the byte's place is written down.
const [shared, single] = await Promise.all([compile(true), compile(false)]);
const differing = [...shared.keys()].filter((i) => shared[i] !== single[i]);
if (
  shared.length !== single.length ||
  differing.length !== 1 ||
  shared[differing[0]] !== 3 ||
  single[differing[0]] !== 1
) {
  throw new Error(
    `shared and single-threaded modules differ at ${differing.length} bytes; expected only the memory flag`,
  );
}

mkdirSync(new URL("../src/kernels/wasm/generated/", import.meta.url), { recursive: true });
writeFileSync(
  out,
  `// Written by scripts/build_wasm.mjs; not edited by hand.\nexport const memoryFlagOffset = ${differing[0]};\nexport const kernelsBase64 =\n  "${Buffer.from(shared).toString("base64")}";\n`,
);
console.log(`wasm kernels: ${(shared.length / 1024).toFixed(1)} KiB`);
