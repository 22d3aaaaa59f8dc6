/**
 * What goes from the request that sends an image to the job that takes it: bytes, the end, a cut,
 * or why there will be no more.
 *
 * One message at a time is under way. Whoever sends learns when it was taken, or what ended the
 * job's attempt; a stop from outside is told as the error that it is to a client.
 */
import { StorageError } from '../base/errors.ts';
import { deferred, type Deferred } from '../base/mutex.ts';
import type { Job } from '../job/job.ts';
import { JobInterrupt } from '../job/job-run.ts';
import type { RowChange } from '../pool/metadata-store.ts';
import type { Restored } from './restore-target.ts';

export type UploadRows = (job: Job, restored: Restored) => readonly RowChange[];

export type Message =
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array; readonly taken: Deferred<undefined> }
  | { readonly kind: 'end'; readonly rows: UploadRows; readonly done: Deferred<Restored> }
  | { readonly kind: 'cut'; readonly taken: Deferred<undefined> }
  | { readonly kind: 'fail'; readonly reason: StorageError };

export class Channel {
  #connected = deferred<undefined>();
  #next = deferred<Message>();
  #ended: Error | undefined;
  isConnected = false;
  receivedBytes = 0;

  connect(): void {
    this.isConnected = true;
    this.#connected.resolve(undefined);
  }

  get connected(): Promise<undefined> {
    return this.#connected.promise;
  }

  /** Only one message at a time is under way. @throws what ended the job */
  send(message: Message): void {
    if (this.#ended !== undefined) throw this.#ended;
    this.#next.resolve(message);
  }

  async receive(signal: AbortSignal): Promise<Message> {
    const stopped = deferred<never>();
    const onAbort = (): void => {
      stopped.reject(signal.reason);
    };
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      signal.throwIfAborted();
      const message = await Promise.race([this.#next.promise, stopped.promise]);
      this.#next = deferred<Message>();
      return message;
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  /** The job's attempt is over: nothing can be sent any more. */
  get hasEnded(): boolean {
    return this.#ended !== undefined;
  }

  disconnect(): void {
    this.isConnected = false;
    this.#connected = deferred<undefined>();
  }

  /** The job has ended badly: whoever sends is told. */
  fail(error: unknown): void {
    this.#ended = error instanceof Error ? error : new StorageError('CANCELLED', String(error));
    void this.#next.promise.then((message) => {
      settleBadly(message, error);
    });
  }
}

/** What the client is told when the job was stopped from outside. */
export function whyStopped(error: unknown, job: string): unknown {
  if (!(error instanceof JobInterrupt)) return error;
  switch (error.reason) {
    case 'pause':
      return new StorageError('JOB_STATE', 'paused: resume the job, then go on with the upload', {
        job,
        state: 'paused',
      });
    case 'cancel':
      return new StorageError('CANCELLED', `job ${job} was cancelled`, { job });
    case 'shutdown':
      return new StorageError('SHUTTING_DOWN', 'the service is shutting down', { job });
    case 'stalled':
      return new StorageError('JOB_STALLED', `job ${job} made no progress`, { job });
  }
}

export function settleBadly(message: Message, error: unknown): void {
  if (message.kind === 'end') message.done.reject(error);
  else if (message.kind !== 'fail') message.taken.reject(error);
}

/** Resolves when the job has remembered how far it is. */
export async function cut(channel: Channel): Promise<void> {
  const taken = deferred<undefined>();
  channel.send({ kind: 'cut', taken });
  await taken.promise;
}
