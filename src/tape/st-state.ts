/**
 * What the st driver believes of a drive, and how each answer of the drive changes it. Pure.
 *
 * It outlasts a close, as in the kernel. The counters follow the driver also where it is wrong:
 * `tell` asks the drive, these do not.
 */
import { TapeError } from './drive.ts';
import type { TapeOperation } from './drive.ts';
import type { Answer, Sense } from './virtual-mechanism.ts';

/**
 * Where the driver believes to be at an end. 'warned': the next write gives ENOSPC. 'end-1': the
 * next write is let through. 'end-1', 'end-2', 'end': a read gives 0, 0, EIO.
 */
type End = 'none' | 'filemark' | 'warned' | 'failed' | 'end-1' | 'end-2' | 'end';

export class StState {
  /** Filemarks before the position, -1 if not known. */
  file = -1;
  /** Records since the last of them, -1 if not known. */
  block = -1;
  end: End = 'none';
  /** 0 in variable mode. */
  blockSizeBytes = 0;
  asyncWrites = true;

  get isAtEnd(): boolean {
    return this.end === 'end-1' || this.end === 'end-2' || this.end === 'end';
  }

  get isWarned(): boolean {
    return this.end === 'warned' || this.end === 'failed';
  }

  setCounters(file: number, block: number): void {
    this.file = file;
    this.block = block;
  }

  /** A new cartridge stands at its beginning. */
  begin(): void {
    this.setCounters(0, 0);
    this.end = 'none';
  }

  /** A read at the end, where no command goes to the drive. @returns 0 */
  readAtEnd(): number {
    if (this.end === 'end') throw new TapeError('EIO', 'read', 'end of data');
    this.end = this.end === 'end-1' ? 'end-2' : 'end';
    return 0;
  }

  /** @returns the length of the record, 0 at a filemark */
  afterRead({ sense, count }: Answer, wanted: number): number {
    if (sense === 'filemark') {
      this.end = 'filemark';
      this.block = 0;
      if (this.file >= 0) this.file += 1;
      return 0;
    }
    if (sense === 'good' || sense === 'too-long') {
      if (this.block >= 0) this.block += 1;
      this.#checkLength(sense, count, wanted);
      if (this.end === 'filemark') this.end = 'none';
      return count;
    }
    this.block = -1;
    if (sense === 'end-of-data' && this.end === 'filemark') {
      this.end = 'end';
      return 0;
    }
    throw new TapeError('EIO', 'read', sense);
  }

  #checkLength(sense: Sense, count: number, wanted: number): void {
    if (this.blockSizeBytes > 0 && count !== this.blockSizeBytes) {
      throw new TapeError('EIO', 'read', `a record of ${count} bytes`);
    }
    if (sense === 'good') return;
    throw new TapeError('ENOMEM', 'read', `a record of ${count} bytes, room for ${wanted}`);
  }

  /** Before a write: directly behind an early warning one is refused, then one is let through. */
  beforeWrite(late: 'EIO' | 'ENOSPC' | undefined): void {
    if (late === 'ENOSPC') this.end = 'warned';
    if (late === 'EIO') this.end = 'failed';
    if (this.end === 'warned') {
      this.end = 'end-1';
      throw new TapeError('ENOSPC', 'write', 'early warning');
    }
    if (this.end === 'failed') throw new TapeError('EIO', 'write', 'of an earlier record');
  }

  /** @returns true if the write ends here: the driver reports the bytes that were written */
  afterWrite(sense: Sense): boolean {
    if (sense === 'good' || sense === 'early-warning') {
      if (this.block >= 0) this.block += 1;
      if (sense === 'good') return false;
      this.end = 'warned';
      return true;
    }
    if (sense === 'full') {
      this.end = 'warned';
      throw new TapeError('ENOSPC', 'write', 'end of the medium');
    }
    this.block = -1;
    throw new TapeError('EIO', 'write', sense);
  }

  /** A write has ended without a word about the end. */
  goOn(): void {
    if (this.end === 'end-1') this.end = 'warned';
    else if (this.end !== 'warned') this.end = 'none';
  }

  /** An asynchronous write has ended. @returns the error that it brings late */
  afterAsyncWrite(sense: Sense): 'EIO' | 'ENOSPC' | undefined {
    if (this.block >= 0) this.block += 1;
    if (sense === 'good') return undefined;
    if (sense === 'early-warning') return 'ENOSPC';
    this.block = -1;
    return 'EIO';
  }

  afterFilemarks(operation: TapeOperation, sense: Sense, count: number): void {
    this.end = 'none';
    const isDone = sense === 'good' || sense === 'early-warning';
    if (this.file >= 0) this.file += count;
    this.block = isDone ? 0 : -1;
    if (!isDone) throw new TapeError('EIO', operation, sense);
  }

  /** The filemark of a close leaves the tape as a read of a filemark does. */
  afterCloseMark(sense: Sense): void {
    if (sense !== 'good' && sense !== 'early-warning') throw new TapeError('EIO', 'close', sense);
    this.end = 'filemark';
    if (this.file >= 0) this.file += 1;
    this.block = 0;
  }

  /** @param count of filemarks, negative for backwards */
  afterSpaceFilemarks({ sense, count: left }: Answer, count: number): void {
    if (this.file >= 0) this.file += count - Math.sign(count) * left;
    const isForward = count > 0;
    this.block = (sense === 'good') === isForward ? 0 : -1;
    if (sense === 'end-of-data') this.end = 'end';
    else this.end = sense === 'good' && isForward ? 'filemark' : 'none';
  }

  /** @param count of records, negative for backwards */
  afterSpaceRecords({ sense, count: left }: Answer, count: number): void {
    const isForward = count > 0;
    if (sense === 'filemark') {
      if (isForward && this.file >= 0) this.file += 1;
      if (!isForward) this.file -= 1;
      this.block = isForward ? 0 : -1;
      this.end = isForward ? 'filemark' : 'none';
    } else {
      const moved = count - Math.sign(count) * left;
      if (this.block >= 0) this.block = Math.max(this.block + moved, -1);
      this.end = sense === 'end-of-data' ? 'end' : 'none';
    }
    if (sense !== 'good') throw new TapeError('EIO', 'space-records', sense);
  }
}
