/**
 * Which backups stay and which go, and why. Pure.
 *
 * Each disk on each target is a series of its own, looked at from the newest backup on. `keepLast`
 * keeps so many; the others keep the newest backup of each of so many hours, days, weeks, months or
 * years in which there is one. A backup stays if one rule keeps it, and then what it needs stays:
 *
 *  * an incremental backup names its base copy; a backup of that copy on the same target stays. Of
 *    several one is enough, the best: with a whole chain, with a short one, the newest;
 *  * members of a group backup stay or go together.
 *
 * Invariants:
 *  1. What could be restored before and stays can be restored after.
 *  2. Newest means highest generation, never latest time: a clock that jumps deletes nothing new.
 *  3. Backups that are not complete are left alone and fill no rule.
 *  4. Deciding again on what stays deletes nothing.
 */
import { periodsIn, type Periods } from '../base/time-zone.ts';

export interface RetentionItem {
  readonly id: string;
  readonly name: string;
  readonly diskId: string;
  readonly targetId: string;
  readonly copyId: string;
  /** Null: a full backup. */
  readonly baseCopyId: string | null;
  readonly generation: number;
  readonly frozenAtMs: number;
  readonly state: 'creating' | 'complete' | 'incomplete' | 'damaged';
  /** Of the group backup that it is a member of. */
  readonly groupId: string | null;
}

/** By the period that each counts; `last` counts backups. */
export const retentionRules = [
  'keepLast',
  'keepHourly',
  'keepDaily',
  'keepWeekly',
  'keepMonthly',
  'keepYearly',
] as const;
export type RetentionRule = (typeof retentionRules)[number];

/** How many each rule keeps; one left out keeps none. */
export type RetentionPolicy = Readonly<Partial<Record<RetentionRule, number>>>;

export interface RetentionDecision<I extends RetentionItem = RetentionItem> {
  readonly item: I;
  readonly action: 'keep' | 'delete';
  /** A sentence for a person. */
  readonly reason: string;
}

const periodOf: Readonly<Record<Exclude<RetentionRule, 'keepLast'>, keyof Periods>> = {
  keepHourly: 'hour',
  keepDaily: 'day',
  keepWeekly: 'week',
  keepMonthly: 'month',
  keepYearly: 'year',
};

/** The rules of something that may have more. */
export function policyFrom(from: Readonly<Record<string, unknown>>): RetentionPolicy {
  const rules = retentionRules.filter((rule) => typeof from[rule] === 'number');
  return Object.fromEntries(rules.map((rule) => [rule, Number(from[rule])]));
}

/** A policy that keeps nothing is none: it would delete everything. */
export function keepsSomething(policy: RetentionPolicy): boolean {
  return retentionRules.some((rule) => (policy[rule] ?? 0) > 0);
}

/**
 * Decides on those that are asked for, newest of each series first; all others stay, and what they
 * need. Cost: n log n, and one date for each backup until every rule is full.
 * @param all every backup of the catalog, whatever was asked for
 */
export function decideRetention<I extends RetentionItem>(
  all: readonly I[],
  policy: RetentionPolicy,
  timeZone: string,
  isAsked: (item: I) => boolean = () => true,
): RetentionDecision<I>[] {
  const sorted = [...all].sort(newestFirst);
  const keeping = new Keeping(sorted);
  const toPeriods = periodsIn(timeZone);
  const series = new Map<string, Series>();
  for (const item of sorted) {
    if (!isAsked(item)) {
      keeping.keep(item, 'not asked for');
      continue;
    }
    if (item.state !== 'complete') {
      keeping.keep(item, `${item.state}: left alone`);
      continue;
    }
    const key = `${item.diskId} ${item.targetId}`;
    const own = series.get(key) ?? new Series(policy, toPeriods);
    series.set(key, own);
    const reasons = own.reasonsFor(item.frozenAtMs);
    if (reasons.length > 0) keeping.keep(item, reasons.join(', '));
  }
  keeping.complete();
  const rules = retentionRules.filter((rule) => (policy[rule] ?? 0) > 0);
  const filled = rules.map((rule) => `${rule} ${policy[rule] ?? 0}`).join(', ');
  return sorted.filter(isAsked).map((item): RetentionDecision<I> => {
    const reason = keeping.reasonOf(item);
    if (reason !== undefined) return { item, action: 'keep', reason };
    return { item, action: 'delete', reason: `newer backups are what ${filled} keeps` };
  });
}

function newestFirst(a: RetentionItem, b: RetentionItem): number {
  if (a.generation !== b.generation) return b.generation - a.generation;
  return a.id < b.id ? 1 : -1;
}

/** The rules on one disk and target, asked from the newest backup on. */
class Series {
  readonly #policy: RetentionPolicy;
  readonly #toPeriods: (ms: number) => Periods;
  readonly #seen = new Map<RetentionRule, Set<string>>();
  #count = 0;

