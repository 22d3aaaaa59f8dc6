/**
 * Kills the real daemon under load, again and again, and proves after each restart that nothing
 * acknowledged was lost and nothing else came in its place.
 *
 *     npm run test:crash -- --rounds 200 [--seed S] [--seconds-per-round T]
 *     npm run test:crash -- --mode idempotency --rounds 100
 *     npm run test:crash -- --mode tape --rounds 200
 *
 * The data directory is kept if a round fails; the seed repeats the choices, not the timing.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { builtMain, setup } from '../support/built.ts';
import { runIdempotency } from './idempotency.ts';
import { Random } from './random.ts';
import { Store } from './round.ts';
import { runTape } from './tape-loop.ts';
import { World } from './world.ts';

const MIB = 1024 * 1024;
/** Rounds with one store; then a new one begins, with a pool of another size. */
const ROUNDS_PER_STORE = 25;

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '20' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    'seconds-per-round': { type: 'string', default: '4' },
    mode: { type: 'string', default: 'load' },
    main: { type: 'string', default: builtMain },
  },
});

const rounds = Number(values.rounds);
const seed = Number(values.seed);
const seconds = Number(values['seconds-per-round']);
const main = resolve(values.main);
if (main === builtMain) setup();

async function runLoad(): Promise<boolean> {
  const totals = new Map<string, number>();
  for (let done = 0; done < rounds; done += ROUNDS_PER_STORE) {
    const storeSeed = seed + done;
    const count = Math.min(ROUNDS_PER_STORE, rounds - done);
    if (!(await runStore(storeSeed, done, count, totals))) return false;
  }
  const shown = [...totals].sort(([a], [b]) => a.localeCompare(b));
  console.log(shown.map(([what, count]) => `${what} ${count}`).join(', '));
  return true;
}

/** Some rounds with one store. @returns whether all went well */
async function runStore(
  storeSeed: number,
  done: number,
  count: number,
  totals: Map<string, number>,
): Promise<boolean> {
  const folder = mkdtempSync(join(tmpdir(), 'spindle-crash-'));
  const world = new World(storeSeed);
  const poolBytes = (new Random(storeSeed).pick([24, 48, 128, 512]) ?? 48) * MIB;
  const store = new Store({ folder, poolBytes, main }, world);
  let round = done;
  try {
    await store.open();
    for (; round < done + count; round += 1) {
      const begin = Date.now();
      const report = await store.round(seconds);
      const { requests, inFlight, jobs, killAfterMs, how } = report;
      console.log(
        `round ${round + 1}: seed ${storeSeed}, ${requests} requests, ${inFlight} in flight, ` +
          `${jobs} jobs, ${how} after ${killAfterMs} ms, ${world.disks.length} disks, ` +
          `${world.copies.length} copies, ${world.backups.length} backups, ` +
          `${((Date.now() - begin) / 1000).toFixed(1)} s`,
      );
    }
  } catch (error) {
    await store.close();
    const text = error instanceof Error ? (error.stack ?? '') : String(error);
    console.error(
      text.replaceAll(/write #(\d+)/g, (found, number) => {
        return `${found} (${world.writeNames.get(Number(number)) ?? 'none of ours'})`;
      }),
    );
    writeFileSync(join(folder, 'trace.log'), world.traced.join('\n'));
    console.error(
      `round ${round + 1} failed; seed ${storeSeed} (round ${round - done + 1} of its store), ` +
        `folder ${folder}, log ${store.logFile}`,
    );
    return false;
  }
  await store.close();
  for (const [what, times] of world.counts) totals.set(what, (totals.get(what) ?? 0) + times);
  rmSync(folder, { recursive: true, force: true });
  return true;
}

const begin = Date.now();
const modes: Readonly<Record<string, () => Promise<boolean>>> = {
  load: runLoad,
  idempotency: () => runIdempotency({ rounds, seed, main }),
  tape: () => runTape({ rounds, seed, main }),
};
const run = modes[values.mode];
if (run === undefined) throw new Error(`--mode is one of ${Object.keys(modes).join(', ')}`);
const isGood = await run();
if (isGood) {
  console.log(`${rounds} rounds, 0 failures (${Math.round((Date.now() - begin) / 1000)} s)`);
} else {
  process.exitCode = 1;
}
