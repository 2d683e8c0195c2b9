/** Every copy of a plan (or any data) with one of its numbers, at any depth, changed to something strange. */
export function* mutated<T extends object>(plan: T): Generator<T> {
  const strange = [-1, 0, 1, 2, 3, 7, 0.5, 41, 1e6, 2 ** 31, 2 ** 52, 2 ** 53, 1e300, -(2 ** 53), Number.NaN];
  const paths: string[][] = [];
  const walk = (node: object, path: readonly string[]) => {
    for (const [key, value] of Object.entries(node)) {
      if (typeof value === "number") paths.push([...path, key]);
      else if (typeof value === "object" && value !== null) walk(value, [...path, key]);
    }
  };
  walk(plan, []);
  for (const path of paths)
    for (const other of strange) {
      const copy = structuredClone(plan);
      let place = copy as unknown as Record<string, unknown>;
      for (const step of path.slice(0, -1)) place = place[step] as Record<string, unknown>;
      place[path[path.length - 1]!] = other;
      yield copy;
    }
}
