import { FileError, ValueError } from "../errors.js";
import { allocate, byteSize, type DType } from "../tensor/dtype.js";
import { show, sizeOf } from "../tensor/shape.js";
import { Tensor } from "../tensor/tensor.js";
import { readFileBytes, writeFileAtomic } from "./atomic.js";
import { parseJson } from "./json.js";

/*
 * safetensors: eight bytes with the length of the header (little-endian), the header in JSON, the elements.
 *   { "__metadata__": { text: text }, "name": { "dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24] }, ... }
 * Offsets are in bytes from the end of the header; the tensors cover the rest of the file without a gap.
 */

/** What a safetensors file holds: tensors by name, and pairs of text. */
export interface SafetensorsContent {
  readonly tensors: Readonly<Record<string, Tensor>>;
  readonly metadata: Readonly<Record<string, string>>;
}

const codes: Record<DType, string> = {
  float32: "F32",
  float64: "F64",
  int32: "I32",
  uint32: "U32",
  bool: "BOOL",
};
const dtypesByCode = new Map(Object.entries(codes).map(([dtype, code]) => [code, dtype as DType]));
const prefixBytes = 8;
const metadataKey = "__metadata__";
/** The limit of the format's own implementation. */
const maximumHeaderBytes = 100_000_000;

/**
 * The bytes of a safetensors file.
 *
 * @param tensors concrete tensors by name
 * @param metadata pairs of text that go into the header
 * @throws ValueError when a name is taken by the format or a metadata value is not text
 */
export function encodeSafetensors(
  tensors: Readonly<Record<string, Tensor>>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  for (const [key, value] of Object.entries(metadata))
    if (typeof value !== "string")
      throw new ValueError(
        `encodeSafetensors: metadata ${JSON.stringify(key)} must be text, got ${typeof value}`,
      );
  if (Object.hasOwn(tensors, metadataKey))
    throw new ValueError(`encodeSafetensors: the name ${metadataKey} belongs to the format`);
  // Wide elements first, so that each tensor is aligned to its element size; then by name, so that bytes are stable.
  const entries = Object.entries(tensors).sort(
    ([nameA, a], [nameB, b]) => byteSize(b.dtype) - byteSize(a.dtype) || (nameA < nameB ? -1 : 1),
  );
  let end = 0;
  const header: [string, unknown][] = Object.keys(metadata).length > 0 ? [[metadataKey, metadata]] : [];
  const places = entries.map(([name, tensor]) => {
    const begin = end;
    end += tensor.size * byteSize(tensor.dtype);
    header.push([name, { dtype: codes[tensor.dtype], shape: [...tensor.shape], data_offsets: [begin, end] }]);
    return begin;
  });
  const text = new TextEncoder().encode(JSON.stringify(Object.fromEntries(header)));
  const headerBytes = Math.ceil(text.length / 8) * 8;
  const bytes = new Uint8Array(prefixBytes + headerBytes + end);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(headerBytes), true);
  bytes.set(text, prefixBytes);
  bytes.fill(0x20, prefixBytes + text.length, prefixBytes + headerBytes);
  entries.forEach(([, tensor], i) => {
    const data = tensor.toTypedArray();
    bytes.set(
      new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
      prefixBytes + headerBytes + places[i]!,
    );
  });
  return bytes;
}

/**
 * The tensors and the metadata in the bytes of a safetensors file. Nothing in the header is believed before it is
 * checked, and no memory is allocated by its word alone.
 *
 * @param bytes the whole file
 * @param where how errors name the file
 * @throws FileError when the file is cut short or its header is wrong, saying what and where
 */
export function decodeSafetensors(bytes: Uint8Array, where = "safetensors"): SafetensorsContent {
  const { header, data } = splitFile(bytes, where);
  const metadata = checkMetadata(header[metadataKey], where);
  const entries = Object.entries(header)
    .filter(([name]) => name !== metadataKey)
    .map(([name, entry]) => checkEntry(name, entry, data.length, where));
  checkCoverage(entries, data.length, where);
  const tensors = Object.fromEntries(entries.map((entry) => [entry.name, readTensor(entry, data, where)]));
  return { tensors, metadata };
}

/**
 * Writes tensors to a safetensors file, atomically: see writeFileAtomic.
 *
 * @throws FileError when the file cannot be written; an older file then stays as it was
 */
export async function saveSafetensors(
  path: string,
  tensors: Readonly<Record<string, Tensor>>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  await writeFileAtomic(path, encodeSafetensors(tensors, metadata));
}

/**
 * Reads a safetensors file.
 *
 * @throws FileError when it cannot be read, is cut short or has a wrong header
 */
