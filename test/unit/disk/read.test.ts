import { describe, expect, it } from 'vitest';
import { MIB } from '../../../src/base/units.ts';
import { turns } from '../../support/jumpy.ts';
import { readAll, SIZE, smallEngine } from '../../support/small-engine.ts';

describe('a read', () => {
  it('of holes is zeros and does no I/O', async () => {
    const small = await smallEngine();
    const disk = await small.disk({ capacityBytes: 2 ** 53 - 512 });
    const before = small.files.steps;
    expect((await readAll(disk, 2 ** 52 + 17, 5 * MIB)).equals(Buffer.alloc(5 * MIB))).toBe(true);
    expect(small.files.steps).toBe(before);
  });

  it('takes physically consecutive blocks in one call, in steps of 4 MiB', async () => {
    const small = await smallEngine({ blocks: 400 });
    const disk = await small.disk({ capacityBytes: 400 * SIZE });
    for (let at = 0; at < 6; at += 1) await disk.write(at * MIB, Buffer.alloc(MIB, at + 1));
    const before = small.files.steps;
    const found = await readAll(disk, 100, 6 * MIB - 200);
    expect(small.files.steps - before).toBe(2);
    for (let at = 0; at < 6; at += 1) expect(found[at * MIB + 5000]).toBe(at + 1);
  });

  it('beyond the end, of a deleted or of a fenced disk is refused', async () => {
    const small = await smallEngine();
    const disk = await small.disk({ capacityBytes: 1024 });
    const beyond = { code: 'RANGE_NOT_SATISFIABLE' };
    await expect(disk.read(1000, Buffer.alloc(25))).rejects.toMatchObject(beyond);
    await expect(disk.read(-1, Buffer.alloc(1))).rejects.toMatchObject(beyond);
    await disk.read(1024, Buffer.alloc(0));
    await small.engine.disks.delete('d');
    await expect(disk.read(0, Buffer.alloc(1))).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  it('sees a block as it was around a discard, never what is written there next', async () => {
    const small = await smallEngine({ blocks: 1 });
    const disk = await small.disk();
    await disk.write(0, Buffer.alloc(SIZE, 1));
    small.files.hold('read');
    const bytes = Buffer.alloc(SIZE);
    const read = disk.read(0, bytes);
    await small.files.waiting();
    await disk.discard(0, SIZE);
    const write = disk.write(SIZE, Buffer.alloc(SIZE, 2));
    await turns(10);
    small.files.release();
    await Promise.all([read, write]);
    expect(new Set(bytes)).toEqual(new Set([1]));
  });

  it('goes on in blocks of a disk that is deleted meanwhile, or says that it is gone', async () => {
    const small = await smallEngine({ blocks: 300 });
    const disk = await small.disk({ capacityBytes: 300 * SIZE });
    await disk.write(0, Buffer.alloc(4 * MIB, 1));
    small.files.hold('read');
    const bytes = Buffer.alloc(4 * MIB);
    const read = disk.read(0, bytes);
    const longer = disk.read(0, Buffer.alloc(4 * MIB + 1));
    const gone = expect(longer).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await small.files.waiting(2);
    await small.engine.disks.delete('d');
    small.files.release();
    await Promise.all([read, gone]);
    expect(new Set(bytes)).toEqual(new Set([1]));
    await small.rest();
  });
});
