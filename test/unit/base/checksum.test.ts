/** CRCs of pieces, joined: the same as over all bytes. */
import { describe, expect, it } from 'vitest';
import { BlockCrcs, crc32, crc32Join } from '../../../src/base/checksum.ts';

function bytes(length: number, seed: number): Buffer {
  const made = Buffer.alloc(length);
  for (let at = 0; at < length; at += 1) made[at] = (at * 167 + seed * 13 + (at >>> 8)) & 0xff;
  return made;
}

describe('joined CRCs', () => {
  it.each([0, 1, 7, 128, 4096, 65_408, 65_536, 262_016, 1_000_003])(
    'with a second piece of %i bytes are those of the whole',
    (length) => {
      const join = crc32Join(length);
      for (const seed of [1, 2, 3]) {
        const first = bytes(seed * 331, seed);
        const second = bytes(length, seed + 9);
        expect(join(crc32(first), crc32(second))).toBe(crc32(Buffer.concat([first, second])));
      }
      expect(join(0, crc32(bytes(length, 4)))).toBe(crc32(bytes(length, 4)));
    },
  );
});

describe('CRCs of a stretch of blocks', () => {
  it('are those of its bytes, wherever it begins and ends', () => {
    const size = 512;
    const all = bytes(6 * size, 5);
    const crcs = Uint32Array.from({ length: 6 }, (_, at) =>
      crc32(all.subarray(at * size, (at + 1) * size)),
    );
    const blocks = new BlockCrcs(all, crcs);
    const edges = [0, 1, 511, 512, 513, 1024, 2000, 3071, 3072];
    for (const from of edges) {
      for (const to of edges.filter((edge) => edge >= from)) {
        expect(blocks.continued(77, from, to)).toBe(crc32(all.subarray(from, to), 77));
      }
    }
  });
});