  constructor(policy: RetentionPolicy, toPeriods: (ms: number) => Periods) {
    this.#policy = policy;
    this.#toPeriods = toPeriods;
  }

  /** Of each rule that keeps the next backup. */
  reasonsFor(frozenAtMs: number): string[] {
    const reasons: string[] = [];
    let periods: Periods | undefined;
    this.#count += 1;
    const { keepLast = 0 } = this.#policy;
    if (this.#count <= keepLast) reasons.push(`last ${this.#count} of ${keepLast}`);
    for (const rule of retentionRules) {
      if (rule === 'keepLast') continue;
      const seen = this.#seen.get(rule) ?? new Set();
      this.#seen.set(rule, seen);
      if (seen.size >= (this.#policy[rule] ?? 0)) continue;
      periods ??= this.#toPeriods(frozenAtMs);
      const name = periods[periodOf[rule]];
      if (seen.has(name)) continue;
      seen.add(name);
      reasons.push(`newest of ${periodOf[rule]} ${name}`);
    }
    return reasons;
  }
}

/** What it is worth as a base: 0 whole, 1 with damage in its chain, 2 with a hole. */
interface Worth {
  readonly level: 0 | 1 | 2;
  readonly members: number;
}

/** Who stays, and all that follows from that. */
class Keeping<I extends RetentionItem> {
  readonly #reasons = new Map<string, string>();
  readonly #pending: I[] = [];
  readonly #byCopy: ReadonlyMap<string, readonly I[]>;
  readonly #byGroup: ReadonlyMap<string | undefined, readonly I[]>;
  readonly #worth = new Map<string, Worth>();

  /** @param sorted newest first: what is built on a backup comes before it */
  constructor(sorted: readonly I[]) {
    const readable = sorted.filter(isReadable);
    this.#byCopy = Map.groupBy(readable, ({ targetId, copyId }) => `${targetId} ${copyId}`);
    this.#byGroup = Map.groupBy(sorted, groupKey);
    for (const item of sorted.toReversed()) this.#worth.set(item.id, this.#worthOf(item));
  }

  keep(item: I, reason: string): void {
    if (this.#reasons.has(item.id)) return;
    this.#reasons.set(item.id, reason);
    this.#pending.push(item);
  }

  /** Keeps what those that stay need, until nothing is missing. */
  complete(): void {
    for (let item = this.#pending.pop(); item !== undefined; item = this.#pending.pop()) {
      // it cannot be restored, so it needs nobody
      if (item.state === 'incomplete') continue;
      this.#keepBase(item);
      this.#keepGroup(item);
    }
  }

  reasonOf(item: I): string | undefined {
    return this.#reasons.get(item.id);
  }

  #keepBase(item: I): void {
    const [best, ...others] = this.#basesOf(item);
    if (best === undefined) return;
    const { level } = this.#of(best);
    const isServed = [best, ...others].some(
      (base) => this.#reasons.has(base.id) && this.#of(base).level <= level,
    );
    if (!isServed) this.keep(best, `needed by ${item.name}`);
  }

  #keepGroup(item: I): void {
    const group = groupKey(item);
    if (group === undefined) return;
    for (const member of this.#byGroup.get(group) ?? []) {
      this.keep(member, `in one group with ${item.name}`);
    }
  }

  /** Backups of the base copy, the best first. */
  #basesOf({ targetId, baseCopyId, generation }: I): I[] {
    if (baseCopyId === null) return [];
    const found = this.#byCopy.get(`${targetId} ${baseCopyId}`) ?? [];
    // a base is older, whatever a medium claims: so there are no circles
    return found
      .filter((base) => base.generation < generation)
      .sort((a, b) => {
        const [one, other] = [this.#of(a), this.#of(b)];
        if (one.level !== other.level) return one.level - other.level;
        return one.members === other.members ? newestFirst(a, b) : one.members - other.members;
      });
  }

  #of({ id }: I): Worth {
    return this.#worth.get(id) ?? { level: 2, members: 1 };
  }

  #worthOf(item: I): Worth {
    const own = item.state === 'damaged' ? 1 : 0;
    if (item.baseCopyId === null) return { level: own, members: 1 };
    const [best] = this.#basesOf(item);
    if (best === undefined) return { level: 2, members: 1 };
    const { level, members } = this.#of(best);
    return { level: level > own ? level : own, members: members + 1 };
  }
}

function isReadable({ state }: RetentionItem): boolean {
  return state === 'complete' || state === 'damaged';
}

function groupKey({ groupId, targetId }: RetentionItem): string | undefined {
  return groupId === null ? undefined : `${targetId} ${groupId}`;
}
