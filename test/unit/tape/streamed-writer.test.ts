/**
 * The ring between a source and a drive: when the drive begins, waits, and what is told of it.
 */
import { describe, expect, it } from 'vitest';
import { crc32 } from '../../../src/base/checksum.ts';
import { deferred } from '../../../src/base/mutex.ts';
import type { Deferred } from '../../../src/base/mutex.ts';
import type { RingMemory } from '../../../src/file/page-ring.ts';
import { RecordRing } from '../../../src/tape/record-ring.ts';
import { StreamedWriter } from '../../../src/tape/streamed-writer.ts';
import type { RecordSink } from '../../../src/tape/streamed-writer.ts';
import type { FilledRecord } from '../../../src/tape/volume-writer.ts';
import { ManualTime, settle } from '../../support/manual-time.ts';

const KIB = 1024;
const RECORD = 64 * KIB;
/** Payload of a record. */
const P = RECORD - 128;

/** Memory of which is known what was taken and not given back. */
class CountedMemory implements RingMemory {
  readonly bytes = 256 * KIB;
  taken = 0;

  take(): Buffer[] {
    this.taken += 1;
    return [Buffer.alloc(this.bytes, 0xee)];
  }

  giveBack(): void {
    this.taken -= 1;
  }
}

/** A drive that takes a record when it is told to, or at once. */
class FakeDrive implements RecordSink {
  readonly payloads: Buffer[] = [];
  readonly calls: string[] = [];
  confirmedOffset = 0;
  isFast = true;
  readonly #waiting: Deferred<undefined>[] = [];
  #isBusy = false;

  get offset(): number {
    return this.payloads.reduce((sum, { length }) => sum + length, 0);
  }

  /** Operations that wait to be done. */
  get waiting(): number {
    return this.#waiting.length;
  }

  async writeRecord({ bytes, payloadBytes, payloadCrc }: FilledRecord): Promise<void> {
    expect(bytes.length).toBe(RECORD);
    const payload = Buffer.from(bytes.subarray(128, 128 + payloadBytes));
    expect(payloadCrc).toBe(crc32(payload));
    await this.#operate('write');
    // What is in the ring stays as it is while the drive is at it.
    expect(bytes.subarray(128, 128 + payloadBytes).equals(payload)).toBe(true);
    this.payloads.push(payload);
  }

  async confirm(): Promise<number> {
    await this.#operate('confirm');
    this.confirmedOffset = this.offset;
    return this.confirmedOffset;
  }

  async commit(): Promise<void> {
    await this.#operate('commit');
    this.confirmedOffset = this.offset;
  }

  async abort(): Promise<void> {
    this.calls.push('abort');
  }

  /** Does what it is at, and lets everything happen that follows. */
  async next(): Promise<void> {
    this.#waiting.shift()?.resolve(undefined);
    await settle();
  }

  async fail(code: string): Promise<void> {
    this.#waiting.shift()?.reject(Object.assign(new Error(code), { code }));
    await settle();
  }

  async #operate(what: string): Promise<void> {
    expect(this.#isBusy).toBe(false);
    this.calls.push(what);
    this.#isBusy = true;
    try {
      if (this.isFast) return;
      const done = deferred<undefined>();
      this.#waiting.push(done);
      await done.promise;
    } finally {
      this.#isBusy = false;
    }
  }
}

/** A ring of 8 records; the high mark is 6. */
function bench({ isFast = true, ringBytes = 8 * RECORD } = {}) {
  const drive = new FakeDrive();
  drive.isFast = isFast;
  const time = new ManualTime();
  const memory = new CountedMemory();
  const ring = new RecordRing(RECORD, ringBytes, memory);
  const writer = new StreamedWriter(drive, ring, { clock: time, sleep: time.sleep });
  return { drive, time, memory, writer };
}

/** Bytes that tell where they belong. */
function source(length: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at + 4 <= length; at += 4) bytes.writeUInt32LE((at + seed * 7919) >>> 0, at);
  return bytes;
}

