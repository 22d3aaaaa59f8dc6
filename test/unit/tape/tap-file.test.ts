/**
 * Cartridges as SIMH .tap files: the bytes, and files that were cut or are of others.
 */
import { appendFile, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { FILEMARK, NotTapFile, TapFile } from '../../../src/tape/tap-file.ts';
import { temporaryDirectory } from '../../support/temporary.ts';
import { WickedFiles } from '../../support/wicked-files.ts';

async function blank(bytes: Uint8Array = Buffer.alloc(0)): Promise<string> {
  const path = join(await temporaryDirectory(), 'T1.tap');
  await writeFile(path, bytes);
  return path;
}

async function objectsOf(path: string): Promise<number[]> {
  const file = new TapFile(path);
  await file.use();
  const objects = Array.from({ length: file.count }, (_, at) => file.lengthAt(at) ?? NaN);
  await file.release();
  return objects;
}

/** A record of 3 bytes, one of 2, a filemark. */
const small = Buffer.from('03000000616263000300000002000000646502000000' + '00000000', 'hex');

describe('a .tap file', () => {
  it('holds each record between its lengths, padded to even, and filemarks as zero', async () => {
    const path = await blank();
    const file = new TapFile(path);
    await file.use();
    await file.appendRecord(Buffer.from('abc'));
    await file.appendRecord(Buffer.from('de'));
    await file.appendFilemark();
    expect(file.recordBytes).toBe(5);
    await file.release();
    expect((await readFile(path)).toString('hex')).toBe(small.toString('hex'));
    expect(await objectsOf(path)).toEqual([3, 2, FILEMARK]);
  });

  it('is read as another program wrote it', async () => {
    const file = new TapFile(await blank(small));
    await file.use();
    const into = Buffer.alloc(3);
    await file.read(0, into);
    expect(into.toString()).toBe('abc');
    await file.read(1, into.subarray(0, 2));
    expect(into.toString()).toBe('dec');
    await file.release();
  });

  it.each(Array.from({ length: small.length }, (_, at) => at))(
    'cut off at byte %i it holds the whole objects before, and takes more behind them',
    async (end) => {
      const path = await blank(small.subarray(0, end));
      const whole = [12, 22, 26].filter((edge) => edge <= end).length;
      expect(await objectsOf(path)).toEqual([3, 2, FILEMARK].slice(0, whole));
      const file = new TapFile(path);
      await file.use();
      await file.appendRecord(Buffer.from('xyz!'));
      await file.release();
      expect(await objectsOf(path)).toEqual([...[3, 2, FILEMARK].slice(0, whole), 4]);
    },
  );

  it('ends at a mark of the end of the medium, and passes over gaps', async () => {
    const gap = Buffer.from('feffffff', 'hex');
    const end = Buffer.from('ffffffff', 'hex');
    expect(await objectsOf(await blank(Buffer.concat([gap, small, end, small])))).toEqual([
      3,
      2,
      FILEMARK,
    ]);
  });

  it('a damaged record is marked in the file, for everybody', async () => {
    const path = await blank(small);
    const file = new TapFile(path);
    await file.use();
    await file.damage(0);
    await file.release();
    expect((await readFile(path)).toString('hex', 0, 4)).toBe('03000080');
    const again = new TapFile(path);
    await again.use();
    expect([again.isBad(0), again.isBad(1), again.lengthAt(0)]).toEqual([true, false, 3]);
    await again.truncate(0);
    expect(again.isBad(0)).toBe(false);
    await again.release();
  });

  it('a file that is none is refused and left as it is', async () => {
    const text = Buffer.from('this is not a tape, by any means, and it is long enough');
    const path = await blank(text);
    await expect(new TapFile(path).use()).rejects.toThrow(NotTapFile);
    expect((await readFile(path)).equals(text)).toBe(true);
  });

  it('a file that was torn while it was written ends before the hole', async () => {
    const record = Buffer.alloc(4096, 7);
    const mark = Buffer.alloc(4);
    mark.writeUInt32LE(record.length);
    const whole = Buffer.concat([mark, record, mark]);
    const hole = Buffer.alloc(8192);
    const torn = [
      Buffer.concat([small, whole, hole, whole]),
      Buffer.concat([small, whole.subarray(0, 2000), hole, whole]),
      Buffer.concat([small, mark, hole, whole]),
      Buffer.concat([small, whole, hole]),
    ];
    const before = await objectsOf(await blank(small));
    for (const bytes of torn) {
      const path = await blank(bytes);
      const found = await objectsOf(path);
      expect(found.slice(0, before.length)).toEqual(before);
      expect(found.length).toBeLessThanOrEqual(before.length + 2);
      const file = new TapFile(path);
      await file.use();
      await file.appendRecord(Buffer.from('next'));
      await file.release();
      expect(await objectsOf(path)).toEqual([...found, 4]);
    }
  });

  it('a file with a hole in its middle is refused: what follows is not to be lost', async () => {
    const far = Buffer.alloc(9 * 1024 * 1024, 1);
    const path = await blank(Buffer.concat([small, Buffer.alloc(4096), far]));
    await expect(new TapFile(path).use()).rejects.toThrow(NotTapFile);
  });

  it('what somebody else does to the file while it is released is seen', async () => {
    const path = await blank(small);
    const file = new TapFile(path);
    await file.use();
    await file.release();
    await appendFile(path, small);
    await file.use();
    expect(file.count).toBe(6);
    await file.release();
    await truncate(path, 12);
    await file.use();
    expect([file.count, file.recordBytes]).toEqual([1, 3]);
    await file.release();
  });

  it('truncate counts the bytes that are left', async () => {
    const file = new TapFile(await blank(small));
    await file.use();
    await file.truncate(1);
    expect([file.count, file.recordBytes]).toEqual([1, 3]);
    await file.appendFilemark();
    expect([file.lengthAt(0), file.lengthAt(1), file.lengthAt(2)]).toEqual([
      3,
      FILEMARK,
      undefined,
    ]);
    await file.release();
  });
});

describe('many records without a sync', () => {
  const MIB = 1024 * 1024;
  const record = (at: number): Buffer => Buffer.alloc(512 * 1024 + (at % 3), at + 1);

  /** 16 records, 8 MiB: more than goes into the file at once. */
  async function streamed(): Promise<{ readonly path: string; readonly file: TapFile }> {
    const path = await blank();
    const file = new TapFile(path);
    await file.use();
    for (let at = 0; at < 16; at += 1) await file.appendRecord(record(at));
    return { path, file };
  }

  async function expectRecords(path: string, count: number, end: number[] = []): Promise<void> {
    const lengths = Array.from({ length: count }, (_, at) => record(at).length);
    expect(await objectsOf(path)).toEqual([...lengths, ...end]);
    const file = new TapFile(path);
    await file.use();
    for (let at = 0; at < count; at += 1) {
      const into = Buffer.alloc(record(at).length);
      await file.read(at, into);
      expect(into.equals(record(at))).toBe(true);
    }
    await file.release();
  }

  it('are all in the file after a filemark and a sync, and more follows them', async () => {
    const { path, file } = await streamed();
    await file.appendFilemark();
    await file.sync();
    await expectRecords(path, 16, [FILEMARK]);
    await file.appendRecord(Buffer.from('more'));
    expect(await objectsOf(path)).toHaveLength(18);
    await file.release();
  });

  it('are read while they are added', async () => {
    const { path, file } = await streamed();
    const into = Buffer.alloc(record(15).length);
    await file.read(15, into);
    expect(into.equals(record(15))).toBe(true);
    for (let at = 16; at < 30; at += 1) await file.appendRecord(record(at));
    await file.release();
    await expectRecords(path, 30);
  });

  it('are cut off in their midst', async () => {
    const { path, file } = await streamed();
    await file.truncate(13);
    await file.appendFilemark();
    await file.release();
    await expectRecords(path, 13, [FILEMARK]);
  });

  it('at any moment the file holds the first of them, without holes', async () => {
    const { path, file } = await streamed();
    for (let at = 16; at < 40; at += 1) {
      await file.appendRecord(record(at));
      const now = await readFile(path);
      const copy = await blank(now);
      const count = (await objectsOf(copy)).length;
      expect(now.length).toBeGreaterThanOrEqual(at * 512 * 1024 - 4 * MIB);
      await expectRecords(copy, count);
    }
    await file.release();
  });

  it('of which some could not be written: told, and nothing follows the hole', async () => {
    const path = await blank();
    const files = new WickedFiles();
    const file = new TapFile(path, files);
    await file.use();
    for (let at = 0; at < 10; at += 1) await file.appendRecord(record(at));
    files.fail('write', 'ENOSPC', 1);
    const more = async (): Promise<void> => {
      for (let at = 10; at < 40; at += 1) await file.appendRecord(record(at));
      await file.sync();
    };
    await expect(more()).rejects.toThrow('ENOSPC');
    files.mend();
    await expect(file.sync()).rejects.toThrow('ENOSPC');
    await expect(file.appendFilemark()).rejects.toThrow('ENOSPC');
    await expect(file.read(0, Buffer.alloc(1))).rejects.toThrow('ENOSPC');
    await file.release();
    await file.use();
    const { count } = file;
    expect(count).toBeGreaterThanOrEqual(10);
    expect(count).toBeLessThan(20);
    await file.appendFilemark();
    await file.sync();
    await file.release();
    await expectRecords(path, count, [FILEMARK]);
  });

  it('without O_DIRECT go through the page cache', async () => {
    const path = await blank();
    const files = new WickedFiles();
    files.refuseDirect = 'at-write';
    const file = new TapFile(path, files);
    await file.use();
    for (let at = 0; at < 20; at += 1) await file.appendRecord(record(at));
    await file.release();
    expect(files.openCount).toBe(0);
    await expectRecords(path, 20);
  });
});
