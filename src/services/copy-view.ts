/**
 * A copy as the interface sees it: live, so that what changes (its name, its source's) is never
 * stale.
 */
import type { Labels, User } from '../api/service-types.ts';
import type * as api from '../api/storage-services.ts';
import type { Copies } from '../copy/copies.ts';
import type { Copy } from '../copy/copy.ts';
import type { Pool } from '../pool/pool.ts';

export class CopyView implements api.Copy {
  readonly #copy: Copy;
  readonly #copies: Copies;

  constructor(copy: Copy, copies: Copies) {
    this.#copy = copy;
    this.#copies = copies;
  }

  get id(): string {
    return this.#copy.id;
  }

  get name(): string {
    return this.#copy.name;
  }

  get diskId(): string {
    return this.#copy.record.diskId;
  }

  get disk(): string | null {
    return this.#copies.diskOf(this.#copy);
  }

  get diskName(): string {
    return this.#copy.record.diskName;
  }

  get pool(): Pool {
    return this.#copy.pool;
  }

  get layout(): api.CopyLayout {
    return this.#copy.record.layout;
  }

  get placement(): 'shared' {
    return this.#copy.record.placement;
  }

  get generation(): number {
    return this.#copy.record.generation;
  }

  get blockSizeBytes(): number {
    return this.#copy.blockSizeBytes;
  }

  get usedBlocks(): number {
    return this.#copy.usedBlocks;
  }

  get capacityBytes(): number {
    return this.#copy.capacityBytes;
  }

  get sourceCapacityBytes(): number {
    return this.#copy.record.sourceCapacityBytes;
  }

  get frozenAtMs(): number {
    return this.#copy.record.frozenAtMs;
  }

  get haltMicroseconds(): number {
    return this.#copy.record.haltMicroseconds;
  }

  get labels(): Labels {
    return this.#copy.record.labels;
  }

  get version(): number {
    return this.#copy.record.version;
  }

  users(): readonly User[] {
    return this.#copy.users();
  }

  addUser(user: User): () => void {
    return this.#copy.addUser(user);
  }

  async read(view: api.CopyLayout, offset: number, into: Uint8Array): Promise<void> {
    await this.#copy.read(view, offset, into);
  }

  async correspondence(
    fromX: number,
    maxRuns: number,
  ): Promise<{ runs: api.CorrespondenceRun[]; next?: number }> {
    return this.#copy.correspondence(fromX, maxRuns);
  }

  async exclusiveBytes(): Promise<number> {
    return this.#copy.exclusiveBytes();
  }
}
