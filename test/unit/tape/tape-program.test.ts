/**
 * The stand-alone program for cartridges: what it gives is compared with what was written.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { temporaryDirectory } from '../../support/temporary.ts';
import { patterned, TapeWorld } from '../../support/tape-world.ts';
import type { KnownVolume } from '../../support/tape-world.ts';

const R = 64 * 1024;
const P = R - 128;
const program = join(import.meta.dirname, '..', '..', '..', 'tools', 'spindle-tape.py');

function run(folder: string, ...args: string[]) {
  const options = { cwd: folder, encoding: 'utf8' } as const;
  const { status, stdout, stderr } = spawnSync('python3', [program, ...args], options);
  const lost = [...stdout.matchAll(/^lost: offset (\d+), (\d+) bytes?$/gm)];
  return {
    status,
    out: stdout,
    err: stderr,
    lost: lost.map((found) => [Number(found[1]), Number(found[2])]),
  };
}

const tapPath = (world: TapeWorld, { cartridge }: KnownVolume) =>
  join(world.library.directory, `${cartridge}.tap`);

/** The tape files of a .tap file as dd gives them: the bytes of their records. */
function dumps(tap: Buffer): Buffer[] {
  const files: Buffer[][] = [[]];
  for (let at = 0; at < tap.length;) {
    const length = tap.readUInt32LE(at);
    if (length === 0) files.push([]);
    else files.at(-1)!.push(tap.subarray(at + 4, at + 4 + length));
    at += length === 0 ? 4 : 8 + length + (length % 2);
  }
  return files.map((records) => Buffer.concat(records));
}

/** A backup over three cartridges, and the files of those. */
async function threeCartridges() {
  const world = await TapeWorld.make();
  const bytes = patterned(30 * P + 77);
  await world.write(world.backup('monday'), bytes, 4 * P);
  const taps = world.volumes.map((volume) => tapPath(world, volume));
  const ids = world.volumes.map(({ label }) => label.volumeId);
  /** Of the second data record on the second cartridge. */
  const lostAt = world.parts.find(({ volumeId }) => volumeId === ids[1])!.firstOffset + P;
  return { world, bytes, taps, lostAt, folder: await temporaryDirectory() };
}

function flip(path: string, at: number): void {
  const bytes = readFileSync(path);
  bytes[at]! ^= 0x40;
  writeFileSync(path, bytes);
}

/** Where the record that is object `object` of a .tap file begins. */
function objectAt(path: string, object: number): number {
  const tap = readFileSync(path);
  let at = 0;
  for (let count = 0; count < object; count += 1) {
    const length = tap.readUInt32LE(at);
    at += length === 0 ? 4 : 8 + length;
  }
  return at + 4;
}

