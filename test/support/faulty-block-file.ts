/**
 * A wicked file system in memory: it loses, tears and reorders what was not synced, and fails on
 * command.
 *
 * Each file keeps its durable sectors and, apart, every version of a sector written since. A read
 * sees the newest version. `crash()` lets each unsynced sector (512 bytes) keep its durable bytes
 * or any one of its versions, independently, ruled by the seed: so writes are dropped, torn and
 * reordered. The size of a file behaves the same. After a crash old handles are dead, locks are
 * gone, faults are cleared, and files can be opened again.
 *
 * A failed sync loses like Linux does: some sectors become durable, the others stay readable but
 * no later sync writes them.
 *
 * `steps` counts the calls that do I/O: create, remove, read, write, sync, grow.
 */
import { assert } from '../../src/base/assert.ts';
import { totalLength } from '../../src/base/bytes.ts';
import { errnoOf, StorageError } from '../../src/base/errors.ts';
import { Gate } from '../../src/base/mutex.ts';
import type { BlockFile, BlockFileSystem } from '../../src/pool/block-file.ts';
import { unreadable } from '../../src/pool/block-file.ts';
import type { Cell, Medium } from './volatile-medium.ts';
import { dropBeyond, generator, get, newMedium, put, SECTOR } from './volatile-medium.ts';

/** What every call throws from the step of `cutAt` on, until `crash`. */
export class CutError extends Error {
  constructor() {
    super('cut');
    this.name = 'CutError';
  }
}

export function systemError(code: string): Error {
  return Object.assign(new Error(`${code}: made by the test`), { code });
}

export interface FaultyOptions {
  readonly seed?: number;
  /** Room for all files; preallocating beyond it is HOST_FULL. Default: endless. */
  readonly roomBytes?: number;
}

export class FaultyFileSystem implements BlockFileSystem {
  /** I/O calls so far. */
  steps = 0;
  roomBytes: number;
  readonly #media = new Map<string, Medium>();
  readonly #failures = new Map<number, string>();
  readonly #random: () => number;
  #cutAt = Infinity;
  #failingSyncs = 0;
  #sequence = 0;
  #lives = 0;

  constructor(o: FaultyOptions = {}) {
    this.#random = generator(o.seed ?? 1);
    this.roomBytes = o.roomBytes ?? Infinity;
  }

  /** The step with this number (the next one is `steps + 1`) fails: EIO, ENOSPC … */
  failAt(step: number, errno = 'EIO'): void {
    this.#failures.set(step, errno);
  }

  /** The next `count` syncs fail with EIO. */
  failSync(count = 1): void {
    this.#failingSyncs += count;
  }

  /** No I/O from this step on takes effect: each throws CutError until `crash`. */
  cutAt(step: number): void {
    this.#cutAt = step;
  }

  get isCut(): boolean {
    return this.steps >= this.#cutAt;
  }

  /** Power loss. The same object is then the machine after its restart. */
  crash(): void {
    for (const medium of this.#media.values()) {
      for (const cell of medium.unsynced) cell.crash((count) => this.pick(count));
      medium.unsynced.clear();
      medium.isOpen = false;
      dropBeyond(medium);
    }
    this.#lives += 1;
    this.#cutAt = Infinity;
    this.#failingSyncs = 0;
    this.#failures.clear();
  }

  /** A block device full of old bytes. */
  addDevice(path: string, sizeBytes: number, fill = 0xa5): void {
    this.#media.set(path, newMedium('device', sizeBytes, fill));
  }

  has(path: string): boolean {
    return this.#media.has(path);
  }

