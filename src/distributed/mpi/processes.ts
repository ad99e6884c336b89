import { readFileSync } from "node:fs";

/** Processes of this machine, as /proc shows them; other systems show none. */

/** A process's parent, the time of its start (numbers are used again) and whether it has ended; proc(5), fields 3, 4 and 22. */
export function statusOf(pid: number): { parent: number; started: string; ended: boolean } | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "latin1");
    // Before it stands the name, which may hold spaces and parentheses.
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    return { parent: Number(fields[1]), started: fields[19]!, ended: fields[0] === "Z" || fields[0] === "X" };
  } catch {
    return null;
  }
}

/** Processes upwards from this one's parent that have a variable, nearest first (wrappers: npx, a shell), and the first that lacks it; 0 where none is seen. */
export function upwards(variable: string): { having: readonly number[]; above: number } {
  const having: number[] = [];
  let pid = process.ppid;
  while (pid > 1 && hasVariable(pid, variable)) {
    having.push(pid);
    pid = statusOf(pid)?.parent ?? 0;
  }
  return { having, above: pid };
}

function hasVariable(pid: number, variable: string): boolean {
  try {
    return `\0${readFileSync(`/proc/${pid}/environ`, "latin1")}`.includes(`\0${variable}=`);
  } catch {
    // Another user's, as Slurm's own.
    return false;
  }
}
