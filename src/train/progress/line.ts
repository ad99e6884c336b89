import { formatLoss, formatRate, formatSpan } from "../numbers.js";

/** Where a run is, for one line of text. */
export interface ProgressState {
  readonly name: string;
  /** Shown unless it is the CPU. */
  readonly device?: string;
  readonly epoch: number;
  readonly epochs: number;
  readonly step: number;
  readonly totalSteps: number;
  readonly loss: number | null;
  readonly accuracy: number | null;
  readonly stepsPerSecond: number | null;
}

const percent = (share: number): string => `${(100 * share).toFixed(1)}%`;

const remaining = ({ step, totalSteps, stepsPerSecond }: ProgressState): string | null =>
  stepsPerSecond && step < totalSteps ? formatSpan((totalSteps - step) / stepsPerSecond) : null;

const elsewhere = ({ device = "cpu" }: ProgressState): string | null => (device === "cpu" ? null : device);

/** A line of a log: no control characters, nothing that depends on a width. */
export function plainLine(state: ProgressState): string {
  const { name, epoch, epochs, step, totalSteps, loss, accuracy, stepsPerSecond } = state;
  const [eta, device] = [remaining(state), elsewhere(state)];
  return [
    name && `${name}${device === null ? "" : ` on ${device}`}:`,
    `epoch ${epoch}/${epochs}`,
    `step ${step}/${totalSteps}`,
    loss !== null && `loss ${formatLoss(loss)}`,
    accuracy !== null && `accuracy ${percent(accuracy)}`,
    stepsPerSecond !== null && `${formatRate(stepsPerSecond)} steps/s`,
    eta !== null && `ETA ${eta}`,
  ]
    .filter(Boolean)
    .join("  ");
}

/**
 * A line of at most `width` columns with a bar. What matters least goes first when room is short: the rate, the
 * accuracy, the number of steps, the device, the name's end; the bar takes what is left, and goes when that is too little to read.
 */
export function barLine(state: ProgressState, width: number, unicode: boolean): string {
  const { epoch, epochs, step, totalSteps, loss, accuracy, stepsPerSecond } = state;
  const eta = remaining(state);
  const name = state.name.length > 12 && width < 80 ? state.name.slice(0, 12) : state.name;
  /** In the order of the line, with the turn at which each part goes. */
  const parts: [text: string | null, turn: number][] = [
    [name || null, 5],
    [elsewhere(state), 4],
    [`${epoch}/${epochs}`, 7],
    [null, 0], // the bar's place
    [`${Math.floor((100 * step) / Math.max(1, totalSteps))}%`, 9],
    [`${step}/${totalSteps}`, 3],
    [loss === null ? null : `loss ${formatLoss(loss)}`, 8],
    [accuracy === null ? null : `acc ${percent(accuracy)}`, 2],
    [stepsPerSecond === null ? null : `${formatRate(stepsPerSecond)} steps/s`, 1],
    [eta === null ? null : `ETA ${eta}`, 6],
  ];
  const barPlace = 3;
  for (let turn = 0; ; turn++) {
    const shown = parts.map(([text, gone]) => (gone > turn ? text : null));
    const used = shown.reduce((n, text) => n + (text === null ? 0 : text.length + 2), 0);
    const room = Math.min(40, width - used);
    // The bar is worth more than what may go before the turn of the name.
    if (room >= 10 || (turn >= 4 && room >= 5)) shown[barPlace] = bar(step / Math.max(1, totalSteps), room, unicode);
    else if (turn < 9 && (turn < 4 || used - 2 > width)) continue;
    const line = shown.filter((text) => text !== null).join("  ");
    return line.length <= width ? line : line.slice(0, Math.max(0, width));
  }
}

function bar(share: number, width: number, unicode: boolean): string {
  const filled = Math.round(Math.min(1, Math.max(0, share)) * width);
  return unicode
    ? "━".repeat(filled) + "┄".repeat(width - filled)
    : `[${"#".repeat(Math.min(filled, width - 2))}${".".repeat(Math.max(0, width - 2 - filled))}]`;
}