const codeOf = (work: Promise<unknown>) =>
  work.then(
    () => 'no error',
    (error: unknown) => (error as { code?: string }).code,
  );

describe('the marks of the ring', () => {
  it('the drive begins at the high mark, and goes on until the ring is empty', async () => {
    const { drive, writer } = bench({ isFast: false });
    await writer.write(source(5 * P + 100));
    await settle();
    expect(drive.calls).toEqual([]);
    expect(writer.flow().bufferedBytes).toBe(5 * P + 100);
    await writer.write(source(P - 100));
    for (let left = 6; left > 0; left -= 1) {
      expect(drive.waiting).toBe(1);
      expect(writer.flow().bufferedBytes).toBe(left * P);
      await drive.next();
    }
    expect(drive.waiting).toBe(0);
    expect(writer.flow()).toMatchObject({ writtenBytes: 6 * P, bufferedBytes: 0, stalls: 0 });
    await writer.abort();
  });

  it('the source waits while the ring is full, until a record is free', async () => {
    const { drive, writer } = bench({ isFast: false });
    let isWritten = false;
    const writing = writer.write(source(8 * P + 1)).then(() => {
      isWritten = true;
    });
    await settle();
    expect(isWritten).toBe(false);
    await drive.next();
    expect(isWritten).toBe(true);
    await writing;
    expect(writer.flow().bufferedBytes).toBe(7 * P + 1);
    const end = writer.abort();
    await drive.next();
    await end;
  });

  it('running empty is a stall if the source had more, and lasts until the high mark', async () => {
    const { drive, time, writer } = bench();
    await writer.write(source(6 * P));
    await settle();
    expect(drive.payloads).toHaveLength(6);
    await time.advance(3000);
    await writer.write(source(5 * P));
    await settle();
    expect(drive.payloads).toHaveLength(6);
    await time.advance(2000);
    await writer.write(source(P));
    await settle();
    expect(drive.payloads).toHaveLength(12);
    expect(writer.flow()).toMatchObject({ stalls: 1, stalledMs: 5000 });
    await time.advance(9000);
    await writer.commit(Buffer.from('{}'));
    expect(writer.flow()).toMatchObject({ stalls: 1, stalledMs: 5000, writtenBytes: 12 * P });
  });

  it('what waits for the high mark is written after 30 seconds', async () => {
    const { drive, time, writer } = bench();
    await writer.write(source(2 * P + 7));
    await time.advance(29_999);
    expect(drive.payloads).toHaveLength(0);
    await time.advance(1);
    expect(drive.payloads).toHaveLength(2);
    expect(writer.flow().bufferedBytes).toBe(7);
    await time.advance(100_000);
    expect(drive.payloads).toHaveLength(2);
    expect(time.sleeping).toBe(0);
    await writer.abort();
  });

  it('confirm writes what is there; that the drive then waits is no stall', async () => {
    const { drive, time, writer } = bench();
    await writer.write(source(P + 5));
    expect(await writer.confirm()).toBe(P + 5);
    expect(drive.calls).toEqual(['write', 'write', 'confirm']);
    expect(drive.payloads.map(({ length }) => length)).toEqual([P, 5]);
    await time.advance(4000);
    await writer.write(source(6 * P));
    await settle();
    expect(drive.payloads).toHaveLength(8);
    expect(writer.flow()).toMatchObject({ stalls: 0, stalledMs: 0 });
    await writer.abort();
  });
});

