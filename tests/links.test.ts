import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";

const root = new URL("../", import.meta.url).pathname;
const isPage = (path: string) => path.endsWith(".md") && !path.includes("node_modules");
const pages = [
  ...readdirSync(root).filter(isPage),
  ...["data", "docs", "examples"].flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true })
      .map((path) => join(folder, String(path)))
      .filter(isPage),
  ),
];

test.each(pages)("%s links to files that are there", (page) => {
  const text = readFileSync(join(root, page), "utf8").replace(/```[\s\S]*?```/g, "");
  const links = [...text.matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)].map((m) => m[1]!).filter((to) => !/^\w+:/.test(to));
  expect(links.filter((to) => !existsSync(join(root, dirname(page), to)))).toEqual([]);
});
