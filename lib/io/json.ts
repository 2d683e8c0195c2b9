import { FileError } from "../errors.js";

/**
 * JSON.parse that also refuses an object with the same key twice, of which JSON.parse keeps the last in silence.
 *
 * @throws FileError that starts with `where`
 */
export function parseJson(where: string, text: string): unknown {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new FileError(`${where} is not JSON: ${(cause as Error).message}`, { cause });
  }
  const twice = repeatedKey(text);
  if (twice !== undefined) throw new FileError(`${where} has the key ${JSON.stringify(twice)} twice`);
  return value;
}

/** The first key that an object of a valid JSON text repeats. A string is a key when a colon follows it. */
function repeatedKey(text: string): string | undefined {
  const open: Set<string>[] = [];
  for (let at = 0; at < text.length; at++) {
    if (text[at] === "{") open.push(new Set());
    else if (text[at] === "}") open.pop();
    else if (text[at] === '"') {
      const start = at++;
      for (; text[at] !== '"'; at++) if (text[at] === "\\") at++;
      let next = at + 1;
      while (next < text.length && " \t\r\n".includes(text[next]!)) next++;
      if (text[next] !== ":") continue;
      const key = JSON.parse(text.slice(start, at + 1)) as string;
      const keys = open.at(-1)!;
      if (keys.has(key)) return key;
      keys.add(key);
    }
  }
  return undefined;
}
