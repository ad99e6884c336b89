// The import rule: a file imports from its own room or from a room with a LOWER level (docs/architecture.md).
const levels = {
  base: 0,
  norm: 1,
  memory: 1,
  kernels: 2,
  autograd: 3,
  nn: 4,
  optim: 4,
  data: 4,
  compat: 5,
  io: 5,
  distributed: 5,
  tfjs: 5,
  train: 6,
  "index.ts": 7,
  cli: 8,
};
const pattern = (room) => (room.endsWith(".ts") ? `^src/${room}$` : `^src/${room}/`);
const rooms = Object.keys(levels);

module.exports = {
  forbidden: [
    {
      name: "no-circular",
      comment: "Files that import each other cannot be read, tested or moved alone.",
      severity: "error",
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ["type-only"] } },
    },
    {
      name: "known-rooms-only",
      comment: "A new room gets a level in scripts/import_rule.cjs and a line in docs/architecture.md.",
      severity: "error",
      from: {},
      to: { path: "^src/", pathNot: rooms.map(pattern) },
    },
    ...rooms.flatMap((room) => {
      const above = rooms.filter((r) => r !== room && levels[r] >= levels[room]);
      // An empty list would match every import; the topmost room may import all others.
      if (above.length === 0) return [];
      return {
        name: `${room}-imports-downwards`,
        comment: `${room} is on level ${levels[room]} and may import only rooms below it.`,
        severity: "error",
        from: { path: pattern(room) },
        to: { path: above.map(pattern) },
      };
    }),
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    exclude: { path: "src/kernels/wasm/assembly|\\.test\\.ts$" },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
    enhancedResolveOptions: {
      exportsFields: ["exports"],
      conditionNames: ["evenkeel-source", "import", "node", "default"],
      extensions: [".ts", ".js", ".mjs", ".cjs"],
    },
  },
};
