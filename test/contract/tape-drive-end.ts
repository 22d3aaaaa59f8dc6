/**
 * The contract of tape drives: the end of the medium, and a changed cartridge.
 */
import { describe, expect, it } from 'vitest';
import type { TapeDrive } from '../../src/tape/drive.ts';
import { KIB, MIB, buffer, codeOf, large, record, write } from './tape-bench.ts';
import type { TapeBench } from './tape-bench.ts';

const size = 64 * KIB;

/** How the next `count` writes end: 'ok' or the errno. */
async function writes(drive: TapeDrive, count: number): Promise<string[]> {
  const ends: string[] = [];
  for (let at = 0; at < count; at += 1) ends.push(await codeOf(drive.write(record(size))));
  return ends;
}

export function describeEnd(name: string, bench: TapeBench): void {
  /** A cartridge of 1 MiB, warning 256 KiB before its end, with the 13 records that go before. */
  async function warned(): Promise<TapeDrive> {
    await bench.harness.resize('A', MIB, 256 * KIB);
    const drive = await bench.ready();
    expect(await writes(drive, 13)).toEqual(Array.from({ length: 13 }, () => 'ok'));
    return drive;
  }

  describe(`${name}: end of the medium`, () => {
    it('behind the warning every other write goes through, at the end none', async () => {
      const drive = await warned();
      expect(await drive.status()).toMatchObject({ earlyWarning: true });
      const alternating = ['ENOSPC', 'ok', 'ENOSPC', 'ok', 'ENOSPC', 'ok'];
      expect(await writes(drive, 6)).toEqual(alternating);
      expect(await writes(drive, 4)).toEqual(['ENOSPC', 'ENOSPC', 'ENOSPC', 'ENOSPC']);
      await bench.close();
      expect(await bench.objects()).toEqual([...Array.from({ length: 16 }, () => size), 'FM']);
    });

    it('a filemark goes through behind the warning, and lets the next write through', async () => {
      const drive = await warned();
      expect(await writes(drive, 1)).toEqual(['ENOSPC']);
      await drive.writeFilemarks(1);
      expect(await writes(drive, 2)).toEqual(['ok', 'ENOSPC']);
      await drive.writeFilemarks(1);
      expect(await writes(drive, 2)).toEqual(['ok', 'ENOSPC']);
    });

    it('a filemark goes through at the end of the medium', async () => {
      const drive = await warned();
      await writes(drive, 12);
      await drive.writeFilemarks(1);
      expect((await bench.objects()).slice(-2)).toEqual([size, 'FM']);
    });

    it('the tidy way: filemark, trailer, filemark', async () => {
      const drive = await warned();
      expect(await writes(drive, 1)).toEqual(['ENOSPC']);
      await drive.writeFilemarks(1);
      await drive.write(record(1000));
      await drive.writeFilemarks(1);
      await bench.close();
      expect((await bench.objects()).slice(-4)).toEqual([size, 'FM', 1000, 'FM']);
    });

    it('after ENOSPC a close alone writes the filemark', async () => {
      const drive = await warned();
      expect(await writes(drive, 1)).toEqual(['ENOSPC']);
      await bench.close();
      expect((await bench.objects()).slice(-2)).toEqual([size, 'FM']);
    });

    it('a write that failed behind a filemark at the end adds one at the close', async () => {
      const drive = await warned();
      await writes(drive, 7);
      await drive.writeFilemarks(1);
      expect(await writes(drive, 1)).toEqual(['ENOSPC']);
      await bench.close();
      expect((await bench.objects()).slice(-3)).toEqual([size, 'FM', 'FM']);
    });

    it('a large record beyond the end, written asynchronously, is EIO late', async () => {
      await bench.harness.resize('A', MIB, 0);
      await bench.harness.administer({ asyncWrites: true });
      const drive = await bench.raw();
      await drive.write(large);
      expect(await codeOf(drive.writeFilemarks(1))).toBe('EIO');
      await bench.close();
      expect(await bench.objects()).toEqual(['FM']);
    });
  });
}

export function describeChange(name: string, bench: TapeBench): void {
  describe(`${name}: a changed cartridge`, () => {
    it('one EIO, then the next write destroys the new cartridge', async () => {
      await bench.harness.load('B');
      await write(await bench.ready(), 5000, 'FM');
      await bench.close();
      await bench.harness.load('A');
      const drive = await bench.ready();
      await write(drive, 1000, 'FM');
      await bench.harness.load('B');
      expect(await codeOf(drive.write(record(2000)))).toBe('EIO');
      expect(await drive.tell()).toBe(0);
      await drive.write(record(3000));
      await bench.close();
      expect(await bench.objects()).toEqual([1000, 'FM']);
      expect(await bench.objects('B')).toEqual([3000, 'FM']);
    });

    const swallowers: [string, (drive: TapeDrive) => Promise<void>][] = [
      ['lock', (drive) => drive.lock()],
      ['seekEndOfData', (drive) => drive.seekEndOfData()],
    ];

    it.each(swallowers)('%s hides the change', async (_name, swallow) => {
      const drive = await bench.ready();
      await write(drive, 1000, 'FM');
      await bench.harness.load('B');
      await swallow(drive);
      await drive.write(record(3000));
      await drive.unlock();
      await bench.close();
      expect(await bench.objects('B')).toEqual([3000]);
    });

    it('changed while nobody has it open: a new open stands at the new beginning', async () => {
      await write(await bench.ready(), 1000, 'FM');
      await bench.close();
      await bench.harness.load('B');
      const drive = await bench.ready();
      expect(await drive.status()).toMatchObject({ atBeginning: true, online: true });
      expect(await drive.tell()).toBe(0);
      expect(await codeOf(drive.read(buffer))).toBe('EIO');
    });

    it('a drive that goes away says so, and comes back with the tape where it stood', async () => {
      const drive = await bench.ready();
      await write(drive, 1000, 'FM', 2000);
      await bench.harness.unplug();
      try {
        expect(await codeOf(drive.write(record(3000)))).toBe('ENXIO');
        expect(await codeOf(drive.read(buffer))).toBe('ENXIO');
        expect(await codeOf(drive.writeFilemarks(1))).toBe('ENODEV');
        expect(await codeOf(drive.status())).toBe('ENODEV');
        expect(await codeOf(drive.tell())).toBe('ENODEV');
        expect(await codeOf(drive.rewind())).toBe('ENODEV');
        bench.leave();
        expect(await codeOf(drive.close())).toBe('EIO');
        expect(await codeOf(bench.harness.device.open('write'))).toBe('ENOENT');
      } finally {
        await bench.harness.plugIn();
      }
      const again = await bench.ready();
      expect(await again.status()).toMatchObject({ online: true, file: -1, block: -1 });
      expect(await again.tell()).toBe(3);
      expect(await bench.objects()).toEqual([1000, 'FM', 2000]);
    });

    it('taken out while open: EIO, and a new open finds none', async () => {
      const drive = await bench.ready();
      await write(drive, 1000, 'FM');
      await bench.harness.eject();
      expect(await codeOf(drive.write(record(1000)))).toBe('EIO');
      bench.leave();
      await codeOf(drive.close());
      const again = await bench.raw();
      expect(await again.status()).toMatchObject({ online: false, doorOpen: true });
    });
  });
}
