import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RangeLock, type RangeHold } from '../../../src/disk/range-lock.ts';
import { turns } from '../../support/jumpy.ts';

/** Which requests have been granted, by their number. */
class Clients {
  readonly lock = new RangeLock();
  readonly granted = new Map<number, RangeHold>();
  readonly #order: number[] = [];

  ask(number: number, first: number, end: number, exclusive: boolean): void {
    void this.lock.acquire(first, end, exclusive).then((hold) => {
      this.granted.set(number, hold);
      this.#order.push(number);
    });
  }

  leave(number: number): void {
    this.lock.release(this.granted.get(number)!);
    this.granted.delete(number);
  }

  async order(): Promise<number[]> {
    await turns(1);
    return this.#order;
  }
}

describe('a range lock', () => {
  it('is shared by those who share, and held alone by one who does not', async () => {
    const clients = new Clients();
    clients.ask(1, 0, 10, false);
    clients.ask(2, 5, 15, false);
    clients.ask(3, 9, 10, true);
    clients.ask(4, 10, 12, true);
    expect(await clients.order()).toEqual([1, 2]);
    clients.leave(1);
    expect(await clients.order()).toEqual([1, 2]);
    clients.leave(2);
    expect(await clients.order()).toEqual([1, 2, 3, 4]);
    clients.leave(3);
    clients.leave(4);
    expect(clients.lock.isIdle).toBe(true);
  });

  it('lets nobody pass one who waits and overlaps, so that none starves', async () => {
    const clients = new Clients();
    clients.ask(1, 0, 4, false);
    clients.ask(2, 2, 6, true);
    clients.ask(3, 3, 4, false);
    clients.ask(4, 6, 8, false);
    expect(await clients.order()).toEqual([1, 4]);
    clients.leave(1);
    expect(await clients.order()).toEqual([1, 4, 2]);
    clients.leave(2);
    expect(await clients.order()).toEqual([1, 4, 2, 3]);
  });

  it('never holds what excludes another, and grants everyone in the end', async () => {
    const request = fc.record({
      first: fc.nat(9),
      length: fc.integer({ min: 1, max: 6 }),
      exclusive: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(request, { maxLength: 25 }),
        fc.infiniteStream(fc.nat()),
        async (requests, picks) => {
          const clients = new Clients();
          for (const [number, { first, length, exclusive }] of requests.entries()) {
            clients.ask(number, first, first + length, exclusive);
          }
          for (let left = requests.length; left > 0; left -= 1) {
            await clients.order();
            const holds = [...clients.granted.values()];
            for (const [index, one] of holds.entries()) {
              for (const other of holds.slice(index + 1)) {
                const overlap = one.first < other.end && other.first < one.end;
                expect(overlap && (one.exclusive || other.exclusive)).toBe(false);
              }
            }
            const numbers = [...clients.granted.keys()];
            expect(numbers.length).toBeGreaterThan(0);
            clients.leave(numbers[picks.next().value! % numbers.length]!);
          }
          expect(clients.lock.isIdle).toBe(true);
        },
      ),
      { numRuns: 40 },
    );
  });

  it('cannot be released twice', async () => {
    const lock = new RangeLock();
    const hold = await lock.acquire(0, 1, true);
    lock.release(hold);
    expect(() => {
      lock.release(hold);
    }).toThrow('not held');
  });
});
