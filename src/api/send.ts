/**
 * Sending bytes: an own read loop with back-pressure (createReadStream is the slowest way to send).
 *
 *  1. The first slice is read before the head is sent, so that its error is still a problem answer.
 *  2. While a slice is on its way the next one is read; a slice's buffer is used again only after
 *     the socket has taken all of it.
 *  3. An error later cuts the connection: the client sees fewer bytes than Content-Length.
 */
import type { OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { FastifyReply } from 'fastify';
import { systemClock } from '../base/clock.ts';
import { isStorageError, StorageError } from '../base/errors.ts';
import { deferred } from '../base/mutex.ts';
import { KIB } from '../base/units.ts';
import type { Mover, PiecePool } from './byte-budget.ts';
import { type HeldMemory, type Pace, paced } from './held-memory.ts';
import type { ApiLimits } from './limits.ts';
import { problemOf } from './problem.ts';

/** To a client that is not known to be fast, so much is given at once: its speed can be seen. */
const STEP_BYTES = 64 * KIB;
/** Who takes a slice within this time is fast. */
const FAST_NS = 100_000_000n;
/** Reads of at most so much need no pieces. */
const SHORT_BYTES = 64 * KIB;

export interface BytesAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
}

/**
 * Answers with the bytes of `slices`, each valid until the next is asked for.
 * @param signal ends the answer early by cutting the connection
 */
export async function sendBytes(
  reply: FastifyReply,
  answer: BytesAnswer,
  slices: AsyncIterable<Uint8Array>,
  options: {
    readonly limits: Pick<ApiLimits, 'idleTimeoutMs'>;
    readonly signal?: AbortSignal;
    /** The memory that is held meanwhile. */
    readonly memory?: Pick<HeldMemory, 'watch'>;
  },
): Promise<void> {
  const iterator = slices[Symbol.asyncIterator]();
  const first = await iterator.next();
  reply.hijack();
  const { raw } = reply;
  const writer = new ResponseWriter(raw, options.limits.idleTimeoutMs);
  options.memory?.watch(writer);
  const stop = (): void => {
    raw.destroy();
  };
  options.signal?.addEventListener('abort', stop);
  try {
    if (options.signal?.aborted === true) stop();
    raw.writeHead(answer.status, {
      ...headersOf(reply),
      ...answer.headers,
    });
    for (let slice = first; slice.done !== true; slice = await iterator.next()) {
      await writer.write(slice.value);
    }
    raw.end();
  } catch (error) {
    // who cut the connection knows why; the rest is ours
    const wasCut = writer.isClosed || raw.destroyed || options.signal?.aborted === true;
    raw.destroy();
    if (!wasCut) reply.log[levelOf(error)]({ err: error }, 'an answer was cut off');
  } finally {
    options.signal?.removeEventListener('abort', stop);
    writer.release();
    await iterator.return?.();
  }
}

/** Somebody may take a disk away, by force, while it is read; all else is ours. */
function levelOf(error: unknown): 'warn' | 'error' {
  return isStorageError(error) && problemOf(error).status < 500 ? 'warn' : 'error';
}

/** What was set on the reply so far. */
export function headersOf(reply: FastifyReply): OutgoingHttpHeaders {
  const headers: OutgoingHttpHeaders = {};
  for (const [name, value] of Object.entries(reply.getHeaders())) {
    if (value !== undefined) headers[name] = value;
  }
  return headers;
}

class ResponseWriter implements Mover {
  readonly #response: ServerResponse;
  readonly #timer: NodeJS.Timeout;
  readonly #closed = deferred<never>();
  #isClosed = false;
  #isWriting = false;
  #isFast = false;
  #sentBytes = 0;

  constructor(response: ServerResponse, idleTimeoutMs: number) {
    this.#response = response;
    this.#closed.promise.catch(() => undefined);
    this.#timer = setTimeout(() => {
      // the time that the source needs is not the client's
      if (this.#isWriting) this.endSlow();
      else this.#timer.refresh();
    }, idleTimeoutMs);
    response.on('close', this.#onClose);
    if (response.destroyed) this.#onClose();
  }

