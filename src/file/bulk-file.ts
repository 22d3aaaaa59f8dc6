/**
 * The I/O seam of what writes files in bulk: one open file. Tests put a wicked one in its place.
 */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';

export interface BulkFile {
  /** One pwrite; may write less than asked. @returns the number of bytes written */
  write(bytes: Uint8Array, offset: number): Promise<number>;
  /** One pread; 0 at the end of the file. */
  read(into: Uint8Array, offset: number): Promise<number>;
  /** fdatasync: all writes to the file, of every descriptor, and its length. */
  sync(): Promise<void>;
  truncate(sizeBytes: number): Promise<void>;
  size(): Promise<number>;
  close(): Promise<void>;
}

/** `write` creates the file; `write-direct` goes past the page cache and needs aligned pages. */
export type BulkFileMode = 'read' | 'write' | 'write-direct';

export interface BulkFiles {
  /** @throws system errors; EINVAL where the file system knows no O_DIRECT */
  open(path: string, mode: BulkFileMode): Promise<BulkFile>;
}

// Flags of open(2) have no bit in common, so they are added: `+` is `|` here.
const flags: Record<BulkFileMode, number> = {
  read: constants.O_RDONLY + constants.O_NOFOLLOW,
  write: constants.O_RDWR + constants.O_CREAT + constants.O_NOFOLLOW,
  'write-direct': constants.O_WRONLY + constants.O_DIRECT + constants.O_NOFOLLOW,
};

class NodeFile implements BulkFile {
  readonly #handle: FileHandle;

  constructor(handle: FileHandle) {
    this.#handle = handle;
  }

  async write(bytes: Uint8Array, offset: number): Promise<number> {
    return (await this.#handle.write(bytes, 0, bytes.length, offset)).bytesWritten;
  }

  async read(into: Uint8Array, offset: number): Promise<number> {
    return (await this.#handle.read(into, 0, into.length, offset)).bytesRead;
  }

  sync(): Promise<void> {
    return this.#handle.datasync();
  }

  truncate(sizeBytes: number): Promise<void> {
    return this.#handle.truncate(sizeBytes);
  }

  async size(): Promise<number> {
    return (await this.#handle.stat()).size;
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}

/** Files of the operating system; new ones are readable by their owner only. */
export const systemFiles: BulkFiles = {
  open: async (path, mode) => {
    // Node has no such constant where the system has no such flag.
    if (!Number.isInteger(flags[mode])) {
      throw Object.assign(new Error('no O_DIRECT here'), { code: 'EINVAL' });
    }
    return new NodeFile(await open(path, flags[mode], 0o600));
  },
};
