import { FileError } from "../errors.js";

/**
 * Writes a whole file so that a reader, a crash or a full disk never meets half of it: the bytes go to a
 * temporary file in the same folder, are flushed to the disk, and then take the name in one step. Until then an
 * older file stays as it was; when anything fails, the temporary file is removed.
 *
 * @param path where the file goes; missing folders are created, a symbolic link is followed
 * @param data its bytes, or text (written as UTF-8)
 * @throws FileError naming the path and the system's reason
 */
export async function writeFileAtomic(path: string, data: Uint8Array | string): Promise<void> {
  const { mkdir, open, realpath, rename, rm } = await import("node:fs/promises");
  const { basename, dirname, join } = await import("node:path");
  let temporary: string | undefined;
  try {
    await mkdir(dirname(path), { recursive: true });
    const target = await realpath(path).catch(() => path);
    const folder = dirname(target);
    const unique = `${process.pid}.${Math.random().toString(36).slice(2, 10)}`;
    const name = join(folder, `.${basename(target)}.${unique}.tmp`);
    const file = await open(name, "wx");
    temporary = name;
    try {
      await file.writeFile(data);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(name, target);
    temporary = undefined;
    await syncFolder(folder);
  } catch (cause) {
    if (temporary !== undefined) await rm(temporary, { force: true }).catch(() => undefined);
    throw new FileError(`cannot write ${path}: ${reason(cause)}`, { cause });
  }
}

/**
 * Reads a whole file.
 *
 * @throws FileError naming the path and the system's reason
 */
export async function readFileBytes(path: string): Promise<Uint8Array> {
  const { readFile } = await import("node:fs/promises");
  try {
    return await readFile(path);
  } catch (cause) {
    throw new FileError(`cannot read ${path}: ${reason(cause)}`, { cause });
  }
}

/** Makes the new name itself durable. Systems that cannot flush a folder (Windows) do without. */
async function syncFolder(folder: string): Promise<void> {
  const { open } = await import("node:fs/promises");
  const handle = await open(folder, "r").catch(() => undefined);
  await handle?.sync().catch(() => undefined);
  await handle?.close().catch(() => undefined);
}

function reason(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
