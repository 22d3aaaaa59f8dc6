/**
 * The bench on which the contract of tape drives is tested: one drive, opened as a test needs it.
 */
import { afterEach, beforeEach } from 'vitest';
import { alignedBuffer } from '../../src/base/aligned-memory.ts';
import { isTapeError } from '../../src/tape/drive.ts';
import type { TapeDevice, TapeDrive } from '../../src/tape/drive.ts';

/** One drive, two cartridges of 16 MiB, and hands that act from outside, also on an open drive. */
export interface TapeHarness {
  readonly device: TapeDevice;
  /** Cartridge A is in the drive, both are blank and well, nobody has the drive open. */
  reset(): Promise<void>;
  load(cartridge: 'A' | 'B'): Promise<void>;
  /** Takes the cartridge out. @returns false if the door is locked */
  eject(): Promise<boolean>;
  protect(cartridge: 'A' | 'B', isProtected: boolean): Promise<void>;
  makeWorm(cartridge: 'A' | 'B'): Promise<void>;
  resize(cartridge: 'A' | 'B', sizeBytes: number, earlyWarningBytes: number): Promise<void>;
  /** The object of that number becomes a bad spot. */
  damage(cartridge: 'A' | 'B', object: number): Promise<void>;
  /** After that many commands one fails with a medium error. */
  fail(operation: 'read' | 'write' | 'filemarks', after: number): Promise<void>;
  /** What an administrator does with `mt`. The drive is closed. */
  administer(options: { blockSizeBytes?: number; asyncWrites?: boolean }): Promise<void>;
  /** Lengths of records, 'FM' for filemarks. */
  objects(cartridge: 'A' | 'B'): Promise<(number | 'FM')[]>;
  /** The drive is unplugged, and comes back. */
  unplug(): Promise<void>;
  plugIn(): Promise<void>;
  /** A process writes that many records of 64 KiB and is killed. */
  killWriter(records: number): Promise<void>;
  dispose(): Promise<void>;
}

export const KIB = 1024;
export const MIB = 1024 * KIB;
/** Page-aligned: its records go to the drive as they are. */
export const buffer = alignedBuffer(MIB);
/** A record that the driver copies. */
export const large = Buffer.alloc(2 * MIB, 7);

/** A record whose bytes tell which one it is; valid until the next one is made. */
export function record(length: number, seed = 1): Buffer {
  const bytes = buffer.subarray(0, length);
  for (let at = 0; at < length; at += 1) bytes[at] = (at * 7 + seed * 13 + (at >>> 8)) & 0xff;
  return bytes;
}

/** 'ok', or the errno with which it failed. */
export async function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'ok',
    (error: unknown) => {
      if (isTapeError(error)) return error.code;
      throw error;
    },
  );
}

export async function write(drive: TapeDrive, ...lengths: (number | 'FM')[]): Promise<void> {
  let seed = 0;
  for (const length of lengths) {
    if (length === 'FM') await drive.writeFilemarks(1);
    else await drive.write(record(length, (seed += 1)));
  }
}

export class TapeBench {
  #harness: TapeHarness | undefined;
  #open: TapeDrive | undefined;

  /** Makes one anew for each test of the block in which it is called. */
  static use(make: () => Promise<TapeHarness>): TapeBench {
    const bench = new TapeBench();
    beforeEach(async () => {
      bench.#harness = await make();
      await bench.#harness.reset();
    });
    afterEach(async () => {
      const left = bench.leave();
      if (left !== undefined) await codeOf(left.close());
      await bench.#harness?.dispose();
    });
    return bench;
  }

  get harness(): TapeHarness {
    if (this.#harness === undefined) throw new Error('no test is running');
    return this.#harness;
  }

  /** Opened as the rules say, and closed after the test. */
  async ready(mode: 'read' | 'write' = 'write'): Promise<TapeDrive> {
    const drive = await this.raw(mode);
    await drive.setRecordMode();
    return drive;
  }

  /** Opened, and nothing set. */
  async raw(mode: 'read' | 'write' = 'write'): Promise<TapeDrive> {
    this.#open = await this.harness.device.open(mode);
    return this.#open;
  }

  async again(mode: 'read' | 'write' = 'write'): Promise<TapeDrive> {
    await this.close();
    return this.ready(mode);
  }

  async close(): Promise<void> {
    await this.leave()?.close();
  }

  /** The open drive, which is no longer closed after the test. */
  leave(): TapeDrive | undefined {
    const drive = this.#open;
    this.#open = undefined;
    return drive;
  }

  objects(cartridge: 'A' | 'B' = 'A'): Promise<(number | 'FM')[]> {
    return this.harness.objects(cartridge);
  }
}
