/** One line of the table: our time, each peer's with the ratio to it, rates, and the share of the copy roofline. */
export function row(subject, mode, threads, timing, copies) {
  const { evenkeel: ours, ...others } = timing;
  const peers = Object.fromEntries(
    Object.entries(others).map(([name, t]) => [name, t.error ? t : { ...t, ratio: t.ms / ours.ms }]),
  );
  const seconds = ours.ms / 1e3;
  const bytes = subject.traffic?.[mode] ?? null;
  const flops = subject.flops?.[mode] ?? null;
  return {
    ...{
      name: `${subject.id} ${mode}`,
      kind: subject.kind,
      norm: subject.norm ?? null,
      layout: subject.layout ?? null,
    },
    ...{ size: subject.size ?? null, shape: subject.shape ?? null, mode, threads, ours, peers },
    bytesPerSecond: bytes && bytes / seconds,
    share: bytes && bytes / seconds / copies[subject.traffic.eval / 2].rate,
    flopsPerSecond: flops && flops / seconds,
  };
}

/** Whose figure the row shows as the thing to beat: torch where it took part. */
export const mainPeer = (peers) => peers.torch ?? null;
