/** A table for a terminal: columns of equal width, the first `words` of them to the left, numbers to the right. */
export function plainTable(
  columns: readonly string[],
  rows: readonly (readonly string[])[],
  words: number,
): string {
  const all = [columns, ...rows];
  const widths = columns.map((_, c) => Math.max(...all.map((row) => row[c]!.length)));
  const line = (row: readonly string[]) =>
    row
      .map((cell, c) => (c < words ? cell.padEnd(widths[c]!) : cell.padStart(widths[c]!)))
      .join("  ")
      .trimEnd();
  const rule = widths.map((width) => "-".repeat(width)).join("  ");
  return [line(columns), rule, ...rows.map(line)].join("\n");
}

/** The same for Markdown. */
export function markdownTable(
  columns: readonly string[],
  rows: readonly (readonly string[])[],
  words: number,
): string {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  const rule = columns.map((_, c) => (c < words ? "---" : "---:"));
  const escaped = rows.map((row) => row.map((cell) => cell.replaceAll("|", "\\|")));
  return [columns, rule, ...escaped].map(line).join("\n");
}