  /** True if the client or the idle limit ended the connection. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  get awaitedBytes(): number | undefined {
    return this.#isWriting ? this.#sentBytes : undefined;
  }

  endSlow(): void {
    this.#response.destroy();
    this.#onClose();
  }

  /** Resolves when the socket has taken the whole slice. */
  async write(slice: Uint8Array): Promise<void> {
    this.#isWriting = true;
    const begin = systemClock.monotonicNs();
    const step = this.#isFast ? slice.length : STEP_BYTES;
    for (let at = 0; at < slice.length; at += step) {
      await this.#give(at === 0 && step >= slice.length ? slice : slice.subarray(at, at + step));
    }
    this.#isFast = systemClock.monotonicNs() - begin < FAST_NS;
    this.#isWriting = false;
  }

  async #give(bytes: Uint8Array): Promise<void> {
    this.#timer.refresh();
    const taken = new Promise<void>((resolve, reject) => {
      this.#response.write(bytes, (error) => {
        if (error === undefined || error === null) resolve();
        else reject(error);
      });
    });
    await Promise.race([taken, this.#closed.promise]);
    this.#sentBytes += bytes.length;
  }

  release(): void {
    clearTimeout(this.#timer);
    this.#response.off('close', this.#onClose);
  }

  readonly #onClose = (): void => {
    this.#isClosed = true;
    this.#closed.reject(new StorageError('CANCELLED', 'the client went away'));
  };
}

/**
 * Reads a range in pieces on the grid of its offsets, one piece ahead of its use; with a rate limit
 * in smaller steps, none ahead, and without buffers and memory while it waits for its turn.
 * Cost: two pieces of memory, or what is read if it is short. Pieces go back only from a stream
 * that came to its end or rests: after a cut the socket may still hold one.
 */
export async function* readAhead(
  read: (offset: number, into: Uint8Array) => Promise<void>,
  range: { readonly offset: number; readonly length: number },
  pool: PiecePool,
  pace?: Pace,
): AsyncGenerator<Uint8Array, void, undefined> {
  const end = range.offset + range.length;
  let at = range.offset;
  if (range.length > 0 && range.length <= Math.min(SHORT_BYTES, stepOf(pace))) {
    if (pace !== undefined) await paced(pace, range.length, () => undefined);
    const short = Buffer.allocUnsafe(range.length);
    await read(at, short);
    yield short;
    return;
  }
  const buffers = new Buffers(pool);
  const nextLength = (): number =>
    Math.min(pool.pieceBytes - (at % pool.pieceBytes), end - at, stepOf(pace));
  const load = async (buffer: Buffer, length: number): Promise<Buffer> => {
    const slice = buffer.subarray(0, length);
    const offset = at;
    at += length;
    await read(offset, slice);
    return slice;
  };
  let ahead: Promise<Buffer> | undefined;
  try {
    while (at < end || ahead !== undefined) {
      if (ahead === undefined) {
        const length = nextLength();
        if (pace !== undefined) {
          await paced(pace, length, () => {
            buffers.giveBack();
          });
        }
        ahead = load(buffers.next(), length);
      }
      const slice = await ahead;
      const isFree = pace === undefined || pace.rate.bytesPerSecond === null;
      ahead = isFree && at < end ? load(buffers.next(), nextLength()) : undefined;
      ahead?.catch(() => undefined);
      yield slice;
    }
    buffers.giveBack();
  } finally {
    await ahead?.catch(() => undefined);
  }
}

function stepOf(pace: Pace | undefined): number {
  return pace?.rate.stepBytes ?? Number.MAX_SAFE_INTEGER;
}

/** Two pieces in turns, taken when they are needed. */
class Buffers {
  readonly #pool: PiecePool;
  #taken: Buffer[] = [];

  constructor(pool: PiecePool) {
    this.#pool = pool;
  }

  /** Not the one of the call before. */
  next(): Buffer {
    const buffer = this.#taken.length < 2 ? this.#pool.take() : this.#taken.shift();
    const next = buffer ?? this.#pool.take();
    this.#taken.push(next);
    return next;
  }

  giveBack(): void {
    for (const buffer of this.#taken.splice(0)) this.#pool.giveBack(buffer);
  }
}
