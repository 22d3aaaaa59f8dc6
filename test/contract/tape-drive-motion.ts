/**
 * The contract of tape drives: filemarks, reading, positions.
 */
import { describe, expect, it } from 'vitest';
import type { TapeDrive } from '../../src/tape/drive.ts';
import { KIB, buffer, codeOf, write } from './tape-bench.ts';
import type { TapeBench } from './tape-bench.ts';

export function describeFilemarks(name: string, bench: TapeBench): void {
  describe(`${name}: filemarks`, () => {
    const sequences: [string, (drive: TapeDrive) => Promise<unknown>, (number | 'FM')[]][] = [
      ['a record', (drive) => write(drive, 1000), [1000, 'FM']],
      ['a record and a filemark', (drive) => write(drive, 1000, 'FM'), [1000, 'FM']],
      ['nothing', (drive) => drive.status(), []],
      ['a read', (drive) => codeOf(drive.read(buffer)), []],
      [
        'a record and a flush',
        async (drive) => {
          await write(drive, 1000);
          await drive.writeFilemarks(0);
        },
        [1000],
      ],
      [
        'a record, a read and a rewind',
        async (drive) => {
          await write(drive, 1000);
          await codeOf(drive.read(buffer));
          await drive.rewind();
        },
        [1000],
      ],
      [
        'a record and a lock',
        async (drive) => {
          await write(drive, 1000);
          await drive.lock();
          await drive.unlock();
        },
        [1000],
      ],
      [
        'a record and its end of data',
        async (drive) => {
          await write(drive, 1000);
          await drive.seekEndOfData();
        },
        [1000],
      ],
    ];

    it.each(sequences)('close after %s', async (_name, work, objects) => {
      await work(await bench.ready());
      await bench.close();
      expect(await bench.objects()).toEqual(objects);
    });

    const motions: [string, (drive: TapeDrive) => Promise<void>, number][] = [
      ['rewind', (drive) => drive.rewind(), 0],
      ['seek', (drive) => drive.seek(1), 1],
      ['spaceFilemarks(-1)', (drive) => drive.spaceFilemarks(-1), 2],
    ];

    it.each(motions)('%s ends a record with a filemark', async (_name, move, position) => {
      const drive = await bench.ready();
      await write(drive, 1000, 'FM', 2000);
      await move(drive);
      // Back over the mark that was just written, and over the one asked for.
      expect(await drive.tell()).toBe(position === 2 ? 1 : position);
      await bench.close();
      expect(await bench.objects()).toEqual([1000, 'FM', 2000, 'FM']);
    });

    it('the kernel ends what a killed process wrote with a filemark', async () => {
      await bench.harness.killWriter(3);
      expect(await codeOf((await bench.ready()).status())).toBe('ok');
      await bench.close();
      expect(await bench.objects()).toEqual([64 * KIB, 64 * KIB, 64 * KIB, 'FM']);
    });

    it('one that fails is not on the tape, and the position is before it', async () => {
      const drive = await bench.ready();
      await write(drive, 1000);
      await bench.harness.fail('filemarks', 0);
      expect(await codeOf(drive.writeFilemarks(1))).toBe('EIO');
      expect(await drive.tell()).toBe(1);
      await bench.close();
      expect(await bench.objects()).toEqual([1000]);
    });

    it('one that fails at the close fails the close', async () => {
      const drive = await bench.ready();
      await write(drive, 1000);
      await bench.harness.fail('filemarks', 0);
      bench.leave();
      expect(await codeOf(drive.close())).toBe('EIO');
      expect(await bench.objects()).toEqual([1000]);
      await bench.ready();
    });

    it('several are written at once', async () => {
      const drive = await bench.ready();
      await write(drive, 1000);
      await drive.writeFilemarks(3);
      expect(await drive.tell()).toBe(4);
      expect(await drive.status()).toMatchObject({ file: 3, block: 0, atFilemark: true });
    });
  });
}

