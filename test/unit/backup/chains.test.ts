import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CHAIN_MAX, type ChainLink, Chains, type NewCopy } from '../../../src/backup/chains.ts';

interface Link extends ChainLink {
  readonly name: string;
}

/** A backup `name` of copy `c<generation>`, built on the copy of generation `on`. */
function link(name: string, generation: number, on?: number, more: Partial<Link> = {}): Link {
  return {
    id: name,
    name,
    targetId: 't',
    copyId: `c${generation}`,
    diskId: 'd',
    generation,
    base: on === undefined ? null : { copyId: `c${on}`, generation: on },
    state: 'complete',
    blockSizeBytes: 65536,
    createdAtMs: generation,
    ...more,
  };
}

function copy(generation: number, more: Partial<NewCopy> = {}): NewCopy {
  return { id: `c${generation}`, diskId: 'd', generation, blockSizeBytes: 65536, ...more };
}

const names = (links: readonly Link[]): string[] => links.map(({ name }) => name);
const always = (): boolean => true;

const week = [link('wed', 30, 20), link('mon', 10), link('tue', 20, 10)];

describe('the chain to a backup', () => {
  it('goes from a full one to it, whatever the order in the catalog', () => {
    const chains = new Chains(week);
    const { members, missing } = chains.chainTo(week[0]!);
    expect(names(members)).toEqual(['mon', 'tue', 'wed']);
    expect(missing).toBeNull();
    expect(names(chains.chainTo(week[1]!).members)).toEqual(['mon']);
  });

  it('takes any backup of a base: the whole before the damaged, then the shorter chain', () => {
    const full = link('tue-full', 20);
    const wed = week[0]!;
    expect(names(new Chains([...week, full]).chainTo(wed).members)).toEqual(['tue-full', 'wed']);
    const damaged = { ...full, state: 'damaged' } as const;
    expect(names(new Chains([...week, damaged]).chainTo(wed).members)).toEqual([
      'mon',
      'tue',
      'wed',
    ]);
    expect(names(new Chains([wed, damaged]).chainTo(wed).members)).toEqual(['tue-full', 'wed']);
  });

  it.each(['creating', 'incomplete'] as const)('does not go through one that is %s', (state) => {
    const [wed, mon, tue] = [week[0]!, week[1]!, { ...week[2]!, state }];
    const { members, missing } = new Chains([wed, mon, tue]).chainTo(wed);
    expect(names(members)).toEqual(['wed']);
    expect(missing).toEqual({ copyId: 'c20', generation: 20 });
  });

  it('stays on one target, and believes only the generation that is named', () => {
    const [wed, , tue] = [week[0]!, week[1]!, week[2]!];
    const elsewhere = link('mon', 10, undefined, { targetId: 'u' });
    const { missing } = new Chains([wed, tue, elsewhere]).chainTo(wed);
    expect(missing).toEqual({ copyId: 'c10', generation: 10 });
    const other = link('mon', 11, undefined, { copyId: 'c10' });
    expect(new Chains([wed, tue, other]).chainTo(wed).missing).not.toBeNull();
  });

  it('has an end, even if a medium claims a circle', () => {
    const a = link('a', 10, 20);
    const b = link('b', 20, 10);
    const chains = new Chains([a, b]);
    expect(chains.chainTo(a)).toEqual({ members: [a], missing: a.base });
    expect(chains.chainTo(b)).toEqual({ members: [a, b], missing: a.base });
  });
});

describe('a deletion', () => {
  it('would take along all that is built on it, newest first', () => {
    expect(names(new Chains(week).neededBy(new Set(['mon'])))).toEqual(['wed', 'tue']);
    expect(names(new Chains(week).neededBy(new Set(['tue'])))).toEqual(['wed']);
    expect(new Chains(week).neededBy(new Set(['wed']))).toEqual([]);
  });

  it('is free where another backup of the copy serves', () => {
    const chains = new Chains([...week, link('tue-full', 20)]);
    expect(chains.neededBy(new Set(['tue']))).toEqual([]);
    expect(names(chains.neededBy(new Set(['tue', 'tue-full'])))).toEqual(['wed']);
    expect(chains.neededBy(new Set(['mon', 'tue']))).toEqual([]);
    expect(names(chains.neededBy(new Set(['mon'])))).toEqual(['tue']);
  });

  it('looks at no other backup where nothing is built on it', () => {
    let reads = 0;
    const watched = week.map((each) =>
      Object.defineProperty({ ...each }, 'base', {
        get() {
          reads += 1;
          return each.base;
        },
      }),
    );
    const chains = new Chains(watched);
    reads = 0;
    expect(chains.neededBy(new Set(['wed']))).toEqual([]);
    expect(reads).toBe(0);
    expect(names(chains.neededBy(new Set(['tue'])))).toEqual(['wed']);
    expect(reads).toBeGreaterThan(0);
  });

  it('sees one that is being made, and not what cannot be restored anyway', () => {
    const [wed, mon, tue] = [week[0]!, week[1]!, week[2]!];
    const making = { ...wed, state: 'creating' } as const;
    expect(names(new Chains([making, mon, tue]).neededBy(new Set(['mon'])))).toEqual([
      'wed',
      'tue',
    ]);
    expect(new Chains([wed, tue]).neededBy(new Set(['tue']))).toEqual([]);
    const broken = { ...wed, state: 'incomplete' } as const;
    expect(new Chains([broken, mon, tue]).neededBy(new Set(['tue']))).toEqual([]);
  });
});

