/** jax-js arrays are used up by what takes them; `ref` keeps one for another use. */
export const arrays = (jax, inputs) =>
  Object.fromEntries(
    Object.entries(inputs).map(([name, { data, shape }]) => [name, jax.numpy.array(data).reshape(shape)]),
  );

/** Waits until the results are there, and lets them go. */
export async function finished(result) {
  for (const array of [result].flat()) {
    await array.blockUntilReady();
    array.dispose();
  }
}

export async function numbers(named) {
  const entries = [];
  for (const [name, array] of Object.entries(named)) entries.push([name, await array.data()]);
  return Object.fromEntries(entries);
}
