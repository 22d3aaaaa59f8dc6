/**
 * Fetching cartridges out of a library: what is moved, what is believed, and where it ends.
 */
import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { tapPath } from '../../../src/tape/library-file.ts';
import { ChangerUse } from '../../../src/target/changer-use.ts';
import { CartridgeFetcher } from '../../../src/target/cartridge-fetch.ts';
import { LibraryBench } from '../../support/library-bench.ts';

async function make(...cartridges: string[]): Promise<LibraryBench> {
  const bench = await LibraryBench.make();
  await bench.addLabelled(...cartridges);
  return bench;
}

describe('a cartridge that is to be read', () => {
  it('is fetched by its barcode, and what was in the drive goes home', async () => {
    const bench = await make('T1', 'T2', 'T3');
    expect(await bench.fetch('nightly-3')).toBe(true);
    expect(bench.changer.moves).toEqual(['load 3']);
    expect(await bench.fetch('nightly-1')).toBe(true);
    expect(bench.changer.moves).toEqual(['load 3', 'unload 3', 'load 1']);
    expect(await bench.places()).toEqual({ T1: 'drive 0', T2: 'slot 2', T3: 'slot 3' });
    expect(bench.log).toEqual(['changer: T3 loaded from slot 3', 'changer: T1 loaded from slot 1']);
  });

  it('is not moved if it is in the drive', async () => {
    const bench = await make('T1', 'T2');
    await bench.media.load('T2');
    bench.forgetMoves();
    expect(await bench.fetch('nightly-2')).toBe(true);
    expect(bench.changer.moves).toEqual([]);
  });

  it('is looked for once where no barcode is known, and no cleaning one is loaded', async () => {
    const bench = await make('T1', 'T2', 'T3');
    await bench.media.add('CLN001', 1024 * 1024);
    await bench.media.add('X1', 1024 * 1024);
    await bench.forgetBarcodes();
    expect(await bench.fetch('nightly-3')).toBe(true);
    expect(bench.changer.moves).toEqual(['load 1', 'unload 1', 'load 2', 'unload 2', 'load 3']);
    bench.forgetMoves();
    expect(await bench.fetch('nightly-2')).toBe(true);
    expect(bench.changer.moves).toEqual(['unload 3', 'load 2']);
    bench.forgetMoves();
    expect(await bench.fetch('nightly-4')).toBe(false);
    expect(bench.changer.moves).toEqual(['unload 2', 'load 5', 'unload 5']);
    expect(bench.log.at(-1)).toBe('changer: X1 put back');
    bench.forgetMoves();
    // Also by the next start, which has the catalog.
    bench.fetcher = new CartridgeFetcher(bench.use);
    expect(await bench.fetch('nightly-4')).toBe(false);
    expect(bench.changer.moves).toEqual([]);
    expect((await bench.media.get('X1')).state).toBe('unlabelled');
  });

  it('that is somewhere else than its barcode says is found, and nothing is written', async () => {
    const bench = await make('T1', 'T2', 'T3');
    await bench.copyCartridge('T3', 'X3');
    await bench.copyCartridge('T2', 'T3');
    await bench.copyCartridge('X3', 'T2');
    const before = await readFile(tapPath(bench.path, 'T2'));
    expect(await bench.fetch('nightly-2')).toBe(true);
    expect(bench.changer.moves.filter((move) => move.startsWith('load'))).toEqual([
      'load 2',
      'load 3',
    ]);
    expect(bench.log[1]).toBe('changer: T2 has label nightly-3, which does not serve');
    expect(await bench.fetch('nightly-3')).toBe(true);
    expect((await bench.places())['T2']).toBe('drive 0');
    expect((await readFile(tapPath(bench.path, 'T2'))).equals(before)).toBe(true);
  });

  it('that comes through the door is fetched from there', async () => {
    const bench = await make('T1', 'T2');
    const library = await bench.library();
    await library.move('T2', { kind: 'shelf' });
    expect(await bench.fetch('nightly-2')).toBe(false);
    await (await bench.library()).move('T2', { kind: 'slot', slot: 7 });
    expect(await bench.fetch('nightly-2')).toBe(true);
    expect(bench.changer.moves).toEqual(['load 8']);
    expect(await bench.fetch('nightly-1')).toBe(true);
    // Not back to the door, where people would take it away.
    expect(bench.changer.moves).toEqual(['load 8', 'unload 2', 'load 1']);
  });

  it('is not looked for for ever if two cartridges have one label', async () => {
    const bench = await make('T1', 'T2');
    await bench.copyCartridge('T1', 'T2');
    await bench.forgetBarcodes();
    expect(await bench.fetch('nightly-2')).toBe(false);
    // Once more each, as one could have been exchanged for the other meanwhile.
    expect(await bench.fetch('nightly-2')).toBe(false);
    expect(bench.changer.moves).toHaveLength(8);
    bench.forgetMoves();
    expect(await bench.fetch('nightly-2')).toBe(false);
    expect(bench.changer.moves).toEqual([]);
  });

  it('without barcodes is found by the slots that were looked at', async () => {
    const bench = await make('T1', 'T2', 'T3');
    bench.changer.readsBarcodes = false;
    expect(await bench.fetch('nightly-3')).toBe(true);
    expect(bench.changer.moves).toHaveLength(5);
    bench.forgetMoves();
    expect(await bench.fetch('nightly-2')).toBe(true);
    expect(bench.changer.moves).toEqual(['unload 3', 'load 2']);
    bench.forgetMoves();
    // Another one is in that slot by now: it was seen empty.
    await (await bench.library()).move('T1', { kind: 'shelf' });
    await bench.use.inventory();
    await (await bench.library()).move('T1', { kind: 'slot', slot: 0 });
    expect(await bench.fetch('nightly-1')).toBe(true);
    expect(bench.changer.moves).toEqual(['unload 2', 'load 1']);
  });
});

