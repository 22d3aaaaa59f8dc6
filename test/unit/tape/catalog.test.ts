/**
 * The catalog of a large set, and what several hands do to its file.
 */
import { appendFile, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { beforeEach, describe, expect, it } from 'vitest';
import { TapeCatalog } from '../../../src/tape/catalog.ts';
import { CatalogState } from '../../../src/tape/catalog-state.ts';
import type { CatalogLine } from '../../../src/tape/catalog-state.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

const MIB = 1024 * 1024;
const setId = '0193e4c0-1111-7222-8333-444455556666';
const idOf = (head: string, number: number) =>
  `${head}-0000-7c3a-9f6e-${String(number).padStart(12, '0')}`;

function volumeLine(number: number): CatalogLine {
  const label = {
    volumeId: idOf('0193e4c4', number),
    label: `nightly-${number}`,
    set: 'nightly',
    setId,
    number,
    previousVolumeId: number === 1 ? null : idOf('0193e4c4', number - 1),
    recordBytes: 65536,
    labelledAtMs: number,
    expiresAtMs: null,
  };
  return { kind: 'volume', label, cartridge: `T${number}` };
}

/** Part of a backup that has as many parts as a cartridge, and lies on that one alone. */
function partLine(volume: number, part: number, parts: number): CatalogLine {
  const entry = {
    backupId: idOf('11111111', volume),
    backup: `b${volume}`,
    partId: idOf(String(10_000_000 + volume), part),
    part,
    volumeId: idOf('0193e4c4', volume),
    state: part === parts - 1 ? ('final' as const) : ('continues' as const),
    place: { object: 2 + part * 20, file: 1 + part },
    end: { object: 2 + part * 20 + 20, file: 2 + part },
    recordBytes: 65536,
    firstOffset: part * MIB,
    dataBytes: MIB,
    dataRecords: 17,
    manifestBytes: 0,
    manifestRecords: 0,
    previousVolumeId: part === 0 ? null : idOf('0193e4c4', volume),
    endsVolume: false,
  };
  return { kind: 'part', part: { entry, manifest: null, contentId: null } };
}

function* linesOf(volumes: number, parts: number): Generator<CatalogLine> {
  for (let volume = 1; volume <= volumes; volume += 1) {
    yield volumeLine(volume);
    for (let part = 0; part < parts; part += 1) yield partLine(volume, part, parts);
  }
}

function timeOf<T>(work: () => T): { readonly ms: number; readonly value: T } {
  const from = performance.now();
  const value = work();
  return { ms: performance.now() - from, value };
}

describe('the catalog of 1000 cartridges', () => {
  it('is asked for all of them at no more than the cost of reading it', () => {
    const { ms, value: state } = timeOf(() => new CatalogState(linesOf(1000, 100)));
    const asked = timeOf(() => ({
      volumes: state.volumes,
      backups: state.backups,
      names: state.volumes.map(({ label }) => state.backupNamesOn(label.volumeId)),
      inUse: state.volumesInUse,
      one: state.volume(idOf('0193e4c4', 500)),
      named: state.byName('b7'),
    }));
    expect(asked.value.volumes).toHaveLength(1000);
    expect(asked.value.volumes[499]).toEqual(asked.value.one);
    expect(asked.value.one).toMatchObject({
      dataBytes: 100 * MIB,
      end: { place: { object: 2002 } },
    });
    expect(asked.value.backups).toHaveLength(1000);
    expect(asked.value.names[6]).toEqual(['b7']);
    expect(asked.value.inUse).toHaveLength(1000);
    expect(asked.value.named).toMatchObject({ isComplete: true, imageBytes: 100 * MIB });
    expect(asked.ms).toBeLessThan(200 + 3 * ms);
  });
});

describe('the file of a catalog', () => {
  let path: string;

  beforeEach(async () => {
    path = join(await temporaryDirectory(), 'catalogs', 'nightly.jsonl');
  });

  const labelsIn = async (catalog: TapeCatalog): Promise<number[]> =>
    (await catalog.read()).volumes.map(({ label }) => label.number);

  it('shows what another one has added', async () => {
    const [one, other] = [new TapeCatalog(path), new TapeCatalog(path)];
    expect(await labelsIn(one)).toEqual([]);
    for (let number = 1; number <= 3; number += 1) {
      await other.add(volumeLine(number));
      expect(await labelsIn(one)).toHaveLength(number);
    }
    await one.add({ kind: 'gone', volumeId: idOf('0193e4c4', 2) });
    for (const each of [one, other, new TapeCatalog(path)]) {
      expect(await labelsIn(each)).toEqual([1, 3]);
    }
  });

  it('shows a line when all of it is there', async () => {
    const catalog = new TapeCatalog(path);
    await catalog.add(volumeLine(1));
    const line = JSON.stringify(volumeLine(2));
    for (const piece of [line.slice(0, 50), line.slice(50, 80)]) {
      await appendFile(path, piece);
      expect(await labelsIn(catalog)).toEqual([1]);
    }
    await appendFile(path, line.slice(80));
    expect(await labelsIn(catalog)).toEqual([1, 2]);
    await catalog.add(volumeLine(3));
    for (const each of [catalog, new TapeCatalog(path)]) {
      expect(await labelsIn(each)).toEqual([1, 2, 3]);
    }
  });

  it('is read anew where another one was put in its place', async () => {
    const catalog = new TapeCatalog(path);
    await catalog.add(volumeLine(1), volumeLine(2));
    expect(await labelsIn(catalog)).toEqual([1, 2]);
    const text = await readFile(path, 'utf8');
    await writeFile(path, text.split('\n').slice(0, 2).join('\n'));
    expect(await labelsIn(catalog)).toEqual([1]);
    await writeFile(path, text.replaceAll('"number":2', '"number":7'));
    expect(await labelsIn(catalog)).toEqual([1, 7]);
    await catalog.forget();
    expect(await labelsIn(catalog)).toEqual([]);
    await catalog.add(volumeLine(4));
    expect(await labelsIn(catalog)).toEqual([4]);
    await writeFile(path, 'my notes\n');
    await expect(catalog.read()).rejects.toMatchObject({ code: 'TARGET_INVALID' });
  });

  it('is read once, and then what was added', async () => {
    const catalog = new TapeCatalog(path);
    await catalog.add(...linesOf(20, 500));
    const first = await catalog.read();
    expect(first.volumes).toHaveLength(20);
    expect(await catalog.read()).toBe(first);
    await catalog.add(volumeLine(21));
    expect(await labelsIn(catalog)).toHaveLength(21);
    expect(await catalog.read()).toBe(first);
  });
});
