/**
 * A virtual library: places of cartridges, what it remembers, and what is not a library.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../../src/base/clock.ts';
import type { StorageError } from '../../../src/base/errors.ts';
import { VirtualLibrary } from '../../../src/tape/virtual-library.ts';
import { killTapeWriter } from '../../support/killed-writer.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

const MIB = 1024 * 1024;

async function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'ok',
    (error: unknown) => (error as StorageError).code,
  );
}

function places(library: VirtualLibrary): Record<string, unknown> {
  return Object.fromEntries(library.cartridges().map(({ name, place }) => [name, place]));
}

describe('a virtual library', () => {
  it('puts new cartridges into free slots, then on the shelf', async () => {
    const library = await VirtualLibrary.open(await temporaryDirectory(), { slots: 2 });
    for (const name of ['T1', 'T2', 'T3']) await library.addCartridge(name);
    expect(places(library)).toEqual({
      T1: { kind: 'slot', slot: 0 },
      T2: { kind: 'slot', slot: 1 },
      T3: { kind: 'shelf' },
    });
  });

  it('load puts what was in the drive into a free place', async () => {
    const library = await VirtualLibrary.open(await temporaryDirectory(), { slots: 2 });
    for (const name of ['T1', 'T2', 'T3']) await library.addCartridge(name);
    await library.load('T1');
    await library.load('T3');
    expect(places(library)).toEqual({
      T1: { kind: 'slot', slot: 0 },
      T2: { kind: 'slot', slot: 1 },
      T3: { kind: 'drive', drive: 0 },
    });
    await library.load('T3');
    expect(places(library)['T3']).toEqual({ kind: 'drive', drive: 0 });
  });

  it('refuses what hands cannot do, each with its code', async () => {
    const library = await VirtualLibrary.open(await temporaryDirectory(), { slots: 2 });
    await library.addCartridge('T1');
    await library.addCartridge('T2');
    expect(await codeOf(library.addCartridge('T1'))).toBe('NAME_TAKEN');
    expect(await codeOf(library.addCartridge('../T1'))).toBe('NAME_INVALID');
    expect(await codeOf(library.load('T9'))).toBe('NOT_FOUND');
    expect(await codeOf(library.load('T1', 1))).toBe('NOT_FOUND');
    expect(await codeOf(library.move('T1', { kind: 'slot', slot: 2 }))).toBe('NOT_FOUND');
    expect(await codeOf(library.move('T1', { kind: 'slot', slot: 1 }))).toBe('TARGET_IN_USE');
    await library.load('T1');
    const drive = await library.device().open('write');
    await drive.lock();
    expect(await codeOf(library.unload())).toBe('TARGET_IN_USE');
    expect(await codeOf(library.load('T2'))).toBe('TARGET_IN_USE');
    await drive.close();
    expect(places(library)['T1']).toEqual({ kind: 'drive', drive: 0, source: 0 });
  });

  it('remembers places, tabs and contents', async () => {
    const directory = await temporaryDirectory();
    const library = await VirtualLibrary.open(directory, { drives: 2, slots: 3 });
    await library.addCartridge('T1', 8 * MIB, MIB);
    await library.addCartridge('T2');
    await library.load('T1', 1);
    const drive = await library.device(1).open('write');
    await drive.write(Buffer.from('abc'));
    await drive.close();
    await library.change('T1', { writeProtected: true });
    const again = await VirtualLibrary.open(directory);
    expect(again.cartridges()).toEqual(library.cartridges());
    expect(again.cartridges()[0]).toMatchObject({ sizeBytes: 8 * MIB, earlyWarningBytes: MIB });
    expect(await again.objects('T1')).toEqual([3, -1]);
    const reader = await again.device(1).open('write');
    expect(await reader.status()).toMatchObject({ online: true, writeProtected: true });
    await reader.close();
  });

  it('drives are open one by one', async () => {
    const library = await VirtualLibrary.open(await temporaryDirectory(), { drives: 2 });
    const first = await library.device(0).open('read');
    const second = await library.device(1).open('read');
    expect(await codeOf(library.device(1).open('read'))).toBe('EBUSY');
    await first.close();
    await second.close();
    await (await library.device(1).open('read')).close();
  });

  it('a drive that another process has open is EBUSY, until that is killed', async () => {
    const directory = await temporaryDirectory();
    const library = await VirtualLibrary.open(directory);
    await library.addCartridge('T1');
    await library.load('T1');
    let code = '';
    await killTapeWriter('virtual', directory, 1, async () => {
      code = await codeOf(library.device().open('read'));
    });
    expect(code).toBe('EBUSY');
    await (await library.device().open('read')).close();
    expect(await library.objects('T1')).toEqual([64 * 1024, -1]);
  });

  it('only the cartridge of a killed writer gets its filemark, wherever it is', async () => {
    const directory = await temporaryDirectory();
    const library = await VirtualLibrary.open(directory);
    for (const name of ['T1', 'T2']) await library.addCartridge(name);
    await library.load('T1');
    await killTapeWriter('virtual', directory, 1);
    const after = await VirtualLibrary.open(directory);
    await after.load('T2');
    await (await after.device().open('read')).close();
    expect(await after.objects('T1')).toEqual([64 * 1024, -1]);
    expect(await after.objects('T2')).toEqual([]);
    await (await after.device().open('read')).close();
    expect(await after.objects('T1')).toEqual([64 * 1024, -1]);
  });

  it('a killed writer whose cartridge is gone keeps nobody out', async () => {
    const directory = await temporaryDirectory();
    const library = await VirtualLibrary.open(directory);
    for (const name of ['T1', 'T2']) await library.addCartridge(name);
    await library.load('T2');
    for (const name of ['T9', '', '../T2']) {
      await writeFile(join(directory, 'drive-0.writing'), name);
      await (await library.device().open('read')).close();
      expect(await library.objects('T2')).toEqual([]);
    }
  });

  it('a record that a kill cut off is gone, and a filemark ends what is whole', async () => {
    const directory = await temporaryDirectory();
    const library = await VirtualLibrary.open(directory);
    await library.addCartridge('T1');
    await library.load('T1');
    const drive = await library.device().open('write');
    await drive.write(Buffer.from('abcd'));
    // As if the process ended here, in the middle of the next record.
    const path = join(directory, 'T1.tap');
    await writeFile(path, Buffer.concat([await readFile(path), Buffer.from('0400000061', 'hex')]));
    const marker = join(directory, 'drive-0.writing');
    const mark = await readFile(marker);
    await drive.writeFilemarks(0);
    await drive.close();
    await writeFile(marker, mark);
    const after = await VirtualLibrary.open(directory);
    await (await after.device().open('read')).close();
    expect(await after.objects('T1')).toEqual([4, -1]);
  });

  it('a .tap file that somebody puts there is a cartridge on the shelf', async () => {
    const directory = await temporaryDirectory();
    await writeFile(
      join(directory, 'GIFT.tap'),
      Buffer.from('0100000041000100000000000000', 'hex'),
    );
    const library = await VirtualLibrary.open(directory);
    expect(places(library)).toEqual({ GIFT: { kind: 'shelf' } });
    await library.load('GIFT');
    const drive = await library.device().open('read');
    const into = Buffer.alloc(8);
    expect(await drive.read(into)).toBe(1);
    expect(into.toString('latin1', 0, 1)).toBe('A');
    await drive.close();
  });

  it('a cartridge whose file is none reads as EIO, and is not written', async () => {
    const directory = await temporaryDirectory();
    const text = 'this is not a tape, by any means, and it is long enough';
    await writeFile(join(directory, 'ODD.tap'), text);
    const library = await VirtualLibrary.open(directory);
    await library.load('ODD');
    const drive = await library.device().open('write');
    expect(await codeOf(drive.write(Buffer.from('abc')))).toBe('EIO');
    expect(await codeOf(drive.read(Buffer.alloc(8)))).toBe('EIO');
    await codeOf(drive.close());
    expect(await readFile(join(directory, 'ODD.tap'), 'utf8')).toBe(text);
  });

  it.each(['{', '[]', '{"format":"spindle-virtual-library","version":2}'])(
    'a list that reads %s is refused and left as it is',
    async (text) => {
      const directory = await temporaryDirectory();
      await writeFile(join(directory, 'library.json'), text);
      expect(await codeOf(VirtualLibrary.open(directory))).toBe('TARGET_INVALID');
      expect(await readFile(join(directory, 'library.json'), 'utf8')).toBe(text);
    },
  );

  it('without root it says so and keeps asynchronous writes', async () => {
    const directory = await temporaryDirectory();
    const library = await VirtualLibrary.open(directory, { mayChangeOptions: false });
    await library.addCartridge('T1');
    await library.load('T1');
    const drive = await library.device().open('write');
    expect(await drive.setRecordMode()).toBe(false);
    library.injectFault({ operation: 'write', after: 0, count: 1 });
    await drive.write(Buffer.alloc(1000));
    expect(await codeOf(drive.write(Buffer.alloc(1000)))).toBe('EIO');
    await codeOf(drive.close());
  });

  it('a delay holds each command of its kind', async () => {
    const library = await VirtualLibrary.open(await temporaryDirectory());
    await library.addCartridge('T1');
    await library.load('T1');
    const drive = await library.device().open('write');
    library.setDelay('write', 60);
    const before = systemClock.monotonicNs();
    await drive.write(Buffer.from('abc'));
    expect(Number(systemClock.monotonicNs() - before)).toBeGreaterThan(55e6);
    await drive.close();
  });

  it('hands look at a cartridge while a program writes it', async () => {
    const library = await VirtualLibrary.open(await temporaryDirectory());
    await library.addCartridge('T1');
    await library.load('T1');
    const drive = await library.device().open('write');
    const counts: number[] = [];
    const writing = (async () => {
      for (let count = 0; count < 50; count += 1) await drive.write(Buffer.alloc(1000));
    })();
    for (let look = 0; look < 20; look += 1) counts.push((await library.objects('T1')).length);
    await writing;
    await drive.close();
    expect(counts.toSorted((a, b) => a - b)).toEqual(counts);
    expect((await library.objects('T1')).length).toBe(51);
  });
});
