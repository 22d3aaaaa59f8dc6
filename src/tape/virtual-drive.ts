/**
 * An open virtual drive: the st driver of Linux over a virtual mechanism.
 *
 * It keeps the same few variables as st (the rest of them in `StState`) and changes them at the
 * same places, so that the traps come by themselves: filemarks at close and before some motions
 * (`#motion`), errors that come one operation late (`#pending`), the alternation of ENOSPC and
 * success behind the early warning, counters that are wrong after errors.
 *
 * Invariants: (1) one operation at a time; (2) while `#motion` is 'writing', `home.noteWriting` has
 * been told, so that a killed process gets the filemark that the kernel would write.
 */
import { assert } from '../base/assert.ts';
import { MAX_TRANSFER_BYTES, OneAtATime, TapeError, isDirect } from './drive.ts';
import type { TapeDrive, TapeOperation, TapeStatus } from './drive.ts';
import type { StState } from './st-state.ts';
import type { Sense, VirtualMechanism } from './virtual-mechanism.ts';

/** What an open drive asks of its library. */
export interface DriveHome {
  /** Like root, who alone may switch asynchronous writes off. */
  readonly mayChangeOptions: boolean;
  /** The drive was unplugged after this open. */
  isGone(): boolean;
  /** A record without a filemark behind it is, or is no longer, the last thing written. */
  noteWriting(isWriting: boolean): Promise<void>;
  /** Others may open the drive. */
  release(): Promise<void>;
}

const ALL_FILEMARKS = 0x7fffff;

export class VirtualDrive implements TapeDrive {
  readonly #mechanism: VirtualMechanism;
  readonly #state: StState;
  readonly #mode: 'read' | 'write';
  readonly #home: DriveHome;
  readonly #turn = new OneAtATime();
  #motion: 'idle' | 'reading' | 'writing' = 'idle';
  /** 'not-ready': a cartridge lies in the drive and is not loaded. */
  #cartridge: 'ready' | 'not-ready' | 'none' = 'none';
  #writeProtected = false;
  /** How an asynchronous write ended, not told yet. */
  #pending: Sense | undefined;

  private constructor(
    mechanism: VirtualMechanism,
    state: StState,
    mode: 'read' | 'write',
    home: DriveHome,
  ) {
    this.#mechanism = mechanism;
    this.#state = state;
    this.#mode = mode;
    this.#home = home;
  }

  static async open(
    mechanism: VirtualMechanism,
    state: StState,
    mode: 'read' | 'write',
    home: DriveHome,
  ): Promise<VirtualDrive> {
    const drive = new VirtualDrive(mechanism, state, mode, home);
    await drive.#checkCartridge();
    return drive;
  }

