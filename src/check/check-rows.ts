/**
 * The invariants among rows: names, references, generations, extents. No page is read.
 */
import { blocksInFile } from '../pool/format.ts';
import type { Row } from '../pool/metadata-store.ts';
import type { Findings } from './finding.ts';
import type { CheckSource } from './source.ts';
import type { ExtentRow, FileRow, PoolRow, StoreRows } from './store-rows.ts';

/** What the check of one pool's tables needs to know of its rows. */
export interface PoolPlace {
  readonly pool: PoolRow;
  /** Ordered. */
  readonly extents: readonly ExtentRow[];
  readonly totalBlocks: number;
}

export function checkRows(source: CheckSource, rows: StoreRows, findings: Findings): PoolPlace[] {
  checkNames(source, rows, findings);
  checkReferences(source, rows, findings);
  checkGenerations(rows, findings);
  return rows.pools.map((pool) => checkExtents(rows, pool, findings));
}

function checkNames(source: CheckSource, rows: StoreRows, findings: Findings): void {
  const named = rows.roots.filter(({ name }) => name !== undefined);
  const spaces: [string, { id: string; name: string }[]][] = [
    ['disks and copies', named.map(({ id, name }) => ({ id, name: name ?? '' }))],
    ['pools', rows.pools.map(({ id, name }) => ({ id, name }))],
    ['targets', source.rows('targets', ['id', 'name']).map(identity)],
  ];
  for (const [space, objects] of spaces) {
    const owners = new Map<string, string>();
    for (const { id, name } of objects) {
      const owner = owners.get(name);
      owners.set(name, id);
      if (owner === undefined) continue;
      findings.add('NAME_DUPLICATE', `two of ${space} have the name ${name}`, {
        name,
        first: owner,
        second: id,
      });
    }
  }
}

function identity(row: Row): { id: string; name: string } {
  return { id: String(row['id']), name: String(row['name']) };
}

function ids(source: CheckSource, table: string): Set<string> {
  return new Set(source.rows(table, ['id']).map((row) => String(row['id'])));
}

function checkReferences(source: CheckSource, rows: StoreRows, findings: Findings): void {
  const pools = rows.poolIds;
  const jobs = ids(source, 'jobs');
  const targets = ids(source, 'targets');
  const look = (known: ReadonlySet<string>, to: string, from: string, row: string, id: string) => {
    if (known.has(id)) return;
    const details = { table: from, row, to, id };
    findings.add(
      'REFERENCE_MISSING',
      `${from} ${row} refers to ${to} ${id}, which is not`,
      details,
    );
  };
  for (const { pool, file } of rows.files) look(pools, 'pools', 'pool_files', `${file}`, pool);
  for (const { pool, extent } of rows.extents) {
    look(pools, 'pools', 'pool_extents', `${extent}`, pool);
  }
  const tables = { disk: 'disks', copy: 'copies', dead: 'dead_roots' } as const;
  for (const { kind, id, pool, job } of rows.roots) {
    look(pools, 'pools', tables[kind], id, pool);
    if (job !== undefined) look(jobs, 'jobs', tables[kind], id, job);
  }
  for (const copy of source.copiesWithChecksums()) {
    look(rows.copyIds, 'copies', 'checksums', copy, copy);
  }
  for (const row of source.rows('backups', ['id', 'target', 'state', 'job'])) {
    const id = String(row['id']);
    look(targets, 'targets', 'backups', id, String(row['target']));
    const { state, job } = row;
    if (state === 'creating' && job !== null) look(jobs, 'jobs', 'backups', id, String(job));
  }
}

function checkGenerations(rows: StoreRows, findings: Findings): void {
  const owners = new Map<number, string>();
  for (const { kind, id, generation } of rows.roots) {
    if (kind !== 'disk' || generation === undefined) continue;
    const owner = owners.get(generation);
    owners.set(generation, id);
    if (owner === undefined) continue;
    findings.add('GENERATION_DUPLICATE', `two disks are in generation ${generation}`, {
      generation,
      first: owner,
      second: id,
    });
  }
}

function checkExtents(rows: StoreRows, pool: PoolRow, findings: Findings): PoolPlace {
  const extents = rows.extents
    .filter((extent) => extent.pool === pool.id)
    .sort((a, b) => a.extent - b.extent);
  let next = 0;
  for (const [index, extent] of extents.entries()) {
    const details = { pool: pool.id, extent: extent.extent };
    const name = `extent ${extent.extent} of pool ${pool.name}`;
    if (extent.firstBlock !== next || extent.extent !== index) {
      findings.add('EXTENT_GAP', `${name} does not follow the one before`, {
        ...details,
        firstBlock: extent.firstBlock,
        expected: next,
      });
    }
    next = extent.firstBlock + extent.blocks;
    if (extent.highWater <= extent.blocks) continue;
    findings.add('EXTENT_MARK', `the mark of ${name} is beyond its blocks`, {
      ...details,
      highWater: extent.highWater,
      blocks: extent.blocks,
    });
  }
  const files = rows.files.filter((file) => file.pool === pool.id);
  checkPlaces(pool, files, extents, findings);
  const ends = extents.map(({ firstBlock, blocks }) => firstBlock + blocks);
  return { pool, extents, totalBlocks: Math.max(0, ...ends) };
}

/** Where the extents lie in their files. */
function checkPlaces(
  pool: PoolRow,
  files: readonly FileRow[],
  extents: readonly ExtentRow[],
  findings: Findings,
): void {
  const sizes = new Map(files.map(({ file, sizeBytes }) => [file, sizeBytes]));
  const inOrder = extents.toSorted((a, b) => a.file - b.file || a.fileBlock - b.fileBlock);
  for (const [index, { extent, file, fileBlock, blocks }] of inOrder.entries()) {
    const details = { pool: pool.id, extent, file };
    const name = `extent ${extent} of pool ${pool.name}`;
    const size = sizes.get(file);
    if (size === undefined) {
      findings.add('REFERENCE_MISSING', `${name} refers to file ${file}, which is not there`, {
        table: 'pool_extents',
        row: `${extent}`,
        to: 'pool_files',
        id: `${file}`,
      });
    } else if (fileBlock + blocks > blocksInFile(size, pool.blockSizeBytes)) {
      findings.add('EXTENT_OUTSIDE_FILE', `${name} ends beyond its file`, details);
    }
    const before = inOrder[index - 1];
    if (before?.file !== file || before.fileBlock + before.blocks <= fileBlock) continue;
    const overlap = { ...details, other: before.extent };
    findings.add('EXTENT_OVERLAP', `${name} shares blocks with extent ${before.extent}`, overlap);
  }
}
