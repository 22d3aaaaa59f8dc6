/**
 * Reading a request's body: with back-pressure, a least speed, and a clear end in every case.
 *
 * A BodyReader gives chunks to a taker as they come. Whoever makes one releases it. Its life:
 *  1. `forEach`: `100 Continue` is sent if the client waits for it, reading begins.
 *  2. While the taker is busy chunks queue up to 256 KiB, then the socket is paused (nothing is
 *     ever buffered whole).
 *  3. It ends with the last chunk taken, with BODY_TRUNCATED (cut off, half-closed or too slow;
 *     what came is taken first) or, at once, with the error that `fail` was given.
 *
 * A client that closes only its sending side too early would get Node's bare 400: `bodyCut` (called
 * by the server's `clientError`) tells the reader instead, so that the request can answer itself.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { StorageError } from '../base/errors.ts';
import { deferred } from '../base/mutex.ts';
import { KIB } from '../base/units.ts';
import type { Mover } from './byte-budget.ts';
import type { ApiLimits } from './limits.ts';
import { asStorageError } from './problem.ts';

const QUEUE_BYTES = 256 * KIB;

/** Requests whose client waits for `100 Continue`, and where to send it. */
const awaitingContinue = new WeakMap<IncomingMessage, ServerResponse>();
/** The reader at work on a connection. */
const readers = new WeakMap<Duplex, BodyReader>();

/** Whole requests behind which came what is no HTTP. */
const lastOnes = new WeakSet<IncomingMessage>();

/** True if nothing that comes behind this request can be understood. */
export function isLastRequest(request: IncomingMessage): boolean {
  return lastOnes.has(request);
}

/** Lets requests with `Expect` through as they are; the body is invited when it is wanted. */
export function handleExpectations(server: Server): void {
  server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => {
    awaitingContinue.set(request, response);
    server.emit('request', request, response);
  });
  server.on('checkExpectation', (request: IncomingMessage, response: ServerResponse) => {
    server.emit('request', request, response);
  });
}

/** True while the client holds its body back until it is invited. */
export function isAwaitingContinue(request: IncomingMessage): boolean {
  return awaitingContinue.has(request);
}

/** Told by the server: no more comes on this connection. @returns true if one was reading */
export function bodyCut(socket: Duplex): boolean {
  const reader = readers.get(socket);
  reader?.cutOff();
  return reader !== undefined;
}

/** The announced length, 0 without a body, undefined if only its end will tell (chunked). */
export function bodyLength({ headers }: IncomingMessage): number | undefined {
  if (headers['transfer-encoding'] !== undefined) return undefined;
  const length = Number(headers['content-length'] ?? 0);
  if (Number.isSafeInteger(length)) return length;
  throw new StorageError('BODY_TOO_LARGE', 'the announced length is above 2^53 - 1 bytes');
}

/** What bounds a body that is being read. */
export type BodyLimits = Pick<ApiLimits, 'idleTimeoutMs' | 'progressBytes'>;

/** Takes a chunk; a promise means: no further one until it resolves. */
export type TakeChunk = (chunk: Buffer) => Promise<void> | undefined;

