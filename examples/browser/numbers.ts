const whole = new Intl.NumberFormat("en");

export const count = (value: number): string => whole.format(value);

/** Three digits, with an exponent where a plain number would be long. */
export function compact(value: number): string {
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(1).replace("e+", "e");
  return size < 1 ? value.toFixed(3) : value.toPrecision(3);
}

/** For numbers that are round anyway. */
export const round = (value: number): string =>
  value !== 0 && Math.abs(value) < 1e-3
    ? value.toExponential(0).replace("e+", "e")
    : String(Number(value.toPrecision(3)));

export const percent = (share: number, digits = 1): string => `${(100 * share).toFixed(digits)} %`;
