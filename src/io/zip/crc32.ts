/** Eight tables, so that a loop step takes eight bytes: four times the speed of one table. */
const tables: readonly Uint32Array[] = (() => {
  const first = Uint32Array.from({ length: 256 }, (_, n) => {
    for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
    return n;
  });
  const all = [first];
  while (all.length < 8) {
    const last = all.at(-1)!;
    all.push(last.map((v) => first[v & 255]! ^ (v >>> 8)));
  }
  return all;
})();

/** The check sum of zip files (CRC-32 of ISO 3309), of bytes that may come in parts: `crc` is that of the parts before. */
export function crc32(bytes: Uint8Array, crc = 0): number {
  const [t0, t1, t2, t3, t4, t5, t6, t7] = tables as unknown as { [i: number]: Uint32Array } & Uint32Array[];
  let c = ~crc;
  let i = 0;
  for (const end = bytes.length - 7; i < end; i += 8) {
    c ^= bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24);
    c =
      t7![c & 255]! ^
      t6![(c >>> 8) & 255]! ^
      t5![(c >>> 16) & 255]! ^
      t4![c >>> 24]! ^
      t3![bytes[i + 4]!]! ^
      t2![bytes[i + 5]!]! ^
      t1![bytes[i + 6]!]! ^
      t0![bytes[i + 7]!]!;
  }
  for (; i < bytes.length; i++) c = t0![(c ^ bytes[i]!) & 255]! ^ (c >>> 8);
  return ~c >>> 0;
}
