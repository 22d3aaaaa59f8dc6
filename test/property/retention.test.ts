/**
 * Retention against a naive model, and its laws for chains and groups.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decideRetention,
  keepsSomething,
  type RetentionItem,
  type RetentionPolicy,
  type RetentionRule,
  retentionRules,
} from '../../src/backup/retention.ts';

const HOUR = 3_600_000;
const zones = ['UTC', 'Europe/Berlin', 'America/New_York', 'Australia/Lord_Howe', 'Asia/Kolkata'];

/** One of about 200 backups: where and when, what it is built on as a choice among older copies. */
interface Seed {
  readonly disk: number;
  readonly target: number;
  readonly hours: number;
  readonly jump: number;
  readonly base: number;
  readonly again: boolean;
  readonly state: RetentionItem['state'];
  readonly group: number;
}

const seeds = fc.array(
  fc.record({
    disk: fc.nat({ max: 2 }),
    target: fc.nat({ max: 1 }),
    hours: fc.integer({ min: 0, max: 400 }),
    jump: fc.oneof(
      { weight: 9, arbitrary: fc.constant(0) },
      { weight: 1, arbitrary: fc.integer({ min: -9000, max: 9000 }) },
    ),
    base: fc.nat({ max: 5 }),
    again: fc.boolean(),
    state: fc.oneof(
      { weight: 9, arbitrary: fc.constant('complete' as const) },
      { weight: 1, arbitrary: fc.constantFrom('creating', 'incomplete', 'damaged') },
    ),
    group: fc.nat({ max: 12 }),
  }),
  { maxLength: 60 },
);

const policies = fc
  .record(
    Object.fromEntries(retentionRules.map((rule) => [rule, fc.integer({ min: 0, max: 5 })])),
    { requiredKeys: [] },
  )
  .filter((policy: RetentionPolicy) => keepsSomething(policy));

function itemsOf(wanted: readonly Seed[], isPlain: boolean): RetentionItem[] {
  const items: RetentionItem[] = [];
  let nowMs = Date.parse('2026-03-01T00:00:00Z');
  wanted.forEach((seed, index) => {
    nowMs += (seed.hours + seed.jump) * HOUR;
    const same = items.filter(({ diskId }) => diskId === `d${seed.disk}`);
    const last = same.at(-1);
    const isAgain = seed.again && last !== undefined && !isPlain;
    const older = same.filter(({ generation }) => generation < index);
    const base = isPlain || seed.base === 0 ? undefined : older.at(-seed.base);
    items.push({
      id: `id${String(index).padStart(3, '0')}`,
      name: `b${index}`,
      diskId: `d${seed.disk}`,
      targetId: `t${seed.target}`,
      copyId: isAgain ? last.copyId : `c${index}`,
      baseCopyId: isAgain ? null : (base?.copyId ?? null),
      generation: isAgain ? last.generation : index,
      frozenAtMs: isAgain ? last.frozenAtMs : nowMs,
      state: seed.state,
      groupId: isPlain || seed.group > 8 ? null : `g${seed.group}`,
    });
  });
  return items;
}

/** Local wall-clock text and offset, by another way than the code's. */
function wall(ms: number, timeZone: string): { text: string; offset: number } {
  const text = new Date(ms).toLocaleString('sv-SE', { timeZone });
  return { text, offset: Date.parse(`${text.replace(' ', 'T')}Z`) - Math.floor(ms / 1000) * 1000 };
}

function keyOf(rule: RetentionRule, ms: number, timeZone: string): string {
  const { text, offset } = wall(ms, timeZone);
  if (rule === 'keepHourly') return `${text.slice(0, 13)} ${offset}`;
  if (rule === 'keepDaily') return text.slice(0, 10);
  if (rule === 'keepMonthly') return text.slice(0, 7);
  if (rule === 'keepYearly') return text.slice(0, 4);
  let monday = Date.parse(`${text.slice(0, 10)}T12:00:00Z`);
  while (new Date(monday).getUTCDay() !== 1) monday -= 24 * HOUR;
  return new Date(monday).toISOString().slice(0, 10);
}

