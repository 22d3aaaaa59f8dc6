/**
 * Who may still be reading a block that was freed.
 *
 * A reader enters the current epoch and leaves it; `barrier` starts a new epoch and resolves when
 * everyone who entered before the call has left. A freed block is handed out again only after the
 * barrier that followed its durable free: readers never see foreign bytes.
 */
import { assert } from '../base/assert.ts';
import { type Deferred, deferred } from '../base/mutex.ts';

export interface Epoch {
  readers: number;
  closed: boolean;
  readonly drained: Deferred<undefined>;
}

export class ReaderEpochs {
  #current = newEpoch();
  #before: Promise<void> = Promise.resolve();

  enter(): Epoch {
    this.#current.readers += 1;
    return this.#current;
  }

  leave(epoch: Epoch): void {
    assert(epoch.readers > 0, 'epoch left by nobody');
    epoch.readers -= 1;
    if (epoch.readers === 0 && epoch.closed) epoch.drained.resolve(undefined);
  }

  /** Resolves when all who entered before this call have left. */
  async barrier(): Promise<void> {
    const epoch = this.#current;
    this.#current = newEpoch();
    epoch.closed = true;
    if (epoch.readers === 0) epoch.drained.resolve(undefined);
    const { promise } = epoch.drained;
    // resolves without a value, or each barrier would keep those before it
    this.#before = this.#before.then(() => promise);
    await this.#before;
  }
}

function newEpoch(): Epoch {
  return { readers: 0, closed: false, drained: deferred<undefined>() };
}
