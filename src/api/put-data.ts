/**
 * Writing a body to a disk: whole if it is small and its length known, else as it comes.
 *
 *  * At most 4 MiB with Content-Length: received whole, its digest checked, then one engine write:
 *    all or nothing.
 *  * Larger or chunked: cut into 1 MiB pieces on the grid of the disk's offsets. One piece fills
 *    while the one before is being written; pieces are written in order, one at a time.
 *
 * Invariants:
 *  1. On an error the disk holds exactly the first `writtenBytes` of the body, durable; nothing
 *     behind it was touched. Without `writtenBytes` in the problem that could not be made sure.
 *  2. After an abort (`force` of somebody else) no further piece is written; the use ends only when
 *     the last write has returned.
 */
import type { FastifyRequest } from 'fastify';
import { StorageError } from '../base/errors.ts';
import { bodyLength, BodyReader, isAwaitingContinue, readWhole } from './body.ts';
import type { PiecePool } from './byte-budget.ts';
import type { ApiContext } from './context.ts';
import { DigestCheck } from './digest.ts';
import { asStorageError } from './problem.ts';
import { checkRange } from './ranges.ts';
import type { Disk } from './storage-services.ts';

export interface PutOptions {
  readonly offset: number;
  readonly isDurable: boolean;
}

/** Resolves when the body is on the disk, and durable if asked for. */
export async function putData(
  context: ApiContext,
  request: FastifyRequest,
  disk: Disk,
  options: PutOptions,
): Promise<void> {
  const { raw } = request;
  refuseContentRange(request);
  const length = bodyLength(raw);
  checkRange(options.offset, length ?? 0, disk.capacityBytes);
  const digest = new DigestCheck(request.headers);
  const reader = new BodyReader(raw, context.limits);
  const endUse = disk.addUser({
    kind: 'http-write',
    id: request.id,
    sinceMs: context.clock.nowMs(),
    abort: (reason) => {
      reader.fail(reason);
    },
  });
  const write = new BodyWrite(context, disk, reader, digest, options);
  const stop = (): void => {
    reader.fail(new StorageError('SHUTTING_DOWN', 'the service is shutting down'));
  };
  context.cutting.addEventListener('abort', stop);
  try {
    const { wholeBodyBytes } = context.limits;
    const isWhole = length !== undefined && length <= wholeBodyBytes;
    if (length !== undefined && (!isWhole || isAwaitingContinue(raw))) {
      await checkRoom(disk, options.offset, length);
    }
    await (isWhole ? write.whole(length) : write.stream());
  } finally {
    context.cutting.removeEventListener('abort', stop);
    reader.release();
    endUse();
  }
}

function refuseContentRange({ headers }: FastifyRequest): void {
  if (headers['content-range'] === undefined) return;
  throw new StorageError('RANGE_INVALID', 'the place is given by ?offset=, not by Content-Range', {
    field: 'Content-Range',
  });
}

/**
 * Refuses what cannot fit whatever the bytes are. With `detectZeroes` any body may turn out to be
 * zeros, which need no room: then only writing tells. Cost: a walk over the range's table.
 * @throws POOL_FULL
 */
async function checkRoom(disk: Disk, offset: number, length: number): Promise<void> {
  if (disk.detectZeroes || length === 0) return;
  const { blockSizeBytes, pool } = disk;
  const first = Math.floor(offset / blockSizeBytes);
  const end = Math.ceil((offset + length) / blockSizeBytes);
  let unmapped = end - first;
  let from: number | undefined = first;
  while (from !== undefined && from < end) {
    const page: Awaited<ReturnType<Disk['allocatedRuns']>> = await disk.allocatedRuns(
      from,
      1000,
      false,
    );
    for (const run of page.runs) {
      unmapped -= Math.max(0, Math.min(run.block + run.length, end) - run.block);
    }
    from = page.next;
  }
  const neededBytes = unmapped * blockSizeBytes;
  if (neededBytes <= pool.freeBytes) return;
  throw new StorageError('POOL_FULL', `pool ${pool.name} has no room for this body`, {
    pool: pool.name,
    neededBytes,
    freeBytes: pool.freeBytes,
    writtenBytes: 0,
  });
}

class BodyWrite {
  readonly #context: ApiContext;
  readonly #disk: Disk;
  readonly #reader: BodyReader;
  readonly #digest: DigestCheck;
  readonly #options: PutOptions;
  #writtenBytes = 0;

  constructor(
    context: ApiContext,
    disk: Disk,
    reader: BodyReader,
    digest: DigestCheck,
    options: PutOptions,
  ) {
    this.#context = context;
    this.#disk = disk;
    this.#reader = reader;
    this.#digest = digest;
    this.#options = options;
  }

