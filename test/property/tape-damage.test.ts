/**
 * Any bits of any records flipped: every one is found, and costs the records it is in and no more,
 * whether they are read by the catalog or by a scan.
 */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { assembleBackups } from '../../src/tape/assemble.ts';
import type { ByteRange } from '../../src/tape/assemble.ts';
import type { PartEntry } from '../../src/tape/parts.ts';
import { FILEMARK } from '../../src/tape/tap-file.ts';
import { patterned, TapeWorld } from '../support/tape-world.ts';

const R = 64 * 1024;
const P = R - 128;
const length = 28 * P + 77;
const bytes = patterned(length);

interface Flip {
  readonly volume: number;
  /** Chooses one of the records behind the label. */
  readonly record: number;
  readonly bit: number;
}

const flips: fc.Arbitrary<Flip[]> = fc.array(
  fc.record({
    volume: fc.nat({ max: 2 }),
    record: fc.nat({ max: 100 }),
    bit: fc.oneof(fc.nat({ max: 128 * 8 - 1 }), fc.nat({ max: R * 8 - 1 })),
  }),
  { minLength: 1, maxLength: 6 },
);

/** Flips a bit in place. @returns the object that it is in */
async function flip(world: TapeWorld, { volume, record, bit }: Flip): Promise<number> {
  const { cartridge } = world.volumes[volume]!;
  const objects = await world.library.objects(cartridge);
  const records = objects.flatMap((size, object) =>
    size !== FILEMARK && object > 1 ? [object] : [],
  );
  const chosen = records[record % records.length]!;
  let at = 4;
  for (const size of objects.slice(0, chosen)) at += size === FILEMARK ? 4 : 8 + size;
  at += Math.floor(bit / 8);
  const file = await open(join(world.library.directory, `${cartridge}.tap`), 'r+');
  try {
    const byte = Buffer.alloc(1);
    await file.read(byte, 0, 1, at);
    byte[0]! ^= 1 << (bit % 8);
    await file.write(byte, 0, 1, at);
  } finally {
    await file.close();
  }
  return chosen;
}

/** What the catalog says that these records hold. */
function held(parts: readonly PartEntry[], bad: ReadonlySet<string>): boolean[] {
  const isLost = Array.from({ length: Math.ceil(length / P) }, () => false);
  for (const part of parts) {
    for (let index = 0; index < part.dataRecords; index += 1) {
      const object = part.place.object + 1 + index;
      if (bad.has(`${part.volumeId} ${object}`)) isLost[part.firstOffset / P + index] = true;
    }
  }
  return isLost;
}

async function readAround(world: TapeWorld, parts: readonly PartEntry[]): Promise<boolean[]> {
  const reader = world.readerOf(parts, length);
  const into = Buffer.alloc(length, 0xee);
  const lost: ByteRange[] = await reader.readAvailable(0, into);
  await reader.close();
  const expected = Buffer.from(bytes);
  const isLost = Array.from({ length: Math.ceil(length / P) }, () => false);
  for (const range of lost) {
    expected.fill(0, range.offset, range.offset + range.length);
    expect(range.offset % P).toBe(0);
    for (let at = range.offset; at < range.offset + range.length; at += P) isLost[at / P] = true;
  }
  expect(into.equals(expected)).toBe(true);
  return isLost;
}

describe('flipped bits on tape', () => {
  it('are all found, and cost the records they are in', async () => {
    const world = await TapeWorld.make();
    // Parts end with full records, so that every record begins at a multiple of P.
    await world.write(world.backup('monday'), bytes, 4 * P);
    expect(world.volumes.length).toBeGreaterThan(2);
    await fc.assert(
      fc.asyncProperty(flips, async (list) => {
        // Flipped twice is not flipped: of equal ones only one.
        const distinct = [...new Map(list.map((each) => [JSON.stringify(each), each])).values()];
        const done: [Flip, string][] = [];
        const counts = new Map<string, number>();
        for (const each of distinct) {
          const object = await flip(world, each);
          const where = `${world.volumes[each.volume]!.label.volumeId} ${object}`;
          const which = `${where} ${each.bit}`;
          counts.set(which, (counts.get(which) ?? 0) + 1);
          done.push([each, where]);
        }
        const isOdd = ([{ bit }, where]: [Flip, string]) =>
          counts.get(`${where} ${bit}`)! % 2 === 1;
        const bad = new Set(done.filter(isOdd).map(([, where]) => where));
        const expected = held(world.parts, bad);
        expect(await readAround(world, world.parts)).toEqual(expected);
        const [found] = assembleBackups(await world.scanAll());
        expect(await readAround(world, found!.parts)).toEqual(expected);
        for (const [each] of done) await flip(world, each);
      }),
      { numRuns: 25, endOnFailure: true },
    );
  }, 120_000);
});
