/**
 * Runs one task in a job worker thread of its own and answers the thread's calls.
 *
 * The thread is made when the task begins and ended after it. An abort is told to it, so that it
 * can confirm and close; one that does not stop is terminated.
 *
 * A small image (an increment as a rule) is written on the engine's thread instead, in the same
 * slices of at most 1 MiB: making a thread would take several times as long as its checksums.
 */
import { Worker } from 'node:worker_threads';
import { assert } from '../base/assert.ts';
import { AssertionError } from '../base/assert.ts';
import { collectYoung } from '../base/memory.ts';
import { packError, unpackError } from '../base/packed-error.ts';
import { MIB } from '../base/units.ts';
import { threadUrl } from '../base/package-files.ts';
import { ImageLayout } from '../image/format.ts';
import { BUFFER_STEP_BYTES } from '../target/tape-target.ts';
import { runBackup } from './worker-backup.ts';
import type { BackupTask } from './worker-backup.ts';
import type { Engine } from './worker-engine.ts';
import type { CallName, Calls, FromWorker, Task, ToWorker } from './worker-protocol.ts';

export type Handlers = {
  readonly [Name in CallName]?: (
    ...args: Calls[Name]['arguments']
  ) => Promise<Calls[Name]['answer']> | Calls[Name]['answer'];
};

/** How long an aborted thread may take to stop. */
const STOP_MS = 5000;
/** Young generation of a thread that only moves buffers: keeps its memory small. */
const limits = { maxYoungGenerationSizeMb: 1, maxOldGenerationSizeMb: 256 };

/** Images up to this are written without a thread: some 10 ms of checksums. */
const SMALL_IMAGE_BYTES = 32 * MIB;

/** @throws what the task throws; the signal's reason if it was aborted */
export async function runTask(
  task: Task,
  handlers: Handlers,
  signal: AbortSignal,
): Promise<unknown> {
  signal.throwIfAborted();
  if (task.kind === 'backup' && new ImageLayout(task.facts).imageBytes <= SMALL_IMAGE_BYTES) {
    return runBackup(engineHere(handlers, signal), withSmallBuffer(task)).catch(
      (error: unknown) => {
        signal.throwIfAborted();
        throw error;
      },
    );
  }
  // the thread's buffers take the place of what requests have left
  collectYoung();
  const worker = new Worker(threadUrl('backup/worker'), { resourceLimits: limits });
  let stopTimer: NodeJS.Timeout | undefined;
  const onAbort = (): void => {
    tell(worker, { kind: 'abort' });
    stopTimer = setTimeout(() => void worker.terminate(), STOP_MS);
  };
  try {
    return await new Promise<unknown>((resolve, reject) => {
      worker.on('error', reject);
      worker.on('exit', (code) => {
        reject(new AssertionError(`a job worker ended with ${code}`));
      });
      worker.on('message', (message: FromWorker) => {
        switch (message.kind) {
          case 'call':
            void answer(worker, handlers, message);
            return;
          case 'done':
            resolve(message.result);
            return;
          case 'failed':
            reject(unpackError(message.error));
        }
      });
      signal.addEventListener('abort', onAbort, { once: true });
      tell(worker, { kind: 'start', task });
    });
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener('abort', onAbort);
    clearTimeout(stopTimer);
    await worker.terminate();
  }
}

/** What is used here stays with this thread; a small image needs little. */
function withSmallBuffer(task: BackupTask): BackupTask {
  const { target } = task;
  if (target.kind === 'directory') return task;
  return { ...task, target: { ...target, bufferBytes: BUFFER_STEP_BYTES } };
}

/** The engine for a task on its own thread: calls are answered at once. */
function engineHere(handlers: Handlers, signal: AbortSignal): Engine {
  return {
    signal,
    async call<Name extends CallName>(
      name: Name,
      args: Calls[Name]['arguments'],
    ): Promise<Calls[Name]['answer']> {
      signal.throwIfAborted();
      const handler = handlers[name];
      assert(handler !== undefined, `a handler for ${name}`);
      return handler(...args);
    },
  };
}

async function answer(
  worker: Worker,
  handlers: Handlers,
  call: Extract<FromWorker, { kind: 'call' }>,
): Promise<void> {
  const { id, name, args } = call;
  try {
    const handler: ((...args: never[]) => unknown) | undefined = handlers[name];
    assert(handler !== undefined && isArguments(args), `a handler for ${name}`);
    const value = await handler(...args);
    const returned = value instanceof Uint8Array && isWhole(value) ? [value.buffer] : [];
    tell(worker, { kind: 'answer', id, value }, returned);
  } catch (error) {
    tell(worker, { kind: 'refused', id, error: packError(error) });
  }
}

/** The worker calls with the arguments that go with the name. */
function isArguments(args: unknown): args is never[] {
  return Array.isArray(args);
}

/** The buffer of a segment, which goes back to the worker. */
function isWhole(bytes: Uint8Array): bytes is Uint8Array<ArrayBuffer> {
  return bytes.buffer instanceof ArrayBuffer && bytes.byteOffset === 0;
}

function tell(worker: Worker, message: ToWorker, transfer: ArrayBuffer[] = []): void {
  worker.postMessage(message, transfer);
}
