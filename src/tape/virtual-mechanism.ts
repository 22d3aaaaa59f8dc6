/**
 * The mechanism of a virtual drive: what a SCSI tape drive does with a cartridge, below the driver.
 *
 * Each command gives an `Answer`: what the sense data of a real drive would say. It never throws
 * for what a drive can meet; an error of the file system is a medium error.
 *
 *  1. `insert` and `remove` are the operator's or the changer's hands. An insertion leaves a unit
 *     attention, which the next command gets instead of being done.
 *  2. Behind the early warning records are written, with a word; at the end of the medium they are
 *     not. Filemarks always find room.
 *
 * Invariants: (1) 0 ≤ position ≤ objects on the cartridge; (2) what is written is the last object.
 */
import { setTimeout } from 'node:timers/promises';
import { assert } from '../base/assert.ts';
import { errnoOf } from '../base/errors.ts';
import { Mutex } from '../base/mutex.ts';
import { FILEMARK, NotTapFile } from './tap-file.ts';
import type { TapFile } from './tap-file.ts';

export type Sense =
  | 'good'
  | 'filemark'
  | 'end-of-data'
  | 'beginning'
  /** Done, and the early warning is behind. */
  | 'early-warning'
  /** Not done: it does not fit. */
  | 'full'
  /** Read, but longer than the buffer. */
  | 'too-long'
  | 'medium-error'
  | 'protected'
  | 'attention'
  /** The cartridge is not loaded. */
  | 'not-ready'
  | 'no-medium'
  | 'door-locked';

export interface Answer {
  readonly sense: Sense;
  /** Bytes of the record that was read, or how many of the spaced objects were not found. */
  readonly count: number;
}

export interface Cartridge {
  readonly name: string;
  readonly file: TapFile;
  sizeBytes: number;
  earlyWarningBytes: number;
  writeProtected: boolean;
  worm: boolean;
}

/** Makes commands fail with a medium error: `after` of them go well, then `count` fail. */
export interface Fault {
  readonly operation: 'read' | 'write' | 'filemarks';
  after: number;
  count: number;
}

const good: Answer = { sense: 'good', count: 0 };
const failed: Answer = { sense: 'medium-error', count: 0 };

export class VirtualMechanism {
  readonly faults: Fault[] = [];
  /** Milliseconds that a real drive would take longer, by kind of command. */
  readonly delays = new Map<Fault['operation'], number>();
  #cartridge: Cartridge | undefined;
  #isLoaded = false;
  #position = 0;
  #attention = false;
  #doorLocked = false;
  #usesFile = false;
  /** Hands wait until the command at work has ended. */
  readonly #turn = new Mutex();

  get cartridge(): Cartridge | undefined {
    return this.#cartridge;
  }

  get isDoorLocked(): boolean {
    return this.#doorLocked;
  }

