import { element } from "./elements.js";
import { compact, count, percent } from "./numbers.js";
import type { LayerStatistics } from "./statistics.js";

/** The latest statistics of each layer, as rows. */
export function showLayers(
  body: HTMLElement,
  note: HTMLElement,
  step: number,
  layers: readonly LayerStatistics[],
): void {
  note.textContent = `at step ${count(step)}`;
  const rows = layers.map(({ name, mean, std, active, gradient, relativeGradient }) => {
    const figures = [
      compact(mean),
      compact(std),
      active === null ? "–" : percent(active, 0),
      compact(gradient),
      compact(relativeGradient),
    ];
    const cells = figures.map((text) => element("td", {}, [text]));
    return element("tr", {}, [element("th", { scope: "row" }, [name]), ...cells]);
  });
  body.replaceChildren(...rows);
}

export function clearLayers(body: HTMLElement, note: HTMLElement): void {
  note.textContent = "from step 10 on";
  const cell = element("td", { colspan: "6", class: "note" }, ["Nothing yet: start the training."]);
  body.replaceChildren(element("tr", {}, [cell]));
}
