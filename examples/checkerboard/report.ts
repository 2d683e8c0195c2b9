import { columns } from "./table.js";

/** A picture of the report: the bytes of a PNG, and what it shows. */
export interface Picture {
  readonly title: string;
  readonly caption: string;
  readonly png: Uint8Array;
}

/** The whole report as one HTML file that needs no other. Text is given as text, and escaped here. */
export function reportHtml(
  title: string,
  settings: readonly (readonly [string, string])[],
  rows: readonly (readonly string[])[],
  tableNotes: readonly string[],
  pictures: readonly Picture[],
): string {
  const row = (tag: string, cells: readonly string[]) =>
    `<tr>${cells.map((cell) => `<${tag}>${escape(cell)}</${tag}>`).join("")}</tr>`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${escape(title)}</title>
<style>
body { font: 16px/1.5 system-ui, "DejaVu Sans", Verdana, sans-serif; color: #222; max-width: 60em; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.9em; }
th, td { padding: 0.15em 0.7em; text-align: right; border-bottom: 1px solid #eee; white-space: nowrap; }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
th { border-bottom: 2px solid #999; }
dl { display: grid; grid-template-columns: max-content auto; gap: 0 1.5em; } dt { color: #666; } dd { margin: 0; }
figure { margin: 0; } img { max-width: 100%; height: auto; } figcaption { color: #444; max-width: 45em; }
.wide { overflow-x: auto; }
</style>
</head>
<body>
<h1>${escape(title)}</h1>
<dl>
${settings.map(([name, value]) => `<dt>${escape(name)}</dt><dd>${escape(value)}</dd>`).join("\n")}
</dl>
<h2>Measured</h2>
<div class="wide"><table>
<thead>${row("th", columns)}</thead>
<tbody>
${rows.map((cells) => row("td", cells)).join("\n")}
</tbody>
</table></div>
${tableNotes.map((note) => `<p>${escape(note)}</p>`).join("\n")}
${pictures.map(pictureHtml).join("\n")}
</body>
</html>
`;
}

function pictureHtml({ title, caption, png }: Picture): string {
  const source = `data:image/png;base64,${Buffer.from(png).toString("base64")}`;
  return `<h2>${escape(title)}</h2>
<figure><img src="${source}" alt="${escape(title)}"><figcaption>${escape(caption)}</figcaption></figure>`;
}

function escape(text: string): string {
  const entities: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
  return text.replace(/[&<>"]/g, (character) => entities[character]!);
}