  /** The cartridge that lies in the drive when the machine is switched on. */
  begin(cartridge: Cartridge): void {
    assert(this.#cartridge === undefined, 'a cartridge is in the drive');
    this.#cartridge = cartridge;
    this.#isLoaded = true;
    this.#position = 0;
    this.#attention = true;
  }

  async insert(cartridge: Cartridge): Promise<void> {
    await this.#turn.run(async () => {
      this.begin(cartridge);
    });
  }

  async remove(): Promise<void> {
    await this.#turn.run(async () => {
      assert(!this.#doorLocked, 'the door is locked');
      await this.#letGo();
      this.#cartridge = undefined;
      this.#isLoaded = false;
      this.#position = 0;
    });
  }

  /** Nobody has the drive open any more: the file of the cartridge is closed. */
  async rest(): Promise<void> {
    await this.#turn.run(() => this.#letGo());
  }

  async testReady(): Promise<Answer> {
    return this.#command(async () => good);
  }

  async read(into: Uint8Array): Promise<Answer> {
    return this.#command(async ({ file }) => {
      if (await this.#isFaulty('read')) return { sense: 'medium-error', count: 0 };
      const length = file.lengthAt(this.#position);
      if (length === undefined) return { sense: 'end-of-data', count: 0 };
      if (length === FILEMARK) {
        this.#position += 1;
        return { sense: 'filemark', count: 0 };
      }
      if (file.isBad(this.#position)) return { sense: 'medium-error', count: 0 };
      const fits = length <= into.length;
      if (fits) await file.read(this.#position, into.subarray(0, length));
      this.#position += 1;
      return { sense: fits ? 'good' : 'too-long', count: length };
    });
  }

  async write(record: Uint8Array): Promise<Answer> {
    return this.#command(async (cartridge) => {
      const { file } = cartridge;
      if (this.#refusesWrites(cartridge)) return { sense: 'protected', count: 0 };
      if (this.#mayFail && (await this.#isFaulty('write'))) return failed;
      if (this.#position < file.count) await file.truncate(this.#position);
      if (file.recordBytes + record.length > cartridge.sizeBytes) {
        return { sense: 'full', count: 0 };
      }
      await file.appendRecord(record);
      this.#position += 1;
      return afterWriting(cartridge);
    });
  }

  async writeFilemarks(count: number): Promise<Answer> {
    return this.#command(async (cartridge) => {
      const { file } = cartridge;
      if (this.#refusesWrites(cartridge)) return { sense: 'protected', count: 0 };
      if (await this.#isFaulty('filemarks')) return { sense: 'medium-error', count: 0 };
      if (count > 0) await file.truncate(this.#position);
      for (let written = 0; written < count; written += 1) {
        await file.appendFilemark();
        this.#position += 1;
      }
      await file.sync();
      return count > 0 ? afterWriting(cartridge) : good;
    });
  }

  /** Forwards, or backwards with a negative count. */
  async space(over: 'filemarks' | 'records', count: number): Promise<Answer> {
    return this.#command(async ({ file }) => {
      const step = Math.sign(count);
      let left = Math.abs(count);
      while (left > 0) {
        const object = step > 0 ? this.#position : this.#position - 1;
        if (object < 0) return { sense: 'beginning', count: left };
        const length = file.lengthAt(object);
        if (length === undefined) return { sense: 'end-of-data', count: left };
        this.#position += step;
        const isMark = length === FILEMARK;
        if (isMark && over === 'records') return { sense: 'filemark', count: left };
        if (isMark || over === 'records') left -= 1;
      }
      return good;
    });
  }

  async spaceToEnd(): Promise<Answer> {
    return this.#command(async ({ file }) => {
      this.#position = file.count;
      return good;
    });
  }

  async locate(object: number): Promise<Answer> {
    return this.#command(async ({ file }) => {
      this.#position = Math.min(object, file.count);
      return object > file.count ? { sense: 'end-of-data', count: 0 } : good;
    });
  }

  async rewind(): Promise<Answer> {
    return this.locate(0);
  }

  /** The position as `count`. */
  async position(): Promise<Answer> {
    return this.#command(async () => ({ sense: 'good', count: this.#position }));
  }

  async erase(): Promise<Answer> {
    return this.#command(async (cartridge) => {
      if (this.#refusesWrites(cartridge)) return { sense: 'protected', count: 0 };
      await cartridge.file.truncate(this.#position);
      return good;
    });
  }

  /** A lock takes an attention away without a word, as the kernel's does. */
  lock(isLocked: boolean): void {
    this.#attention = false;
    this.#doorLocked = isLocked;
  }

  /** Setting a block size needs no cartridge. */
  modeSelect(): Sense {
    return this.#attention ? this.#takeAttention().sense : 'good';
  }

  async unload(): Promise<Answer> {
    if (this.#attention) return this.#takeAttention();
    if (this.#cartridge === undefined) return { sense: 'no-medium', count: 0 };
    if (this.#doorLocked) return { sense: 'door-locked', count: 0 };
    this.#isLoaded = false;
    this.#position = 0;
    return good;
  }

  async load(): Promise<Answer> {
    if (this.#attention) return this.#takeAttention();
    if (this.#cartridge === undefined) return { sense: 'no-medium', count: 0 };
    this.#isLoaded = true;
    this.#position = 0;
    return good;
  }

  #command(body: (cartridge: Cartridge) => Promise<Answer>): Promise<Answer> {
    return this.#turn.run(() => this.#obey(body));
  }

  async #obey(body: (cartridge: Cartridge) => Promise<Answer>): Promise<Answer> {
    if (this.#attention) return this.#takeAttention();
    const cartridge = this.#cartridge;
    if (cartridge === undefined) return { sense: 'no-medium', count: 0 };
    if (!this.#isLoaded) return { sense: 'not-ready', count: 0 };
    try {
      if (!this.#usesFile) await cartridge.file.use();
      this.#usesFile = true;
      this.#position = Math.min(this.#position, cartridge.file.count);
      return await body(cartridge);
    } catch (error) {
      if (!(error instanceof NotTapFile) && errnoOf(error) === undefined) throw error;
      return { sense: 'medium-error', count: 0 };
    }
  }

  async #letGo(): Promise<void> {
    if (!this.#usesFile) return;
    this.#usesFile = false;
    await this.#cartridge?.file.release();
  }

  #takeAttention(): Answer {
    this.#attention = false;
    return { sense: 'attention', count: 0 };
  }

  #refusesWrites(cartridge: Cartridge): boolean {
    return cartridge.writeProtected || (cartridge.worm && this.#position < cartridge.file.count);
  }

  get #mayFail(): boolean {
    return this.faults.length > 0 || this.delays.size > 0;
  }

  async #isFaulty(operation: Fault['operation']): Promise<boolean> {
    const delayMs = this.delays.get(operation) ?? 0;
    if (delayMs > 0) await setTimeout(delayMs);
    const fault = this.faults.find((each) => each.operation === operation);
    if (fault === undefined) return false;
    if (fault.after > 0) {
      fault.after -= 1;
      return false;
    }
    fault.count -= 1;
    if (fault.count <= 0) this.faults.splice(this.faults.indexOf(fault), 1);
    return true;
  }
}

function afterWriting({ file, sizeBytes, earlyWarningBytes }: Cartridge): Answer {
  const isWarned = file.recordBytes > sizeBytes - earlyWarningBytes;
  return isWarned ? { sense: 'early-warning', count: 0 } : good;
}
