/**
 * Copies as the interface sees them, over the engine's verbs: freeze, remap, rename, delete and
 * compare.
 */
import type { Effects, ForceOption, Rename } from '../api/service-types.ts';
import type * as api from '../api/storage-services.ts';
import type { Copies } from '../copy/copies.ts';
import type { Copy } from '../copy/copy.ts';
import { type Since, assertRelated, changedRuns } from '../copy/difference.ts';
import { freeze } from '../copy/freeze.ts';
import { remap } from '../copy/remap.ts';
import type { Disk } from '../disk/disk.ts';
import { CopyView } from './copy-view.ts';

export class CopyService implements api.Copies {
  /** The engine's. */
  readonly source: Copies;
  readonly #views = new WeakMap<Copy, CopyView>();

  constructor(copies: Copies) {
    this.source = copies;
  }

  async freeze(
    diskRef: string,
    request: api.FreezeRequest,
    effects?: Effects<api.Copy>,
  ): Promise<api.Copy> {
    const copy = await freeze(this.source, diskRef, request, this.#viewed(effects));
    return this.view(copy);
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

  async remap(
    copyRef: string,
    request: api.RemapRequest,
    effects?: Effects<api.Disk>,
  ): Promise<Disk> {
    return remap(this.source, this.source.get(copyRef), request, effects);
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
    const made = new CopyView(copy, this.source);
    this.#views.set(copy, made);
    return made;
  }

  #viewed(effects: Effects<api.Copy> | undefined): Effects<Copy> | undefined {
    return effects === undefined ? undefined : (copy) => effects(this.view(copy));
  }
}
