/**
 * Which backup is built on which, by the catalog alone: chains, bases, what a deletion would break.
 * Pure.
 *
 * An incremental backup names its base *copy* (id and generation), so every backup of that copy on
 * the same target serves. From an incremental the way leads down to a full backup: its chain. Of
 * several backups of one copy the best is taken: one whose chain is whole before a damaged one,
 * that before one with a hole, then the shorter chain, then the newer backup.
 *
 * How: records in ascending generation; a base is always older than what is built on it, so its
 * best backup is known when it is asked for. Cost: n log n once, then the length of the chain.
 *
 * Invariants:
 *  1. A chain descends strictly in generation: it has an end, whatever a medium claims.
 *  2. Only backups that can be read are members; one that is being made may be the last.
 *  3. The choice does not look at any clock but to choose between backups of one copy.
 */
import type { BackupRecord, BaseRef } from './records.ts';

/** Members of the longest chain: each is an open file of a restore. */
export const CHAIN_MAX = 256;

export type ChainLink = Pick<
  BackupRecord,
  | 'id'
  | 'targetId'
  | 'copyId'
  | 'diskId'
  | 'generation'
  | 'base'
  | 'state'
  | 'blockSizeBytes'
  | 'createdAtMs'
>;

export interface Chain<R> {
  /** Oldest first: a full backup, then each built on the one before it. */
  readonly members: readonly R[];
  /** What the first member is built on, if no backup of that is there; else null: complete. */
  readonly missing: BaseRef | null;
}

/** The copy that is to be backed up. */
export interface NewCopy {
  readonly id: string;
  readonly diskId: string;
  readonly generation: number;
  readonly blockSizeBytes: number;
}

/** Why a copy, or any, cannot be the base. */
export type NoBase =
  | 'no-backup'
  | 'incomplete'
  | 'damaged'
  | 'unrelated'
  | 'not-older'
  | 'block-size'
  | 'chain-too-long';

export type BaseChoice<R> = { readonly base: R } | { readonly reason: NoBase };

interface Node<R> {
  readonly record: R;
  readonly below: Node<R> | undefined;
  readonly members: number;
  readonly state: 'whole' | 'damaged' | 'broken';
}

export class Chains<R extends ChainLink> {
  readonly #records: readonly R[];
  readonly #nodes = new Map<string, Node<R>>();
  /** Ids of what another is built on. */
  readonly #carriers = new Set<string>();
  /** By target, then by copy: the best backup of it. */
  readonly #best = new Map<string, Map<string, Node<R>>>();

