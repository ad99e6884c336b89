import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { createServer, type IncomingHttpHeaders, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { getHeapStatistics } from "node:v8";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { FormatError, nn, scope, tensor } from "../../src/index.js";
import { loadInto, loadSafetensors, openSafetensors, saveSafetensors } from "../../src/io/index.js";

let folder: string;
let server: Server;
let base: string;
/** How the server answers: with parts, whole, with an error, or with parts of a file that changes. */
let manner: "parts" | "whole" | "missing" | "changing" = "parts";
let requests: IncomingHttpHeaders[] = [];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "evenkeel-"));
  server = createServer((request, response) => {
    requests.push(request.headers);
    if (manner === "missing") {
      response.writeHead(404).end("no");
      return;
    }
    const bytes = readFileSync(join(folder, decodeURIComponent(request.url!.slice(1))));
    const range = /bytes=(\d+)-(\d+)/.exec(request.headers.range ?? "");
    if (!range || manner === "whole") {
      response.writeHead(200).end(bytes);
      return;
    }
    const [from, to] = [Number(range[1]), Math.min(Number(range[2]) + 1, bytes.length)];
    if (manner === "changing" && from > 0) {
      response.writeHead(200).end(bytes);
      return;
    }
    const headers = { ETag: '"1"', "Content-Range": `bytes ${from}-${to - 1}/${bytes.length}` };
    response.writeHead(206, headers).end(bytes.subarray(from, to));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
});
afterAll(async () => {
  rmSync(folder, { recursive: true, force: true });
  await new Promise((resolve) => server.close(resolve));
});

/** How many files of the folder are open. */
const openFiles = (): number =>
  readdirSync("/proc/self/fd").filter((n) => {
    try {
      return readlinkSync(`/proc/self/fd/${n}`).startsWith(folder);
    } catch {
      return false;
    }
  }).length;

describe("safetensors from a server", () => {
  beforeAll(() => {
    const big = Float32Array.from({ length: 100_000 }, (_, i) => i);
    scope(() => saveSafetensors({ big: tensor(big), small: tensor([1, 2]) }, join(folder, "a b.safetensors")));
  });

  it("reads parts where the server sends them", async () => {
    manner = "parts";
    requests = [];
    const file = await openSafetensors(new URL("a%20b.safetensors", base));
    expect(requests.map((r) => r.range)).toEqual(["bytes=0-65535"]);
    expect([...(await file.read("small")).data]).toEqual([1, 2]);
    const { data } = await file.read("big");
    expect([data.length, data[99_999]]).toEqual([100_000, 99_999]);
    const { from, to } = file.tensors.get("big") as unknown as { from: number; to: number };
    expect(requests.at(-1)).toMatchObject({ range: `bytes=${from}-${to - 1}`, "if-range": '"1"' });
    file.close();
  });

  it("reads the whole where it does not, or when all is wanted", async () => {
    manner = "whole";
    const file = await openSafetensors(new URL("a%20b.safetensors", base));
    expect([...(await file.read("small")).data]).toEqual([1, 2]);
    manner = "parts";
    requests = [];
    expect((await loadSafetensors(new URL("a%20b.safetensors", base))).small!.toArray()).toEqual([1, 2]);
    expect((await loadSafetensors(fetch(new URL("a%20b.safetensors", base)))).small!.toArray()).toEqual([1, 2]);
    expect(requests.map((r) => r.range)).toEqual([undefined, undefined]);
  });

  it("says what is wrong", async () => {
    const url = new URL("a%20b.safetensors", base);
    manner = "missing";
    await expect(openSafetensors(url)).rejects.toThrow(/status 404/);
    await expect(loadSafetensors(fetch(url))).rejects.toThrow(FormatError);
    manner = "changing";
    const file = await openSafetensors(url);
    await expect(file.read("big")).rejects.toThrow(/stay what it was while it is read in parts; got status 200/);
    await expect(openSafetensors(new URL("http://127.0.0.1:1/x"))).rejects.toThrow(/readable; got .*bad port/);
    manner = "parts";
    const response = await fetch(url);
    await response.arrayBuffer();
    await expect(loadSafetensors(response)).rejects.toThrow(/read once/);
  });

  it("opens a file by its file: URL", async () => {
    const url = pathToFileURL(join(folder, "a b.safetensors"));
    expect((await loadSafetensors(url)).small!.toArray()).toEqual([1, 2]);
  });
});

