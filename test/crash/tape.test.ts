/**
 * A program that writes to tape, killed again and again: what it was told is confirmed stays, a
 * scan finds what the catalog has, and nothing is on tape twice that is in the catalog.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { openForAppend } from '../../src/tape/append.ts';
import { assembleBackups, resumePosition } from '../../src/tape/assemble.ts';
import { FIRST_PLACE } from '../../src/tape/parts.ts';
import type { PartEntry } from '../../src/tape/parts.ts';
import { scanVolume } from '../../src/tape/scan.ts';
import { TapeSetReader } from '../../src/tape/set-reader.ts';
import { VirtualLibrary } from '../../src/tape/virtual-library.ts';
import { mountVolume, releaseVolume, unlockDrive } from '../../src/tape/volume.ts';
import { backupIdOf, bytesOf, cartridgeOf, readCatalog } from '../support/tape-job.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const KILLS = Number(process.env['SPINDLE_TEST_TAPE_KILLS'] ?? 12);
const script = join(import.meta.dirname, '..', 'support', 'tape-job.ts');

/** What the program has told: the highest confirmed offset, or Infinity, of each backup. */
type Told = Map<number, number>;

async function runAndKill(directory: string, told: Told, ms: number): Promise<void> {
  const child = spawn(process.execPath, [script, directory], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(child, 'exit');
  const lines = createInterface({ input: child.stdout });
  const first = once(lines, 'line');
  lines.on('line', (line) => {
    const [word, index, offset] = line.split(' ');
    const confirmed = word === 'complete' ? Infinity : Number(offset);
    told.set(Number(index), Math.max(told.get(Number(index)) ?? 0, confirmed));
  });
  await Promise.race([first, ended]);
  await sleep(ms);
  child.kill('SIGKILL');
  const [code, signal] = (await ended) as [number | null, string | null];
  expect([code, signal]).toEqual([null, 'SIGKILL']);
}

describe('a program that writes to tape', () => {
  it(`keeps what it has confirmed through ${KILLS} kills`, async () => {
    const directory = await temporaryDirectory();
    const told: Told = new Map();
    for (let kill = 0; kill < KILLS; kill += 1) {
      await runAndKill(directory, told, (kill * 397) % 701);
    }
    const library = await VirtualLibrary.open(directory);
    onTestFinished(() => library.close());
    await unlockDrive(library.device());
    const { volumes, parts } = readCatalog(directory);
    const all: PartEntry[] = [...parts];
    const scanned = [];
    for (const label of volumes) {
      await library.load(cartridgeOf(label));
      const of = parts.filter(({ volumeId }) => volumeId === label.volumeId);
      const known = { place: of.at(-1)?.end ?? FIRST_PLACE, partId: of.at(-1)?.partId ?? null };
      const point = await openForAppend(library.device(), label, known);
      all.push(...point.adopted.map(({ entry }) => entry));
      await releaseVolume(point.volume);
      const volume = await mountVolume(library.device(), 'read', label);
      scanned.push({ label, ...(await scanVolume(volume)) });
      await releaseVolume(volume);
    }
    const closed = scanned.flatMap((each) => each.parts.map(({ entry }) => entry));
    expect(closed.filter(({ state }) => state !== 'open')).toEqual(
      all.filter(({ state }) => state !== 'open'),
    );
    const found = assembleBackups(scanned);
    expect(told.size).toBeGreaterThan(1);
    for (const [index, confirmed] of told) {
      const of = all.filter(({ backupId }) => backupId === backupIdOf(index));
      const scan = found.find(({ backupId }) => backupId === backupIdOf(index));
      const { offset } = resumePosition(of);
      const bytes = bytesOf(index);
      if (confirmed === Infinity) {
        expect(scan).toMatchObject({ isComplete: true, missing: [], imageBytes: bytes.length });
      } else expect(offset).toBeGreaterThanOrEqual(confirmed);
      // No byte that was confirmed is written a second time.
      const total = of.reduce((sum, { dataBytes }) => sum + dataBytes, 0);
      expect(total).toBe(offset);
      const host = {
        mount: async (volumeId: string) => {
          const label = volumes.find((each) => each.volumeId === volumeId)!;
          await library.load(cartridgeOf(label));
          return mountVolume(library.device(), 'read', label);
        },
        release: (volume: Parameters<typeof releaseVolume>[0]) => releaseVolume(volume),
      };
      const reader = new TapeSetReader(host, of, offset);
      const into = Buffer.alloc(offset);
      await reader.read(0, into);
      await reader.close();
      expect(into.equals(bytes.subarray(0, offset))).toBe(true);
    }
  });
});
