/**
 * The rows of a store, read for the check: each cell is looked at before it is believed.
 *
 * A row with a cell outside its range is reported (ROW_VALUE) and left out.
 */
import { isBlockSize, MAX_CAPACITY_BYTES, MAX_POOL_BLOCKS } from '../base/units.ts';
import { COUNT, type Cells, RowSource, readTable } from './cells.ts';
import type { Findings } from './finding.ts';
import type { CheckSource } from './source.ts';

const U32 = 2 ** 32 - 1;

export interface PoolRow {
  readonly id: string;
  readonly number: number;
  readonly name: string;
  readonly blockSizeBytes: number;
}

export interface FileRow {
  readonly pool: string;
  readonly file: number;
  readonly sizeBytes: number;
}

export interface ExtentRow {
  readonly pool: string;
  readonly extent: number;
  readonly firstBlock: number;
  readonly blocks: number;
  readonly file: number;
  readonly fileBlock: number;
  readonly highWater: number;
}

/** Something that holds a table: a disk, a copy, or references that are being reclaimed. */
export interface RootRow {
  readonly kind: 'disk' | 'copy' | 'dead';
  /** Id of the disk or copy; the node of a dead entry. */
  readonly id: string;
  readonly name: string | undefined;
  readonly pool: string;
  readonly node: number;
  readonly height: number;
  readonly mapped: number;
  /** References that it holds. */
  readonly count: number;
  readonly generation: number | undefined;
  /** Generation in which the line began that it is on, if its row tells. */
  readonly line: number | undefined;
  readonly capacityBytes: number | undefined;
  /** Job that works on a disk. */
  readonly job: string | undefined;
  /** Group that a copy was frozen with. */
  readonly group: string | undefined;
}

/** A dedicated copy that is being filled. */
export interface OwedRow {
  readonly copy: string;
  readonly own: RootRow;
  readonly owed: RootRow;
}

export interface CheckpointRow {
  /** Of the copy that is gone. */
  readonly id: string;
  readonly generation: number;
  readonly line: number | undefined;
}

export interface NamedRow {
  readonly id: string;
  readonly name: string;
}

export interface BackupRow {
  readonly id: string;
  readonly target: string;
  /** Job that makes it now. */
  readonly job: string | undefined;
}

export interface StoreRows {
  readonly pools: readonly PoolRow[];
  /** Ids and numbers of all pools, also of those whose rows are wrong. */
  readonly poolIds: ReadonlySet<string>;
  readonly poolNumbers: ReadonlySet<number>;
  readonly files: readonly FileRow[];
  readonly extents: readonly ExtentRow[];
  readonly roots: readonly RootRow[];
  readonly filling: readonly OwedRow[];
  /** Deleted ones too: their checksums go after them. */
  readonly copyIds: ReadonlySet<string>;
  readonly copiesWithChecksums: readonly string[];
  readonly checkpoints: readonly CheckpointRow[];
  readonly groups: readonly NamedRow[];
  readonly targets: readonly NamedRow[];
  readonly jobIds: ReadonlySet<string>;
  readonly backups: readonly BackupRow[];
  /** Tables of which rows were left out because they are too many. */
  readonly cut: ReadonlySet<string>;
  /** A root was left out, so some nodes may have holders that are not known. */
  readonly lacksRoots: boolean;
}

function readPools(source: RowSource, findings: Findings): PoolRow[] {
  const columns = ['id', 'number', 'name', 'block_size_bytes'];
  return readTable(source, findings, 'pools', columns, (cells) => {
    const pool = {
      id: cells.text('id'),
      number: cells.count('number', 2 ** 13 - 1),
      name: cells.text('name'),
      blockSizeBytes: cells.count('block_size_bytes'),
    };
    cells.require('block_size_bytes', isBlockSize(pool.blockSizeBytes));
    return pool;
  });
}

