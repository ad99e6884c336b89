import { escapeHtml } from "./html.js";
import { style } from "./style.js";

/** A page that is whole in itself: it loads nothing. `head` and `main` are HTML, `title` and `notes` text. */
export const pageShell = (page: {
  readonly title: string;
  /** Lines under the title. */
  readonly notes: readonly string[];
  readonly styles?: string;
  readonly main: string;
  readonly scripts?: string;
}): string => `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(page.title)}</title>
<link rel="icon" href="data:,">
<style>${page.styles ?? ""}${style}</style>
</head>
<body>
<header>
<h1>${escapeHtml(page.title)}</h1>
${page.notes.map((note) => `<p class="note">${escapeHtml(note)}</p>`).join("\n")}
</header>
<main>
${page.main}
</main>
${page.scripts ?? ""}</body>
</html>
`;
