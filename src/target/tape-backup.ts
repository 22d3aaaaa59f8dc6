/**
 * The two sides of one backup on tape: its bytes going in, its bytes coming out.
 *
 * The drive is taken with the first byte. A transfer that goes on repeats its bytes from where it
 * begins; those that the cartridges have already are passed over.
 */
import { assert } from '../base/assert.ts';
import { StorageError } from '../base/errors.ts';
import type { ErrorDetails } from '../base/errors.ts';
import { asMediumError } from '../tape/media.ts';
import type { TapeSetReader } from '../tape/set-reader.ts';
import type { TapeSetWriter } from '../tape/set-writer.ts';
import { MAX_MANIFEST_BYTES } from './target.ts';
import type { BackupBytes, BackupSink, Manifest } from './target.ts';

/** What a sink asks of its target. */
export interface TapeSinkHome {
  /** `target` and `backup`, for errors. */
  readonly facts: ErrorDetails;
  /** Mounts a cartridge and finds out where the backup goes on. */
  begin(): Promise<BegunWriting>;
  /** The manifest that the next final part will hold. */
  completing(manifest: Manifest): void;
  discard(): Promise<void>;
  /** Gives the drive back if it is still held; the name may be written again. */
  release(): Promise<void>;
}

export interface BegunWriting {
  /** Bytes that the cartridges have: passed over. */
  readonly knownBytes: number;
  /** Undefined if they have the whole backup, which the catalog did not know. */
  readonly writer: TapeSetWriter | undefined;
}

export class TapeSink implements BackupSink {
  readonly #home: TapeSinkHome;
  #begun: BegunWriting | undefined;
  #offset: number;
  #state: 'open' | 'broken' | 'ended' = 'open';
  #isBusy = false;

  constructor(home: TapeSinkHome, offset: number) {
    this.#home = home;
    this.#offset = offset;
  }

  get offset(): number {
    return this.#offset;
  }

  write(buffers: readonly Uint8Array[]): Promise<void> {
    return this.#step(async () => {
      const { writer, knownBytes } = await this.#begin();
      for (const buffer of buffers) {
        const known = Math.min(buffer.length, Math.max(0, knownBytes - this.#offset));
        if (known < buffer.length) {
          if (writer === undefined) throw this.#otherLength(knownBytes);
          await writer.write([buffer.subarray(known)]);
        }
        this.#offset += buffer.length;
      }
    });
  }

  confirm(): Promise<number> {
    return this.#step(async () => {
      const writer = this.#begun?.writer;
      if (writer !== undefined && this.#offset > writer.confirmedOffset) await writer.confirm();
      return this.#offset;
    });
  }

  async commit(manifest: Manifest): Promise<void> {
    const bytes = Buffer.from(`${JSON.stringify(manifest, undefined, 2)}\n`);
    assert(bytes.length <= MAX_MANIFEST_BYTES, 'manifest of more than 1 MiB');
    await this.#step(async () => {
      const { writer, knownBytes } = await this.#begin();
      if (this.#offset < knownBytes) throw this.#otherLength(knownBytes);
      this.#home.completing(manifest);
      await writer?.commit(bytes);
    });
    this.#state = 'ended';
    await this.#home.release();
  }

  async abort(keep: boolean): Promise<void> {
    if (this.#state === 'ended') return;
    this.#state = 'ended';
    try {
      await this.#begun?.writer?.abort();
      if (!keep) await this.#home.discard();
    } finally {
      await this.#home.release();
    }
  }

  async #begin(): Promise<BegunWriting> {
    this.#begun ??= await this.#home.begin();
    return this.#begun;
  }

  #otherLength(confirmedBytes: number): StorageError {
    const message = 'the cartridges hold another number of bytes of this backup';
    return new StorageError('TARGET_INVALID', message, { confirmedBytes });
  }

  async #step<T>(work: () => Promise<T>): Promise<T> {
    assert(this.#state !== 'ended' && !this.#isBusy, 'sink used after its end or twice at once');
    if (this.#state === 'broken') {
      const message = 'an earlier write failed';
      throw new StorageError('TARGET_UNAVAILABLE', message, this.#home.facts);
    }
    this.#isBusy = true;
    try {
      return await work();
    } catch (error) {
      this.#state = 'broken';
      throw asMediumError(error, { ...this.#home.facts, writtenBytes: this.offset });
    } finally {
      this.#isBusy = false;
    }
  }
}

/** Runs one piece of work with the drive at a time. */
export type DriveTurn = <T>(work: () => Promise<T>) => Promise<T>;

export class TapeBytes implements BackupBytes {
  readonly sizeBytes: number;
  readonly #reader: TapeSetReader;
  readonly #turn: DriveTurn;
  readonly #facts: ErrorDetails;
  #closing: Promise<void> | undefined;

  constructor(reader: TapeSetReader, turn: DriveTurn, facts: ErrorDetails) {
    this.sizeBytes = reader.imageBytes;
    this.#reader = reader;
    this.#turn = turn;
    this.#facts = facts;
  }

  async read(offset: number, into: Uint8Array): Promise<void> {
    assert(this.#closing === undefined, 'backup read after close');
    try {
      await this.#turn(() => this.#reader.read(offset, into));
    } catch (error) {
      throw asMediumError(error, { ...this.#facts, offset, length: into.length });
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#turn(() => this.#reader.close());
    return this.#closing;
  }
}
