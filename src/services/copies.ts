/**
 * Copies as the interface sees them, over the engine's verbs: freeze, remap, rename, delete and
 * compare.
 */
import type { Effects, ForceOption, Rename } from '../api/service-types.ts';
import type * as api from '../api/storage-services.ts';
import type { Copiers } from '../backup/copy-data-job.ts';
import type { Copies } from '../copy/copies.ts';
import type { Copy } from '../copy/copy.ts';
import { type Since, assertRelated, changedRuns } from '../copy/difference.ts';
import { freeze } from '../copy/freeze.ts';
import { createFromCopy } from '../copy/remap.ts';
import type { Job } from '../job/job.ts';
import { CopyView } from './copy-view.ts';

export class CopyService implements api.Copies {
  /** The engine's. */
  readonly source: Copies;
  readonly #copiers: Copiers;
  readonly #views = new WeakMap<Copy, CopyView>();

  constructor(copies: Copies, copiers: Copiers) {
    this.source = copies;
    this.#copiers = copiers;
  }

  async freeze(
    diskRef: string,
    request: api.FreezeRequest,
    effects?: Effects<api.Copy>,
  ): Promise<api.Copy> {
    const { placement, ...rest } = request;
    if (placement !== 'dedicated') {
      const made = await freeze(this.source, diskRef, rest, this.#viewed(effects));
      return this.view(made);
    }
    return this.#freezeDedicated(diskRef, rest, effects);
  }

  /** The copy and the job that fills it are committed together. */
  async #freezeDedicated(
    diskRef: string,
    request: api.FreezeRequest,
    effects?: Effects<api.Copy>,
  ): Promise<api.Copy> {
    const { name, layout, labels, ...dedicated } = request;
    const wanted = {
      name,
      dedicated,
      ...(layout === undefined ? {} : { layout }),
      ...(labels === undefined ? {} : { labels }),
    };
    const begun: { copy?: Copy; job?: Job } = {};
    try {
      const copy = await freeze(this.source, diskRef, wanted, (made) => {
        const prepared = this.#copiers.prepare(made);
        begun.copy = made;
        if (prepared !== undefined) begun.job = prepared.job;
        const rows = prepared === undefined ? [] : [prepared.row];
        return [...rows, ...(effects?.(this.view(made)) ?? [])];
      });
      if (begun.job !== undefined) this.#copiers.begin(copy, begun.job);
      return this.view(copy);
    } catch (error) {
      if (begun.copy !== undefined) this.#copiers.begin(begun.copy, undefined);
      throw error;
    }
  }

  get contiguity(): { readonly blocks: number; readonly runs: number } {
    return this.source.contiguity;
  }

  async fill(ref: string, effects?: Effects<Job>): Promise<Job> {
    return this.#copiers.start(this.source.get(ref), effects);
  }

  get(ref: string): api.Copy {
    return this.view(this.source.get(ref));
  }

  list(filter: { readonly disk?: string } = {}): readonly api.Copy[] {
    return this.source.list(filter).map((copy) => this.view(copy));
  }

  async update(ref: string, change: Rename): Promise<api.Copy> {
    return this.view(await this.source.update(ref, change));
  }

  async delete(ref: string, options: ForceOption): Promise<void> {
    await this.source.delete(ref, options);
  }

  async createDisk(
    copyRef: string,
    request: api.RemapRequest,
    effects?: Effects<api.Disk>,
  ): Promise<api.DiskMade> {
    return createFromCopy(this.source, copyRef, request, effects);
  }

  changes(copyRef: string, sinceRef: string): api.CopyChanges {
    const copy = this.source.get(copyRef);
    const since = this.#since(sinceRef);
    assertRelated(copy, since);
    return {
      blockSizeBytes: copy.blockSizeBytes,
      capacityBytes: copy.record.sourceCapacityBytes,
      async runs(from, maxRuns) {
        const { runs, next } = await changedRuns(copy, since, { from, maxRuns });
        const blocks = runs.map(({ first, length, kind }) => ({ block: first, length, kind }));
        return next === undefined ? { runs: blocks } : { runs: blocks, next };
      },
    };
  }

  #since(ref: string): Since {
    const checkpoint = this.source.checkpoints.byId(ref);
    if (checkpoint !== undefined) return { kind: 'checkpoint', checkpoint };
    return { kind: 'copy', copy: this.source.get(ref) };
  }

  /** The interface's object for an engine's copy. */
  view(copy: Copy): CopyView {
    const known = this.#views.get(copy);
    if (known !== undefined) return known;
    const made = new CopyView(copy, this.source, this.#copiers);
    this.#views.set(copy, made);
    return made;
  }

  #viewed(effects: Effects<api.Copy> | undefined): Effects<Copy> | undefined {
    return effects === undefined ? undefined : (copy) => effects(this.view(copy));
  }
}
