/**
 * The contract of tape drives: opening, records, asynchronous writes.
 */
import { describe, expect, it } from 'vitest';
import { KIB, MIB, buffer, codeOf, large, record, write } from './tape-bench.ts';
import type { TapeBench } from './tape-bench.ts';
import { alignedBuffer } from '../../src/base/aligned-memory.ts';

export function describeOpening(name: string, bench: TapeBench): void {
  describe(`${name}: opening`, () => {
    it('a blank cartridge stands at its beginning', async () => {
      const drive = await bench.ready();
      expect(await drive.status()).toMatchObject({
        online: true,
        doorOpen: false,
        writeProtected: false,
        atBeginning: true,
        atFilemark: false,
        earlyWarning: false,
        file: 0,
        block: 0,
        blockSizeBytes: 0,
      });
      expect(await drive.tell()).toBe(0);
    });

    it('without a cartridge it opens at once and says so at each operation', async () => {
      await bench.harness.eject();
      const drive = await bench.raw();
      const { online, doorOpen, file, block } = await drive.status();
      expect({ online, doorOpen, file, block }).toEqual({
        online: false,
        doorOpen: true,
        file: -1,
        block: -1,
      });
      const operations = [
        () => drive.read(buffer),
        () => drive.write(record(512)),
        () => drive.writeFilemarks(1),
        () => drive.rewind(),
        () => drive.seekEndOfData(),
        () => drive.setRecordMode(),
        () => drive.unload(),
      ];
      const codes: string[] = [];
      for (const operation of operations) codes.push(await codeOf(operation()));
      expect(codes).toEqual(operations.map(() => 'ENOMEDIUM'));
      expect(await codeOf(drive.tell())).toBe('EIO');
      expect(await codeOf(drive.load())).toBe('EIO');
    });

    it('a cartridge that comes while the drive is open is not seen before a new open', async () => {
      await bench.harness.eject();
      const drive = await bench.raw();
      await bench.harness.load('A');
      expect(await codeOf(drive.rewind())).toBe('ENOMEDIUM');
      expect(await codeOf(drive.read(buffer))).toBe('ENOMEDIUM');
      await bench.close();
      const again = await bench.ready();
      expect(await again.status()).toMatchObject({ online: true, atBeginning: true });
    });

    it('a second open is EBUSY, also for reading', async () => {
      await bench.ready();
      expect(await codeOf(bench.harness.device.open('write'))).toBe('EBUSY');
      expect(await codeOf(bench.harness.device.open('read'))).toBe('EBUSY');
      await bench.close();
      await bench.ready();
    });

    it('a write-protected cartridge opens, is read, and refuses each way of writing', async () => {
      await write(await bench.ready(), 1000, 'FM');
      await bench.close();
      await bench.harness.protect('A', true);
      const drive = await bench.ready();
      await drive.rewind();
      expect(await drive.status()).toMatchObject({ writeProtected: true, online: true });
      expect(await codeOf(drive.write(record(512)))).toBe('EACCES');
      expect(await codeOf(drive.writeFilemarks(1))).toBe('EACCES');
      expect(await codeOf(drive.erase())).toBe('EACCES');
      expect(await drive.read(buffer)).toBe(1000);
      await bench.close();
      expect(await bench.objects()).toEqual([1000, 'FM']);
    });

    it('protection that comes after the open fails the write and the close', async () => {
      const drive = await bench.ready();
      await bench.harness.protect('A', true);
      expect(await codeOf(drive.write(record(512)))).toBe('EIO');
      bench.leave();
      expect(await codeOf(drive.close())).toBe('EIO');
      expect(await bench.objects()).toEqual([]);
    });

    it('a drive open for reading writes nothing', async () => {
      const drive = await bench.ready('read');
      expect(await codeOf(drive.write(record(512)))).toBe('EBADF');
      expect(await codeOf(drive.writeFilemarks(1))).toBe('EACCES');
    });

    it('a WORM cartridge takes more at its end and nothing before it', async () => {
      await bench.harness.makeWorm('A');
      const drive = await bench.ready();
      await write(drive, 1000, 'FM');
      await drive.rewind();
      expect(await codeOf(drive.write(record(512)))).toBe('EIO');
      bench.leave();
      expect(await codeOf(drive.close())).toBe('EIO');
      const again = await bench.ready();
      await again.seekEndOfData();
      await write(again, 2000, 'FM');
      await bench.close();
      expect(await bench.objects()).toEqual([1000, 'FM', 2000, 'FM']);
    });
  });
}

