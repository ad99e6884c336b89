import { readFileSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";

// A library's own chatter must not come between the answers, which have standard output to themselves.
const say = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`);
for (const name of ["log", "info", "warn", "debug"]) console[name] = (...args) => console.error(...args);

const now = () => performance.now();

/** A library that only queues work on a device has `finish`, which is awaited after the last call. */
async function timeCalls({ run, finish }, mode, calls) {
  const start = now();
  for (let i = 0; i < calls; i++) {
    const pending = run[mode]();
    if (pending) await pending;
  }
  if (finish) await finish();
  return now() - start;
}

/**
 * Runs for at least `warm` milliseconds and three calls; the milliseconds of a call after that. A device compiles its shaders in
 * the first call, which counts for nothing.
 */
async function calibrate(prepared, mode, warm) {
  if (prepared.finish) await timeCalls(prepared, mode, 1);
  let calls = 1;
  let spent = 0;
  let last = 0;
  for (let round = 0; round < 3 || spent < warm; round++) {
    last = await timeCalls(prepared, mode, calls);
    spent += last;
    if (last > 4 * warm) return last / calls;
    if (last < warm / 8) calls *= 2;
  }
  return last / calls;
}

const read = (inputs) =>
  Object.fromEntries(
    Object.entries(inputs).map(([name, { file, shape }]) => {
      const bytes = readFileSync(file);
      return [name, { shape, data: new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4) }];
    }),
  );

/** Writes results to files of doubles or floats, whichever they are. */
function write(results, folder, who) {
  return Object.fromEntries(
    Object.entries(results).map(([name, result]) => {
      const { data, shape } = result.data ? result : { data: result, shape: [result.length] };
      const file = `${folder}/${who}.${name}`;
      writeFileSync(file, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
      return [name, { file, shape, bits: data.BYTES_PER_ELEMENT * 8 }];
    }),
  );
}

/**
 * Answers the bench's requests, one JSON object a line. `open(options)` gives { version, prepare(case, inputs) }, and
 * prepare gives { run: { mode: () => void or promise }, results(): named arrays, release() }; beside them `given`, inputs
 * for those that come after, `includesForward`, modes that run the forward pass as well, and `finish`. What a library tells of
 * its device is `about`; `kernel(run, calls)` gives the milliseconds that a call keeps the device busy, or null, and
 * `accesses(run)` what each shader loads and stores.
 */
export async function serve(open) {
  const options = JSON.parse(process.argv[2]);
  let library;
  let prepared = null;
  const actions = {
    async prepare({ subject, inputs, folder, check }) {
      prepared?.release();
      prepared = null;
      prepared = await library.prepare(subject, read(inputs));
      const given = write(prepared.given ?? {}, folder, options.name);
      const results = check ? write(await prepared.results(), folder, options.name) : {};
      return { results, includesForward: prepared.includesForward ?? [], given };
    },
    calibrate: async ({ mode, warm }) => ({ ms: await calibrate(prepared, mode, warm) }),
    async time({ mode, calls, lead }) {
      if (lead > 0) await timeCalls(prepared, mode, lead);
      return { ms: (await timeCalls(prepared, mode, calls)) / calls };
    },
    kernel: async ({ mode, calls }) => ({ ms: await library.kernel(prepared.run[mode], calls) }),
    accesses: async ({ mode }) => ({ shaders: await library.accesses(prepared.run[mode]) }),
    async release() {
      prepared?.release();
      prepared = null;
      return {};
    },
  };
  try {
    library = await open(options);
    say({ version: library.version, about: library.about });
  } catch (error) {
    const hint = error.code?.endsWith("MODULE_NOT_FOUND") ? "; npm ci in the bench folder installs it" : "";
    say({ absent: error.message.split("\n")[0] + hint });
    return;
  }
  for await (const line of createInterface({ input: process.stdin })) {
    const request = JSON.parse(line);
    try {
      say(await actions[request.action](request));
    } catch (error) {
      if (process.env.BENCH_DEBUG) console.error(error);
      say({ error: String(error.message).split("\n")[0] });
    }
  }
  process.exit(0);
}