  get paths(): string[] {
    return [...this.#media.keys()];
  }

  /** Changes bytes behind everyone's back, durably. */
  edit(path: string, position: number, bytes: Uint8Array): void {
    const medium = this.#medium(path);
    this.#sequence += 1;
    put(medium, bytes, position, this.#sequence);
    for (const cell of medium.unsynced) cell.sync(this.#sequence);
    medium.unsynced.clear();
  }

  /** What a read would see. */
  peek(path: string, position: number, length: number): Buffer {
    const into = Buffer.alloc(length);
    get(this.#medium(path), into, position);
    return into;
  }

  sizeOf(path: string): number {
    return this.#medium(path).size.current;
  }

  truncate(path: string, sizeBytes: number): void {
    const medium = this.#medium(path);
    medium.size.durable = sizeBytes;
    medium.size.versions = [];
    dropBeyond(medium);
  }

  async create(path: string, sizeBytes: number, preallocate: boolean): Promise<BlockFile> {
    await this.#named('create', path);
    const found = this.#media.get(path);
    if (found?.kind === 'file' && found.size.current > 0) {
      throw new StorageError('POOL_FILE_EXISTS', `${path} exists and is not empty`, { path });
    }
    const medium = found ?? newMedium('file', 0, 0);
    this.#media.set(path, medium);
    const file = this.#open(path, medium);
    try {
      if (sizeBytes > 0) await file.grow(sizeBytes, preallocate);
      return file;
    } catch (error) {
      if (medium.kind === 'file') this.#media.delete(path);
      await file.close();
      throw error;
    }
  }

  async open(path: string): Promise<BlockFile> {
    if (this.isCut) throw new CutError();
    const medium = this.#media.get(path);
    if (medium === undefined) {
      throw new StorageError('POOL_UNAVAILABLE', `cannot use ${path}: no such file`, { path });
    }
    return this.#open(path, medium);
  }

  async remove(path: string): Promise<void> {
    await this.#named('remove', path);
    if (this.#media.get(path)?.kind === 'file') this.#media.delete(path);
  }

  /** A number from 0 to `count` - 1, by the seed. */
  pick(count: number): number {
    return Math.floor(this.#random() * count);
  }

  nextSequence(): number {
    this.#sequence += 1;
    return this.#sequence;
  }

  get sequence(): number {
    return this.#sequence;
  }

  /** How often the machine was started. */
  get lives(): number {
    return this.#lives;
  }

  /** Counts one call of I/O, fails it if it is to fail, else lets others go first for a while. */
  async step(call: 'create' | 'remove' | 'read' | 'write' | 'sync' | 'grow'): Promise<void> {
    this.steps += 1;
    if (this.steps >= this.#cutAt) throw new CutError();
    const errno = this.#failures.get(this.steps);
    if (errno !== undefined) throw systemError(errno);
    if (call === 'sync' && this.#failingSyncs > 0) {
      this.#failingSyncs -= 1;
      throw systemError('EIO');
    }
    const life = this.#lives;
    for (let pause = this.pick(4); pause > 0; pause -= 1) await Promise.resolve();
    if (life !== this.#lives) throw new CutError();
  }

  /** @throws HOST_FULL unless there is room for so many bytes more */
  checkRoom(path: string, bytes: number): void {
    let used = 0;
    for (const medium of this.#media.values()) {
      if (medium.kind === 'file') used += medium.size.current;
    }
    if (used + bytes > this.roomBytes) throw hostFull(path);
  }

  /** Calls by name have no raw errors. */
  async #named(call: 'create' | 'remove', path: string): Promise<void> {
    try {
      await this.step(call);
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === undefined) throw error;
      if (errno === 'ENOSPC') throw hostFull(path);
      throw new StorageError('POOL_UNAVAILABLE', `cannot use ${path}: ${errno}`, { path }, error);
    }
  }

  #medium(path: string): Medium {
    const medium = this.#media.get(path);
    if (medium === undefined) throw new Error(`no medium at ${path}`);
    return medium;
  }

  #open(path: string, medium: Medium): FaultyBlockFile {
    if (medium.isOpen) {
      throw new StorageError('POOL_FILE_LOCKED', `${path} is in use`, { path });
    }
    medium.isOpen = true;
    return new FaultyBlockFile(this, path, medium);
  }
}

class FaultyBlockFile implements BlockFile {
  readonly path: string;
  readonly kind: 'file' | 'device';
  readonly #fs: FaultyFileSystem;
  readonly #medium: Medium;
  readonly #life: number;
  readonly #gate = new Gate();

  constructor(fs: FaultyFileSystem, path: string, medium: Medium) {
    this.path = path;
    this.kind = medium.kind;
    this.#fs = fs;
    this.#medium = medium;
    this.#life = fs.lives;
  }

  get sizeBytes(): number {
    return this.#medium.size.current;
  }

  read(into: Uint8Array, position: number): Promise<void> {
    return this.#run(async () => {
      try {
        await this.#fs.step('read');
        if (position + into.length > this.sizeBytes) throw new Error('the file ends before');
      } catch (error) {
        if (error instanceof CutError) throw error;
        throw unreadable(this.path, position, into.length, error);
      }
      get(this.#medium, into, position);
    });
  }

  write(buffers: readonly Uint8Array[], position: number): Promise<void> {
    return this.#run(async () => {
      // written when the call ends, from what the buffers then hold, as in a thread pool
      try {
        await this.#fs.step('write');
      } catch (error) {
        if (!(error instanceof CutError)) this.#writeSome(Buffer.concat(buffers), position);
        throw this.#asHostFull(error);
      }
      if (totalLength(buffers) > 0) this.#put(Buffer.concat(buffers), position);
    });
  }

  sync(): Promise<void> {
    return this.#run(async () => {
      const sequence = this.#fs.sequence;
      const covered = [...this.#medium.unsynced];
      try {
        await this.#fs.step('sync');
      } catch (error) {
        if (!(error instanceof CutError)) this.#loseSome(covered, sequence);
        throw error;
      }
      for (const cell of covered) this.#settle(cell, sequence);
    });
  }

