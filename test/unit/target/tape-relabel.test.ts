/**
 * Which cartridges may be labelled anew: never one that somebody counts on, whatever the catalog
 * and the labels say.
 */
import { copyFile, rm, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import type { Clock } from '../../../src/base/clock.ts';
import { systemClock, uuidv7 } from '../../../src/base/clock.ts';
import { StorageError } from '../../../src/base/errors.ts';
import { alignedBuffer } from '../../../src/base/aligned-memory.ts';
import { encodeLabel } from '../../../src/tape/label.ts';
import type { VolumeLabel } from '../../../src/tape/label.ts';
import { labelVolume } from '../../../src/tape/label-volume.ts';
import { TapeMedia } from '../../../src/target/tape-media.ts';
import { patterned } from '../../contract/target.ts';
import { TapeBench } from '../../support/tape-target.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

const DAY_MS = 86_400_000;

let bench: TapeBench;
let nowMs: number;

beforeEach(async () => {
  bench = new TapeBench(await temporaryDirectory(), { cartridgeBytes: 2_000_000 });
  nowMs = Date.now();
});

function media(): TapeMedia {
  const { catalog, tapes: path } = bench;
  const clock: Clock = {
    nowMs: () => nowMs,
    monotonicNs: () => systemClock.monotonicNs(),
    random: (bytes) => systemClock.random(bytes),
  };
  return new TapeMedia({ kind: 'virtual-tape', path, set: 'nightly', catalog, clock });
}

/** A cartridge in the drive. */
async function load(cartridge: string): Promise<void> {
  const library = await bench.library();
  const isThere = library.cartridges().some(({ name }) => name === cartridge);
  if (!isThere) await library.addCartridge(cartridge, 2_000_000);
  await library.load(cartridge);
}

async function label(cartridge: string, expiresAtMs?: number): Promise<void> {
  await load(cartridge);
  await media().label({
    recordBytes: 65536,
    ...(expiresAtMs === undefined ? {} : { expiresAtMs }),
  });
}

async function write(name: string, bytes = 300_000): Promise<void> {
  const sink = await bench.target().createBackup(name, { contentId: name });
  await sink.write([patterned(bytes)]);
  await sink.commit({ name });
}

async function objects(cartridge: string): Promise<number[]> {
  return (await bench.library()).objects(cartridge);
}

/** What labelling says, and that it has changed nothing. */
async function refusal(cartridge: string, request = {}): Promise<Record<string, unknown>> {
  await load(cartridge);
  const before = await objects(cartridge);
  let found: unknown;
  await media()
    .label(request)
    .catch((error: unknown) => {
      found = error;
    });
  expect(await objects(cartridge)).toEqual(before);
  if (!(found instanceof StorageError)) throw new Error(`labelled: ${String(found)}`);
  const { code, message, details } = found;
  return { code, message, next: details['next'] };
}

async function facts() {
  return (await media().list()).map(({ cartridge, canBeLabelled, keptBecause, backups }) => {
    return { cartridge, canBeLabelled, keptBecause, backups };
  });
}

describe('a cartridge', () => {
  it('is kept while a backup has bytes on it, and then until it expires', async () => {
    await label('T1', nowMs + DAY_MS);
    await write('b1');
    await write('b2');
    const unexpired = {
      code: 'MEDIUM_UNEXPIRED',
      message: expect.stringContaining('it expires at'),
      next: 'load another one, delete its backups, or give force: "nightly-1"',
    };
    expect(await refusal('T1')).toMatchObject(unexpired);
    expect(await facts()).toEqual([
      {
        cartridge: 'T1',
        canBeLabelled: false,
        keptBecause: 'needed by b1, b2',
        backups: ['b1', 'b2'],
      },
    ]);
    nowMs += 2 * DAY_MS;
    await bench.target().remove('b1');
    expect(await refusal('T1')).toMatchObject({
      ...unexpired,
      message: expect.stringContaining('backups that the catalog has are on it'),
    });
    expect(await facts()).toMatchObject([{ canBeLabelled: false, keptBecause: 'needed by b2' }]);
    await bench.target().remove('b2');
    expect(await facts()).toMatchObject([{ canBeLabelled: true, keptBecause: null, backups: [] }]);
    nowMs -= 2 * DAY_MS;
    expect(await refusal('T1')).toMatchObject({ code: 'MEDIUM_UNEXPIRED' });
    expect((await facts())[0]!.keptBecause).toMatch(/^expires at 2/);
    nowMs += 2 * DAY_MS;
    await label('T1');
    expect(await facts()).toMatchObject([{ canBeLabelled: true, keptBecause: null, backups: [] }]);
  });

  it('that never expires by itself is free when no backup needs it any more', async () => {
    await label('T1');
    await write('b1');
    expect(await refusal('T1')).toMatchObject({ code: 'MEDIUM_UNEXPIRED' });
    await bench.target().remove('b1');
    expect(await facts()).toMatchObject([{ canBeLabelled: true, keptBecause: null }]);
    await label('T1');
    expect(await objects('T1')).toHaveLength(2);
  });

  it('with a part of a long backup is kept with all the others', async () => {
    for (const name of ['T1', 'T2', 'T3']) await label(name);
    await load('T1');
    const backup = bench.target().createBackup('long', { contentId: 'long' });
    bench.fetches = async ({ volumeNumber }) => load(`T${volumeNumber}`);
    const sink = await backup;
    await sink.write([patterned(4_000_000)]);
    await sink.commit({});
    expect(await facts()).toMatchObject(Array(3).fill({ keptBecause: 'needed by long' }));
    for (const name of ['T1', 'T2', 'T3']) {
      expect(await refusal(name)).toMatchObject({ code: 'MEDIUM_UNEXPIRED' });
    }
    await bench.target().remove('long');
    expect(await facts()).toMatchObject(Array(3).fill({ canBeLabelled: true }));
  });

  it('is not labelled to expire in the past', async () => {
    await load('T1');
    for (const expiresAtMs of [nowMs, nowMs - DAY_MS]) {
      expect(await refusal('T1', { expiresAtMs })).toMatchObject({ code: 'VALIDATION_FAILED' });
    }
    expect(await objects('T1')).toEqual([]);
  });
});

describe('a cartridge that the catalog does not know well', () => {
  const journal = () => bench.catalog.path;

  it('is scanned before it is labelled anew, though it has expired', async () => {
    await label('T1', nowMs + DAY_MS);
    await write('b1');
    await rm(journal());
    nowMs += 2 * DAY_MS;
    expect(await refusal('T1')).toMatchObject({
      code: 'MEDIUM_MISMATCH',
      message: 'cartridge nightly-1 is of this set, and not in the catalog',
      next: 'scan it first, load another one, or give force: "nightly-1"',
    });
    await media().scan();
    expect(await refusal('T1')).toMatchObject({ code: 'MEDIUM_UNEXPIRED' });
    await bench.target().remove('b1');
    await label('T1');
  });

  it('of another set, known to nobody, is free when it has expired', async () => {
    await load('T1');
    const other: VolumeLabel = {
      volumeId: uuidv7(systemClock),
      label: 'weekly-1',
      set: 'weekly',
      setId: uuidv7(systemClock),
      number: 1,
      previousVolumeId: null,
      recordBytes: 65536,
      labelledAtMs: nowMs,
      expiresAtMs: nowMs + DAY_MS,
    };
    await labelVolume(await bench.device(), { label: other, nowMs });
    expect(await refusal('T1')).toMatchObject({ code: 'MEDIUM_UNEXPIRED' });
    nowMs += 2 * DAY_MS;
    await label('T1');
  });

  it('holds more than an older catalog knows: nothing of it is given up', async () => {
    await label('T1');
    await write('b1');
    await bench.target().remove('b1');
    const older = join(bench.directory, 'older.jsonl');
    await copyFile(journal(), older);
    await write('b2');
    const after = await objects('T1');
    await copyFile(older, journal());
    expect(await refusal('T1')).toMatchObject({
      code: 'MEDIUM_MISMATCH',
      message: 'cartridge nightly-1 holds bytes that the catalog has not: of b2',
    });
    await media().scan();
    expect(await facts()).toMatchObject([{ keptBecause: 'needed by b2' }]);
    expect(await objects('T1')).toEqual(after);
    await bench.target().remove('b2');
    await copyFile(older, journal());
    await load('T1');
    await media().label({ force: 'nightly-1' });
  });

  it('holds less than the catalog knows: nothing is written', async () => {
    await label('T1');
    await write('b1');
    const file = join(bench.tapes, 'T1.tap');
    const short = (await objects('T1')).length - 3;
    await truncate(file, 65536 + 12 + 2 * (65536 + 8));
    expect((await objects('T1')).length).toBeLessThan(short);
    const before = await objects('T1');
    await expect(write('b2')).rejects.toMatchObject({ code: 'MEDIUM_MISMATCH' });
    expect(await objects('T1')).toEqual(before);
    await bench.target().remove('b1');
    expect(await refusal('T1')).toMatchObject({ code: 'MEDIUM_MISMATCH' });
  });
});

it('two cartridges of one number are both read, and told apart', async () => {
  await label('T1');
  await write('b1');
  const [first] = (await bench.catalog.read()).volumes;
  await load('T2');
  const twin = { ...first!.label, volumeId: uuidv7(systemClock), labelledAtMs: nowMs + 1 };
  await labelVolume(await bench.device(), { label: twin, nowMs });
  await media().scan();
  await write('b2');
  const list = await media().list();
  expect(list.map(({ problem }) => problem)).toEqual([
    `set nightly has another cartridge of number 1: ${twin.volumeId}`,
    `set nightly has another cartridge of number 1: ${first!.label.volumeId}`,
  ]);
  expect(list.map(({ backups }) => backups)).toEqual([['b1'], ['b2']]);
  await expect(media().get('nightly-1')).rejects.toMatchObject({ code: 'VALIDATION_FAILED' });
  for (const [ref, name] of [
    [twin.volumeId, 'T2'],
    [first!.label.volumeId, 'T1'],
  ] as const) {
    expect((await media().get(ref)).cartridge).toBe(name);
  }
  // b1 is on the other one: it is asked for by its id, and read.
  bench.fetches = async ({ reason }) => {
    expect(reason).toContain(`needed is id ${first!.label.volumeId}`);
    await load('T1');
  };
  const backup = await bench.target().open('b1');
  const found = Buffer.alloc(backup.sizeBytes);
  await backup.read(0, found);
  await backup.close();
  expect(found.equals(patterned(300_000))).toBe(true);
  await label('T3');
  expect((await media().get('T3')).label).toBe('nightly-2');
});

it('a label of a version that never was is no label, and is not overwritten', async () => {
  await label('T1');
  const [volume] = (await bench.catalog.read()).volumes;
  const record = alignedBuffer(65536);
  encodeLabel(volume!.label).copy(record);
  record.writeUInt32LE(0, 8);
  const drive = await (await bench.device()).open('write');
  await drive.rewind();
  await drive.write(record);
  await drive.close();
  expect(await refusal('T1')).toMatchObject({ code: 'MEDIUM_FOREIGN' });
});
