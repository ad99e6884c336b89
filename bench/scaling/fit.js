import { fitLine, kinds } from "./model.js";

const seconds = ({ ms }) => ms / 1000;

/** All messages of a run: which kind, how many bytes each rank has, and how long it took. */
export function messagesOf({ messages, synchronization, ranks }) {
  const sums = messages.flatMap(({ bytes, ordered, library }) => [
    { kind: "ordered", bytes, seconds: seconds(ordered), ranks },
    { kind: "library", bytes, seconds: seconds(library), ranks },
  ]);
  const gathers = synchronization.map(({ channels, gather }) => {
    return { kind: "gather", bytes: 8 * (2 * channels + 2), seconds: seconds(gather), ranks };
  });
  return [...sums, ...gathers];
}

/** A line for each kind of message and the way it goes, fitted to 2 ranks that share memory, where a rank sends as many bytes as it has. */
export function fitLines(run) {
  const all = messagesOf(run);
  const names = [...new Set(all.map(({ kind, bytes }) => kinds[kind](bytes, run.ranks).line))];
  return Object.fromEntries(
    names.map((name) => {
      const points = all.filter(({ kind, bytes }) => kinds[kind](bytes, run.ranks).line === name);
      const line = fitLine(points);
      const errors = points.map((p) => (line.call + p.bytes * line.perByte) / p.seconds - 1);
      return [name, { ...line, points: points.length, errors }];
    }),
  );
}
