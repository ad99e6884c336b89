/**
 * Milliseconds a sample, samples, milliseconds of warming up, milliseconds of calls before each sample (the system moves
 * threads that wake to cores of their own only after some), and the most milliseconds that one library gets for a cell.
 */
export const paces = {
  full: { sample: 12, rounds: 11, warm: 250, lead: 10, most: 2500 },
  quick: { sample: 4, rounds: 4, warm: 40, lead: 3, most: 300 },
};

const quantile = (sorted, q) => {
  const at = (sorted.length - 1) * q;
  const [low, high] = [sorted[Math.floor(at)], sorted[Math.ceil(at)]];
  return low + (high - low) * (at - Math.floor(at));
};

/** Above this share of the median between the quartiles a timing counts as disturbed. */
export const DISTURBED = 0.3;

export function summary(samples) {
  const sorted = [...samples].sort((a, b) => a - b);
  const ms = quantile(sorted, 0.5);
  const spread = (quantile(sorted, 0.75) - quantile(sorted, 0.25)) / ms;
  return { ms, best: sorted[0], spread, samples: sorted.length, disturbed: spread > DISTURBED };
}

/** Threads of the library before go on spinning for a few milliseconds, and would take the next one's cores. */
const pause = () => new Promise((done) => setTimeout(done, 5));

/**
 * Times one mode of a prepared case in turns, A B C A B C ..., so that what disturbs the machine disturbs all. A sample
 * is the mean of as many calls as fill it. A slow library takes part in fewer rounds. Returns a summary, or { error },
 * by name.
 */
export async function timeInTurns(participants, mode, { sample, rounds, warm, lead, most }) {
  const entries = [];
  const found = {};
  for (const participant of participants) {
    try {
      const { ms } = await participant.ask("calibrate", { mode, warm });
      const calls = Math.max(1, Math.round(sample / ms));
      const turns = Math.min(rounds, Math.floor(most / (calls * ms)));
      // One call of a library this slow uses up its time, and stands for it.
      entries.push({
        participant,
        calls,
        lead: ms < lead ? Math.ceil(lead / ms) : 0,
        turns,
        samples: turns < 1 ? [ms] : [],
      });
    } catch (error) {
      found[participant.name] = { error: error.message };
    }
  }
  for (let round = 0; round < rounds; round++) {
    for (const { participant, calls, lead: before, turns, samples } of round % 2 ? [...entries].reverse() : entries) {
      if (samples.length >= turns) continue;
      await pause();
      samples.push((await participant.ask("time", { mode, calls, lead: before })).ms);
    }
  }
  for (const { participant, samples } of entries) found[participant.name] = summary(samples);
  return found;
}

export const geometricMean = (values) => Math.exp(values.reduce((sum, v) => sum + Math.log(v), 0) / values.length);
