/**
 * The engine's end of the line to the meta worker: numbered requests, one reply each.
 *
 * Invariant: when the worker is gone, every pending and every later request rejects; none hangs.
 */
import type { Worker } from 'node:worker_threads';
import { defined } from '../base/assert.ts';
import { StorageError } from '../base/errors.ts';
import { deferred } from '../base/mutex.ts';
import type { Deferred } from '../base/mutex.ts';
import { unpackError } from '../base/packed-error.ts';
import type { Answer, Reply, Request } from './protocol.ts';

export class Connection {
  readonly #worker: Worker;
  readonly #pending = new Map<number, Deferred<Answer>>();
  readonly #exited = deferred<undefined>();
  readonly #onFatal: (error: StorageError) => void;
  /** Why no request is taken any more. */
  #ended: StorageError | undefined;
  #closing = false;
  #lastId = 0;

  /** @param onFatal called once if the worker ends although nobody closed it */
  constructor(worker: Worker, onFatal: (error: StorageError) => void) {
    this.#worker = worker;
    this.#onFatal = onFatal;
    worker.on('message', (reply: Reply) => {
      this.#settle(reply);
    });
    worker.on('error', (error: unknown) => {
      this.#end(error instanceof Error ? error : new Error(String(error)));
    });
    worker.on('exit', (exitCode) => {
      this.#end(new Error(`the thread ended with exit code ${exitCode}`));
      this.#exited.resolve(undefined);
    });
  }

  /** The worker's first word: it has opened the database, or why it could not. */
  async opened(): Promise<Answer> {
    return await this.#expect(0);
  }

  /** @throws INTERNAL if the worker is gone, SHUTTING_DOWN after close, and what it answers */
  async send(request: Request, transfer: readonly ArrayBuffer[] = []): Promise<Answer> {
    if (this.#ended !== undefined) throw this.#ended;
    if (this.#closing) throw new StorageError('SHUTTING_DOWN', 'the metadata store is closed');
    this.#lastId += 1;
    const answer = this.#expect(this.#lastId);
    this.#worker.postMessage({ id: this.#lastId, request }, transfer);
    return await answer;
  }

  /** Sends the last request and waits until the thread has ended. */
  async close(): Promise<void> {
    const answer = this.send({ op: 'close' });
    this.#closing = true;
    try {
      await answer;
    } finally {
      await this.exited();
    }
  }

  /** Ends the thread now. What is pending rejects with SHUTTING_DOWN. */
  async abandon(): Promise<void> {
    this.#closing = true;
    this.#end(new Error('the store was abandoned'), true);
    await this.#worker.terminate();
  }

  async exited(): Promise<void> {
    await this.#exited.promise;
  }

  async #expect(id: number): Promise<Answer> {
    const pending = deferred<Answer>();
    this.#pending.set(id, pending);
    return await pending.promise;
  }

  #settle(reply: Reply): void {
    if (this.#ended !== undefined) return;
    const pending = defined(this.#pending.get(reply.id), `request ${reply.id}`);
    this.#pending.delete(reply.id);
    if (reply.id === 0 && 'error' in reply) this.#closing = true;
    if ('answer' in reply) pending.resolve(reply.answer);
    else pending.reject(unpackError(reply.error));
  }

  #end(cause: Error, expected = this.#closing && this.#pending.size === 0): void {
    if (this.#ended !== undefined) return;
    this.#ended = expected
      ? new StorageError('SHUTTING_DOWN', 'the metadata store is closed')
      : new StorageError('INTERNAL', 'the meta worker died', { reason: cause.message }, cause);
    for (const pending of this.#pending.values()) pending.reject(this.#ended);
    this.#pending.clear();
    if (!expected) this.#onFatal(this.#ended);
  }
}
