/**
 * A copy as the interface sees it: live, so that what changes (its name, its source's) is never
 * stale.
 */
import type { Labels, User } from '../api/service-types.ts';
import type * as api from '../api/storage-services.ts';
import type { Copiers } from '../backup/copy-data-job.ts';
import type { Copies } from '../copy/copies.ts';
import type { Copy } from '../copy/copy.ts';
import type { Pool } from '../pool/pool.ts';

export class CopyView implements api.Copy {
  /** The engine's object. */
  readonly source: Copy;
  readonly #copies: Copies;
  readonly #copiers: Copiers;

  constructor(copy: Copy, copies: Copies, copiers: Copiers) {
    this.source = copy;
    this.#copies = copies;
    this.#copiers = copiers;
  }

  get id(): string {
    return this.source.id;
  }

  get name(): string {
    return this.source.name;
  }

  get diskId(): string {
    return this.source.record.diskId;
  }

  get disk(): string | null {
    return this.#copies.diskOf(this.source);
  }

  get diskName(): string {
    return this.source.record.diskName;
  }

  get pool(): Pool {
    return this.source.pool;
  }

  get layout(): api.CopyLayout {
    return this.source.record.layout;
  }

  get placement(): api.CopyPlacement {
    return this.source.record.placement;
  }

  get state(): 'ready' | 'invalid' {
    return this.source.record.state === 'invalid' ? 'invalid' : 'ready';
  }

  get dedicated(): api.DedicatedFacts | null {
    const { dedicated } = this.source;
    if (dedicated === undefined) return null;
    const { preserve, onPreserveError, owedBlocks, problem } = dedicated;
    const job = this.#copiers.jobOf(this.source);
    return { preserve, onPreserveError, owedBlocks, job, problem: problem ?? null };
  }

  get generation(): number {
    return this.source.record.generation;
  }

  get blockSizeBytes(): number {
    return this.source.blockSizeBytes;
  }

  get usedBlocks(): number {
    return this.source.usedBlocks;
  }

  get capacityBytes(): number {
    return this.source.capacityBytes;
  }

  get sourceCapacityBytes(): number {
    return this.source.record.sourceCapacityBytes;
  }

  get frozenAtMs(): number {
    return this.source.record.frozenAtMs;
  }

  get haltMicroseconds(): number {
    return this.source.record.haltMicroseconds;
  }

  get labels(): Labels {
    return this.source.record.labels;
  }

  get groupId(): string | null {
    return this.source.record.groupId ?? null;
  }

  get group(): string | null {
    return this.#copies.groups.find(this.groupId ?? '')?.name ?? null;
  }

  get version(): number {
    return this.source.record.version;
  }

  users(): readonly User[] {
    return this.source.users();
  }

  addUser(user: User): () => void {
    return this.source.addUser(user);
  }

  async read(view: api.CopyLayout, offset: number, into: Uint8Array): Promise<void> {
    await this.source.read(view, offset, into);
  }

  async correspondence(
    fromX: number,
    maxRuns: number,
  ): Promise<{ runs: api.CorrespondenceRun[]; next?: number }> {
    return this.source.correspondence(fromX, maxRuns);
  }

  async dataBlocks(
    fromX: number,
    maxRuns: number,
  ): Promise<{ runs: api.DataBlockRun[]; next?: number }> {
    return this.source.dataBlocks(fromX, maxRuns);
  }

  async exclusiveBytes(): Promise<number> {
    return this.source.exclusiveBytes();
  }
}
