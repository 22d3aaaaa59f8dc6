/**
 * Locks on ranges of blocks of one disk: shared for overwriting in place, exclusive for all else.
 *
 * First come, first served among overlapping requests, so nobody starves; requests that do not
 * overlap never wait for each other.
 *
 * Invariants: two granted ranges overlap only if both are shared; a waiting request overlaps a
 * granted or an earlier waiting one in a way that excludes it.
 */
import { assert } from '../base/assert.ts';

export interface RangeHold {
  readonly first: number;
  /** Exclusive end. */
  readonly end: number;
  readonly exclusive: boolean;
}

interface Request extends RangeHold {
  grant: (() => void) | undefined;
}

export class RangeLock {
  /** Granted and waiting, in order of arrival. */
  readonly #requests = new Set<Request>();

  get isIdle(): boolean {
    return this.#requests.size === 0;
  }

  /** Resolves with the hold when nothing before it excludes it. */
  async acquire(first: number, end: number, exclusive: boolean): Promise<RangeHold> {
    assert(first < end, `range ${first} to ${end}`);
    const request: Request = { first, end, exclusive, grant: undefined };
    this.#requests.add(request);
    if (this.#isExcluded(request)) {
      await new Promise<void>((resolve) => {
        request.grant = resolve;
      });
    }
    return request;
  }

  release(hold: RangeHold): void {
    const found = [...this.#requests].find((request) => request === hold);
    assert(found !== undefined, 'released a range that is not held');
    this.#requests.delete(found);
    for (const request of this.#requests) {
      if (request.grant === undefined || !overlap(request, hold)) continue;
      if (this.#isExcluded(request)) continue;
      const { grant } = request;
      request.grant = undefined;
      grant();
    }
  }

  #isExcluded(request: Request): boolean {
    for (const before of this.#requests) {
      if (before === request) return false;
      if (overlap(before, request) && (before.exclusive || request.exclusive)) return true;
    }
    return false;
  }
}

function overlap(a: RangeHold, b: RangeHold): boolean {
  return a.first < b.end && b.first < a.end;
}