  /** All or nothing. */
  async whole(length: number): Promise<void> {
    const lease = await this.#context.bodyMemory.take(length);
    lease.watch(this.#reader);
    try {
      const body = length === 0 ? Buffer.alloc(0) : await readWhole(this.#reader, length);
      this.#digest.update(body);
      this.#digest.verify();
      if (body.length > 0) await this.#write(this.#options.offset, body);
      if (this.#options.isDurable) await this.#flush();
    } catch (error) {
      throw await this.#withWritten(error);
    } finally {
      lease.release();
    }
  }

  /** Piece by piece, in order. */
  async stream(): Promise<void> {
    const { pieces, bodyMemory } = this.#context;
    const lease = await bodyMemory.take(2 * pieces.pieceBytes);
    lease.watch(this.#reader);
    const writer = new PieceWriter(pieces, this.#options.offset, {
      write: (offset, piece) => this.#write(offset, piece),
      onError: (error) => {
        this.#reader.fail(asStorageError(error));
      },
    });
    try {
      await this.#pump(writer);
      this.#digest.verify();
      if (this.#options.isDurable) await this.#flush();
    } catch (error) {
      await writer.settle(asStorageError(error).code === 'BODY_TRUNCATED');
      throw await this.#withWritten(error);
    } finally {
      writer.release();
      lease.release();
    }
  }

  async #pump(writer: PieceWriter): Promise<void> {
    await this.#reader.forEach((chunk) => {
      this.#digest.update(chunk);
      this.#checkEnd(writer.end + chunk.length);
      return writer.put(chunk);
    });
    await writer.finish();
  }

  #checkEnd(end: number): void {
    const { capacityBytes } = this.#disk;
    const { offset } = this.#options;
    checkRange(offset, end - offset, capacityBytes);
  }

  async #write(offset: number, bytes: Buffer): Promise<void> {
    await this.#context.metrics.io('write', bytes.length, () => this.#disk.write(offset, bytes));
    this.#writtenBytes += bytes.length;
  }

  async #flush(): Promise<void> {
    await this.#context.metrics.io('flush', 0, () => this.#disk.flush());
  }

  /** The error with the length of the prefix, after making that durable. */
  async #withWritten(error: unknown): Promise<StorageError> {
    if (this.#writtenBytes > 0) {
      try {
        await this.#flush();
      } catch {
        return asStorageError(error);
      }
    }
    return asStorageError(error, { writtenBytes: this.#writtenBytes });
  }
}

interface PieceActions {
  write(offset: number, piece: Buffer): Promise<void>;
  /** A write has failed; nothing more will be written. */
  onError(error: unknown): void;
}

/**
 * Cuts a stream into pieces on the grid: one fills while the one before is being written.
 *
 * Invariant: after `settle` nothing is written and no buffer is touched.
 */
class PieceWriter {
  readonly #pool: PiecePool;
  readonly #actions: PieceActions;
  #filling: Buffer;
  #other: Buffer;
  #filled = 0;
  /** Where the piece that fills begins. */
  #at: number;
  #writing: Promise<void> = Promise.resolve();
  #isWriting = false;
  #isSettled = false;

  constructor(pool: PiecePool, offset: number, actions: PieceActions) {
    this.#pool = pool;
    this.#actions = actions;
    this.#filling = pool.take();
    this.#other = pool.take();
    this.#at = offset;
  }

  /** Where the next byte goes. */
  get end(): number {
    return this.#at + this.#filled;
  }

  /** A promise if the chunk has to wait for a write. It rejects as an earlier piece did. */
  put(chunk: Buffer): Promise<void> | undefined {
    const { pieceBytes } = this.#pool;
    let taken = 0;
    while (taken < chunk.length && !this.#isSettled) {
      const room = pieceBytes - (this.#at % pieceBytes) - this.#filled;
      const count = Math.min(room, chunk.length - taken);
      chunk.copy(this.#filling, this.#filled, taken, taken + count);
      this.#filled += count;
      taken += count;
      if (count < room) continue;
      if (this.#isWriting) return this.#putLater(chunk.subarray(taken));
      this.#send();
    }
    return undefined;
  }

  async #putLater(rest: Buffer): Promise<void> {
    await this.#writing;
    this.#send();
    await this.put(rest);
  }

  /** Writes the rest and waits for it. */
  async finish(): Promise<void> {
    await this.#writing;
    if (this.#filled > 0) this.#send();
    await this.#writing;
  }

  /** Waits until no write is under way; `keepRest` writes what was not a whole piece yet. */
  async settle(keepRest: boolean): Promise<void> {
    if (keepRest) await this.finish().catch(() => undefined);
    this.#isSettled = true;
    await this.#writing.catch(() => undefined);
  }

  /** Only while none is being written. */
  #send(): void {
    if (this.#isSettled) return;
    const offset = this.#at;
    const piece = this.#filling.subarray(0, this.#filled);
    [this.#filling, this.#other] = [this.#other, this.#filling];
    this.#at += this.#filled;
    this.#filled = 0;
    this.#isWriting = true;
    this.#writing = this.#actions.write(offset, piece).finally(() => {
      this.#isWriting = false;
    });
    this.#writing.catch((error: unknown) => {
      this.#actions.onError(error);
    });
  }

  /** Only after `settle`, or `finish` without an error. */
  release(): void {
    this.#pool.giveBack(this.#filling);
    this.#pool.giveBack(this.#other);
  }
}
