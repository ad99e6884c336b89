import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

/** One library in a process of its own, asked in turn: a lost or silent one ends as an error of that library alone. */
export class Participant {
  #child;
  #lines;
  #stderr = "";
  version = "";
  /** What it tells of the device it computes on. */
  about = null;
  /** Why it is not there, in one line; null when it is. */
  absent = null;

  constructor(name, command, args, env) {
    this.name = name;
    this.#child = spawn(command, args, { stdio: ["pipe", "pipe", "pipe"], env: { ...process.env, ...env } });
    this.#child.stderr.on("data", (text) => {
      this.#stderr = (this.#stderr + text).slice(-2000);
      if (process.env.BENCH_DEBUG) process.stderr.write(text);
    });
    this.#child.on("error", (error) => {
      this.absent ??= error.code === "ENOENT" ? `${command} is not there` : error.message;
    });
    this.#child.stdin.on("error", () => {});
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  async start() {
    const hello = await this.#answer();
    if (hello.version) Object.assign(this, { version: hello.version, about: hello.about ?? null });
    else this.absent ??= hello.absent ?? hello.error;
    return this;
  }

  async ask(action, request = {}) {
    this.#child.stdin.write(`${JSON.stringify({ action, ...request })}\n`);
    const answer = await this.#answer();
    if (answer.error) throw new Error(answer.error);
    return answer;
  }

  async #answer() {
    for (;;) {
      const { value, done } = await this.#lines.next();
      if (done) {
        const lastLine = this.#stderr.trim().split("\n").at(-1);
        return { error: lastLine ? `it ended: ${lastLine}` : "it ended without a word" };
      }
      if (value.startsWith("{")) return JSON.parse(value);
    }
  }

  stop() {
    this.#child.stdin.end();
    this.#child.kill();
  }
}
