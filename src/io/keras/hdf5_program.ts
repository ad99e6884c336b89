import type { Hdf5Dataset, Hdf5Listing, Hdf5Place, Hdf5Reply, Hdf5Request } from "./hdf5_messages.js";

/** What is used of the module under h5wasm. */
export interface Hdf5Module {
  readonly HEAPU8: Uint8Array;
  readonly FS: {
    createDataFile(
      folder: string,
      name: string,
      data: Uint8Array,
      read: boolean,
      write: boolean,
      own?: boolean,
    ): unknown;
    lookupPath(path: string): { node: Hdf5Node };
    unlink(path: string): void;
    readFile(path: string): Uint8Array;
  };
  _malloc(bytes: number): number;
  _free(address: number): void;
  open(path: string, mode: number, trackOrder: boolean, low: number, high: number): bigint;
  close_file(file: bigint): number;
  get_names(file: bigint, path: string, recursive: boolean): string[];
  get_type(file: bigint, path: string): number;
  get_symbolic_link(file: bigint, path: string): string | null;
  get_external_link(file: bigint, path: string): { filename?: string };
  create_object_reference(file: bigint, path: string): Uint8Array;
  get_attribute_names(file: bigint, path: string): string[];
  get_attribute_metadata(file: bigint, path: string, name: string): TypeOf;
  get_attribute_data(file: bigint, path: string, name: string, address: bigint): number;
  reclaim_vlen_memory(file: bigint, path: string, attribute: string, address: bigint): number;
  get_dataset_metadata(file: bigint, path: string): TypeOf;
  get_dataset_filters(file: bigint, path: string): { id: number }[];
  get_dataset_data(file: bigint, path: string, count: null, offset: null, stride: null, address: bigint): number;
  create_group(file: bigint, path: string, trackOrder: boolean): number;
  create_dataset(file: bigint, path: string, address: bigint, options: object): number;
  flush(file: bigint): number;
}

interface TypeOf {
  shape: number[] | null;
  type: number;
  size: number;
  signed: boolean;
  vlen: boolean;
  total_size: number;
  chunks: number[] | null;
  virtual_sources?: unknown[];
}

interface Hdf5Node {
  usedBytes: number;
  stream_ops: object;
}

export type ReadAt = (from: number, to: number) => Uint8Array;

export interface Hdf5Host {
  /** Hands over what the library prints. */
  hear(listen: (...text: unknown[]) => void): void;
  /** Loads h5wasm; called when what the library prints is already heard. */
  load(): Promise<{ ready: Promise<Hdf5Module> }>;
  openPlace(place: Hdf5Place): { read: ReadAt; close(): void };
  post(reply: Hdf5Reply, transfer: ArrayBuffer[]): void;
}

/**
 * The whole life of the worker: HDF5's C library, which a hostile file may make crash, loop or ask for all memory there is, apart
 * from everything else. Its source text is what the worker is started from in Node, so it refers to nothing outside itself.
 *
 * The files lie in the module's own file system, which has no other files: whatever a file names (an external link, a filter
 * to be loaded, external storage) is not there.
 */
