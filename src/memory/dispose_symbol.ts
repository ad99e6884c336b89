// Engines without explicit resource management still get the symbol that `using`, once compiled, looks up.
(Symbol as { dispose?: symbol }).dispose ??= Symbol.for("Symbol.dispose");

export {};
