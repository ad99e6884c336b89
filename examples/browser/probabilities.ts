import { element } from "./elements.js";
import { percent } from "./numbers.js";

/** Ten bars, one a digit, and a sentence about the longest. */
export class Probabilities {
  private readonly rows = Array.from({ length: 10 }, (_, digit) => {
    const bar = element("i", { "aria-hidden": "true" });
    const figure = element("output", {}, ["–"]);
    const row = element("li", {}, [
      element("b", {}, [String(digit)]),
      element("span", { class: "track" }, [bar]),
      figure,
    ]);
    return { bar, figure, row };
  });

  constructor(
    list: HTMLElement,
    private readonly verdict: HTMLElement,
  ) {
    list.append(...this.rows.map(({ row }) => row));
    this.clear();
  }

  show(probabilities: Float32Array, step: number): void {
    const best = probabilities.indexOf(Math.max(...probabilities));
    for (const [digit, { bar, figure, row }] of this.rows.entries()) {
      const p = probabilities[digit]!;
      bar.style.inlineSize = `${100 * p}%`;
      figure.textContent = percent(p, 0);
      row.classList.toggle("best", digit === best);
    }
    this.say(step === 0 ? "A guess: not trained." : verdict(best, probabilities[best]!));
  }

  clear(): void {
    for (const { bar, figure, row } of this.rows) {
      bar.style.inlineSize = "0";
      figure.textContent = "–";
      row.classList.remove("best");
    }
    this.say("Draw something.");
  }

  /**
   * No text has more lines than CSS keeps for it: the pad would move under the pen.
   * A live region is read aloud whenever it is written, so it is written only when it changes.
   */
  private say(text: string): void {
    if (this.verdict.textContent !== text) this.verdict.textContent = text;
  }
}

function verdict(digit: number, probability: number): string {
  if (probability < 0.5) return `Not sure: perhaps a ${digit}.`;
  return probability < 0.9 ? `Probably a ${digit}.` : `A ${digit}.`;
}