export async function serveHdf5(host: Hdf5Host): Promise<(request: Hdf5Request) => void> {
  // How much the library's memory, 19 MiB at first, may grow for a file of a few kilobytes.
  const working = 16 * 2 ** 20;
  const deepest = 64;
  const readOnly = 0;
  const truncate = 2;
  const groupType = 0;
  const datasetType = 1;
  const textKind = 3;

  let wrong: string | null = null;
  // HDF5 reports what fails by printing it, and h5wasm does not look at most results: any line printed is a failure, and the
  // innermost reason is on the last line of the form "#003: file.c line 12 in H5Xfoo(): reason".
  const listen = (...text: unknown[]): void => {
    const reason = /^\s*#\d+: .*?\(\): (.*)/.exec(text.join(" "))?.[1];
    wrong = reason ?? wrong ?? "the HDF5 library reports an error";
  };
  host.hear(listen);

  let limit = Number.POSITIVE_INFINITY;
  const { grow } = WebAssembly.Memory.prototype;
  WebAssembly.Memory.prototype.grow = function (this: WebAssembly.Memory, pages: number): number {
    if (this.buffer.byteLength + pages * 65536 > limit) throw new RangeError("more memory than the file accounts for");
    return grow.call(this, pages);
  };

  const h5 = await (await host.load()).ready;

  class Wrong extends Error {
    readonly at: string;
    constructor(at: string, what: string) {
      super(what);
      this.at = at;
    }
  }

  /** Runs a call of the library; anything that it prints is a failure. */
  const checked = <T>(at: string, call: () => T): T => {
    wrong = null;
    let value: T;
    try {
      value = call();
    } catch (error) {
      // What h5wasm throws itself is an Error with a message of its own; a trap, an abort and a full stack are of other classes.
      if ((error as Error).constructor === Error) throw new Wrong(at, wrong ?? (error as Error).message);
      throw error;
    }
    if (wrong !== null) throw new Wrong(at, wrong);
    return value;
  };

  const allocate = (at: string, bytes: number): number => {
    const address = h5._malloc(Math.max(1, bytes));
    if (address === 0) throw new Wrong(at, `no memory for ${bytes} bytes`);
    return address;
  };

  const files = new Map<number, { id: bigint; heap: number; close(): void }>();

  const openFile = (number: number, place: Hdf5Place, size: number): bigint => {
    const heap = h5.HEAPU8.length;
    const { read, close } = host.openPlace(place);
    const name = `${number}.h5`;
    h5.FS.createDataFile("/", name, new Uint8Array(0), true, false);
    const { node } = h5.FS.lookupPath(`/${name}`);
    node.usedBytes = size;
    node.stream_ops = {
      ...node.stream_ops,
      read(_stream: unknown, buffer: Int8Array, offset: number, length: number, position: number): number {
        const to = Math.min(size, position + length);
        if (position >= to) return 0;
        buffer.set(read(position, to), offset);
        return to - position;
      },
    };
    const forget = (): void => {
      h5.FS.unlink(`/${name}`);
      close();
    };
    try {
      const id = checked("superblock", () => h5.open(`/${name}`, readOnly, false, -1, -1));
      const closeAll = (): void => {
        h5.close_file(id);
        forget();
      };
      files.set(number, { id, heap, close: closeAll });
      return id;
    } catch (error) {
      forget();
      throw error;
    }
  };

  const close = (number: number): void => {
    files.get(number)?.close();
    files.delete(number);
  };

  const textsOf = (id: bigint, path: string, name: string, size: number): string[] => {
    const at = `attribute ${name} of ${path}`;
    const type = checked(at, () => h5.get_attribute_metadata(id, path, name));
    if (type.type !== textKind || type.shape === null) return [];
    const bytes = type.size * type.total_size;
    // Attributes are not compressed: each of their elements takes room in the file.
    if (!(bytes <= size)) throw new Wrong(at, `${type.total_size} texts in a file of ${size} bytes`);
    const address = allocate(at, bytes);
    h5.HEAPU8.fill(0, address, address + bytes);
    const reading = (): number => h5.get_attribute_data(id, path, name, BigInt(address));
    if (checked(at, reading) < 0) throw new Wrong(at, "the attribute cannot be read");
    const heap = h5.HEAPU8;
    const decoder = new TextDecoder();
    const textAt = (from: number, longest: number): string => {
      const end = heap.subarray(from, from + longest).indexOf(0);
      return decoder.decode(heap.slice(from, from + (end < 0 ? longest : end)));
    };
    const texts: string[] = [];
    for (let i = 0; i < type.total_size; i++) {
      const place = address + i * type.size;
      const view = new DataView(heap.buffer);
      if (!type.vlen) texts.push(textAt(place, type.size).trimEnd());
      else if (view.getUint32(place, true) === 0) texts.push("");
      else texts.push(textAt(view.getUint32(place, true), heap.length));
    }
    if (type.vlen) checked(at, () => h5.reclaim_vlen_memory(id, path, name, BigInt(address)));
    h5._free(address);
    return texts;
  };

  const describe = (id: bigint, path: string, size: number): Hdf5Dataset => {
    const type = checked(path, () => h5.get_dataset_metadata(id, path));
    // Contiguous numbers have no filters, and what Keras notes is a type of two bytes.
    const filters = type.chunks === null ? [] : checked(path, () => h5.get_dataset_filters(id, path));
    const names = type.size === 2 ? checked(path, () => h5.get_attribute_names(id, path)) : [];
    return {
      path,
      shape: type.shape,
      kind: type.type,
      elementBytes: type.size,
      signed: type.signed,
      chunked: type.chunks !== null,
      virtual: type.virtual_sources !== undefined,
      filters: filters.map((filter) => filter.id),
      note: names.includes("dtype") ? (textsOf(id, path, "dtype", size)[0] ?? null) : null,
    };
  };

  const list = (id: bigint, size: number): Hdf5Listing => {
    const datasets: Hdf5Dataset[] = [];
    const links: [string, string][] = [];
    const attributes: [string, string, string[]][] = [];
    const identity = (path: string): string =>
      Array.from(checked(path, () => h5.create_object_reference(id, path))).join();
    const seen = new Set<string>([identity("/")]);
    const waiting = [{ path: "", depth: 0 }];
    for (let group = waiting.pop(); group; group = waiting.pop()) {
      const path = group.path || "/";
      const below: typeof waiting = [];
      for (const name of checked(path, () => h5.get_attribute_names(id, path))) {
        // Long lists are cut into several attributes with a number behind the name.
        const known = /^(layer_names|weight_names)\d*$|^(model_config|keras_version|backend|name)$/;
        if (known.test(name)) attributes.push([path, name, textsOf(id, path, name, size)]);
      }
      const here = new Set<string>();
      for (const name of checked(path, () => h5.get_names(id, path, false))) {
        if (name === "" || name === "." || name.includes("/")) throw new Wrong(path, `a link named "${name}"`);
        if (here.has(name)) throw new Wrong(path, `two links named "${name}"`);
        here.add(name);
        const child = `${group.path}/${name}`;
        if (checked(child, () => h5.get_symbolic_link(id, child)) !== null) {
          links.push([child, "a soft link"]);
          continue;
        }
        if (checked(child, () => h5.get_external_link(id, child)).filename !== undefined) {
          links.push([child, "a link to another file"]);
          continue;
        }
        const type = checked(child, () => h5.get_type(id, child));
        if (type === datasetType) datasets.push(describe(id, child, size));
        else if (type === groupType) {
          const what = identity(child);
          if (seen.has(what)) links.push([child, "a second link to a group"]);
          else if (group.depth >= deepest) throw new Wrong(child, `groups within groups, more than ${deepest} deep`);
          else below.push({ path: child, depth: group.depth + 1 });
          seen.add(what);
        } else links.push([child, "a named type or a link of an unknown kind"]);
      }
      waiting.push(...below.reverse());
    }
    return { datasets, links, attributes };
  };

  const readDataset = (id: bigint, path: string, bytes: number): Uint8Array => {
    const address = allocate(path, bytes);
    const reading = (): number => h5.get_dataset_data(id, path, null, null, null, BigInt(address));
    if (checked(path, reading) < 0) throw new Wrong(path, "the numbers cannot be read");
    const numbers = h5.HEAPU8.slice(address, address + bytes);
    h5._free(address);
    return numbers;
  };

  const write = ({ groups, datasets }: Hdf5Request & { kind: "write" }): Uint8Array => {
    const name = "/new.h5";
    const id = checked(name, () => h5.open(name, truncate, false, -1, -1));
    for (const path of groups) checked(path, () => h5.create_group(id, path, false));
    for (const { path, shape, kind, elementBytes, signed, bytes } of datasets) {
      const address = allocate(path, bytes.length);
      h5.HEAPU8.set(bytes, address);
      const extent = shape.map(BigInt);
      const layout = { shape: extent, maxshape: extent, chunks: null, compression: 0, compression_opts: [] };
      const type = { type: kind, size: elementBytes, signed, vlen: false, littleEndian: true };
      const options = { ...type, ...layout, total_size: bytes.length / elementBytes, track_order: false };
      checked(path, () => h5.create_dataset(id, path, BigInt(address), options));
      h5._free(address);
    }
    checked(name, () => h5.close_file(id));
    const whole = h5.FS.readFile(name);
    h5.FS.unlink(name);
    return whole;
  };

  const answer = (request: Hdf5Request): Hdf5Listing | Uint8Array | null => {
    if (request.kind === "write") {
      limit = Number.POSITIVE_INFINITY;
      return write(request);
    }
    if (request.kind === "open") {
      limit = h5.HEAPU8.length + working + 2 * request.size;
      const id = openFile(request.file, request.place, request.size);
      try {
        return list(id, request.size);
      } catch (error) {
        // What is wrong with the file is the message, and not what goes wrong as it is closed.
        if (error instanceof Wrong) close(request.file);
        throw error;
      }
    }
    const file = files.get(request.file);
    if (request.kind === "read") {
      // The numbers themselves; a chunk of them compressed, decompressed and unshuffled.
      limit = file!.heap + working + 4 * request.bytes;
      return readDataset(file!.id, request.path, request.bytes);
    }
    close(request.file);
    return null;
  };

  return (request) => {
    try {
      const value = answer(request);
      host.post({ value, heap: h5.HEAPU8.length }, value instanceof Uint8Array ? [value.buffer as ArrayBuffer] : []);
    } catch (error) {
      const told = error instanceof Wrong;
      // What C++ throws arrives as a number or an object of the library's own.
      const message = (error as { message?: string } | null)?.message ?? `an exception (${String(error)})`;
      const at = told ? error.at : "HDF5 library";
      host.post({ wrong: message, at, broken: !told, heap: h5.HEAPU8.length }, []);
    }
  };
}
