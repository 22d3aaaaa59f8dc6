/**
 * The two sides of one backup in a directory target: its bytes going in, its bytes coming out.
 *
 * Neither knows where the other files of the backup are: `SinkHome` does what concerns the folder.
 */
import { assert } from '../base/assert.ts';
import { StorageError, errnoOf } from '../base/errors.ts';
import type { ErrorDetails } from '../base/errors.ts';
import type { BulkFile } from '../file/bulk-file.ts';
import type { BulkWriter } from '../file/bulk-writer.ts';
import { asTargetError } from './target-error.ts';
import { SinkSteps } from './sink-steps.ts';
import { MAX_MANIFEST_BYTES } from './target.ts';
import type { BackupBytes, BackupSink, Manifest } from './target.ts';

/** What a sink asks of its target. */
export interface SinkHome {
  /** `target` and `backup`, for errors. */
  readonly facts: ErrorDetails;
  /** Makes the closed, durable partial image a complete backup. */
  publish(manifestText: string): Promise<void>;
  /** Removes the incomplete backup. */
  discard(): Promise<void>;
  /** The name may be written again. */
  release(): void;
}

export class DirectorySink implements BackupSink {
  readonly #writer: BulkWriter;
  readonly #home: SinkHome;
  readonly #steps: SinkSteps;

  constructor(writer: BulkWriter, home: SinkHome) {
    this.#writer = writer;
    this.#home = home;
    this.#steps = new SinkSteps(home.facts, (error) =>
      asTargetError(error, { ...home.facts, writtenBytes: this.offset }),
    );
  }

  get offset(): number {
    return this.#writer.offset;
  }

  write(buffers: readonly Uint8Array[]): Promise<void> {
    return this.#steps.run(() => this.#writer.write(buffers));
  }

  confirm(): Promise<number> {
    return this.#steps.run(() => this.#writer.confirm());
  }

  async commit(manifest: Manifest): Promise<void> {
    const text = `${JSON.stringify(manifest, undefined, 2)}\n`;
    assert(Buffer.byteLength(text) <= MAX_MANIFEST_BYTES, 'manifest of more than 1 MiB');
    await this.#steps.run(async () => {
      await this.#writer.confirm();
      await this.#writer.close();
      await this.#home.publish(text);
    });
    this.#end();
  }

  async abort(keep: boolean): Promise<void> {
    if (this.#steps.isEnded) return;
    this.#steps.end();
    try {
      await this.#writer.close();
      if (!keep) await this.#home.discard();
    } catch (error) {
      throw asTargetError(error, this.#home.facts);
    } finally {
      this.#home.release();
    }
  }

  #end(): void {
    this.#steps.end();
    this.#home.release();
  }
}

export class DirectoryBytes implements BackupBytes {
  readonly sizeBytes: number;
  readonly #file: BulkFile;
  readonly #facts: ErrorDetails;
  #closing: Promise<void> | undefined;

  constructor(file: BulkFile, sizeBytes: number, facts: ErrorDetails) {
    this.#file = file;
    this.sizeBytes = sizeBytes;
    this.#facts = facts;
  }

  async read(offset: number, into: Uint8Array): Promise<void> {
    assert(this.#closing === undefined, 'backup read after close');
    const facts = { ...this.#facts, offset, length: into.length };
    if (offset + into.length > this.sizeBytes) throw truncated(facts);
    let done = 0;
    while (done < into.length) {
      const count = await this.#readPart(into.subarray(done), offset + done, facts);
      if (count === 0) throw truncated(facts);
      done += count;
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#file.close();
    return this.#closing;
  }

  async #readPart(into: Uint8Array, offset: number, facts: ErrorDetails): Promise<number> {
    try {
      return await this.#file.read(into, offset);
    } catch (error) {
      if (errnoOf(error) !== 'EIO') throw asTargetError(error, facts);
      throw new StorageError('DATA_UNREADABLE', 'a range of the image is unreadable', facts, error);
    }
  }
}

function truncated(facts: ErrorDetails): StorageError {
  return new StorageError('IMAGE_TRUNCATED', 'the image ends before this range', facts);
}
