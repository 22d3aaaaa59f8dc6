/**
 * The invariants among rows: names, references, generations, extents. No page is read.
 */
import { blocksInFile } from '../pool/format.ts';
import type { Findings } from './finding.ts';
import type { ExtentRow, FileRow, NamedRow, PoolRow, StoreRows } from './store-rows.ts';

/** What the check of one pool's tables needs to know of its rows. */
export interface PoolPlace {
  readonly pool: PoolRow;
  /** Ordered. */
  readonly extents: readonly ExtentRow[];
  readonly totalBlocks: number;
}

/** Places of the pools whose rows can be read. */
export function checkRows(rows: StoreRows, findings: Findings): PoolPlace[] {
  checkNames(rows, findings);
  checkReferences(rows, findings);
  checkGenerations(rows, findings);
  checkCheckpoints(rows, findings);
  return rows.pools.map((pool) => checkExtents(rows, pool, findings));
}

function checkNames(rows: StoreRows, findings: Findings): void {
  const named = rows.roots.flatMap(({ id, name }) => (name === undefined ? [] : [{ id, name }]));
  const spaces: [string, readonly NamedRow[]][] = [
    ['disks, copies and groups', [...named, ...rows.groups]],
    ['pools', rows.pools],
    ['targets', rows.targets],
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

function checkReferences(rows: StoreRows, findings: Findings): void {
  const known = {
    pools: rows.poolIds,
    copies: rows.copyIds,
    groups: new Set(rows.groups.map(({ id }) => id)),
    targets: new Set(rows.targets.map(({ id }) => id)),
    jobs: rows.jobIds,
  };
  const look = (table: string, row: string, to: keyof typeof known, id: string | undefined) => {
    if (id === undefined || known[to].has(id) || rows.cut.has(to)) return;
    const message = `${table} ${row} refers to ${to} ${id}, which is not there`;
    findings.add('REFERENCE_MISSING', message, { table, row, to, id });
  };
  for (const { pool, file } of rows.files) look('pool_files', `${file}`, 'pools', pool);
  for (const { pool, extent } of rows.extents) look('pool_extents', `${extent}`, 'pools', pool);
  const tables = { disk: 'disks', copy: 'copies', dead: 'dead_roots' } as const;
  for (const { kind, id, pool, job, group } of rows.roots) {
    look(tables[kind], id, 'pools', pool);
    look(tables[kind], id, 'jobs', job);
    look(tables[kind], id, 'groups', group);
  }
  for (const copy of rows.copiesWithChecksums) look('checksums', copy, 'copies', copy);
  for (const { id, target, job } of rows.backups) {
    look('backups', id, 'targets', target);
    look('backups', id, 'jobs', job);
  }
}

function checkGenerations(rows: StoreRows, findings: Findings): void {
  const disks = rows.roots.filter(({ kind }) => kind === 'disk');
  const owners = new Map<number, string>();
  for (const { id, generation = 0 } of disks) {
    const owner = owners.get(generation);
    owners.set(generation, id);
    if (owner === undefined) continue;
    findings.add('GENERATION_DUPLICATE', `two disks are in generation ${generation}`, {
      generation,
      first: owner,
      second: id,
    });
  }
  const onLine = new Map<number, string>();
  for (const { id, line } of disks) {
    if (line === undefined) continue;
    const owner = onLine.get(line);
    onLine.set(line, id);
    if (owner === undefined) continue;
    const details = { line, first: owner, second: id };
    findings.add('LINE_DUPLICATE', `two disks are on the line that began in ${line}`, details);
  }
}

function checkCheckpoints(rows: StoreRows, findings: Findings): void {
  const there = new Set(rows.roots.flatMap(({ kind, id }) => (kind === 'copy' ? [id] : [])));
  for (const { id } of rows.checkpoints) {
    if (!there.has(id)) continue;
    findings.add('CHECKPOINT_OF_COPY', `copy ${id} is there and has a checkpoint`, { copy: id });
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