function readFiles(source: RowSource, findings: Findings): FileRow[] {
  const columns = ['pool', 'file', 'size_bytes'];
  return readTable(source, findings, 'pool_files', columns, (cells) => ({
    pool: cells.text('pool'),
    file: cells.count('file', U32),
    sizeBytes: cells.count('size_bytes'),
  }));
}

function readExtents(source: RowSource, findings: Findings): ExtentRow[] {
  const columns = ['pool', 'extent', 'first_block', 'blocks', 'file', 'file_block', 'high_water'];
  return readTable(source, findings, 'pool_extents', columns, (cells) => ({
    pool: cells.text('pool'),
    extent: cells.count('extent', U32),
    firstBlock: cells.count('first_block', MAX_POOL_BLOCKS),
    blocks: cells.count('blocks', MAX_POOL_BLOCKS, 1),
    file: cells.count('file', U32),
    fileBlock: cells.count('file_block', COUNT),
    highWater: cells.count('high_water', COUNT),
  }));
}

type TableRow = Pick<RootRow, 'node' | 'height' | 'mapped'>;

/** @param owed of the mapped blocks, those that another table has */
function readRoot(cells: Cells, owed = 0): TableRow {
  const mapped = cells.count('mapped_blocks', COUNT, owed) - owed;
  const root = {
    node: cells.count('root_node', 2 ** 40 - 1),
    height: cells.count('root_height', 6),
    mapped,
  };
  cells.require('root_height', (root.node === 0) === (root.height === 0));
  cells.require('mapped_blocks', root.node !== 0 || root.mapped === 0);
  return root;
}

function readOwed(cells: Cells): TableRow {
  return {
    node: cells.count('owed_node', 2 ** 40 - 1, 1),
    height: cells.count('owed_height', 6, 1),
    mapped: cells.count('owed_blocks'),
  };
}

function readGeneration(cells: Cells): Pick<CheckpointRow, 'generation' | 'line'> {
  const generation = cells.count('generation', U32, 1);
  return { generation, line: cells.line(generation) };
}

const rootColumns = ['root_node', 'root_height', 'mapped_blocks', 'generation', 'lineage'];

function readDisks(source: RowSource, findings: Findings): RootRow[] {
  const columns = ['id', 'name', 'pool', 'capacity_bytes', 'state', 'job', ...rootColumns];
  return readTable(source, findings, 'disks', columns, (cells) => ({
    kind: 'disk',
    id: cells.text('id'),
    name: cells.text('name'),
    pool: cells.text('pool'),
    ...readRoot(cells),
    count: 1,
    ...readGeneration(cells),
    capacityBytes: cells.count('capacity_bytes', MAX_CAPACITY_BYTES, 1),
    job: cells.optional('job'),
    group: undefined,
  }));
}

interface CopyRow {
  readonly own: RootRow;
  /** What another table holds for a dedicated copy. */
  readonly owed: RootRow | undefined;
  readonly state: string;
}

const NO_ROOT: TableRow = { node: 0, height: 0, mapped: 0 };

/** Copies and their states. */
function readCopies(source: RowSource, findings: Findings): CopyRow[] {
  const owedColumns = ['owed_pool', 'owed_node', 'owed_height', 'owed_blocks'];
  const facts = ['id', 'name', 'pool', 'state', 'source_capacity_bytes', 'group_id'];
  const columns = [...facts, ...rootColumns, ...owedColumns];
  return readTable(source, findings, 'copies', columns, (cells) => {
    const state = cells.text('state');
    const shared = {
      kind: 'copy',
      id: cells.text('id'),
      count: 1,
      ...readGeneration(cells),
      capacityBytes: cells.count('source_capacity_bytes', MAX_CAPACITY_BYTES, 1),
      job: undefined,
      group: cells.optional('group_id'),
    } as const;
    const owedPool = cells.optional('owed_pool');
    const owed =
      owedPool === undefined
        ? undefined
        : { ...shared, name: undefined, pool: owedPool, ...readOwed(cells) };
    const name = state === 'internal' ? undefined : cells.text('name');
    const pool = cells.text('pool');
    // of a deleted one only the count of its blocks says something
    const root = state === 'deleted' ? NO_ROOT : readRoot(cells, owed?.mapped);
    return { own: { ...shared, name, pool, ...root }, owed, state };
  });
}