describe("checkpoints in several files", () => {
  const write = (index: object): string => {
    const path = join(folder, "model.safetensors.index.json");
    writeFileSync(path, JSON.stringify(index));
    return path;
  };
  const map = { "a.weight": "one.safetensors", "b.weight": "two.safetensors", "b.bias": "two.safetensors" };
  beforeAll(() => {
    scope(() => {
      saveSafetensors({ "a.weight": tensor([[1, 2]]) }, join(folder, "one.safetensors"));
      saveSafetensors(
        { "b.weight": tensor([3]), "b.bias": tensor([4]), more: tensor([5]) },
        join(folder, "two.safetensors"),
      );
    });
  });

  it("loads them by the path or the URL of the index, whole or one tensor at a time, and closes all", async () => {
    const path = write({ metadata: { total_size: 16, note: "x" }, weight_map: map });
    const before = openFiles();
    const wanted = { "a.weight": [[1, 2]], "b.weight": [3], "b.bias": [4] };
    manner = "parts";
    for (const input of [path, new URL("model.safetensors.index.json", base), pathToFileURL(path)]) {
      const all = await loadSafetensors(input as string);
      expect(Object.fromEntries(Object.entries(all).map(([n, t]) => [n, t.toArray()]))).toEqual(wanted);
      const file = await openSafetensors(input);
      expect([file.metadata.get("note"), [...file.tensors.keys()]]).toEqual(["x", Object.keys(wanted)]);
      expect([...(await file.read("b.bias")).data]).toEqual([4]);
      file.close();
    }
    expect(openFiles()).toBe(before);
  });

  const wrong: [string, object, RegExp][] = [
    ["no weight_map", { metadata: {} }, /weight_map.*got none/],
    [
      "a tensor that its file does not have",
      { weight_map: { ...map, c: "one.safetensors" } },
      /one.safetensors without it.*tensor "c"/,
    ],
    ["another total size", { metadata: { total_size: 20 }, weight_map: map }, /tensors have 20 bytes; got 16/],
    ["a total size of text", { metadata: { total_size: "16" }, weight_map: map }, /number of bytes/],
    ["a missing file", { weight_map: { a: "three.safetensors" } }, /no such file/],
    ["a path out of the folder", { weight_map: { a: "../one.safetensors" } }, /leads out of it/],
    ["an absolute path", { weight_map: { a: "/etc/passwd" } }, /absolute path/],
    ["a link out of the folder", { weight_map: { a: "link.safetensors" } }, /link that leads out/],
    ["a number for a file", { weight_map: { a: 1 } }, /no file name/],
  ];
  for (const [name, index, message] of wrong) {
    it(`refuses ${name}`, async () => {
      mkdirSync(join(folder, "inner"), { recursive: true });
      if (name.includes("link")) symlinkSync("/etc/hostname", join(folder, "link.safetensors"));
      const path = write(index);
      const before = openFiles();
      expect(() => loadSafetensors(path)).toThrow(message);
      await expect(openSafetensors(path)).rejects.toThrow(FormatError);
      expect(openFiles()).toBe(before);
      if (name.includes("path")) {
        await expect(openSafetensors(new URL("model.safetensors.index.json", base))).rejects.toThrow(/leads out of it/);
      }
    });
  }

  it("are written where a state is larger than maxShardSize", () => {
    const at = join(folder, "out");
    mkdirSync(at);
    scope(() => {
      const state = { a: tensor([1, 2]), b: tensor([3]), c: tensor([4, 5, 6, 7]), __proto__x: tensor([8]) };
      const path = join(at, "big.safetensors");
      const size = saveSafetensors(state, path, { maxShardSize: 12, metadata: { format: "pt" } });
      const names = ["1", "2", "3"].map((i) => `big-0000${i}-of-00003.safetensors`);
      expect(readdirSync(at)).toEqual([...names, "big.safetensors.index.json"]);
      expect(size).toBe(readdirSync(at).reduce((n, name) => n + readFileSync(join(at, name)).length, 0));
      expect(JSON.parse(readFileSync(`${path}.index.json`, "utf8"))).toEqual({
        metadata: { total_size: 32 },
        weight_map: { a: names[0], b: names[0], c: names[1], __proto__x: names[2] },
      });
      const all = loadSafetensors(`${path}.index.json`);
      expect(Object.fromEntries(Object.entries(all).map(([n, t]) => [n, t.toArray()]))).toEqual(
        Object.fromEntries(Object.entries(state).map(([n, t]) => [n, t.toArray()])),
      );
      rmSync(at, { recursive: true });
      mkdirSync(at);
      saveSafetensors(state, path, { maxShardSize: 32 });
      expect(readdirSync(at)).toEqual(["big.safetensors"]);
      const save = saveSafetensors as (...args: unknown[]) => unknown;
      expect(() => save(state, undefined, { maxShardSize: 4 })).toThrow(/ends with .safetensors; got no path/);
      expect(() => save(state, path, { maxShardSize: 0 })).toThrow(/at least 1/);
    });
  });

  it("needs a folder", () => {
    const file = new File(["{}"], "model.safetensors.index.json");
    expect(() => loadSafetensors(file)).toThrow(/without a folder/);
  });
});

