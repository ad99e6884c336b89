const entities: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/** Text for an element's content or a quoted attribute. */
export const escapeHtml = (text: string): string => text.replace(/[&<>"']/g, (c) => entities[c]!);

/** JSON inside a script element: no "<" can end the element or open a comment. */
export const embedJson = (value: unknown): string => JSON.stringify(value).replace(/</g, "\\u003c");

export interface ReportTable {
  readonly title: string;
  readonly head: readonly string[];
  /** The first cell names the row. */
  readonly rows: readonly (readonly string[])[];
  readonly note?: string;
}

export function renderTable({ title, head, rows, note }: ReportTable): string {
  const cells = (tag: string, list: readonly string[], attributes = "") =>
    list.map((cell) => `<${tag}${attributes}>${escapeHtml(cell)}</${tag}>`).join("");
  const body = rows.map(
    ([name = "", ...rest]) => `<tr><th scope="row">${escapeHtml(name)}</th>${cells("td", rest)}</tr>`,
  );
  return `<section>
<h2>${escapeHtml(title)}</h2>
<div class="scroll" tabindex="0" role="region" aria-label="${escapeHtml(title)}"><table>
<thead><tr>${cells("th", head, ' scope="col"')}</tr></thead>
<tbody>
${body.join("\n")}
</tbody></table></div>
${note ? `<p class="note">${escapeHtml(note)}</p>` : ""}
</section>`;
}
