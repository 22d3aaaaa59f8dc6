/**
 * The thread in which a task runs over a snapshot (snapshot-task.ts says what it is told).
 *
 * Between steps of the task it hears whether to end. The snapshot is closed before the last word.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { assert, defined } from '../base/assert.ts';
import { systemClock } from '../base/clock.ts';
import { packError } from '../base/packed-error.ts';
import type { Progress, SnapshotWord, SnapshotWork } from './snapshot-task.ts';
import { Snapshot } from './snapshot.ts';

const PROGRESS_NS = 200_000_000n;
/** The thread listens this often. */
const TURN_NS = 10_000_000n;

type Run = (source: Snapshot, data: unknown) => Generator<Progress, unknown>;

const port = defined(parentPort, 'parent port');
let isEnding = false;

function say(word: SnapshotWord): void {
  port.postMessage(word);
}

function isWork(data: unknown): data is SnapshotWork {
  return typeof data === 'object' && data !== null && 'path' in data && 'module' in data;
}

function hasRun(module: unknown): module is { readonly run: Run } {
  return typeof module === 'object' && module !== null && 'run' in module;
}

async function steps(source: Snapshot, run: Run, data: unknown): Promise<SnapshotWord | undefined> {
  const task = run(source, data);
  let listened = systemClock.monotonicNs();
  let told = listened;
  for (;;) {
    const step = task.next();
    if (step.done === true) return { result: step.value };
    const now = systemClock.monotonicNs();
    if (now - told >= PROGRESS_NS) {
      say({ progress: step.value });
      told = now;
    }
    if (now - listened < TURN_NS) continue;
    await nextTurn();
    if (isEnding) return undefined;
    listened = now;
  }
}

async function work({ path, module, data }: SnapshotWork): Promise<SnapshotWord | undefined> {
  try {
    const task: unknown = await import(module);
    assert(hasRun(task), `${module} has no run`);
    const source = Snapshot.open(path);
    try {
      return await steps(source, task.run, data);
    } finally {
      source.close();
    }
  } catch (error) {
    return { error: packError(error) };
  }
}

port.on('message', () => {
  isEnding = true;
});
assert(isWork(workerData), 'a snapshot worker needs its work');
const last = await work(workerData);
if (last !== undefined) say(last);
port.close();