describe("large files", () => {
  const GB = 2 ** 30;

  it("reads one tensor of a file of 5 GB without memory for the rest", async () => {
    const path = join(folder, "large.safetensors");
    const parts = 5;
    const header: Record<string, object> = {};
    for (let i = 0; i < parts; i++)
      header[`part${i}`] = { dtype: "F32", shape: [GB / 4], data_offsets: [i * GB, (i + 1) * GB] };
    header.last = { dtype: "F16", shape: [4], data_offsets: [parts * GB, parts * GB + 8] };
    const text = JSON.stringify(header).padEnd(Math.ceil(JSON.stringify(header).length / 8) * 8);
    const front = Buffer.alloc(8 + text.length);
    front.writeBigUInt64LE(BigInt(text.length));
    front.write(text, 8);
    writeFileSync(path, front);
    // A hole on disk: it takes no room and reads as zeros.
    truncateSync(path, front.length + parts * GB + 8);
    const memory = (): number => getHeapStatistics().used_heap_size + getHeapStatistics().external_memory;
    const before = memory();
    const file = await openSafetensors(path);
    const { data, shape } = await file.read("last");
    expect([shape, [...data]]).toEqual([[4], [0, 0, 0, 0]]);
    const grown = memory() - before;
    console.info(`safetensors: a tensor of a 5 GB file read with ${(grown / 2 ** 20).toFixed(2)} MiB`);
    expect(grown).toBeLessThan(4 * 2 ** 20);
    file.close();
    rmSync(path);
  });

  it("loads a module tensor by tensor, and changes nothing where names or shapes do not fit", async () => {
    const path = join(folder, "module.safetensors");
    const [a, b] = [
      new nn.Sequential(new nn.Linear(3, 2), new nn.BatchNorm1d(2)),
      new nn.Sequential(new nn.Linear(3, 2), new nn.BatchNorm1d(2)),
    ];
    saveSafetensors(a.stateDict(), path, { dtypes: { "1.num_batches_tracked": "int64" } });
    const file = await openSafetensors(path);
    await loadInto(b, file);
    expect(Buffer.from(saveSafetensors(b.stateDict()))).toEqual(Buffer.from(saveSafetensors(a.stateDict())));
    const other = new nn.Sequential(new nn.Linear(3, 3), new nn.BatchNorm1d(2));
    const was = Buffer.from(saveSafetensors(other.stateDict()));
    await expect(loadInto(other, file)).rejects.toThrow(/other shape: 0.weight \[2, 3\] for \[3, 3\]/);
    await expect(loadInto(new nn.Linear(3, 2), file)).rejects.toThrow(/missing: weight, bias/);
    await loadInto(new nn.Linear(3, 2), file, { strict: false });
    expect(Buffer.from(saveSafetensors(other.stateDict()))).toEqual(was);
    await expect(loadInto(path as never, file)).rejects.toThrow(/module first/);
    file.close();
    // What is closed gives no more.
    await expect(file.read("0.weight")).rejects.toThrow(/read before it is closed/);
    for (const m of [a, b, other]) m.dispose();
  });
});
