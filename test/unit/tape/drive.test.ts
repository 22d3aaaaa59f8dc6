/**
 * What the seam of tape drives itself does: aligned buffers, one operation at a time, and the words
 * of the st driver.
 */
import { describe, expect, it } from 'vitest';
import { AssertionError } from '../../../src/base/assert.ts';
import type { StorageError } from '../../../src/base/errors.ts';
import { alignedBuffer } from '../../../src/base/aligned-memory.ts';
import { MAX_DIRECT_BYTES, OneAtATime, isDirect } from '../../../src/tape/drive.ts';
import { loadIoctl, makeIoctl } from '../../../src/tape/ioctl.ts';
import {
  CLEAR_ASYNC_WRITES,
  decodePosition,
  decodeStatus,
  encodeOperation,
  errnoName,
} from '../../../src/tape/mtio.ts';
import { stDevice } from '../../../src/tape/st-drive.ts';

describe('buffers', () => {
  it('slices of an aligned buffer go to the drive as they are, others are copied', () => {
    const buffer = alignedBuffer(2 * MAX_DIRECT_BYTES);
    expect(buffer.length).toBe(2 * MAX_DIRECT_BYTES);
    expect(isDirect(buffer.subarray(0, MAX_DIRECT_BYTES))).toBe(true);
    expect(isDirect(buffer.subarray(4096, 4096 + MAX_DIRECT_BYTES))).toBe(true);
    expect(isDirect(buffer.subarray(512, 1024))).toBe(true);
    expect(isDirect(buffer.subarray(512, 512 + MAX_DIRECT_BYTES))).toBe(false);
    expect(isDirect(buffer.subarray(100, 600))).toBe(false);
    expect(isDirect(buffer)).toBe(false);
    expect(isDirect(Buffer.alloc(64 * 1024))).toBe(false);
  });
});

describe('one operation at a time', () => {
  it('a second one before the end of the first is a bug', async () => {
    const turn = new OneAtATime();
    const { promise, resolve } = Promise.withResolvers<undefined>();
    const first = turn.run('write', () => promise);
    await expect(turn.run('read', async () => 1)).rejects.toThrow(AssertionError);
    resolve(undefined);
    await first;
    expect(await turn.run('read', async () => 2)).toBe(2);
  });

  it('so is one after the close, also if that failed', async () => {
    const turn = new OneAtATime();
    const failed = turn.run('close', () => Promise.reject(new Error('no filemark')));
    await expect(failed).rejects.toThrow('no filemark');
    await expect(turn.run('read', async () => 1)).rejects.toThrow(AssertionError);
  });
});

describe('the words of the st driver', () => {
  it('an operation is its number and its count', () => {
    expect(encodeOperation('writeFilemarks', 2).toString('hex')).toBe('0500000002000000');
    expect(encodeOperation('setOptions', CLEAR_ASYNC_WRITES).toString('hex')).toBe(
      '1800000003000040',
    );
    expect(() => encodeOperation('seek', 2 ** 31)).toThrow(AssertionError);
    expect(() => encodeOperation('seek', -1)).toThrow(AssertionError);
  });

  it('an answer is read field by field', () => {
    const answer = Buffer.alloc(48);
    answer.writeUInt32LE(0x5a000200, 16); // density 0x5a, blocks of 512 bytes
    answer.writeUInt32LE(0x41010000, 24); // at the beginning, online, immediate reports
    expect(decodeStatus(answer)).toEqual({
      online: true,
      doorOpen: false,
      writeProtected: false,
      atBeginning: true,
      atFilemark: false,
      atEndOfData: false,
      earlyWarning: false,
      file: 0,
      block: 0,
      blockSizeBytes: 512,
      needsCleaning: false,
    });
    answer.writeUInt32LE(0xac048000, 24);
    answer.writeInt32LE(-1, 40);
    answer.writeInt32LE(7, 44);
    expect(decodeStatus(answer)).toMatchObject({
      atFilemark: true,
      earlyWarning: true,
      atEndOfData: true,
      writeProtected: true,
      doorOpen: true,
      needsCleaning: true,
      online: false,
      file: -1,
      block: 7,
    });
  });

  it('a position is 64 bits, and errnos have names', () => {
    expect(decodePosition(Buffer.from('0102030000000000', 'hex'))).toBe(0x030201);
    expect([errnoName(123), errnoName(28), errnoName(999)]).toEqual([
      'ENOMEDIUM',
      'ENOSPC',
      undefined,
    ]);
  });
});

describe('a device that is no tape drive', () => {
  const code = (path: string) =>
    stDevice(path)
      .open('write')
      .then(
        () => 'ok',
        (error: unknown) => (error as StorageError).code,
      );

  it('is refused by what it is', async () => {
    expect(await code('/dev/null')).toBe('ENOTTY');
    expect(await code('/dev/no-such-drive')).toBe('ENOENT');
    expect(await code(import.meta.filename)).toBe('ENOTTY');
  });

  it('without koffi the refusal names the package', async () => {
    const device = stDevice('/dev/null', () =>
      makeIoctl(() => Promise.reject(new Error('Cannot find package'))),
    );
    await expect(device.open('write')).rejects.toMatchObject({
      code: 'TARGET_UNAVAILABLE',
      details: { package: 'koffi' },
    });
  });

  it('ioctl gives the errno of its own call, not of another beside it', async () => {
    const ioctl = await loadIoctl();
    const wrong = Array.from({ length: 8 }, () => ioctl(1_000_000, 0x80306d02, Buffer.alloc(48)));
    const { open } = await import('node:fs/promises');
    const file = await open(import.meta.filename);
    const none = Array.from({ length: 8 }, () => ioctl(file.fd, 0x80306d02, Buffer.alloc(48)));
    expect((await Promise.all(wrong)).map(errnoName)).toEqual(wrong.map(() => 'EBADF'));
    expect((await Promise.all(none)).map(errnoName)).toEqual(none.map(() => 'ENOTTY'));
    await file.close();
  });
});
