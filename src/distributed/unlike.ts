import type { Tensor } from "../autograd/index.js";
import type { Communicator } from "../base/communicator.js";
import { CommunicationError } from "../base/errors.js";
import type { Module } from "../nn/module.js";
import { onAllRanks } from "./together.js";

// Whether copies of one model have stayed copies.

type Named = readonly (readonly [name: string, t: Tensor])[];

const WORDS = 2;

/**
 * 64 bits that tell bits apart: arrays that differ in one word never have the same, others by chance. Each step of either half is one to one
 * in what came before.
 */
function writeFingerprint(t: Tensor, to: Int32Array, at: number): void {
  const { buffer, byteOffset, byteLength } = t.storage.view;
  const words = new Int32Array(buffer, byteOffset, byteLength / 4);
  let [a, b] = [0x811c9dc5, words.length];
  for (let i = 0; i < words.length; i++) {
    a = Math.imul(a ^ words[i]!, 0x01000193);
    b = Math.imul(b + words[i]!, 0x9e3779b1);
    b ^= b >>> 15;
  }
  to[at] = a;
  to[at + 1] = b;
}

/**
 * For each rank the names of those tensors whose bits are not those that rank 0 has. Every rank gives the same names, with tensors of
 * the same types and shapes; they lie on the CPU. One message, of 8 bytes a tensor.
 */
export function unlikeRankZero(communicator: Communicator, tensors: Named): string[][] {
  const own = new Int32Array(WORDS * tensors.length);
  for (const [i, [, t]] of tensors.entries()) writeFingerprint(t, own, WORDS * i);
  const [first, ...others] = communicator.allGather(own, { equalLengths: true });
  const differs = (words: Int32Array, i: number) =>
    words[WORDS * i] !== first![WORDS * i] || words[WORDS * i + 1] !== first![WORDS * i + 1];
  return [[], ...others.map((words) => tensors.flatMap(([name], i) => (differs(words, i) ? [name] : [])))];
}

/**
 * Checks that the parameters of a model still have the same bits on all ranks, as those of one model that all train. Collective; to be called
 * now and then: it reads all parameters, and sends 8 bytes for each. Throws CommunicationError on all ranks, with the first that differs on each.
 */
export function checkSameParameters(communicator: Communicator, model: Module): void {
  if (communicator.size === 1) return;
  const unlike = unlikeRankZero(communicator, model.namedParameters());
  if (unlike.every((names) => names.length === 0)) return;
  throw onAllRanks(
    new CommunicationError({
      rule: "All ranks have the same parameters after every step",
      got: unlike
        .flatMap(([first, ...more], rank) =>
          first === undefined
            ? []
            : [
                `${first}${more.length > 0 ? ` and ${more.length} other${more.length > 1 ? "s" : ""}` : ""} on rank ${rank}`,
              ],
        )
        .join(", ")
        .concat(" unlike rank 0's"),
      fix:
        "A layer that sets its parameters by what it sees, as ActNorm does by its first batch, takes a communicator " +
        "(nn.convertSyncBatchNorm gives it one); parameters that a program changes itself it changes alike on all ranks",
    }),
  );
}