describe('a cartridge that is to be written to', () => {
  it('is a begun one of the set, then a fresh one, never a full one', async () => {
    const bench = await make('T1', 'T2', 'T3');
    const { volumes } = await bench.catalog.read();
    const [first] = volumes;
    await bench.catalog.add({ kind: 'full', volumeId: first?.label.volumeId ?? '' });
    expect(await bench.fetch()).toBe(true);
    expect(bench.changer.moves).toEqual(['load 2']);
    // It did not serve: write-protected, say.
    expect(await bench.fetch()).toBe(true);
    expect(bench.changer.moves).toEqual(['load 2', 'unload 2', 'load 3']);
    expect(await bench.fetch()).toBe(false);
    bench.forgetMoves();
    expect(await bench.fetch()).toBe(false);
    expect(bench.changer.moves).toEqual([]);
    // Hands have moved it: somebody may have slid its tab.
    await (await bench.library()).move('T2', { kind: 'slot', slot: 4 });
    expect(await bench.fetch()).toBe(true);
    expect(await bench.places()).toMatchObject({ T2: 'drive 0' });
  });

  it('is taken out of the door only if there is no other', async () => {
    const bench = await make('T1', 'T2');
    await bench.media.export('T1');
    bench.forgetMoves();
    expect(await bench.fetch()).toBe(true);
    expect(await bench.fetch()).toBe(true);
    expect(bench.changer.moves).toEqual(['load 2', 'unload 2', 'load 7']);
  });

  it('is left in the drive while hands are at it', async () => {
    const bench = await make('T1', 'T2');
    await bench.media.add('X1', 1024 * 1024);
    await bench.media.load('X1');
    bench.forgetMoves();
    expect(await bench.fetch(undefined, true)).toBe(false);
    expect(bench.changer.moves).toEqual([]);
    await bench.media.label({ recordBytes: 65536 });
    expect(await bench.fetch(undefined, true)).toBe(true);
    expect(bench.changer.moves).toEqual([]);
  });
});

describe('a changer', () => {
  it('that is busy or jammed is told of, and tried again', async () => {
    const bench = await make('T1');
    bench.virtual.faults.push({ code: 'busy', operation: 'inventory', count: 2 });
    bench.virtual.faults.push({ code: 'failed', operation: 'load', count: 1 });
    expect(await bench.fetch('nightly-1')).toBe(false);
    expect(bench.fetcher.problem).toBe('it is busy');
    expect(await bench.fetch('nightly-1')).toBe(false);
    expect(await bench.fetch('nightly-1')).toBe(false);
    expect(bench.fetcher.problem).toBe('it is jammed');
    expect(bench.log).toEqual(['changer: it is busy', 'changer: it is jammed']);
    expect(await bench.fetch('nightly-1')).toBe(true);
    expect(bench.fetcher.problem).toBeNull();
  });

  it('that stopped between unloading and loading is taken as it is found', async () => {
    const bench = await make('T1', 'T2');
    await bench.media.load('T1');
    bench.virtual.faults.push({ code: 'failed', operation: 'load', count: 1 });
    expect(await bench.fetch('nightly-2')).toBe(false);
    expect(await bench.places()).toEqual({ T1: 'slot 1', T2: 'slot 2' });
    bench.fetcher = new CartridgeFetcher(bench.use);
    expect(await bench.fetch('nightly-2')).toBe(true);
    expect(await bench.places()).toEqual({ T1: 'slot 1', T2: 'drive 0' });
  });

  it('without a free slot leaves the drive as it is', async () => {
    const bench = await make('T1', 'T2');
    await bench.media.load('T1');
    for (const name of ['X1', 'X2', 'X3', 'X4', 'X5']) await bench.media.add(name, 1024 * 1024);
    bench.forgetMoves();
    expect(await bench.fetch('nightly-2')).toBe(false);
    expect(bench.fetcher.problem).toBe('there is no free slot for the cartridge in the drive');
    expect(bench.changer.moves).toEqual([]);
    expect(await bench.places()).toMatchObject({ T1: 'drive 0' });
  });

  it('whose drive does not get ready stops the search there', async () => {
    const bench = await make('T1', 'T2');
    await bench.forgetBarcodes();
    // It loads another drive than the one that is read.
    const other = await LibraryBench.make();
    const openDevice = async () => (await other.library()).device();
    const { room, catalog } = bench.use;
    const limits = { readyMs: 2, pollMs: 1 };
    const use = new ChangerUse({ room, drive: 0, catalog, openDevice, ...limits });
    bench.fetcher = new CartridgeFetcher(use);
    expect(await bench.fetch('nightly-2')).toBe(false);
    expect(bench.changer.moves).toEqual(['load 1']);
    expect(bench.fetcher.problem).toContain('drive 0 of the changer is full, but ');
  });
});
