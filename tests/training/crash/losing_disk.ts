import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { type FileSystem, nodeFiles } from "../../../src/io/files/atomic_file.js";

interface Inode {
  /** What survives a power cut: the contents at the last fsync. */
  durable: Uint8Array;
  /** By what name the contents can be read now. */
  contents: () => Uint8Array;
  synced: boolean;
}
type Entries = Map<string, Inode>;

export class PowerLoss extends Error {}

/**
 * A folder on a disk that keeps no more than POSIX promises. After `calls` calls the power goes: every later call throws. What is
 * then on the disk: contents up to each file's last fsync (beyond that anything), and of the changes of names since the folder's last fsync
 * any selection.
 */
export class LosingDisk {
  private readonly live: Entries = new Map();
  private durable: Entries = new Map();
  private unsynced: ((entries: Entries) => void)[] = [];
  private readonly open = new Map<number, Inode | "folder">();
  private done = 0;

  constructor(
    private readonly folder: string,
    private readonly calls: number,
  ) {}

  get lost(): boolean {
    return this.done >= this.calls;
  }

  /** The calls made so far. */
  get made(): number {
    return this.done;
  }

  private readonly call = <T>(body: () => T): T => {
    if (this.lost) throw new PowerLoss();
    this.done++;
    return body();
  };

  private rename(change: (entries: Entries) => void): void {
    change(this.live);
    this.unsynced.push(change);
  }

  readonly files: FileSystem = {
    open: (path, flags) =>
      this.call(() => {
        const file = nodeFiles.open(path, flags);
        if (path === this.folder) this.open.set(file, "folder");
        else {
          const name = basename(path);
          const known = flags === "w" ? undefined : this.live.get(name);
          const inode = known ?? { durable: new Uint8Array(), contents: () => readFileSync(path), synced: false };
          this.open.set(file, inode);
          if (!known) this.rename((entries) => entries.set(name, inode));
        }
        return file;
      }),
    write: (file, bytes) =>
      this.call(() => {
        (this.open.get(file) as Inode).synced = false;
        return nodeFiles.write(file, bytes);
      }),
    fsync: (file) =>
      this.call(() => {
        const inode = this.open.get(file)!;
        if (inode === "folder") {
          this.durable = new Map(this.live);
          this.unsynced = [];
        } else {
          inode.durable = inode.contents();
          inode.synced = true;
        }
      }),
    close: (file) => this.call(() => nodeFiles.close(file)),
    rename: (from, to) =>
      this.call(() => {
        nodeFiles.rename(from, to);
        const inode = this.live.get(basename(from))!;
        inode.contents = () => readFileSync(to);
        this.rename((entries) => entries.set(basename(to), inode).delete(basename(from)));
      }),
    unlink: (path) =>
      this.call(() => {
        nodeFiles.unlink(path);
        this.rename((entries) => entries.delete(basename(path)));
      }),
    link: (from, to) =>
      this.call(() => {
        nodeFiles.link(from, to);
        const inode = this.live.get(basename(from))!;
        this.rename((entries) => entries.set(basename(to), inode));
      }),
    list: (folder) => this.call(() => nodeFiles.list(folder)),
  };

  /** Writes what is there after the power came back into another folder; `random` (of [0, 1)) picks among what may be. */
  survivors(into: string, random: () => number): void {
    const entries = new Map(this.durable);
    for (const change of this.unsynced) if (random() < 0.5) change(entries);
    mkdirSync(into, { recursive: true });
    for (const [name, inode] of entries) writeFileSync(join(into, name), this.survived(inode, random));
  }

  private survived({ synced, durable }: Inode, random: () => number): Uint8Array {
    if (synced) return durable;
    // File systems grow a file before its blocks are written: zeros, or what was there before.
    const bytes = new Uint8Array(Math.floor(random() * 200));
    return random() < 0.5 ? bytes : bytes.map(() => Math.floor(random() * 256));
  }
}