  grow(sizeBytes: number, preallocate: boolean): Promise<void> {
    return this.#run(async () => {
      try {
        await this.#fs.step('grow');
      } catch (error) {
        throw this.#asHostFull(error);
      }
      const present = this.sizeBytes;
      if (sizeBytes <= present) return;
      if (this.kind === 'device') {
        throw new StorageError('VALIDATION_FAILED', `device ${this.path} is smaller`);
      }
      if (preallocate) this.#fs.checkRoom(this.path, sizeBytes - present);
      this.#setSize(sizeBytes);
    });
  }

  async close(): Promise<void> {
    if (!this.#gate.isOpen) return;
    await this.#gate.close();
    if (this.#life === this.#fs.lives) this.#medium.isOpen = false;
  }

  async #run(body: () => Promise<void>): Promise<void> {
    if (this.#life !== this.#fs.lives) throw new CutError();
    assert(this.#gate.tryEnter(), `${this.path} is used after its close`);
    try {
      await body();
    } finally {
      this.#gate.leave();
    }
  }

  #put(bytes: Buffer, position: number): void {
    const end = position + bytes.length;
    if (end > this.sizeBytes) this.#setSize(end);
    put(this.#medium, bytes, position, this.#fs.nextSequence());
  }

  #setSize(sizeBytes: number): void {
    const { size, unsynced } = this.#medium;
    size.versions.push({ sequence: this.#fs.nextSequence(), value: sizeBytes });
    unsynced.add(size);
  }

  /** A write that fails has written some of its sectors. */
  #writeSome(bytes: Buffer, position: number): void {
    for (let at = 0; at < bytes.length; at += SECTOR) {
      const part = bytes.subarray(at, at + SECTOR);
      if (this.#fs.pick(2) === 0) this.#put(part, position + at);
    }
  }

  #loseSome(cells: readonly Cell[], sequence: number): void {
    for (const cell of cells) {
      if (this.#fs.pick(2) === 0) this.#settle(cell, sequence);
      else cell.lose(sequence);
    }
  }

  #settle(cell: Cell, sequence: number): void {
    cell.sync(sequence);
    if (cell.versions.length === 0) this.#medium.unsynced.delete(cell);
  }

  #asHostFull(error: unknown): unknown {
    return errnoOf(error) === 'ENOSPC' ? hostFull(this.path) : error;
  }
}

function hostFull(path: string): StorageError {
  return new StorageError('HOST_FULL', `no room for ${path}`, { path });
}