describe('tools/spindle-tape.py', () => {
  it('rebuilds an image from the .tap files of its cartridges in any order', async () => {
    const { bytes, taps, folder } = await threeCartridges();
    const ended = run(folder, 'extract', ...taps.toReversed());
    expect(ended, ended.err).toMatchObject({ status: 0, lost: [], err: '' });
    expect(ended.out).toContain('cartridge nightly-1: number 1 of set nightly');
    expect(readFileSync(join(folder, 'monday.spindle')).equals(bytes)).toBe(true);
    const manifest = readFileSync(join(folder, 'monday.manifest.json'), 'utf8');
    expect(JSON.parse(manifest)).toEqual({ backup: 'monday' });
    expect(run(folder, 'verify', ...taps)).toMatchObject({ status: 0, lost: [] });
    expect(run(folder, 'extract', ...taps)).toMatchObject({ status: 2 });
  });

  it('rebuilds it from dumps of single tape files, and of whole cartridges', async () => {
    const { bytes, taps, folder } = await threeCartridges();
    const all = taps.map((path) => dumps(readFileSync(path)));
    const names = all.flatMap((files, volume) =>
      files.map((file, index) => {
        writeFileSync(join(folder, `v${volume}.file.${index}`), file);
        return `v${volume}.file.${index}`;
      }),
    );
    expect(run(folder, 'extract', ...names.toReversed())).toMatchObject({ status: 0, err: '' });
    expect(readFileSync(join(folder, 'monday.spindle')).equals(bytes)).toBe(true);
    writeFileSync(join(folder, 'all'), Buffer.concat(all.flat()));
    const ended = run(folder, 'extract', '--output', 'sub', 'all');
    expect(ended, ended.err).toMatchObject({ status: 0 });
    expect(readFileSync(join(folder, 'sub', 'monday.spindle')).equals(bytes)).toBe(true);
  });

  it('takes dumps in which dd padded each record', async () => {
    const { bytes, taps, folder } = await threeCartridges();
    const padded = taps.map((path) => {
      const records = dumps(readFileSync(path)).flatMap((file) =>
        Array.from({ length: file.length / R }, (_, index) =>
          Buffer.concat([file.subarray(index * R, (index + 1) * R), Buffer.alloc(R)]),
        ),
      );
      return Buffer.concat(records);
    });
    writeFileSync(join(folder, 'padded'), Buffer.concat(padded));
    expect(run(folder, 'extract', 'padded')).toMatchObject({ status: 0, err: '' });
    expect(readFileSync(join(folder, 'monday.spindle')).equals(bytes)).toBe(true);
  });

  it('loses only the records that are bad, and makes nothing without being told', async () => {
    const { bytes, taps, lostAt, folder } = await threeCartridges();
    flip(taps[1]!, objectAt(taps[1]!, 4) + 200);
    const refused = run(folder, 'extract', ...taps);
    expect(refused).toMatchObject({ status: 4, lost: [[lostAt, P]] });
    expect(existsSync(join(folder, 'monday.spindle'))).toBe(false);
    const ended = run(folder, 'extract', '--skip-damage', ...taps);
    expect(ended).toMatchObject({ status: 5, lost: [[lostAt, P]] });
    const expected = Buffer.from(bytes).fill(0, lostAt, lostAt + P);
    expect(readFileSync(join(folder, 'monday.spindle')).equals(expected)).toBe(true);
    expect(run(folder, 'verify', ...taps)).toMatchObject({ status: 4 });
  });

  it('goes on where lengths of a .tap file are damaged, and where a dump lacks bytes', async () => {
    const { taps, lostAt, folder } = await threeCartridges();
    flip(taps[0]!, objectAt(taps[0]!, 4) - 4);
    expect(run(folder, 'verify', ...taps)).toMatchObject({ status: 4, lost: [] });
    const dump = Buffer.concat(dumps(readFileSync(taps[1]!)));
    const cut = Buffer.concat([dump.subarray(0, 3 * R + 1000), dump.subarray(3 * R + 1001)]);
    writeFileSync(join(folder, 'cut'), cut);
    const ended = run(folder, 'verify', taps[0]!, 'cut', taps[2]!);
    expect(ended).toMatchObject({ status: 4, lost: [[lostAt, P]] });
  });

  it('says what is missing with a cartridge, and when the end was not found', async () => {
    const { world, taps, folder } = await threeCartridges();
    const [first, second] = world.volumes.map(({ label }) =>
      world.parts.filter(({ volumeId }) => volumeId === label.volumeId),
    );
    const end = first!.reduce((sum, part) => sum + part.dataBytes, 0);
    const missing = second!.reduce((sum, part) => sum + part.dataBytes, 0);
    const ended = run(folder, 'list', taps[0]!, taps[2]!);
    expect(ended).toMatchObject({ status: 0, lost: [[end, missing]] });
    expect(run(folder, 'extract', taps[0]!, taps[1]!)).toMatchObject({ status: 4 });
    expect(run(folder, 'list', taps[0]!).out).toContain('its end was not found');
  });

  it('does not take a cartridge that is on a backed-up disk for the one around it', async () => {
    const inner = await threeCartridges();
    const outer = await TapeWorld.make({ sizeBytes: 8 * 1024 * 1024 });
    const image = Buffer.concat([Buffer.alloc(1000), readFileSync(inner.taps[2]!)]);
    await outer.addVolume({ volumeId: '0193e4c4-aaaa-7c3a-9f6e-2b1a4c5d6e7f' });
    await outer.write(outer.backup('outer', '7'), image);
    const [volume] = outer.volumes;
    const [, file] = dumps(readFileSync(tapPath(outer, volume!)));
    file![R + 10]! ^= 1; // the head of the first data record
    writeFileSync(join(inner.folder, 'dump'), file!);
    const ended = run(inner.folder, 'list', 'dump');
    expect(ended.out).toContain('backup outer');
    expect(ended.out).not.toContain('monday');
    expect(ended.lost).toEqual([[0, P]]);
  });

  it('chooses by name or id, and tells what is not there', async () => {
    const { world, folder } = await threeCartridges();
    await world.write(world.backup('tuesday', '2'), patterned(99, 3));
    const taps = world.volumes.map((volume) => tapPath(world, volume));
    expect(run(folder, 'extract', '--backup', 'tuesday', ...taps)).toMatchObject({ status: 0 });
    expect(existsSync(join(folder, 'monday.spindle'))).toBe(false);
    expect(readFileSync(join(folder, 'tuesday.spindle')).equals(patterned(99, 3))).toBe(true);
    const { backupId } = world.backup('monday');
    expect(run(folder, 'extract', '--backup', backupId, ...taps)).toMatchObject({ status: 0 });
    expect(run(folder, 'extract', '--backup', 'friday', ...taps)).toMatchObject({ status: 2 });
  });

  it('tells two backups of one name apart', async () => {
    const world = await TapeWorld.make();
    await world.write(world.backup('monday'), patterned(50, 1));
    await world.write(world.backup('monday', '2'), patterned(60, 2));
    const folder = await temporaryDirectory();
    const tap = tapPath(world, world.volumes[0]!);
    expect(run(folder, 'extract', tap)).toMatchObject({ status: 0 });
    const path = join(folder, `monday-${world.backup('monday', '2').backupId}.spindle`);
    expect(readFileSync(path).equals(patterned(60, 2))).toBe(true);
  });

  it('refuses what is of a newer version, and what is nothing of ours', async () => {
    const { taps, folder } = await threeCartridges();
    const [label] = dumps(readFileSync(taps[0]!));
    label!.writeUInt32LE(2, 8);
    const head = Buffer.concat([Buffer.from('spindle tape record'), label!.subarray(0, 124)]);
    label!.writeUInt32LE(crc32(Buffer.concat([head, label!.subarray(128)])), 124);
    writeFileSync(join(folder, 'newer'), label!);
    expect(run(folder, 'list', 'newer')).toMatchObject({ status: 3 });
    writeFileSync(join(folder, 'noise'), patterned(300_000));
    expect(run(folder, 'list', 'noise')).toMatchObject({ status: 3 });
    writeFileSync(join(folder, 'nothing'), '');
    expect(run(folder, 'list', 'nothing')).toMatchObject({ status: 3 });
    expect(run(folder, 'list', 'not-there')).toMatchObject({ status: 1 });
  });
});
