/**
 * Image files that betray: they fail the nth call, write short, know no O_DIRECT, and forget at a
 * power cut everything that was not synced.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { systemFiles } from '../../src/file/bulk-file.ts';
import type { BulkFile, BulkFileMode, BulkFiles } from '../../src/file/bulk-file.ts';

type Operation = 'open' | 'write' | 'read' | 'sync' | 'truncate';

export function systemError(errno: string): Error {
  return Object.assign(new Error(`${errno}: injected`), { code: errno });
}

export class WickedFiles implements BulkFiles {
  /** Where O_DIRECT is refused. */
  refuseDirect: 'never' | 'at-open' | 'at-write' = 'never';
  /** Writes of more than this write only this much. */
  shortWriteBytes = Infinity;
  readonly #faults = new Map<Operation, { after: number; errno: string }>();
  readonly #durable = new Map<string, Buffer>();
  readonly opened: BulkFileMode[] = [];
  openCount = 0;

  /** The call of this kind after `after` more fails, and all that follow. */
  fail(operation: Operation, errno: string, after = 0): void {
    this.#faults.set(operation, { after, errno });
  }

  mend(): void {
    this.#faults.clear();
  }

  async open(path: string, mode: BulkFileMode): Promise<BulkFile> {
    this.check('open');
    if (mode === 'write-direct' && this.refuseDirect === 'at-open') throw systemError('EINVAL');
    const file = await systemFiles.open(path, mode);
    if (mode === 'write' && !this.#durable.has(path)) {
      this.#durable.set(path, await readFile(path));
    }
    this.opened.push(mode);
    this.openCount += 1;
    return new WickedFile(this, file, path, mode);
  }

  /** Every file that was written is again as at its last sync. */
  async cutPower(): Promise<void> {
    for (const [path, bytes] of this.#durable) {
      await writeFile(path, bytes, { flag: 'r+' }).catch(() => undefined);
    }
    this.#durable.clear();
  }

  check(operation: Operation): void {
    const fault = this.#faults.get(operation);
    if (fault === undefined) return;
    if (fault.after === 0) throw systemError(fault.errno);
    fault.after -= 1;
  }

  async synced(path: string): Promise<void> {
    if (this.#durable.has(path)) this.#durable.set(path, await readFile(path));
  }
}

class WickedFile implements BulkFile {
  readonly #files: WickedFiles;
  readonly #file: BulkFile;
  readonly #path: string;
  readonly #mode: BulkFileMode;

  constructor(files: WickedFiles, file: BulkFile, path: string, mode: BulkFileMode) {
    this.#files = files;
    this.#file = file;
    this.#path = path;
    this.#mode = mode;
  }

  async write(bytes: Uint8Array, offset: number): Promise<number> {
    if (this.#mode === 'write-direct' && this.#files.refuseDirect === 'at-write') {
      throw systemError('EINVAL');
    }
    this.#files.check('write');
    const short = Math.min(bytes.length, this.#files.shortWriteBytes);
    const whole = this.#mode === 'write-direct' ? short - (short % 4096) : short;
    await this.#file.write(bytes.subarray(0, whole), offset);
    return short;
  }

  async read(into: Uint8Array, offset: number): Promise<number> {
    this.#files.check('read');
    return this.#file.read(into, offset);
  }

  async sync(): Promise<void> {
    this.#files.check('sync');
    await this.#file.sync();
    await this.#files.synced(this.#path);
  }

  async truncate(sizeBytes: number): Promise<void> {
    this.#files.check('truncate');
    await this.#file.truncate(sizeBytes);
  }

  size(): Promise<number> {
    return this.#file.size();
  }

  async close(): Promise<void> {
    this.#files.openCount -= 1;
    await this.#file.close();
  }
}