export function describeRecords(name: string, bench: TapeBench): void {
  describe(`${name}: records`, () => {
    it('one write is one record, of each size, and is read as it was written', async () => {
      const sizes = [1, 511, 512, 64 * KIB, 256 * KIB, MIB];
      const drive = await bench.ready();
      await write(drive, ...sizes, 'FM');
      await drive.rewind();
      const into = alignedBuffer(MIB);
      for (const [at, size] of sizes.entries()) {
        expect(await drive.read(into)).toBe(size);
        expect(into.subarray(0, size).equals(record(size, at + 1))).toBe(true);
      }
      expect(await drive.read(into)).toBe(0);
      expect(await bench.objects()).toEqual([...sizes, 'FM']);
    });

    it('nothing is a record of no bytes, and more than 8 MiB is refused', async () => {
      const drive = await bench.ready();
      await drive.write(Buffer.alloc(0));
      expect(await codeOf(drive.write(Buffer.alloc(8 * MIB + 1)))).toBe('EINVAL');
      await drive.write(Buffer.alloc(8 * MIB));
      await bench.close();
      expect(await bench.objects()).toEqual([8 * MIB, 'FM']);
    });

    it('a fixed block size outlasts a close; setRecordMode ends it', async () => {
      await write(await bench.ready(), 64 * KIB, 'FM');
      await bench.close();
      await bench.harness.administer({ blockSizeBytes: 512 });
      const drive = await bench.raw();
      await drive.rewind();
      expect(await drive.status()).toMatchObject({ blockSizeBytes: 512 });
      expect(await codeOf(drive.read(buffer.subarray(0, 64 * KIB)))).toBe('EIO');
      expect(await codeOf(drive.write(record(1000)))).toBe('EINVAL');
      await drive.setRecordMode();
      await drive.rewind();
      expect(await drive.status()).toMatchObject({ blockSizeBytes: 0 });
      expect(await drive.read(buffer)).toBe(64 * KIB);
    });

    it('writing in the middle cuts off what was behind', async () => {
      const drive = await bench.ready();
      await write(drive, 1000, 2000, 3000, 'FM');
      await drive.seek(1);
      await write(drive, 4000, 'FM');
      await bench.close();
      expect(await bench.objects()).toEqual([1000, 4000, 'FM']);
    });

    it('a failed record is missing, and the next one goes where it would have been', async () => {
      const drive = await bench.ready();
      await bench.harness.fail('write', 1);
      await drive.write(record(1000));
      expect(await codeOf(drive.write(record(2000)))).toBe('EIO');
      expect(await drive.tell()).toBe(1);
      await drive.write(record(3000));
      await bench.close();
      expect(await bench.objects()).toEqual([1000, 3000, 'FM']);
    });
  });
}

export function describeAsynchronous(name: string, bench: TapeBench): void {
  describe(`${name}: asynchronous writes`, () => {
    it('the error of a large or unaligned record comes one write late', async () => {
      await bench.harness.administer({ asyncWrites: true });
      const drive = await bench.raw();
      await bench.harness.fail('write', 0);
      expect(await codeOf(drive.write(large))).toBe('ok');
      expect(await codeOf(drive.write(record(1000)))).toBe('EIO');
      bench.leave();
      await codeOf(drive.close());
      expect((await bench.objects()).includes(large.length)).toBe(false);
    });

    it('writeFilemarks(0) reports it once, and then is well', async () => {
      await bench.harness.administer({ asyncWrites: true });
      const drive = await bench.raw();
      await bench.harness.fail('write', 0);
      await drive.write(large);
      expect(await codeOf(drive.writeFilemarks(0))).toBe('EIO');
      expect(await codeOf(drive.writeFilemarks(0))).toBe('ok');
    });

    it('a close reports it, and writes no filemark', async () => {
      await bench.harness.administer({ asyncWrites: true });
      const drive = await bench.raw();
      await bench.harness.fail('write', 0);
      await drive.write(large);
      bench.leave();
      expect(await codeOf(drive.close())).toBe('EIO');
      expect(await bench.objects()).toEqual([]);
    });

    it('an aligned record of at most 1 MiB fails at once', async () => {
      await bench.harness.administer({ asyncWrites: true });
      const drive = await bench.raw();
      await bench.harness.fail('write', 0);
      expect(await codeOf(drive.write(record(MIB)))).toBe('EIO');
      expect(await codeOf(drive.write(record(MIB)))).toBe('ok');
    });

    it('setRecordMode switches them off', async () => {
      await bench.harness.administer({ asyncWrites: true });
      const drive = await bench.raw();
      expect(await drive.setRecordMode()).toBe(true);
      await bench.harness.fail('write', 0);
      expect(await codeOf(drive.write(large))).toBe('EIO');
      expect(await codeOf(drive.write(large))).toBe('ok');
    });
  });
}