export class BodyReader implements Mover {
  readonly #request: IncomingMessage;
  readonly #limits: BodyLimits;
  readonly #queue: Buffer[] = [];
  readonly #done = deferred<undefined>();
  #take: TakeChunk = () => undefined;
  #queuedBytes = 0;
  #receivedBytes = 0;
  #isBusy = false;
  #isReading = false;
  #isOver = false;
  #error: StorageError | undefined;
  /** Since the idle limit began anew. */
  #progressBytes = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(request: IncomingMessage, limits: BodyLimits) {
    this.#request = request;
    this.#limits = limits;
    this.#done.promise.catch(() => undefined);
    // it may be cut before anybody wants it
    readers.set(request.socket, this);
    request.on('error', this.#onClose);
    request.on('close', this.#onClose);
  }

  get receivedBytes(): number {
    return this.#receivedBytes;
  }

  get awaitedBytes(): number | undefined {
    const isAwaited = this.#isReading && !this.#isBusy && !this.#isOver;
    return isAwaited ? this.#receivedBytes : undefined;
  }

  endSlow(): void {
    this.cut('the body came too slowly while others were waiting for memory');
  }

  /** Gives every chunk to `take`, in order; resolves when all are taken. To be called once. */
  async forEach(take: TakeChunk): Promise<void> {
    this.#take = take;
    if (this.#request.readableEnded) this.#finish();
    else if (this.#request.destroyed) this.#onClose();
    else if (!this.#isOver) this.#start();
    await this.#done.promise;
  }

  /** Takes no more from the client until the taker is done with what it has. */
  pause(): void {
    if (this.#isBusy && !this.#isOver) this.#request.pause();
  }

  /** Ends reading with this error at once; what is queued is dropped. */
  fail(error: StorageError): void {
    this.#queue.length = 0;
    this.#error ??= error;
    this.#finish();
    this.#done.reject(this.#error);
  }

  /** The rest will not come; what is queued is still given out, then BODY_TRUNCATED. */
  cut(detail: string): void {
    if (this.#isOver) return;
    this.#error ??= new StorageError('BODY_TRUNCATED', detail);
    this.#finish();
  }

  /** The connection gives no more; a body that came whole before is whole. */
  cutOff(): void {
    if (this.#request.complete) {
      lastOnes.add(this.#request);
      return;
    }
    this.cut('the connection was closed before the end of the body');
  }

  /** Lets go of the request, whatever is left of it. Idempotent. */
  release(): void {
    this.#finish();
    const { socket } = this.#request;
    if (readers.get(socket) === this) readers.delete(socket);
  }

  #start(): void {
    awaitingContinue.get(this.#request)?.writeContinue();
    awaitingContinue.delete(this.#request);
    this.#isReading = true;
    const { idleTimeoutMs, progressBytes } = this.#limits;
    this.#timer = setTimeout(() => {
      if (this.#isBusy) this.#restartTimer();
      else this.cut(`less than ${progressBytes} bytes came in ${idleTimeoutMs / 1000} s`);
    }, idleTimeoutMs);
    this.#request.on('data', this.#onData);
    this.#request.on('end', this.#onEnd);
  }

  readonly #onData = (chunk: Buffer): void => {
    this.#receivedBytes += chunk.length;
    this.#progressBytes += chunk.length;
    if (this.#progressBytes >= this.#limits.progressBytes) this.#restartTimer();
    if (!this.#isBusy) {
      this.#give(chunk);
      return;
    }
    this.#queue.push(chunk);
    this.#queuedBytes += chunk.length;
    if (this.#queuedBytes >= QUEUE_BYTES) this.#request.pause();
  };

  /** Most chunks are taken in this turn: nothing of them outlives it. */
  #give(chunk: Buffer): void {
    let taking: Promise<void> | undefined;
    try {
      taking = this.#take(chunk);
    } catch (error) {
      this.fail(asStorageError(error));
      return;
    }
    if (taking === undefined) return;
    this.#isBusy = true;
    taking.then(this.#onTaken, (error: unknown) => {
      this.fail(asStorageError(error));
    });
  }

  readonly #onTaken = (): void => {
    this.#isBusy = false;
    this.#giveQueued();
    if (this.#isOver) this.#settle();
    else if (this.#queuedBytes < QUEUE_BYTES && this.#request.isPaused()) this.#resume();
  };

  #giveQueued(): void {
    while (!this.#isBusy) {
      const next = this.#queue.shift();
      if (next === undefined) return;
      this.#queuedBytes -= next.length;
      this.#give(next);
    }
  }

  /** The time that the taker needed is not the client's. */
  #resume(): void {
    this.#restartTimer();
    this.#request.resume();
  }

  #restartTimer(): void {
    this.#progressBytes = 0;
    this.#timer?.refresh();
  }

  readonly #onEnd = (): void => {
    this.#finish();
  };

  readonly #onClose = (): void => {
    this.cut('the connection was closed before the end of the body');
  };

  /** No more comes; the taker may still have some to take. */
  #finish(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#request.off('data', this.#onData);
    this.#request.off('end', this.#onEnd);
    this.#request.pause();
    this.#settle();
  }

  #settle(): void {
    if (this.#isBusy || this.#queue.length > 0) return;
    if (this.#error === undefined) this.#done.resolve(undefined);
    else this.#done.reject(this.#error);
  }
}

export function tooLarge(maxBytes: number): StorageError {
  return new StorageError('BODY_TOO_LARGE', `the body is longer than ${maxBytes} bytes`, {
    maxBytes,
  });
}

/** The whole body, at most `maxBytes`. @throws BODY_TOO_LARGE, BODY_TRUNCATED */
export async function readWhole(reader: BodyReader, maxBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  await reader.forEach((chunk) => {
    if (reader.receivedBytes > maxBytes) throw tooLarge(maxBytes);
    chunks.push(chunk);
    return undefined;
  });
  return Buffer.concat(chunks);
}

/**
 * Reads and drops what is left of a body, so that a client that sends before it listens gets to
 * see its answer.
 * @returns true if the end came; false if it is too long, too slow or cut off
 */
export async function drainBody(
  request: IncomingMessage,
  bounds: { readonly bytes: number; readonly idleMs: number },
): Promise<boolean> {
  if (request.readableEnded) return true;
  if (request.destroyed || request.socket.readableEnded) return false;
  const done = deferred<boolean>();
  let left = bounds.bytes;
  const timer = setTimeout(() => {
    done.resolve(false);
  }, bounds.idleMs);
  const onData = (chunk: Buffer): void => {
    timer.refresh();
    left -= chunk.length;
    if (left < 0) done.resolve(false);
  };
  const onEnd = (): void => {
    done.resolve(true);
  };
  const onClose = (): void => {
    done.resolve(false);
  };
  request.on('data', onData).on('end', onEnd).on('error', onClose).on('close', onClose);
  request.resume();
  const ended = await done.promise;
  clearTimeout(timer);
  request.off('data', onData).off('end', onEnd).off('close', onClose).pause();
  return ended;
}
