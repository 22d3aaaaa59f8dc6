/**
 * What is written: every 16 bytes name the write they came from, their sector and their place in
 * it, so that any stale or foreign piece tells where it belongs.
 *
 *     u32 write number (never 0) · u32 sector, low · u32 sector, high | cell · u32 mixed check
 */
export const SECTOR = 512;
const CELL_WORDS = 4;
const SECTOR_WORDS = SECTOR / 4;
const CELLS = SECTOR_WORDS / CELL_WORDS;
const HIGH_SHIFT = 5;

function mix(write: number, low: number, high: number): number {
  let value = Math.imul(write ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(low, 0xc2b2ae35);
  value ^= Math.imul(high + 1, 0x27d4eb2f);
  return (value ^ (value >>> 15)) >>> 0;
}

/** The bytes [from, to) of what a write puts there. Positions below 2^53. */
export function patternBytes(write: number, from: number, to: number): Buffer {
  const first = Math.floor(from / SECTOR);
  const count = Math.ceil(to / SECTOR) - first;
  const words = new Uint32Array(count * SECTOR_WORDS);
  for (let index = 0, at = 0; index < count; index += 1) {
    const sector = first + index;
    const low = sector >>> 0;
    const high = Math.floor(sector / 2 ** 32) << HIGH_SHIFT;
    for (let cell = 0; cell < CELLS; cell += 1) {
      words[at] = write;
      words[at + 1] = low;
      words[at + 2] = high | cell;
      words[at + 3] = mix(write, low, high | cell);
      at += CELL_WORDS;
    }
  }
  const start = from - first * SECTOR;
  return Buffer.from(words.buffer, start, to - from);
}

/** Where a piece comes from, if it is one of ours. */
export function readPattern(
  bytes: Uint8Array,
  position: number,
): { readonly write: number; readonly sector: number } | 'zeros' | undefined {
  const start = (16 - (position % 16)) % 16;
  if (bytes.length < start + 16) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset + start, 16);
  const write = view.getUint32(0, true);
  const low = view.getUint32(4, true);
  const rest = view.getUint32(8, true);
  if (write === 0 && low === 0 && rest === 0) return 'zeros';
  if (view.getUint32(12, true) !== mix(write, low, rest)) return undefined;
  return { write, sector: (rest >>> HIGH_SHIFT) * 2 ** 32 + low };
}