  /** @param without ids of records that are taken as if they were gone */
  constructor(records: Iterable<R>, without: ReadonlySet<string> = new Set()) {
    this.#records = [...records]
      .filter(({ id }) => !without.has(id))
      .sort((a, b) => a.generation - b.generation);
    for (const record of this.#records) this.#add(record);
  }

  /** The members from a full backup to this one. */
  chainTo(record: R): Chain<R> {
    const newestFirst = [record];
    let below = this.#nodes.get(record.id)?.below;
    for (; below !== undefined; { below } = below) newestFirst.push(below.record);
    const members = newestFirst.reverse();
    return { members, missing: members[0]?.base ?? null };
  }

  /**
   * What can no longer be restored once the backups with these ids are gone, newest first. What
   * cannot be restored now, and what is gone itself, is left out.
   *
   * Cost: nothing if nothing is built on them, else n log n.
   * @param orIncomplete also what is incomplete and would be built on them if it were whole
   */
  neededBy(removed: ReadonlySet<string>, orIncomplete = false): R[] {
    // no way down leads over them
    if (![...removed].some((id) => this.#carriers.has(id))) return [];
    const after = new Chains(this.#records, removed);
    return this.#records
      .filter((record) => {
        if (removed.has(record.id)) return false;
        if (record.state === 'incomplete' && !orIncomplete) return false;
        return !this.#isBroken(record) && after.#isBroken(record);
      })
      .reverse();
  }

  /** The newest backup, by generation, that the next incremental can be built on. */
  newestBase(
    copy: NewCopy,
    targetId: string,
    isAncestor: (copyId: string) => boolean,
  ): BaseChoice<R> {
    const older = [...(this.#best.get(targetId)?.values() ?? [])]
      .filter(({ record }) => record.generation < copy.generation)
      .sort((a, b) => b.record.generation - a.record.generation);
    let reason: NoBase = 'no-backup';
    for (const node of older) {
      const choice = suits(node, copy, isAncestor);
      if ('base' in choice) return choice;
      const isOfDisk = node.record.diskId === copy.diskId;
      if (reason === 'no-backup' && isOfDisk) ({ reason } = choice);
    }
    return { reason };
  }

  /** The best backup of the named copy, if it can be the base. */
  baseOf(
    copy: NewCopy,
    targetId: string,
    base: string,
    isAncestor: (copyId: string) => boolean,
  ): BaseChoice<R> {
    const node = this.#best.get(targetId)?.get(base);
    if (node !== undefined) return suits(node, copy, isAncestor);
    const isKnown = this.#records.some(
      (record) => record.targetId === targetId && record.copyId === base,
    );
    return { reason: isKnown ? 'incomplete' : 'no-backup' };
  }

  #add(record: R): void {
    const { base } = record;
    const below = base === null ? undefined : this.#below(record, base);
    const isBroken = base !== null && (below === undefined || below.state === 'broken');
    const isDamaged = record.state === 'damaged' || below?.state === 'damaged';
    const node: Node<R> = {
      record,
      below,
      members: (below?.members ?? 0) + 1,
      state: isBroken ? 'broken' : isDamaged ? 'damaged' : 'whole',
    };
    this.#nodes.set(record.id, node);
    if (below !== undefined) this.#carriers.add(below.record.id);
    if (!canBeRead(record)) return;
    const ofTarget = this.#best.get(record.targetId) ?? new Map<string, Node<R>>();
    this.#best.set(record.targetId, ofTarget);
    const there = ofTarget.get(record.copyId);
    if (there === undefined || isBetter(node, there)) ofTarget.set(record.copyId, node);
  }

  #below(record: R, base: BaseRef): Node<R> | undefined {
    const node = this.#best.get(record.targetId)?.get(base.copyId);
    const fits = node?.record.generation === base.generation;
    return fits && base.generation < record.generation ? node : undefined;
  }

  #isBroken(record: R): boolean {
    return (this.#nodes.get(record.id)?.state ?? 'broken') === 'broken';
  }
}

function canBeRead({ state }: ChainLink): boolean {
  return state === 'complete' || state === 'damaged';
}

function isBetter<R extends ChainLink>(a: Node<R>, b: Node<R>): boolean {
  if (a.state !== b.state) return a.state === 'whole' || b.state === 'broken';
  if (a.members !== b.members) return a.members < b.members;
  const [x, y] = [a.record, b.record];
  return x.createdAtMs === y.createdAtMs ? x.id > y.id : x.createdAtMs > y.createdAtMs;
}

function suits<R extends ChainLink>(
  node: Node<R>,
  copy: NewCopy,
  isAncestor: (copyId: string) => boolean,
): BaseChoice<R> {
  const { record, state, members } = node;
  if (record.copyId === copy.id || record.generation >= copy.generation) {
    return { reason: 'not-older' };
  }
  if (state !== 'whole') return { reason: state === 'broken' ? 'incomplete' : 'damaged' };
  if (record.blockSizeBytes !== copy.blockSizeBytes) return { reason: 'block-size' };
  if (!isAncestor(record.copyId)) return { reason: 'unrelated' };
  if (members >= CHAIN_MAX) return { reason: 'chain-too-long' };
  return { base: record };
}