  status(): Promise<TapeStatus> {
    return this.#run('status', async () => {
      this.#flush('status');
      const { file, block, blockSizeBytes, isAtEnd, isWarned } = this.#state;
      return {
        online: this.#isReady,
        doorOpen: this.#cartridge === 'none',
        writeProtected: this.#writeProtected,
        atBeginning: file === 0 && block === 0,
        atFilemark: file !== 0 && block === 0,
        atEndOfData: isAtEnd,
        earlyWarning: isWarned,
        file,
        block,
        blockSizeBytes,
        needsCleaning: false,
      };
    });
  }

  read(into: Uint8Array): Promise<number> {
    return this.#run('read', async () => {
      this.#checkTransfer('read', into.length);
      if (into.length === 0) return 0;
      if (this.#motion === 'writing') {
        this.#flush('read');
        await this.#setMotion('reading');
      }
      if (this.#state.isAtEnd) return this.#state.readAtEnd();
      await this.#setMotion('reading');
      return this.#state.afterRead(await this.#mechanism.read(into), into.length);
    });
  }

  write(record: Uint8Array): Promise<void> {
    return this.#run('write', async () => {
      if (this.#mode === 'read') throw new TapeError('EBADF', 'write', 'open for reading');
      const { length } = record;
      this.#checkTransfer('write', length);
      if (length === 0) return;
      const { blockSizeBytes } = this.#state;
      if (blockSizeBytes > 0 && length % blockSizeBytes !== 0) throw invalid('write', length);
      if (this.#writeProtected) throw new TapeError('EACCES', 'write', 'write-protected');
      this.#state.beforeWrite(this.#takePending());
      const isAsync = blockSizeBytes === 0 && this.#isAsynchronous(record);
      if (this.#motion !== 'writing') await this.#setMotion('writing');
      const size = blockSizeBytes === 0 ? length : blockSizeBytes;
      for (let at = 0; at < length; at += size) {
        const { sense } = await this.#mechanism.write(record.subarray(at, at + size));
        if (isAsync) this.#pending = sense;
        else if (this.#state.afterWrite(sense)) return;
      }
      this.#state.goOn();
    });
  }

  writeFilemarks(count: number): Promise<void> {
    return this.#run('write-filemarks', async () => {
      this.#flush('write-filemarks');
      await this.#setMotion('idle');
      await this.#putFilemarks('write-filemarks', count);
    });
  }

  tell(): Promise<number> {
    return this.#run('tell', async () => {
      this.#flush('tell');
      if (!this.#isReady) throw new TapeError('EIO', 'tell', 'no cartridge');
      const { sense, count } = await this.#mechanism.position();
      if (sense !== 'good') throw new TapeError('EIO', 'tell', sense);
      if (count === 0) this.#state.setCounters(0, 0);
      return count;
    });
  }

  seek(object: number): Promise<void> {
    return this.#run('seek', async () => {
      await this.#beforeMotion('seek', true);
      if (!this.#isReady) throw new TapeError('EIO', 'seek', 'no cartridge');
      const { sense } = await this.#mechanism.locate(object);
      this.#state.setCounters(-1, -1);
      this.#state.end = 'none';
      if (sense !== 'good') throw new TapeError('EIO', 'seek', sense);
      if (object === 0) this.#state.setCounters(0, 0);
    });
  }

  rewind(): Promise<void> {
    return this.#run('rewind', async () => {
      await this.#beforeMotion('rewind', true);
      this.#checkReady('rewind');
      const { sense } = await this.#mechanism.rewind();
      this.#state.end = 'none';
      if (sense !== 'good') throw new TapeError('EIO', 'rewind', sense);
      this.#state.setCounters(0, 0);
    });
  }

  spaceFilemarks(count: number): Promise<void> {
    return this.#run('space-filemarks', async () => {
      assert(count !== 0, 'space over no filemarks');
      const hasAdded = await this.#beforeMotion('space-filemarks', count < 0);
      this.#checkReady('space-filemarks');
      const marks = hasAdded ? count - 1 : count;
      const answer = await this.#mechanism.space('filemarks', marks);
      this.#state.afterSpaceFilemarks(answer, marks);
      if (answer.sense !== 'good') throw new TapeError('EIO', 'space-filemarks', answer.sense);
    });
  }

  spaceRecords(count: number): Promise<void> {
    return this.#run('space-records', async () => {
      assert(count !== 0, 'space over no records');
      await this.#beforeMotion('space-records', false);
      this.#checkReady('space-records');
      const answer = await this.#mechanism.space('records', count);
      this.#state.afterSpaceRecords(answer, count);
    });
  }

  seekEndOfData(): Promise<void> {
    return this.#run('seek-end-of-data', async () => {
      await this.#beforeMotion('seek-end-of-data', false);
      this.#checkReady('seek-end-of-data');
      const answer = await this.#mechanism.space('filemarks', ALL_FILEMARKS);
      this.#state.afterSpaceFilemarks(answer, ALL_FILEMARKS);
      if (answer.sense === 'end-of-data') return;
      // The driver does not look why that went wrong, and goes to the end another way.
      const again = await this.#mechanism.spaceToEnd();
      this.#state.block = -1;
      this.#state.end = 'end';
      if (again.sense !== 'good') throw new TapeError('EIO', 'seek-end-of-data', again.sense);
    });
  }

  erase(): Promise<void> {
    return this.#run('erase', async () => {
      await this.#beforeMotion('erase', false);
      this.#checkReady('erase');
      this.#checkWritable('erase');
      const { sense } = await this.#mechanism.erase();
      this.#state.end = 'none';
      if (sense !== 'good') throw new TapeError('EIO', 'erase', sense);
    });
  }

  lock(): Promise<void> {
    return this.#setDoor('lock', true);
  }

  unlock(): Promise<void> {
    return this.#setDoor('unlock', false);
  }

  unload(): Promise<void> {
    return this.#run('unload', async () => {
      await this.#beforeMotion('unload', true);
      this.#checkReady('unload');
      this.#mechanism.lock(false);
      const { sense } = await this.#mechanism.unload();
      if (sense !== 'good') {
        this.#state.setCounters(-1, -1);
        throw new TapeError('EIO', 'unload', sense);
      }
      this.#cartridge = 'none';
    });
  }

  load(): Promise<void> {
    return this.#run('load', async () => {
      await this.#beforeMotion('load', false);
      const { sense } = await this.#mechanism.load();
      if (sense !== 'good') throw new TapeError('EIO', 'load', sense);
      await this.#checkCartridge();
    });
  }

  setRecordMode(): Promise<boolean> {
    return this.#run('set-record-mode', async () => {
      this.#flush('set-record-mode');
      this.#checkReady('set-record-mode');
      if (this.#mechanism.modeSelect() !== 'good') throw new TapeError('EIO', 'set-record-mode');
      this.#state.blockSizeBytes = 0;
      if (this.#home.mayChangeOptions) this.#state.asyncWrites = false;
      return this.#home.mayChangeOptions;
    });
  }

  close(): Promise<void> {
    return this.#turn.run('close', async () => {
      try {
        if (this.#motion === 'writing' && this.#home.isGone()) {
          throw new TapeError('EIO', 'close', 'the drive is gone');
        }
        if (this.#motion === 'writing') {
          const late = this.#takePending();
          if (late === 'EIO') throw new TapeError('EIO', 'close', 'a record is not on the tape');
          const { sense } = await this.#mechanism.writeFilemarks(1);
          this.#state.afterCloseMark(sense);
        }
      } finally {
        await this.#setMotion('idle');
        await this.#home.release();
      }
    });
  }

  #run<T>(operation: TapeOperation, body: () => Promise<T>): Promise<T> {
    return this.#turn.run(operation, async () => {
      if (!this.#home.isGone()) return body();
      const isTransfer = operation === 'read' || operation === 'write';
      throw new TapeError(isTransfer ? 'ENXIO' : 'ENODEV', operation, 'the drive is gone');
    });
  }

  /** Is a cartridge there? A new one begins at its beginning. */
  async #checkCartridge(): Promise<void> {
    let answer = await this.#mechanism.testReady();
    if (answer.sense === 'attention') {
      this.#state.begin();
      answer = await this.#mechanism.testReady();
    }
    if (answer.sense === 'good') this.#cartridge = 'ready';
    else this.#cartridge = answer.sense === 'no-medium' ? 'none' : 'not-ready';
    this.#writeProtected = this.#isReady && this.#mechanism.cartridge?.writeProtected === true;
    if (!this.#isReady) this.#state.setCounters(-1, -1);
  }

  get #isReady(): boolean {
    return this.#cartridge === 'ready';
  }

  #checkReady(operation: TapeOperation): void {
    if (this.#cartridge === 'none') throw new TapeError('ENOMEDIUM', operation);
    if (!this.#isReady) throw new TapeError('EIO', operation, 'not loaded');
  }

  #checkTransfer(operation: TapeOperation, length: number): void {
    this.#checkReady(operation);
    if (length > MAX_TRANSFER_BYTES) throw invalid(operation, length);
  }

  #checkWritable(operation: TapeOperation): void {
    if (this.#mode === 'write' && !this.#writeProtected) return;
    const why = this.#writeProtected ? 'write-protected' : 'open for reading';
    throw new TapeError('EACCES', operation, why);
  }

  /** The error of an asynchronous write, once. */
  #takePending(): 'EIO' | 'ENOSPC' | undefined {
    const sense = this.#pending;
    if (sense === undefined) return undefined;
    this.#pending = undefined;
    return this.#state.afterAsyncWrite(sense);
  }

  #flush(operation: TapeOperation): void {
    const late = this.#takePending();
    if (late !== undefined) throw new TapeError(late, operation, 'of an earlier record');
  }

  async #setMotion(motion: 'idle' | 'reading' | 'writing'): Promise<void> {
    const wasWriting = this.#motion === 'writing';
    const isWriting = motion === 'writing';
    if (isWriting && !wasWriting) await this.#home.noteWriting(true);
    this.#motion = motion;
    if (!isWriting && wasWriting) await this.#home.noteWriting(false);
  }

  /**
   * What comes before a motion.
   *
   * @param marks whether the driver ends what was written with a filemark before this one
   * @returns true if it has
   */
  async #beforeMotion(operation: TapeOperation, marks: boolean): Promise<boolean> {
    this.#flush(operation);
    const hasToMark = marks && this.#motion === 'writing';
    if (hasToMark) await this.#putFilemarks(operation, 1);
    await this.#setMotion('idle');
    return hasToMark;
  }

  async #setDoor(operation: 'lock' | 'unlock', isLocked: boolean): Promise<void> {
    return this.#run(operation, async () => {
      await this.#beforeMotion(operation, false);
      this.#mechanism.lock(isLocked);
    });
  }

  #isAsynchronous(record: Uint8Array): boolean {
    const { asyncWrites, end } = this.#state;
    return asyncWrites && !isDirect(record) && (end === 'none' || end === 'filemark');
  }

  async #putFilemarks(operation: TapeOperation, count: number): Promise<void> {
    this.#checkReady(operation);
    this.#checkWritable(operation);
    const { sense } = await this.#mechanism.writeFilemarks(count);
    this.#state.afterFilemarks(operation, sense, count);
  }
}

function invalid(operation: TapeOperation, length: number): TapeError {
  return new TapeError('EINVAL', operation, `${length} bytes`);
}
