/**
 * Writes one backup through a ring of records, so that the drive streams: a tape that runs out of
 * data stops, goes back and starts again, which takes seconds and wears it.
 *
 *  1. `write` puts bytes into records and waits only while the ring is full. The drive begins when
 *     the ring is filled to the high mark, and goes on until it is empty; then it waits for the
 *     high mark again.
 *  2. `confirm` and `commit` write what is in the ring first, so does a deadline: bytes of a slow
 *     source do not rest in memory for long.
 *  3. A record leaves the ring when the drive has taken it. One that a full cartridge refused is
 *     still there, and is the first one on the next.
 *
 * Invariants:
 *  1. Records reach the writer below in order, one operation at a time, each record once.
 *  2. Nothing in the ring is ever said to be written or confirmed.
 *  3. The first error stays: whoever waits for room gets it, and every later call.
 *  4. After `commit` or `abort` nothing uses the ring, and its memory is given back.
 */
import { assert } from '../base/assert.ts';
import { BlockCrcs, crc32 } from '../base/checksum.ts';
import type { Clock } from '../base/clock.ts';
import { deferred } from '../base/mutex.ts';
import type { Deferred } from '../base/mutex.ts';
import { payloadSpace, RECORD_HEAD_BYTES } from './record.ts';
import type { RecordRing } from './record-ring.ts';
import type { TapeSetWriter } from './set-writer.ts';

/** The drive begins when this share of the ring is filled. */
const HIGH_MARK = 0.75;
/** Records wait no longer than this for the high mark. */
const DEADLINE_MS = 30_000;

/** The part of a set writer that is used here. */
export type RecordSink = Pick<
  TapeSetWriter,
  'writeRecord' | 'confirm' | 'commit' | 'abort' | 'confirmedOffset'
>;

/** How the drive keeps up with the source. Totals since the beginning, but for `bufferedBytes`. */
export interface DriveFlow {
  readonly bufferBytes: number;
  /** Taken from the source and not yet written. */
  readonly bufferedBytes: number;
  readonly writtenBytes: number;
  /** How often the ring ran empty while the source had more. */
  readonly stalls: number;
  /** How long the drive then waited, all times together. */
  readonly stalledMs: number;
  /** How long the drive was at work. */
  readonly busyMs: number;
}

export interface StreamOptions {
  readonly clock: Pick<Clock, 'monotonicNs'>;
  /** Resolves after that time, or when the signal fires. */
  readonly sleep: (ms: number, signal: AbortSignal) => Promise<void>;
}

interface Filled {
  readonly bytes: Buffer;
  payloadBytes: number;
  payloadCrc: number;
}

export class StreamedWriter {
  readonly #sink: RecordSink;
  readonly #ring: RecordRing;
  readonly #o: StreamOptions;
  readonly #highMark: number;
  readonly #space: number;
  /** Full records, and one that is to be written as it is; the first one may be with the drive. */
  readonly #ready: Filled[] = [];
  #current: Filled | undefined;
  /** The drive at work: ends when the ring is empty. Never rejects. */
  #running: Promise<void> | undefined;
  #failure: { readonly error: unknown } | undefined;
  #isStopping = false;
  #hasEnded = false;
  #room: Deferred<undefined> | undefined;
  #deadline: AbortController | undefined;
  /** When the ring ran empty, if nobody had asked for that. */
  #dry: { readonly sinceNs: bigint; hasMore: boolean } | undefined;
  #bufferedBytes = 0;
  #writtenBytes = 0;
  #stalls = 0;
  #stalledNs = 0n;
  #busyNs = 0n;
  #busySinceNs: bigint | undefined;

  constructor(sink: RecordSink, ring: RecordRing, options: StreamOptions) {
    this.#sink = sink;
    this.#ring = ring;
    this.#o = options;
    this.#highMark = Math.ceil(HIGH_MARK * ring.count);
    this.#space = payloadSpace(ring.recordBytes);
  }

  get confirmedOffset(): number {
    return this.#sink.confirmedOffset;
  }

