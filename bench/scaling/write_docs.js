// Writes the tables of docs/scaling.md and its charts from docs/scaling_measured.json. Run after measuring: node bench/scaling/write_docs.js
import { readFileSync, writeFileSync } from "node:fs";
import { efficiencyChart, messagesChart } from "./charts.js";
import { fillPage } from "./tables.js";

const docs = new URL("../../docs/", import.meta.url);
const measured = JSON.parse(readFileSync(new URL("scaling_measured.json", docs), "utf8"));
const page = new URL("scaling.md", docs);
writeFileSync(page, fillPage(readFileSync(page, "utf8"), measured));
writeFileSync(new URL("scaling_messages.svg", docs), messagesChart(measured));
writeFileSync(new URL("scaling_efficiency.svg", docs), efficiencyChart(measured));
