/**
 * Runs long read-only work over a snapshot of the database in a thread of its own.
 *
 * The work is a generator in a module that knows nothing of this room: `run(source, data)` yields
 * where it is and returns its result. It is named by its URL, because code cannot change threads.
 */
import { Worker } from 'node:worker_threads';
import { StorageError } from '../base/errors.ts';
import { threadUrl } from '../base/package-files.ts';
import { unpackError } from '../base/packed-error.ts';
import type { PackedError } from '../base/packed-error.ts';

export interface SnapshotTask<Result> {
  /** Exports `run(source: Snapshot, data): Generator<Progress, unknown>`. */
  readonly module: URL;
  /** What `run` is told; a structured clone. */
  readonly data: unknown;
  /** Reads what `run` returned. */
  readonly parse: (result: unknown) => Result;
}

/** Units of work. */
export interface Progress {
  readonly done: number;
  readonly total: number;
}

export interface SnapshotTaskOptions {
  readonly signal?: AbortSignal;
  /** Called a few times a second. */
  readonly onProgress?: (progress: Progress) => void;
}

/** What the thread is given. */
export interface SnapshotWork {
  readonly path: string;
  readonly module: string;
  readonly data: unknown;
}

/** What the thread says; the last one is a result or an error. */
export type SnapshotWord =
  { readonly progress: Progress } | { readonly result: unknown } | { readonly error: PackedError };

/**
 * Opens a snapshot of the database at `path` in a new thread and runs the task over it.
 *
 * @throws CANCELLED within one step of the work, METADATA_INVALID, METADATA_NEWER_SCHEMA,
 *   STORE_LOCKED, and what the task throws
 */
export async function runOnSnapshot<Result>(
  path: string,
  task: SnapshotTask<Result>,
  o: SnapshotTaskOptions = {},
): Promise<Result> {
  const cancelled = new StorageError('CANCELLED', 'the work on a snapshot was cancelled');
  if (o.signal?.aborted === true) throw cancelled;
  const work: SnapshotWork = { path, module: task.module.href, data: task.data };
  const worker = new Worker(threadUrl('meta/snapshot-worker'), { workerData: work });
  const end = (): void => {
    worker.postMessage('end');
  };
  o.signal?.addEventListener('abort', end);
  try {
    const word = await lastWord(worker, o.onProgress);
    if (word === undefined) throw cancelled;
    if ('error' in word) throw unpackError(word.error);
    return task.parse(word.result);
  } finally {
    o.signal?.removeEventListener('abort', end);
  }
}

type LastWord = Exclude<SnapshotWord, { readonly progress: Progress }>;

/** Resolves when the thread has ended; undefined if it was told to. */
async function lastWord(
  worker: Worker,
  onProgress?: (progress: Progress) => void,
): Promise<LastWord | undefined> {
  let last: LastWord | undefined;
  return await new Promise((resolve, reject) => {
    worker.on('message', (word: SnapshotWord) => {
      if ('progress' in word) onProgress?.(word.progress);
      else last = word;
    });
    worker.on('error', (cause) => {
      reject(new StorageError('INTERNAL', 'a thread that read a snapshot died', {}, cause));
    });
    worker.on('exit', () => {
      resolve(last);
    });
  });
}