  flow(): DriveFlow {
    const runningNs =
      this.#busySinceNs === undefined ? 0n : this.#o.clock.monotonicNs() - this.#busySinceNs;
    return {
      bufferBytes: this.#ring.count * this.#ring.recordBytes,
      bufferedBytes: this.#bufferedBytes,
      writtenBytes: this.#writtenBytes,
      stalls: this.#stalls,
      stalledMs: Number(this.#stalledNs) / 1e6,
      busyMs: Number(this.#busyNs + runningNs) / 1e6,
    };
  }

  /**
   * Appends. The buffer may be used again when it resolves.
   *
   * @param checksums CRC-32 of each of the blocks of equal size that `bytes` are, if known
   * @throws what the drive threw
   */
  async write(bytes: Uint8Array, checksums?: Uint32Array): Promise<void> {
    const blocks = checksums === undefined ? undefined : new BlockCrcs(bytes, checksums);
    for (let taken = 0; taken < bytes.length;) {
      this.#check();
      const record = this.#current ?? (await this.#newRecord());
      const end = Math.min(bytes.length, taken + this.#space - record.payloadBytes);
      const part = bytes.subarray(taken, end);
      record.bytes.set(part, RECORD_HEAD_BYTES + record.payloadBytes);
      const { payloadCrc } = record;
      record.payloadCrc = blocks?.continued(payloadCrc, taken, end) ?? crc32(part, payloadCrc);
      record.payloadBytes += part.length;
      this.#bufferedBytes += part.length;
      taken = end;
      if (this.#dry !== undefined) this.#dry.hasMore = true;
      if (record.payloadBytes === this.#space) this.#push(record);
    }
    this.#check();
  }

  /** Makes everything taken so far count. @returns `confirmedOffset` */
  async confirm(): Promise<number> {
    await this.#drain();
    return this.#timed(() => this.#sink.confirm());
  }

  /** Completes the backup and ends the writer. @param manifest JSON */
  async commit(manifest: Uint8Array): Promise<void> {
    await this.#drain();
    await this.#timed(() => this.#sink.commit(manifest));
    this.#end();
  }

  /** Ends the writer after what the drive is at; what was confirmed stays. Idempotent. */
  async abort(): Promise<void> {
    if (this.#hasEnded) return;
    this.#isStopping = true;
    await this.#running;
    try {
      await this.#sink.abort();
    } finally {
      this.#end();
    }
  }

  async #newRecord(): Promise<Filled> {
    while (!this.#ring.hasFree) {
      this.#room = deferred();
      await this.#room.promise;
      this.#check();
    }
    this.#current = { bytes: this.#ring.take(), payloadBytes: 0, payloadCrc: 0 };
    return this.#current;
  }

  #push(record: Filled): void {
    assert(record === this.#current, 'a record that is not being filled');
    this.#current = undefined;
    this.#ready.push(record);
    if (this.#running !== undefined) return;
    if (this.#ready.length >= this.#highMark) this.#start();
    else this.#setDeadline();
  }

  /** The drive begins, with all that is ready. */
  #start(): void {
    this.#clearDeadline();
    if (this.#failure !== undefined || this.#isStopping) return;
    this.#endStall();
    this.#running = this.#run();
  }

  async #run(): Promise<void> {
    this.#busySinceNs = this.#o.clock.monotonicNs();
    try {
      for (;;) {
        const [record] = this.#ready;
        if (record === undefined || this.#isStopping) break;
        await this.#sink.writeRecord(record);
        this.#ready.shift();
        this.#bufferedBytes -= record.payloadBytes;
        this.#writtenBytes += record.payloadBytes;
        this.#ring.giveBack(record.bytes);
        this.#tellRoom();
      }
      this.#dry = { sinceNs: this.#o.clock.monotonicNs(), hasMore: false };
    } catch (error) {
      this.#failure = { error };
    } finally {
      this.#endBusy();
      this.#running = undefined;
      this.#tellRoom();
    }
  }

  /** All that was taken is with the drive. */
  async #drain(): Promise<void> {
    this.#check();
    if (this.#current !== undefined) this.#push(this.#current);
    while (this.#ready.length > 0) {
      if (this.#running === undefined) this.#start();
      await this.#running;
      this.#check();
    }
    // That it stands still from now on, it was asked for.
    this.#dry = undefined;
  }

  #endStall(): void {
    const dry = this.#dry;
    this.#dry = undefined;
    if (dry?.hasMore !== true) return;
    this.#stalls += 1;
    this.#stalledNs += this.#o.clock.monotonicNs() - dry.sinceNs;
  }

  #setDeadline(): void {
    if (this.#deadline !== undefined) return;
    const deadline = new AbortController();
    this.#deadline = deadline;
    void this.#o.sleep(DEADLINE_MS, deadline.signal).then(() => {
      if (!deadline.signal.aborted) this.#start();
    });
  }

  #clearDeadline(): void {
    this.#deadline?.abort();
    this.#deadline = undefined;
  }

  #tellRoom(): void {
    this.#room?.resolve(undefined);
    this.#room = undefined;
  }

  async #timed<T>(work: () => Promise<T>): Promise<T> {
    this.#busySinceNs = this.#o.clock.monotonicNs();
    try {
      return await work();
    } finally {
      this.#endBusy();
    }
  }

  #endBusy(): void {
    const nowNs = this.#o.clock.monotonicNs();
    this.#busyNs += nowNs - (this.#busySinceNs ?? nowNs);
    this.#busySinceNs = undefined;
  }

  #check(): void {
    assert(!this.#hasEnded && !this.#isStopping, 'streamed writer used after its end');
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  #end(): void {
    this.#hasEnded = true;
    this.#clearDeadline();
    this.#ring.end();
  }
}
