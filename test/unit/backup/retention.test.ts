import { describe, expect, it } from 'vitest';
import {
  decideRetention,
  keepsSomething,
  type RetentionItem,
  type RetentionPolicy,
} from '../../../src/backup/retention.ts';

let generation = 0;

function backup(name: string, at: string, more: Partial<RetentionItem> = {}): RetentionItem {
  generation += 1;
  return {
    id: name,
    name,
    diskId: 'd',
    targetId: 't',
    copyId: `copy of ${name}`,
    baseCopyId: null,
    generation,
    frozenAtMs: Date.parse(at),
    state: 'complete',
    groupId: null,
    ...more,
  };
}

/** `name: reason` of what stays, oldest first, and the names of what goes. */
function decided(items: readonly RetentionItem[], policy: RetentionPolicy, zone = 'UTC') {
  const decisions = decideRetention(items, policy, zone).toReversed();
  const of = (wanted: string) => decisions.filter(({ action }) => action === wanted);
  return {
    kept: of('keep').map(({ item, reason }) => `${item.name}: ${reason}`),
    gone: of('delete').map(({ item }) => item.name),
  };
}

describe('retention', () => {
  it('keeps the newest of each period that has one, and tells why', () => {
    const items = [
      backup('a', '2026-03-01T01:00:00Z'),
      backup('b', '2026-03-01T23:00:00Z'),
      backup('c', '2026-03-05T12:00:00Z'),
      backup('d', '2026-03-05T13:00:00Z'),
    ];
    expect(decided(items, { keepLast: 1, keepDaily: 2 })).toEqual({
      kept: ['b: newest of day 2026-03-01', 'd: last 1 of 1, newest of day 2026-03-05'],
      gone: ['a', 'c'],
    });
    const [, , c] = decideRetention(items, { keepLast: 1, keepDaily: 2 }, 'UTC').toReversed();
    expect(c?.reason).toBe('newer backups are what keepLast 1, keepDaily 2 keeps');
  });

  it('goes by the days of the time zone', () => {
    const items = [backup('a', '2026-03-01T14:30:00Z'), backup('b', '2026-03-01T15:30:00Z')];
    expect(decided(items, { keepDaily: 9 }).gone).toEqual(['a']);
    expect(decided(items, { keepDaily: 9 }, 'Asia/Tokyo').gone).toEqual([]);
  });

  it('keeps both hours where a clock is put back, and misses none where it is put forward', () => {
    const autumn = [backup('a', '2026-10-25T00:30:00Z'), backup('b', '2026-10-25T01:30:00Z')];
    expect(decided(autumn, { keepHourly: 9 }, 'Europe/Berlin').gone).toEqual([]);
    const spring = ['00:30', '01:30', '02:30'].map((at) => backup(at, `2026-03-29T${at}:00Z`));
    expect(decided(spring, { keepHourly: 3 }, 'Europe/Berlin').gone).toEqual([]);
    expect(decided(spring, { keepDaily: 3 }, 'Europe/Berlin').gone).toEqual(['00:30', '01:30']);
  });

  it('goes by generations where the clock has jumped', () => {
    const back = [
      backup('a', '2099-01-01T00:00:00Z'),
      backup('b', '2026-03-01T00:00:00Z'),
      backup('c', '2026-03-02T00:00:00Z'),
    ];
    expect(decided(back, { keepLast: 1 }).gone).toEqual(['a', 'b']);
    expect(decided(back, { keepDaily: 2 }).gone).toEqual(['a']);
  });

  it('never deletes what a kept backup needs, and of several bases keeps one', () => {
    const full = backup('full', '2026-03-01T00:00:00Z');
    const twin = backup('twin', '2026-03-01T00:00:00Z', {
      copyId: full.copyId,
      generation: full.generation,
    });
    const first = backup('first', '2026-03-02T00:00:00Z', { baseCopyId: full.copyId });
    const second = backup('second', '2026-03-03T00:00:00Z', { baseCopyId: first.copyId });
    const other = backup('other', '2026-03-04T00:00:00Z', { targetId: 't2', copyId: full.copyId });
    expect(decided([full, twin, first, second, other], { keepLast: 1 })).toEqual({
      kept: [
        'twin: needed by first',
        'first: needed by second',
        'second: last 1 of 1',
        'other: last 1 of 1',
      ],
      gone: ['full'],
    });
  });

  it('leaves alone what is not complete, and what one that is being made is built on', () => {
    const base = backup('base', '2026-03-01T00:00:00Z');
    const items = [
      base,
      backup('torn', '2026-03-02T00:00:00Z', { state: 'incomplete' }),
      backup('bad', '2026-03-03T00:00:00Z', { state: 'damaged' }),
      backup('good', '2026-03-04T00:00:00Z'),
      backup('new', '2026-03-05T00:00:00Z', { state: 'creating', baseCopyId: base.copyId }),
    ];
    expect(decided(items, { keepLast: 1 }).kept).toEqual([
      'base: needed by new',
      'torn: incomplete: left alone',
      'bad: damaged: left alone',
      'good: last 1 of 1',
      'new: creating: left alone',
    ]);
  });

  it('keeps or deletes the members of a group together', () => {
    const member = (name: string, disk: string, group: string, at: string) =>
      backup(name, at, { diskId: disk, groupId: group });
    const items = [
      member('g1-x', 'x', 'g1', '2026-03-01T00:00:00Z'),
      member('g1-y', 'y', 'g1', '2026-03-01T00:00:00Z'),
      member('g2-x', 'x', 'g2', '2026-03-02T00:00:00Z'),
      member('g2-y', 'y', 'g2', '2026-03-02T00:00:00Z'),
      backup('alone', '2026-03-03T00:00:00Z', { diskId: 'x' }),
    ];
    expect(decided(items, { keepLast: 1 })).toEqual({
      kept: ['g2-x: in one group with g2-y', 'g2-y: last 1 of 1', 'alone: last 1 of 1'],
      gone: ['g1-x', 'g1-y'],
    });
    const onlyX = decideRetention(items, { keepLast: 1 }, 'UTC', ({ diskId }) => diskId === 'x');
    expect(onlyX.filter(({ action }) => action === 'delete')).toEqual([]);
  });

  it('with rules that keep nothing is no retention', () => {
    expect(keepsSomething({})).toBe(false);
    expect(keepsSomething({ keepLast: 0, keepDaily: 0 })).toBe(false);
    expect(keepsSomething({ keepYearly: 1 })).toBe(true);
  });
});
