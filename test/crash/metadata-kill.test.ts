import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { Meta } from '../../src/meta/meta.ts';
import { lastBatch } from '../support/metadata-writer.ts';

const KILLS = 20;
const writer = join(import.meta.dirname, '../support/metadata-writer.ts');

/** Lets a writer work for a while and kills it. The last batch that it said was durable, or -1. */
async function writeAndKill(path: string, afterMs: number): Promise<number> {
  const child = spawn(process.execPath, [writer, path], { stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = new Promise<string | null>((resolve) => {
    child.once('exit', (_, signal) => {
      resolve(signal);
    });
  });
  let acknowledged = -1;
  const lines = createInterface(child.stdout).on('line', (line) => {
    acknowledged = Math.max(acknowledged, Number(line));
  });
  const read = new Promise((resolve) => lines.once('close', resolve));
  await sleep(afterMs);
  child.kill('SIGKILL');
  expect(await exited).toBe('SIGKILL');
  await read;
  return acknowledged;
}

it(`after each of ${KILLS} kills every acknowledged batch is there, whole`, async () => {
  const directory = mkdtempSync(join(tmpdir(), 'meta-kill-'));
  const path = join(directory, 'meta.db');
  const seen: number[] = [];
  for (let kill = 0; kill < KILLS; kill++) {
    const acknowledged = await writeAndKill(path, 60 + systemClock.random(2).readUInt16LE() / 128);
    const meta = await Meta.open({ path });
    const last = await lastBatch(meta);
    expect(last).toBeGreaterThanOrEqual(Math.max(acknowledged, seen.at(-1) ?? -1));
    expect(await meta.check({ deep: true })).toEqual([]);
    await meta.close();
    seen.push(last);
  }
  expect(seen.at(-1)).toBeGreaterThan(KILLS);
  rmSync(directory, { recursive: true });
});
