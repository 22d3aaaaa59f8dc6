/**
 * Group copies over HTTP while a writer numbers what it writes to three disks: each is one cut.
 */
import { expect, it } from 'vitest';
import { Served } from './served.ts';

const DISKS = ['x', 'y', 'z'];
const SECTOR = 512;
const WRITES = 300;
const GROUPS = 15;
const CAPACITY_BYTES = 64 * 65_536;

it('each group copy holds the first so many writes of a writer on three disks', async () => {
  const served = await Served.start();
  const files = [{ path: 'second.dat', sizeBytes: 64 * 1024 * 1024 }];
  await served.post('/pools', { name: 'second', files });
  for (const [index, name] of DISKS.entries()) {
    const pool = index === 1 ? 'second' : 'default';
    await served.post('/disks', { name, capacityBytes: CAPACITY_BYTES, pool });
  }
  let answered = 0;
  const write = async (): Promise<void> => {
    for (let number = 1; number <= WRITES; number += 1) {
      const disk = DISKS[(number * 7 + Math.floor(number / 5)) % 3]!;
      const bytes = Buffer.alloc(SECTOR);
      bytes.writeUInt32LE(number);
      const durability = number % 3 === 0 ? 'durable' : 'volatile';
      await served.put(
        `/disks/${disk}/data?offset=${number * SECTOR}&durability=${durability}`,
        bytes,
      );
      answered = number;
    }
  };
  const writing = write();
  const taken: { name: string; before: number; after: number }[] = [];
  for (let number = 0; number < GROUPS; number += 1) {
    const before = answered;
    const name = `g${number}`;
    await served.post('/groups', { name, disks: DISKS });
    taken.push({ name, before, after: answered });
    await new Promise((resolve) => setTimeout(resolve, 15));
  }
  await writing;
  for (const { name, before, after } of taken) {
    const views = DISKS.map((disk) => served.bytes(`/copies/${name}-${disk}/data?view=full`));
    const contents = await Promise.all(views);
    const seen: number[] = [];
    for (let number = 1; number <= WRITES; number += 1) {
      const found = contents.map((bytes) => bytes.readUInt32LE(number * SECTOR));
      if (found.includes(number)) seen.push(number);
    }
    // a number without one before it would be a torn cut
    expect(seen, name).toEqual(seen.map((_, index) => index + 1));
    expect(seen.length).toBeGreaterThanOrEqual(before);
    expect(seen.length).toBeLessThanOrEqual(after + 1);
  }
  expect(taken.some(({ before }) => before > 0 && before < WRITES)).toBe(true);
  expect(await served.get('/check')).toEqual({ ok: true, findings: [] });
});