export function describeReading(name: string, bench: TapeBench): void {
  describe(`${name}: reading`, () => {
    it('a filemark is 0, a second 0 is the end of the data, then comes EIO', async () => {
      const drive = await bench.ready();
      await write(drive, 1000, 'FM', 2000, 'FM');
      await drive.rewind();
      expect(await drive.read(buffer)).toBe(1000);
      expect(await drive.status()).toMatchObject({ file: 0, block: 1 });
      expect(await drive.read(buffer)).toBe(0);
      expect(await drive.status()).toMatchObject({ file: 1, block: 0, atFilemark: true });
      expect(await drive.read(buffer)).toBe(2000);
      expect(await drive.read(buffer)).toBe(0);
      expect(await drive.read(buffer)).toBe(0);
      expect(await drive.status()).toMatchObject({ block: -1, atEndOfData: true });
      expect(await codeOf(drive.read(buffer))).toBe('EIO');
      expect(await codeOf(drive.read(buffer))).toBe('EIO');
      expect(await drive.tell()).toBe(4);
    });

    it('the end of the data without a filemark is EIO at once, so is a blank tape', async () => {
      const drive = await bench.ready();
      expect(await codeOf(drive.read(buffer))).toBe('EIO');
      await drive.rewind();
      await write(drive, 1000);
      await drive.writeFilemarks(0);
      await drive.rewind();
      expect(await drive.read(buffer)).toBe(1000);
      expect(await codeOf(drive.read(buffer))).toBe('EIO');
      expect(await drive.status()).toMatchObject({ block: -1 });
    });

    it('after seekEndOfData a read is EIO', async () => {
      const drive = await bench.ready();
      await write(drive, 1000, 'FM');
      await drive.rewind();
      await drive.seekEndOfData();
      expect(await drive.status()).toMatchObject({ block: -1, atEndOfData: true, file: 1 });
      expect(await drive.tell()).toBe(2);
      expect(await codeOf(drive.read(buffer))).toBe('EIO');
    });

    it('a record larger than the buffer is ENOMEM and skipped; one back reads it', async () => {
      const drive = await bench.ready();
      await write(drive, 4096, 1000, 'FM');
      await drive.rewind();
      expect(await codeOf(drive.read(buffer.subarray(0, 1024)))).toBe('ENOMEM');
      expect(await drive.tell()).toBe(1);
      await drive.spaceRecords(-1);
      expect(await drive.read(buffer)).toBe(4096);
      expect(await drive.read(buffer)).toBe(1000);
    });

    it('a bad spot is EIO each time; spaceRecords(1) goes on behind it', async () => {
      const drive = await bench.ready();
      await write(drive, 1000, 2000, 3000, 'FM');
      await drive.rewind();
      await bench.harness.damage('A', 1);
      expect(await drive.read(buffer)).toBe(1000);
      expect(await codeOf(drive.read(buffer))).toBe('EIO');
      expect(await codeOf(drive.read(buffer))).toBe('EIO');
      expect(await drive.tell()).toBe(1);
      await drive.spaceRecords(1);
      expect(await drive.read(buffer)).toBe(3000);
    });

    it('what was written is read back after a new open, from where the tape stands', async () => {
      await write(await bench.ready(), 1000, 'FM', 2000, 'FM');
      await (await bench.again()).seek(2);
      const drive = await bench.again('read');
      expect(await drive.tell()).toBe(2);
      expect(await drive.read(buffer)).toBe(2000);
    });
  });
}