export async function loadSafetensors(path: string): Promise<SafetensorsContent> {
  return decodeSafetensors(await readFileBytes(path), path);
}

interface Entry {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: number[];
  readonly begin: number;
  readonly end: number;
}

function splitFile(bytes: Uint8Array, where: string): { header: Record<string, unknown>; data: Uint8Array } {
  if (bytes.length < prefixBytes)
    throw new FileError(
      `${where}: not a safetensors file: ${bytes.length} bytes, at least ${prefixBytes} are needed`,
    );
  const length = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
  const available = bytes.length - prefixBytes;
  if (length > BigInt(available))
    throw new FileError(
      `${where}: the header should have ${length} bytes, the file has ${available} after its prefix`,
    );
  if (length > BigInt(maximumHeaderBytes))
    throw new FileError(
      `${where}: a header of ${length} bytes is longer than the ${maximumHeaderBytes} allowed`,
    );
  const end = prefixBytes + Number(length);
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(prefixBytes, end));
  } catch (cause) {
    throw new FileError(`${where}: the header is not UTF-8 text`, { cause });
  }
  const header = parseJson(`${where}: the header`, text);
  if (!isObject(header)) throw new FileError(`${where}: the header is not a JSON object`);
  return { header, data: bytes.subarray(end) };
}

function checkMetadata(metadata: unknown, where: string): Record<string, string> {
  if (metadata === undefined) return {};
  if (!isObject(metadata)) throw new FileError(`${where}: ${metadataKey} is not an object`);
  for (const [key, value] of Object.entries(metadata))
    if (typeof value !== "string")
      throw new FileError(`${where}: metadata ${brief(key)} must be text, got ${brief(value)}`);
  return metadata as Record<string, string>;
}

function checkEntry(name: string, entry: unknown, dataBytes: number, where: string): Entry {
  const place = `${where}: tensor ${brief(name)}`;
  if (!isObject(entry)) throw new FileError(`${place} is not described by an object: ${brief(entry)}`);
  const { dtype: code, shape, data_offsets: offsets } = entry;
  const dtype = typeof code === "string" ? dtypesByCode.get(code) : undefined;
  if (dtype === undefined)
    throw new FileError(
      `${place} has the dtype ${brief(code)}; known are ${[...dtypesByCode.keys()].join(", ")}`,
    );
  if (!isCounts(shape) || !Number.isSafeInteger(sizeOf(shape)))
    throw new FileError(
      `${place} has the shape ${brief(shape)}: whole numbers >= 0 with a product below 2^53 are needed`,
    );
  if (!isCounts(offsets) || offsets.length !== 2)
    throw new FileError(`${place} has the offsets ${brief(offsets)}: two whole numbers >= 0 are needed`);
  const [begin, end] = offsets as [number, number];
  if (begin > end || end > dataBytes)
    throw new FileError(
      `${place} lies at bytes ${begin} to ${end}, the file holds ${dataBytes} bytes of elements`,
    );
  const needed = sizeOf(shape) * byteSize(dtype);
  if (needed !== end - begin)
    throw new FileError(
      `${place}, ${dtype}${show(shape)}, needs ${needed} bytes; its offsets give ${end - begin}`,
    );
  return { name, dtype, shape, begin, end };
}

/** The tensors, in the order of the file, must follow each other from the first byte to the last. */
function checkCoverage(entries: readonly Entry[], dataBytes: number, where: string): void {
  let covered = 0;
  for (const entry of [...entries].sort((a, b) => a.begin - b.begin || a.end - b.end)) {
    if (entry.begin !== covered)
      throw new FileError(
        `${where}: tensor ${brief(entry.name)} starts at byte ${entry.begin}, ` +
          `${entry.begin < covered ? "inside of the tensor before it" : "after a gap"}: ${covered} is needed`,
      );
    covered = entry.end;
  }
  if (covered !== dataBytes)
    throw new FileError(`${where}: the tensors cover ${covered} of ${dataBytes} bytes of elements`);
}

function readTensor({ name, dtype, shape, begin, end }: Entry, data: Uint8Array, where: string): Tensor {
  const elements = allocate(dtype, sizeOf(shape));
  const bytes = data.subarray(begin, end);
  if (dtype === "bool" && bytes.some((byte) => byte > 1))
    throw new FileError(`${where}: tensor ${brief(name)} is bool but holds bytes other than 0 and 1`);
  new Uint8Array(elements.buffer).set(bytes);
  return Tensor.fromData(elements, shape, dtype);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((n) => Number.isSafeInteger(n) && n >= 0);
}

/** A value as text for a message, not longer than a line: it comes from a file that may be hostile. */
function brief(value: unknown): string {
  const text = JSON.stringify(value) ?? "nothing";
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
