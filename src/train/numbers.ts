const none = "–";

/** Numbers as tables and progress lines show them; "–" where there is none. */
export const formatPercent = (share: number | null): string =>
  share === null ? none : `${(100 * share).toFixed(2)} %`;

export const formatLoss = (loss: number | null): string => {
  if (loss === null) return none;
  const size = Math.abs(loss);
  if (size !== 0 && (size < 1e-4 || size >= 1e5)) return loss.toExponential(2);
  return loss.toFixed(size >= 100 ? 1 : 4);
};

export const formatCount = (count: number | null): string => (count === null ? none : String(count));

export const formatSeconds = (seconds: number | null): string =>
  seconds === null ? none : seconds.toFixed(seconds < 10 ? 2 : 1);

export const formatRate = (rate: number | null): string => (rate === null ? none : rate.toFixed(rate < 10 ? 2 : 0));

/** A time span as h:mm:ss or m:ss. */
export function formatSpan(seconds: number): string {
  if (!Number.isFinite(seconds)) return "–:––";
  const whole = Math.max(0, Math.round(seconds));
  const two = (n: number) => String(n).padStart(2, "0");
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}
