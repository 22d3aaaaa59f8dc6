import { spawn } from 'node:child_process';
import { once } from 'node:events';
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

/**
 * Lets a writer work for a while and kills it. The last batch that it said was durable, or -1.
 * @param working the while begins when it has said so once, not when it is started
 */
async function writeAndKill(path: string, afterMs: number, working: boolean): Promise<number> {
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
  if (working) await once(lines, 'line');
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
    const afterMs = 60 + systemClock.random(2).readUInt16LE() / 128;
    const acknowledged = await writeAndKill(path, afterMs, kill % 2 === 0);
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
