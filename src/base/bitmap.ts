/**
 * Bits in little-endian u32 words: bit i is bit i % 32 of word i / 32.
 */
export function testBit(words: Uint32Array, index: number): boolean {
  return ((words[index >>> 5] ?? 0) & (1 << (index & 31))) !== 0;
}

export function setBit(words: Uint32Array, index: number): void {
  const at = index >>> 5;
  words[at] = (words[at] ?? 0) | (1 << (index & 31));
}

export function clearBit(words: Uint32Array, index: number): void {
  const at = index >>> 5;
  words[at] = (words[at] ?? 0) & ~(1 << (index & 31));
}

/** First clear bit at or after `from` and before `end`, or -1. Cost: one step per full word. */
export function firstClearBit(words: Uint32Array, from: number, end: number): number {
  let index = from;
  while (index < end) {
    const word = words[index >>> 5] ?? 0;
    const free = ~word & (0xffffffff << (index & 31));
    if (free !== 0) {
      const found = (index & ~31) + (31 - Math.clz32(free & -free));
      return found < end ? found : -1;
    }
    index = (index & ~31) + 32;
  }
  return -1;
}

export function countBits(words: Uint32Array): number {
  let count = 0;
  for (const word of words) {
    let bits = word - ((word >>> 1) & 0x55555555);
    bits = (bits & 0x33333333) + ((bits >>> 2) & 0x33333333);
    count += Math.imul((bits + (bits >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
  }
  return count;
}
