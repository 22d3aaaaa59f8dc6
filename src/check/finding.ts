/**
 * The invariants that a store must satisfy, by code, and the violations that a check found.
 *
 * The codes are stable and public. Each is explained in docs/check.md (a test compares).
 */
export const invariants = {
  ROW_VALUE: 'a row holds values in their ranges',
  NAME_DUPLICATE: 'a name belongs to one object',
  REFERENCE_MISSING: 'what a row refers to exists',
  GENERATION_DUPLICATE: 'no two disks are in the same generation',
  LINE_DUPLICATE: 'no two disks are on the same line',
  CHECKPOINT_OF_COPY: 'a copy that is there has no checkpoint',
  EXTENT_GAP: 'the extents of a pool follow one another without gaps, from block 0',
  EXTENT_OUTSIDE_FILE: 'an extent lies within the recorded size of its file',
  EXTENT_OVERLAP: 'no two extents share blocks of a file',
  EXTENT_MARK: "an extent's high-water mark is within its blocks",
  PAGE_LENGTH: 'a page has the length of its kind',
  PAGE_OUTSIDE_POOL: 'a page belongs to blocks of a pool that exists',
  NODE_MISSING: 'every node that something holds exists',
  NODE_ORPHAN: 'every node is held by a node or root',
  NODE_COUNT: "a node's count is the number of nodes and roots that hold it",
  NODE_HEIGHT: 'all paths from a node down to its leaves are of one length, as its holder says',
  NODE_EMPTY: 'a node holds at least one entry, tombstone or node',
  MAPPED_COUNT: 'a count of mapped blocks is the number of mapped entries below',
  BLOCK_OUTSIDE_POOL: 'every block that a leaf holds is a block of the pool',
  BLOCK_ABOVE_MARK: "every block in use is below its extent's high-water mark",
  BLOCK_FREE_BUT_HELD: 'every block that a leaf holds is marked as used',
  BLOCK_LEAKED: 'every block marked as used is held by a leaf',
  BLOCK_COUNT: "a block's count is the number of leaves that hold it",
  GROUP_COUNT: 'the count of used blocks of a group is the number of its bits',
  ENTRY_BIRTH: 'every mapped entry has a birth',
  BIRTH_BEYOND_ROOT: 'nothing is younger than the disk or copy that reaches it',
  BIRTH_BOUND: 'nothing below a node is younger than the bound that its holder has for it',
  BORN_SHARED: "what was born in a disk's generation is held by that disk alone",
  BEYOND_CAPACITY: 'nothing is mapped beyond the capacity',
  OWED_TWICE: 'a block of a dedicated copy is in its own table or in the owed one, not in both',
  RESERVED_ROOM: 'the room that is reserved for dedicated copies is free',
} as const;

export type InvariantCode = keyof typeof invariants;

/** One violation. `details` hold plain JSON values: ids, numbers of nodes and blocks, counts. */
export interface Finding {
  readonly code: InvariantCode;
  /** One sentence for a person. */
  readonly message: string;
  readonly details: Readonly<Record<string, string | number>>;
}

export function isFinding(value: unknown): value is Finding {
  return typeof value === 'object' && value !== null && 'code' in value && 'message' in value;
}

/** Collects findings up to a maximum; what comes after is counted only. */
export class Findings {
  readonly list: Finding[] = [];
  readonly #max: number;
  #dropped = 0;

  constructor(max: number) {
    this.#max = max;
  }

  /** All that were found, listed or not. */
  get count(): number {
    return this.list.length + this.#dropped;
  }

  get isFull(): boolean {
    return this.list.length >= this.#max;
  }

  add(code: InvariantCode, message: string, details: Finding['details'] = {}): void {
    if (this.list.length < this.#max) this.list.push({ code, message, details });
    else this.#dropped += 1;
  }
}
