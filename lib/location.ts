/**
 * Where in the user's code the call under way stands: "file:line:column" of the innermost stack frame that lies
 * outside of this library, the file relative to the current directory when it lies in it. Frames of other packages
 * (node_modules) count only when there is no other. Undefined where no such frame is found, as in asynchronous work
 * that nobody awaits, or in a bundle in which library and user are one file.
 */
export function userLocation(): string | undefined {
  // The frame is mostly near, and reading a long stack takes its time.
  return userFrame(16) ?? userFrame(1000, true);
}

/** The user's frame among so many; with `packages`, else the first one of another package. */
function userFrame(limit: number, packages = false): string | undefined {
  // As stacks write it, and as a path.
  let folder: string | undefined;
  let library = "";
  let foreign: string | undefined;
  for (const line of stackLines(limit)) {
    if (folder !== undefined && line.includes(folder)) continue;
    const frame = frameOf(line);
    if (frame === undefined || unnamed.test(frame.file)) continue;
    if (folder === undefined) {
      // The first frame is this module's own: it shows the library's folder, with source maps or without.
      folder = frame.file.replace(ownModule, "");
      library = plainPath(folder);
      continue;
    }
    const file = plainPath(frame.file);
    if (file.startsWith(library)) continue;
    const place = `${shown(file)}:${frame.position}`;
    if (!file.includes("/node_modules/")) return place;
    foreign ??= place;
  }
  return packages ? foreign : undefined;
}

const ownModule = /(?<=[\\/])location\.[jt]s(\?.*)?$/;
/** The engine's own code, and generated code, whose positions say nothing. */
const unnamed = /^(node:|internal\/|<|eval at |native)/;

function stackLines(limit: number): string[] {
  try {
    return `${capture(limit).stack}`.split("\n");
  } catch {
    // Frozen intrinsics, or a prepareStackTrace that throws: an error is told without its place then.
    return [];
  }
}

function capture(limit: number): Error {
  const usual = Error.stackTraceLimit;
  Error.stackTraceLimit = limit;
  try {
    return new Error();
  } finally {
    Error.stackTraceLimit = usual;
  }
}

/** V8: "at name (file:1:2)", "at async file:1:2"; other engines: "name@file:1:2". */
const forms = [
  /^\s+at .*? \((.+):(\d+:\d+)\)$/,
  /^\s+at (?:async )?(.+):(\d+:\d+)$/,
  /^[^@]*@(.+):(\d+:\d+)$/,
];

interface Frame {
  readonly file: string;
  /** line:column */
  readonly position: string;
}

function frameOf(line: string): Frame | undefined {
  for (const form of forms) {
    const found = form.exec(line);
    if (found) return { file: found[1]!, position: found[2]! };
  }
  return undefined;
}

/** A file's path from a path or URL, with forward slashes. */
function plainPath(file: string): string {
  const path = file.includes("://") ? file.replace(/[?#].*$/, "") : file;
  const local = path.startsWith("file://") ? decoded(path.slice("file://".length)) : path;
  const windows = /^\/?[A-Za-z]:[\\/]|^\\\\/.test(local);
  return windows ? local.replace(/^\//, "").replaceAll("\\", "/") : local;
}

function decoded(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}

function shown(file: string): string {
  try {
    const folder = plainPath(process.cwd()).replace(/\/?$/, "/");
    return file.startsWith(folder) ? file.slice(folder.length) : file;
  } catch {
    return file; // no process, or no current directory
  }
}
