import { appendFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { TapeTarget } from '../../../src/target/tape-target.ts';
import { describeTarget, patterned } from '../../contract/target.ts';
import type { TargetHarness } from '../../contract/target.ts';
import { TapeBench } from '../../support/tape-target.ts';
import type { TapeBenchOptions } from '../../support/tape-target.ts';

const P = 64 * 1024 - 128;

async function harness(options: TapeBenchOptions): Promise<TargetHarness> {
  const base = await mkdtemp(join(tmpdir(), 'spindle-tape-target-'));
  const bench = new TapeBench(base, options);
  return {
    target: bench.target(),
    reopen: () => bench.reopen(),
    cutPower: () => bench.cutPower(),
    failWrites: (kind) => {
      bench.refuses = kind;
    },
    mend: () => {
      bench.refuses = undefined;
    },
    dispose: async () => {
      const drive = await (await bench.library()).device().open('read');
      await drive.close();
      expect((await bench.catalog.read()).volumes.length).toBeLessThan(32);
      await rm(base, { recursive: true });
    },
  };
}

describeTarget('virtual-tape', () => harness({}));
describeTarget('virtual-tape (small cartridges)', () => harness({ cartridgeBytes: 1_300_000 }));
describeTarget('virtual-tape (short parts)', () => harness({ partBytes: 200_000 }));

describe('a tape target', () => {
  let base: string;
  let bench: TapeBench;
  const journal = () => join(base, 'catalog.jsonl');
  const bytes = patterned(900_000);

  beforeEach(async () => {
    base = await mkdtemp(join(tmpdir(), 'spindle-tape-target-'));
    bench = new TapeBench(base, { partBytes: 300_000 });
  });

  afterEach(async () => {
    await rm(base, { recursive: true });
  });

  const write = async (target: TapeTarget, name: string): Promise<void> => {
    const sink = await target.createBackup(name, { contentId: 'image-1' });
    await sink.write([bytes]);
    await sink.commit({ format: 1 });
  };
  const read = async (target: TapeTarget, name: string): Promise<Buffer> => {
    const backup = await target.open(name);
    const found = Buffer.alloc(backup.sizeBytes);
    await backup.read(0, found);
    await backup.close();
    return found;
  };
  const objects = async (): Promise<number[]> => (await bench.library()).objects('T001');

  it.each([1, 2, 3])('whose catalog lost its last %i lines writes no part again', async (lost) => {
    await write(bench.target(), 'b1');
    const before = await objects();
    const lines = (await readFile(journal(), 'utf8')).split('\n').filter((line) => line !== '');
    const parts = lines.filter((line) => line.includes('"kind":"part"'));
    expect(parts.length).toBeGreaterThan(2);
    await writeFile(journal(), `${lines.slice(0, lines.length - lost).join('\n')}\n`);
    const target = await bench.reopen();
    expect((await target.createBackup('b1', { contentId: 'image-1' })).offset).toBe(0);
    await write(await bench.reopen(), 'b1');
    expect(await objects()).toEqual(before);
    expect((await read(bench.target(), 'b1')).equals(bytes)).toBe(true);
    expect(await bench.target().readManifest('b1')).toEqual({ format: 1 });
  });

  it('knows what it did although the last line of its catalog was cut off', async () => {
    await write(bench.target(), 'b1');
    await appendFile(journal(), '{"kind":"removed","backupId":"0193');
    await write(await bench.reopen(), 'b2');
    const names: string[] = [];
    for await (const { name } of bench.target().list()) names.push(name);
    expect(names).toEqual(['b1', 'b2']);
  });

  it('writes to no cartridge that its catalog does not know', async () => {
    await write(bench.target(), 'b1');
    const before = await objects();
    await rm(journal());
    const target = await bench.reopen();
    const sink = await target.createBackup('b2');
    await sink.write([bytes]);
    await sink.commit({ format: 1 });
    expect(bench.needed.at(-1)?.code).toBe('MEDIUM_WRONG');
    expect(bench.needed.at(-1)?.reason).toContain('scan it first');
    expect(await objects()).toEqual(before);
  });

  it('does not complete a backup whose first bytes were given up while it waited', async () => {
    const first = await bench.target().createBackup('b1', { contentId: 'image-1' });
    await first.write([bytes.subarray(0, 600_000)]);
    await first.confirm();
    await first.abort(true);
    const again = { contentId: 'image-1', resumeFrom: 600_000 };
    const sink = await bench.target().createBackup('b1', again);
    const [volume] = (await bench.catalog.read()).volumes;
    await bench.catalog.add({ kind: 'gone', volumeId: volume?.label.volumeId ?? '' });
    await expect(sink.write([bytes.subarray(600_000)])).rejects.toMatchObject({
      code: 'TARGET_INVALID',
      details: { confirmedBytes: 0 },
    });
    await sink.abort(true);
    await write(bench.target(), 'b1');
    expect((await read(bench.target(), 'b1')).equals(bytes)).toBe(true);
  });

  it('refuses a file that is no catalog', async () => {
    await writeFile(journal(), 'my notes\n');
    await expect(bench.target().readManifest('b1')).rejects.toMatchObject({
      code: 'TARGET_INVALID',
    });
  });

  it('opens the drive once for a backup', async () => {
    await bench.prepareVolume(1);
    const before = bench.asked.get('open') ?? 0;
    await write(bench.target(), 'b1');
    expect(bench.asked.get('open')).toBe(before + 1);
  });

  it.each([0, 5])('reads a head with a bad spot in record %i once', async (record) => {
    const long = patterned(3_000_000);
    const sink = await new TapeBench(base).target().createBackup('b1');
    await sink.write([long]);
    await sink.commit({ format: 1 });
    await (await bench.library()).damage('T001', 3 + record);
    const backup = await bench.target().open('b1');
    const piece = Buffer.alloc(4096);
    const lost = { offset: record * P, length: P };
    const readAll = async (): Promise<void> => {
      for (let at = 0; at < 1_000_000; at += 50_000) {
        if (at + 4096 <= lost.offset || at >= lost.offset + lost.length) {
          await backup.read(at, piece);
          expect(piece.equals(long.subarray(at, at + 4096))).toBe(true);
        } else {
          await expect(backup.read(at, piece)).rejects.toMatchObject({
            code: 'DATA_UNREADABLE',
            details: {
              backup: 'b1',
              offset: at,
              length: 4096,
              lost: [{ offset: at, length: 4096 }],
            },
          });
        }
      }
    };
    await readAll();
    const before = bench.asked.get('read');
    await readAll();
    expect(bench.asked.get('read')).toBe(before);
    await backup.close();
  });

  it('reads two backups by turns with its one drive', async () => {
    await write(bench.target(), 'b1');
    await write(bench.target(), 'b2');
    const target = bench.target();
    const [one, two] = [await target.open('b1'), await target.open('b2')];
    const found = [Buffer.alloc(900_000), Buffer.alloc(900_000)] as const;
    for (let at = 0; at < 900_000; at += 90_000) {
      await Promise.all([
        one.read(at, found[0].subarray(at, at + 90_000)),
        two.read(at, found[1].subarray(at, at + 90_000)),
      ]);
    }
    await one.close();
    await two.close();
    for (const each of found) expect(each.equals(bytes)).toBe(true);
  });
});