describe('the base of the next incremental', () => {
  it('is the newest by generation whose history is shared, whatever the clock says', () => {
    const late = link('late', 15, undefined, { createdAtMs: 1e9 });
    const chains = new Chains([...week, late]);
    expect(chains.newestBase(copy(40), 't', always)).toEqual({ base: week[0] });
    const old = chains.newestBase(copy(40), 't', (id) => id === 'c10' || id === 'c15');
    expect(old).toEqual({ base: late });
  });

  it('is not the copy itself, nor a newer one', () => {
    const chains = new Chains(week);
    expect(chains.newestBase(copy(20), 't', always)).toEqual({ base: week[1] });
    expect(chains.newestBase(copy(10), 't', always)).toEqual({ reason: 'no-backup' });
    expect(chains.baseOf(copy(20), 't', 'c30', always)).toEqual({ reason: 'not-older' });
    expect(chains.baseOf(copy(20), 't', 'c20', always)).toEqual({ reason: 'not-older' });
  });

  it('is refused with the reason', () => {
    const mon = week[1]!;
    const reasonOf = (links: Link[], base = 'c10', next = copy(40)) =>
      new Chains(links).baseOf(next, 't', base, always);
    expect(reasonOf([])).toEqual({ reason: 'no-backup' });
    expect(reasonOf([{ ...mon, state: 'incomplete' }])).toEqual({ reason: 'incomplete' });
    expect(reasonOf([{ ...mon, state: 'damaged' }])).toEqual({ reason: 'damaged' });
    expect(reasonOf([week[2]!, { ...mon, state: 'damaged' }], 'c20')).toEqual({
      reason: 'damaged',
    });
    expect(reasonOf([week[2]!], 'c20')).toEqual({ reason: 'incomplete' });
    expect(reasonOf([mon], 'c10', copy(40, { blockSizeBytes: 16384 }))).toEqual({
      reason: 'block-size',
    });
    const unrelated = new Chains(week).newestBase(copy(40), 't', () => false);
    expect(unrelated).toEqual({ reason: 'unrelated' });
    const other = new Chains(week).newestBase(copy(40, { diskId: 'e' }), 't', () => false);
    expect(other).toEqual({ reason: 'no-backup' });
    expect(new Chains(week).newestBase(copy(40), 'u', always)).toEqual({ reason: 'no-backup' });
  });

  it('makes no chain longer than one may be', () => {
    const links = Array.from({ length: CHAIN_MAX }, (_, index) =>
      link(`b${index}`, index + 1, index === 0 ? undefined : index),
    );
    const next = copy(CHAIN_MAX + 1);
    const newest = `c${CHAIN_MAX}`;
    const chains = new Chains(links);
    expect(chains.baseOf(next, 't', newest, always)).toEqual({ reason: 'chain-too-long' });
    expect(chains.newestBase(next, 't', always)).toEqual({ base: links[CHAIN_MAX - 2] });
  });
});

describe('for any catalog', () => {
  const states = ['complete', 'damaged', 'creating', 'incomplete'] as const;
  const anyLink = fc.record({
    generation: fc.integer({ min: 1, max: 8 }),
    on: fc.option(fc.integer({ min: 1, max: 8 }), { nil: undefined }),
    state: fc.constantFrom(...states),
    targetId: fc.constantFrom('t', 'u'),
  });
  const catalog = fc
    .array(anyLink, { maxLength: 14 })
    .map((all) =>
      all.map(({ generation, on, ...more }, index) => link(`b${index}`, generation, on, more)),
    );

  /** By trying every way. */
  function canBeRestored(record: Link, all: readonly Link[]): boolean {
    const { base } = record;
    if (base === null) return true;
    return all.some(
      (below) =>
        below.targetId === record.targetId &&
        below.copyId === base.copyId &&
        below.generation === base.generation &&
        below.generation < record.generation &&
        (below.state === 'complete' || below.state === 'damaged') &&
        canBeRestored(below, all),
    );
  }

  it('a chain is found if there is any', () => {
    fc.assert(
      fc.property(catalog, (all) => {
        const chains = new Chains(all);
        for (const record of all) {
          const { members, missing } = chains.chainTo(record);
          expect(missing === null).toBe(canBeRestored(record, all));
          expect(members.at(-1)).toBe(record);
          members.slice(1).forEach((each, index) => {
            expect(each.base).toMatchObject({ copyId: members[index]?.copyId });
          });
        }
      }),
    );
  });

  it('what needs a backup is just what could be restored with it only', () => {
    fc.assert(
      fc.property(catalog, fc.integer({ min: 0, max: 13 }), (all, index) => {
        const removed = all[index];
        if (removed === undefined) return;
        const left = all.filter((each) => each !== removed);
        const needed = left
          .filter(({ state }) => state !== 'incomplete')
          .filter((each) => canBeRestored(each, all) && !canBeRestored(each, left));
        const found = new Chains(all).neededBy(new Set([removed.id]));
        expect(new Set(names(found))).toEqual(new Set(names(needed)));
      }),
    );
  });
});
