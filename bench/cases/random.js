/** How many normal numbers are drawn; a prime, so that arrays of any usual shape meet them in ever other places. */
const POOL = 1_000_003;

let pool = null;

/** Random inputs, the same in every run: xorshift32 and Box-Muller (Marsaglia 2003; Box and Muller 1958). */
export class RandomInputs {
  #state;

  constructor(seed) {
    this.#state = seed;
  }

  #next() {
    let s = this.#state;
    s ^= s << 13;
    s ^= s >>> 17;
    s ^= s << 5;
    this.#state = s;
    return ((s >>> 0) + 0.5) / 2 ** 32;
  }

  #fill(shape, value) {
    const data = new Float32Array(shape.reduce((a, b) => a * b, 1));
    for (let i = 0; i < data.length; i++) data[i] = value();
    return { shape, data };
  }

  uniform(shape, low, high) {
    return this.#fill(shape, () => low + (high - low) * this.#next());
  }

  /** Mean `mean`, standard deviation 1. Long arrays repeat the pool, since drawing each number would take minutes. */
  normal(shape, mean) {
    pool ??= new RandomInputs(1).#drawNormals();
    let at = Math.floor(this.#next() * POOL);
    return this.#fill(shape, () => {
      at = at + 1 < POOL ? at + 1 : 0;
      return mean + pool[at];
    });
  }

  #drawNormals() {
    return this.#fill([POOL], () => Math.sqrt(-2 * Math.log(this.#next())) * Math.cos(2 * Math.PI * this.#next())).data;
  }
}