/** Names of what the rules alone keep in one series, the newest first. */
function naive(
  series: readonly RetentionItem[],
  policy: RetentionPolicy,
  zone: string,
): Set<string> {
  const kept = new Set(series.slice(0, policy.keepLast ?? 0).map(({ name }) => name));
  for (const rule of retentionRules) {
    if (rule === 'keepLast') continue;
    const keys = series.map(({ frozenAtMs }) => keyOf(rule, frozenAtMs, zone));
    const wanted = [...new Set(keys)].slice(0, policy[rule] ?? 0);
    for (const key of wanted) kept.add(series[keys.indexOf(key)]!.name);
  }
  return kept;
}

/** Whether a whole chain of these backups leads from the item to a full one. */
function isRestorable(item: RetentionItem, among: readonly RetentionItem[]): boolean {
  if (item.baseCopyId === null) return true;
  return among.some(
    (base) =>
      base.state === 'complete' &&
      base.targetId === item.targetId &&
      base.copyId === item.baseCopyId &&
      base.generation < item.generation &&
      isRestorable(base, among),
  );
}

describe('retention', () => {
  it('without chains and groups keeps what the naive model keeps', () => {
    fc.assert(
      fc.property(seeds, policies, fc.constantFrom(...zones), (wanted, policy, zone) => {
        const items = itemsOf(wanted, true);
        const decisions = decideRetention(items, policy, zone);
        expect(decisions).toHaveLength(items.length);
        const series = Map.groupBy(
          items.toReversed().filter(({ state }) => state === 'complete'),
          ({ diskId, targetId }) => `${diskId} ${targetId}`,
        );
        const kept = new Set([...series.values()].flatMap((own) => [...naive(own, policy, zone)]));
        for (const { item, action, reason } of decisions) {
          const stays = item.state !== 'complete' || kept.has(item.name);
          expect([item.name, action]).toEqual([item.name, stays ? 'keep' : 'delete']);
          expect(reason).not.toBe('');
        }
        for (const own of series.values()) expect(kept).toContain(own[0]!.name);
      }),
      { numRuns: 200 },
    );
  });

  it('laws: what stays can be restored, groups stay whole, deciding again deletes nothing', () => {
    const scope = fc.option(fc.nat({ max: 2 }));
    fc.assert(
      fc.property(
        seeds,
        policies,
        fc.constantFrom(...zones),
        scope,
        (wanted, policy, zone, disk) => {
          const items = itemsOf(wanted, false);
          const isAsked = ({ diskId }: RetentionItem): boolean =>
            disk === null || diskId === `d${disk}`;
          const decisions = decideRetention(items, policy, zone, isAsked);
          expect(decisions.map(({ item }) => item).every(isAsked)).toBe(true);
          const gone = new Set(
            decisions.filter(({ action }) => action === 'delete').map(({ item }) => item.id),
          );
          const left = items.filter(({ id }) => !gone.has(id));
          for (const item of items) {
            if (gone.has(item.id)) expect(item.state).toBe('complete');
            else if (item.state !== 'incomplete' && isRestorable(item, items)) {
              expect([item.name, isRestorable(item, left)]).toEqual([item.name, true]);
            }
            const group = items.filter(
              ({ groupId, targetId }) =>
                groupId !== null && groupId === item.groupId && targetId === item.targetId,
            );
            const stay = group.filter(({ id, state }) => !gone.has(id) && state !== 'incomplete');
            if (stay.length > 0) expect(group.filter(({ id }) => gone.has(id))).toEqual([]);
          }
          const again = decideRetention(left, policy, zone, isAsked);
          expect(again.filter(({ action }) => action === 'delete')).toEqual([]);
        },
      ),
      { numRuns: 300 },
    );
  });
});
