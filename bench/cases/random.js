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

  /** Mean `mean`, standard deviation 1. */
  normal(shape, mean) {
    return this.#fill(
      shape,
      () => mean + Math.sqrt(-2 * Math.log(this.#next())) * Math.cos(2 * Math.PI * this.#next()),
    );
  }
}
