/**
 * A page of numbers in an image: up to 510 u64, sealed with the image's tag, the page's own number
 * and a checksum. The correspondence table and the zero ranges are rows of such pages.
 *
 * Invariant: a right page in a wrong place fails, and so does one of another kind.
 *
 * Bytes: docs/format/image.md, "Correspondence table" and "Zero ranges".
 */
import { asBuffer, isZero, readU64, writeU64 } from '../base/bytes.ts';
import { saltedCrc32 } from '../base/checksum.ts';
import { Fault } from './damage.ts';
import { TABLE_PAGE_ENTRIES, UNIT_BYTES } from './format.ts';
import type { ImageFrame } from './format.ts';

const TAG_AT = TABLE_PAGE_ENTRIES * 8;
const TAG_BYTES = 8;
const PAGE_AT = TAG_AT + TAG_BYTES;
const CRC_AT = PAGE_AT + 4;

export interface PageKind {
  /** What it is a page of, for a person. */
  readonly name: string;
  readonly salt: string;
}

/** Writes a page into `into` (4096 bytes) from its numbers. */
export function encodeNumberPage(
  frame: ImageFrame,
  { salt }: PageKind,
  page: number,
  numbers: Float64Array,
  into: Uint8Array,
): void {
  const bytes = asBuffer(into);
  numbers.forEach((value, index) => {
    writeU64(bytes, value, index * 8);
  });
  bytes.fill(0, numbers.length * 8, TAG_AT);
  frame.imageIdBytes.copy(bytes, TAG_AT, 0, TAG_BYTES);
  bytes.writeUInt32LE(page, PAGE_AT);
  bytes.writeUInt32LE(saltedCrc32(salt, bytes.subarray(0, CRC_AT)), CRC_AT);
}

/**
 * The numbers on a page, or why it must not be used.
 *
 * @param count how many it must have
 * @param problemOf what is wrong with the numbers
 */
export function decodeNumberPage(
  frame: ImageFrame,
  { name, salt }: PageKind,
  page: number,
  from: Uint8Array,
  count: number,
  problemOf: (numbers: Float64Array) => string | undefined,
): Float64Array | Fault {
  const bytes = asBuffer(from).subarray(0, UNIT_BYTES);
  if (bytes.readUInt32LE(CRC_AT) !== saltedCrc32(salt, bytes.subarray(0, CRC_AT))) {
    return new Fault('IMAGE_DAMAGED', `page ${page} of the ${name} is damaged`);
  }
  const invalid = (why: string): Fault =>
    new Fault('IMAGE_INVALID', `page ${page} of the ${name} ${why}`);
  const tag = frame.imageIdBytes.subarray(0, TAG_BYTES);
  if (bytes.readUInt32LE(PAGE_AT) !== page) return invalid('is another page');
  if (!bytes.subarray(TAG_AT, PAGE_AT).equals(tag)) return invalid('is of another image');
  if (!isZero(bytes.subarray(count * 8, TAG_AT))) return invalid('goes on behind its last entry');
  const numbers = new Float64Array(count);
  for (let index = 0; index < count; index += 1) {
    numbers[index] = readU64(bytes, index * 8) ?? Infinity;
  }
  const problem = problemOf(numbers);
  return problem === undefined ? numbers : invalid(`makes no sense: ${problem}`);
}
