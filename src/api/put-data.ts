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
import type { ApiContext } from './context.ts';
import { DigestCheck } from './digest.ts';
import { HeldMemory, type Pace, paced } from './held-memory.ts';
import { PieceWriter } from './piece-writer.ts';
import { asStorageError } from './problem.ts';
import { checkRange } from './ranges.ts';
import { requestEnd } from './request-end.ts';
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
  beforeAnyByte(() => {
    checkRange(options.offset, length ?? 0, disk.capacityBytes);
  });
  const digest = new DigestCheck(request.headers);
  const reader = new BodyReader(raw, context.limits);
  const end = requestEnd(context, request);
  const stop = (): void => {
    reader.fail(new StorageError('SHUTTING_DOWN', 'the service is shutting down'));
  };
  context.cutting.addEventListener('abort', stop);
  const user = {
    kind: 'http-write',
    id: request.id,
    sinceMs: context.clock.nowMs(),
    abort: (reason: StorageError): void => {
      reader.fail(reason);
      end.end(reason);
    },
  };
  let endUse = (): void => undefined;
  try {
    endUse = beforeAnyByte(() => disk.addUser(user));
    const write = new BodyWrite({ context, disk, reader, digest, options, signal: end.signal });
    const { wholeBodyBytes } = context.limits;
    const isWhole = length !== undefined && length <= wholeBodyBytes;
    if (length !== undefined && (!isWhole || isAwaitingContinue(raw))) {
      await checkRoom(disk, options.offset, length);
    }
    await (isWhole ? write.whole(length) : write.stream());
  } finally {
    context.cutting.removeEventListener('abort', stop);
    reader.release();
    end.release();
    endUse();
  }
}

function beforeAnyByte<T>(check: () => T): T {
  try {
    return check();
  } catch (error) {
    throw asStorageError(error, { writtenBytes: 0 });
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
 * @throws QUOTA_EXCEEDED, POOL_FULL
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
  const { quotaBytes, usedBytes } = disk;
  if (quotaBytes !== null && usedBytes + neededBytes > quotaBytes) {
    throw new StorageError('QUOTA_EXCEEDED', `the quota of disk ${disk.name} is too small`, {
      ...{ disk: disk.name, quotaBytes, usedBytes, neededBytes },
      writtenBytes: 0,
    });
  }
  if (neededBytes <= pool.freeBytes) return;
  throw new StorageError('POOL_FULL', `pool ${pool.name} has no room for this body`, {
    pool: pool.name,
    neededBytes,
    freeBytes: pool.freeBytes,
    writtenBytes: 0,
  });
}

interface BodyWriteParts {
  readonly context: ApiContext;
  readonly disk: Disk;
  readonly reader: BodyReader;
  readonly digest: DigestCheck;
  readonly options: PutOptions;
  /** Fires when the request is over. */
  readonly signal: AbortSignal;
}

class BodyWrite {
  readonly #o: BodyWriteParts;
  #writtenBytes = 0;
  /** Bytes of the rate limit that the stream has and did not use yet. */
  #grantedBytes = 0;

  constructor(parts: BodyWriteParts) {
    this.#o = parts;
  }

  /** All or nothing. */
  async whole(length: number): Promise<void> {
    const { context, disk, reader, digest, options, signal } = this.#o;
    const memory = new HeldMemory(context.bodyMemory, length);
    memory.watch(reader);
    let grantedBytes = 0;
    try {
      await disk.rate.take(length, signal);
      grantedBytes = length;
      await memory.hold();
      const body = length === 0 ? Buffer.alloc(0) : await readWhole(reader, length);
      digest.update(body);
      digest.verify();
      if (body.length > 0) await this.#write(options.offset, body);
      if (options.isDurable) await this.#flush();
    } catch (error) {
      if (this.#writtenBytes === 0) disk.rate.giveBack(grantedBytes);
      throw await this.#withWritten(error);
    } finally {
      memory.release();
    }
  }

  /** Piece by piece, in order. */
  async stream(): Promise<void> {
    const { context, disk, reader, digest, options, signal } = this.#o;
    const { pieces, bodyMemory } = context;
    const memory = new HeldMemory(bodyMemory, 2 * pieces.pieceBytes);
    memory.watch(reader);
    const writer = new PieceWriter(pieces, options.offset, {
      write: (offset, piece) => this.#write(offset, piece),
      onError: (error) => {
        reader.fail(asStorageError(error));
      },
    });
    try {
      await memory.hold();
      await this.#pump(writer, { rate: disk.rate, memory, signal });
      digest.verify();
      if (options.isDurable) await this.#flush();
    } catch (error) {
      await writer.settle(asStorageError(error).code === 'BODY_TRUNCATED');
      throw await this.#withWritten(error);
    } finally {
      disk.rate.giveBack(this.#grantedBytes);
      writer.release();
      memory.release();
    }
  }

  async #pump(writer: PieceWriter, pace: Pace): Promise<void> {
    const { reader, digest } = this.#o;
    await reader.forEach((chunk) => {
      digest.update(chunk);
      this.#checkEnd(writer.end + chunk.length);
      const isFree = pace.rate.bytesPerSecond === null || chunk.length <= this.#grantedBytes;
      if (!isFree) return this.#putInSteps(writer, pace, chunk);
      this.#grantedBytes = Math.max(0, this.#grantedBytes - chunk.length);
      return writer.put(chunk);
    });
    await writer.finish();
  }

  /** As the rate of the disk allows: while it waits nothing is in hand but this chunk. */
  async #putInSteps(writer: PieceWriter, pace: Pace, chunk: Buffer): Promise<void> {
    const { pieceBytes } = this.#o.context.pieces;
    for (let at = 0; at < chunk.length;) {
      if (this.#grantedBytes === 0) {
        const bytes = Math.min(pace.rate.stepBytes, pieceBytes - (writer.end % pieceBytes));
        await paced(pace, bytes, () => {
          this.#o.reader.pause();
          return writer.rest();
        });
        this.#grantedBytes = bytes;
      }
      const count = Math.min(this.#grantedBytes, chunk.length - at);
      this.#grantedBytes -= count;
      await writer.put(chunk.subarray(at, at + count));
      at += count;
    }
  }

  #checkEnd(end: number): void {
    const { disk, options } = this.#o;
    checkRange(options.offset, end - options.offset, disk.capacityBytes);
  }

  async #write(offset: number, bytes: Buffer): Promise<void> {
    const { context, disk } = this.#o;
    await context.metrics.io('write', bytes.length, () => disk.write(offset, bytes));
    this.#writtenBytes += bytes.length;
  }

  async #flush(): Promise<void> {
    const { context, disk } = this.#o;
    await context.metrics.io('flush', 0, () => disk.flush());
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
