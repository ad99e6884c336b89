import { summary } from "../measure.js";
import { meetAsleep } from "./group.js";

/** Milliseconds a sample, samples, and milliseconds before the first. */
export const paces = {
  full: { messages: { sample: 3, rounds: 15 }, steps: { sample: 60, rounds: 11, warmUp: 1500 } },
  quick: { messages: { sample: 1, rounds: 3 }, steps: { sample: 1, rounds: 2, warmUp: 1 } },
};

const MOST_CALLS = 4000;

const milliseconds = (body, calls) => {
  const start = performance.now();
  for (let i = 0; i < calls; i++) body();
  return (performance.now() - start) / calls;
};

/** The mean of what the ranks `among` measured. */
function meanOf(communicator, ms, among) {
  const sum = Float64Array.of(among(communicator.rank) ? ms : 0, among(communicator.rank) ? 1 : 0);
  communicator.allReduce(sum, "sum");
  return sum[0] / sum[1];
}

/**
 * The least of the samples counts: whatever else runs on the machine adds to a time and takes nothing away, and ranks that wait for each other
 * are held up by what holds up any of them. Four digits are more than a timing has.
 */
const rounded = ({ ms, best, disturbed }) => {
  return { ms: +best.toPrecision(4), median: +ms.toPrecision(4), disturbed };
};

const everyone = () => true;

/**
 * Times `ways` ({ name: { body, among } }) in turns, A B C C B A, ...; `among` tells which ranks take part (default all), while the others
 * sleep. A sample is the mean, over calls and over the ranks that took part. Returns summaries by name, on every rank.
 */
export function timeInTurns(communicator, ways, { sample, rounds }) {
  const entries = Object.entries(ways).map(([name, { body, among = everyone }]) => {
    const run = (calls) => {
      meetAsleep(communicator);
      // The last to wake would be waited for by the others.
      communicator.barrier();
      const ms = among(communicator.rank) ? milliseconds(body, calls) : 0;
      meetAsleep(communicator);
      return meanOf(communicator, ms, among);
    };
    // Few calls last as long as the ranks' beginning apart from each other.
    let calls = 1;
    for (let ms = run(1); calls < MOST_CALLS && ms * calls < 0.7 * sample; ms = run(calls))
      calls = Math.min(MOST_CALLS, Math.ceil(Math.max(2 * calls, sample / ms)));
    return { name, samples: [], sample: () => run(calls) };
  });
  for (let round = 0; round < rounds; round++)
    for (const entry of round % 2 ? [...entries].reverse() : entries) entry.samples.push(entry.sample());
  return Object.fromEntries(entries.map(({ name, samples }) => [name, rounded(summary(samples))]));
}