export function describePositions(name: string, bench: TapeBench): void {
  /** 0: 1000, 1: 2000, 2: FM, 3: 3000, 4: FM; then the end. */
  async function twoFiles(): Promise<TapeDrive> {
    const drive = await bench.ready();
    await write(drive, 1000, 2000, 'FM', 3000, 'FM');
    await drive.rewind();
    return drive;
  }

  describe(`${name}: positions`, () => {
    it('tell counts records and filemarks, and seek goes back to where it was', async () => {
      const drive = await twoFiles();
      expect(await drive.tell()).toBe(0);
      await drive.seek(3);
      expect(await drive.tell()).toBe(3);
      expect(await drive.status()).toMatchObject({ file: -1, block: -1 });
      expect(await drive.read(buffer)).toBe(3000);
      await drive.seek(1);
      expect(await drive.read(buffer)).toBe(2000);
      await drive.seek(0);
      expect(await drive.status()).toMatchObject({ file: 0, block: 0, atBeginning: true });
    });

    it('a seek beyond the data is EIO and stands at its end', async () => {
      const drive = await twoFiles();
      expect(await codeOf(drive.seek(6))).toBe('EIO');
      expect(await drive.tell()).toBe(5);
      await drive.seek(5);
      expect(await codeOf(drive.read(buffer))).toBe('EIO');
    });

    it('spaceFilemarks forwards stands behind the mark, backwards before it', async () => {
      const drive = await twoFiles();
      await drive.spaceFilemarks(1);
      expect(await drive.status()).toMatchObject({ file: 1, block: 0, atFilemark: true });
      expect(await drive.tell()).toBe(3);
      await drive.spaceFilemarks(1);
      expect(await drive.tell()).toBe(5);
      await drive.spaceFilemarks(-2);
      expect(await drive.status()).toMatchObject({ file: 0, block: -1 });
      expect(await drive.tell()).toBe(2);
    });

    it('spaceFilemarks beyond either end is EIO and stands there', async () => {
      const drive = await twoFiles();
      expect(await codeOf(drive.spaceFilemarks(100))).toBe('EIO');
      expect(await drive.tell()).toBe(5);
      expect(await drive.status()).toMatchObject({ atEndOfData: true, block: -1 });
      expect(await codeOf(drive.spaceFilemarks(-100))).toBe('EIO');
      expect(await drive.tell()).toBe(0);
      expect(await drive.status()).toMatchObject({ atBeginning: true });
    });

    it('spaceRecords counts records, and over a filemark is EIO behind it', async () => {
      const drive = await twoFiles();
      await drive.spaceRecords(2);
      expect(await drive.status()).toMatchObject({ file: 0, block: 2 });
      expect(await codeOf(drive.spaceRecords(1))).toBe('EIO');
      expect(await drive.status()).toMatchObject({ file: 1, block: 0 });
      expect(await drive.tell()).toBe(3);
      expect(await codeOf(drive.spaceRecords(-1))).toBe('EIO');
      expect(await drive.tell()).toBe(2);
      await drive.spaceRecords(-2);
      expect(await drive.tell()).toBe(0);
      expect(await codeOf(drive.spaceRecords(-1))).toBe('EIO');
      expect(await drive.status()).toMatchObject({ atBeginning: true });
    });

    it('erase leaves nothing behind the position', async () => {
      const drive = await twoFiles();
      await drive.seek(3);
      await drive.erase();
      await bench.close();
      expect(await bench.objects()).toEqual([1000, 2000, 'FM']);
    });

    it('after unload there is no cartridge, and load brings it back', async () => {
      const drive = await twoFiles();
      await drive.unload();
      expect(await drive.status()).toMatchObject({ online: false, doorOpen: true });
      expect(await codeOf(drive.read(buffer))).toBe('ENOMEDIUM');
      await drive.load();
      expect(await drive.status()).toMatchObject({ online: true, atBeginning: true });
      expect(await drive.read(buffer)).toBe(1000);
    });

    it('a locked door keeps the cartridge in, also after a close, until unlocked', async () => {
      const drive = await bench.ready();
      await drive.lock();
      expect(await bench.harness.eject()).toBe(false);
      await bench.close();
      expect(await bench.harness.eject()).toBe(false);
      const again = await bench.ready();
      await again.unlock();
      await bench.close();
      expect(await bench.harness.eject()).toBe(true);
    });

    it('unload opens a locked door', async () => {
      const drive = await bench.ready();
      await drive.lock();
      await drive.unload();
      await bench.close();
      expect(await bench.harness.eject()).toBe(true);
    });
  });
}