/** The roots that a copy holds. Of a deleted one its own is dead or another's. */
function rootsOf({ own, owed, state }: CopyRow): RootRow[] {
  return [...(state === 'deleted' ? [] : [own]), ...(owed === undefined ? [] : [owed])];
}

function readDead(source: RowSource, findings: Findings): RootRow[] {
  const columns = ['pool', 'node', 'height', 'count', 'mapped_blocks'];
  return readTable(source, findings, 'dead_roots', columns, (cells) => {
    const node = cells.count('node', 2 ** 40 - 1, 1);
    return {
      kind: 'dead',
      id: String(node),
      name: undefined,
      pool: cells.text('pool'),
      node,
      height: cells.count('height', 6, 1),
      mapped: cells.count('mapped_blocks'),
      count: cells.count('count', U32, 1),
      generation: undefined,
      line: undefined,
      capacityBytes: undefined,
      job: undefined,
      group: undefined,
    };
  });
}

function readNamed(source: RowSource, findings: Findings, table: string): NamedRow[] {
  return readTable(source, findings, table, ['id', 'name'], (cells) => ({
    id: cells.text('id'),
    name: cells.text('name'),
  }));
}

function readCheckpoints(source: RowSource, findings: Findings): CheckpointRow[] {
  const columns = ['id', 'generation', 'lineage', 'capacity_bytes', 'block_size_bytes'];
  return readTable(source, findings, 'checkpoints', columns, (cells) => {
    cells.count('capacity_bytes', MAX_CAPACITY_BYTES, 1);
    cells.require('block_size_bytes', isBlockSize(cells.count('block_size_bytes')));
    return { id: cells.text('id'), ...readGeneration(cells) };
  });
}

function readBackups(source: RowSource, findings: Findings): BackupRow[] {
  const columns = ['id', 'target', 'state', 'job'];
  return readTable(source, findings, 'backups', columns, (cells) => {
    const job = cells.optional('job');
    return {
      id: cells.text('id'),
      target: cells.text('target'),
      job: cells.text('state') === 'creating' ? job : undefined,
    };
  });
}

/**
 * Reads the rows that the check needs.
 *
 * @param limit of rows of each table; all by default
 */
export function readStoreRows(checked: CheckSource, findings: Findings, limit?: number): StoreRows {
  const source = new RowSource(checked, limit);
  const pools = readPools(source, findings);
  const files = readFiles(source, findings);
  const extents = readExtents(source, findings);
  const before = findings.count;
  const disks = readDisks(source, findings);
  const copies = readCopies(source, findings);
  const dead = readDead(source, findings);
  const lacksRoots = findings.count > before;
  const filling = copies.flatMap(({ own, owed, state }) => {
    return owed === undefined || state === 'deleted' ? [] : [{ copy: own.id, own, owed }];
  });
  const numbers = source.rows('pools', ['id', 'number']).map((row) => Number(row['number']));
  return {
    pools,
    poolIds: source.ids('pools'),
    poolNumbers: new Set(numbers),
    files,
    extents,
    roots: [...disks, ...copies.flatMap(rootsOf), ...dead],
    filling,
    copyIds: source.ids('copies'),
    copiesWithChecksums: checked.copiesWithChecksums(limit),
    checkpoints: readCheckpoints(source, findings),
    groups: readNamed(source, findings, 'groups'),
    targets: readNamed(source, findings, 'targets'),
    jobIds: source.ids('jobs'),
    backups: readBackups(source, findings),
    cut: source.cut,
    lacksRoots,
  };
}

/** How a person knows it. */
export function labelOf(root: RootRow): string {
  return root.kind === 'dead' ? `dead root ${root.id}` : `${root.kind} ${root.name ?? root.id}`;
}