describe('through the ring', () => {
  it.each([1, P - 1, P, P + 1, 3 * P + 17, 100_000])(
    'pieces of %i bytes come out as they went in',
    async (piece) => {
      const { drive, memory, writer } = bench();
      const bytes = source(23 * P + 1001);
      for (let at = 0; at < bytes.length; at += Math.max(piece, 5000)) {
        const end = Math.min(bytes.length, at + Math.max(piece, 5000));
        await writer.write(bytes.subarray(at, end));
      }
      await writer.commit(Buffer.from('{}'));
      expect(Buffer.concat(drive.payloads).equals(bytes)).toBe(true);
      expect(drive.payloads.every(({ length }, at) => length === P || at === 23)).toBe(true);
      expect(memory.taken).toBe(0);
    },
  );

  it('checksums of blocks make those of the records', async () => {
    const { drive, writer } = bench();
    const block = 16 * KIB;
    await writer.write(source(4096));
    for (let round = 0; round < 5; round += 1) {
      const bytes = source(8 * block, round);
      const crcs = Array.from({ length: 8 }, (_, at) =>
        crc32(bytes.subarray(at * block, (at + 1) * block)),
      );
      await writer.write(bytes, Uint32Array.from(crcs));
    }
    await writer.commit(Buffer.from('{}'));
    // The fake drive has compared the checksum of each payload.
    expect(drive.offset).toBe(4096 + 40 * block);
  });

  it('memory is taken as the ring fills, no more than asked for, and given back', async () => {
    const { drive, memory, writer } = bench({ isFast: false, ringBytes: 3 * 256 * KIB + 5 });
    expect(writer.flow().bufferBytes).toBe(12 * RECORD);
    await writer.write(source(4 * P));
    expect(memory.taken).toBe(1);
    await writer.write(source(8 * P));
    expect(memory.taken).toBe(3);
    const waiting = writer.write(source(P));
    await drive.next();
    await waiting;
    expect(memory.taken).toBe(3);
    const end = writer.abort();
    await drive.next();
    await end;
    expect(memory.taken).toBe(0);
  });
});

describe('what goes wrong', () => {
  it('an error of the drive reaches the source that waits for room, and stays', async () => {
    const { drive, memory, writer } = bench({ isFast: false });
    const waiting = codeOf(writer.write(source(10 * P)));
    await settle();
    await drive.next();
    await drive.fail('EIO');
    expect(await waiting).toBe('EIO');
    expect(writer.confirmedOffset).toBe(0);
    expect(await codeOf(writer.write(source(1)))).toBe('EIO');
    expect(await codeOf(writer.confirm())).toBe('EIO');
    expect(await codeOf(writer.commit(Buffer.from('{}')))).toBe('EIO');
    expect(drive.calls).toEqual(['write', 'write']);
    await writer.abort();
    expect(drive.calls).toEqual(['write', 'write', 'abort']);
    expect(memory.taken).toBe(0);
  });

  it('an error while nobody waits is told by the next call', async () => {
    const { drive, time, writer } = bench({ isFast: false });
    await writer.write(source(6 * P + 3));
    await drive.fail('ENOSPC');
    expect(await codeOf(writer.write(source(1)))).toBe('ENOSPC');
    await time.advance(60_000);
    expect(drive.calls).toEqual(['write']);
    await writer.abort();
  });

  it('an abort waits for the record that is with the drive, and writes no other', async () => {
    const { drive, memory, writer } = bench({ isFast: false });
    await writer.write(source(7 * P));
    let hasEnded = false;
    const end = writer.abort().then(() => {
      hasEnded = true;
    });
    await settle();
    expect(hasEnded).toBe(false);
    expect(memory.taken).toBeGreaterThan(0);
    await drive.next();
    await end;
    expect(drive.calls).toEqual(['write', 'abort']);
    expect(memory.taken).toBe(0);
    await writer.abort();
    expect(drive.calls).toEqual(['write', 'abort']);
  });

  it('an abort while the ring waits for its mark leaves no deadline behind', async () => {
    const { drive, time, writer } = bench();
    await writer.write(source(2 * P));
    await writer.abort();
    await time.advance(60_000);
    expect(drive.calls).toEqual(['abort']);
    expect(time.sleeping).toBe(0);
  });

  it('a confirm that fails leaves what it had unconfirmed', async () => {
    const { drive, writer } = bench({ isFast: false });
    await writer.write(source(P));
    const confirming = codeOf(writer.confirm());
    await settle();
    await drive.next();
    await drive.fail('EIO');
    expect(await confirming).toBe('EIO');
    expect(writer.confirmedOffset).toBe(0);
    await writer.abort();
  });
});
