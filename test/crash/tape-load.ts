/**
 * Somebody who backs up three disks to tape, in chains and in groups of three, verifies, restores,
 * scans, deletes and cancels; and what must be there of it.
 */
import type { Client, Json } from './client.ts';
import { jsonOf } from './client.ts';
import type { Random } from './random.ts';
import { Violation } from './violation.ts';

const MIB = 1024 * 1024;
export const DISK_BYTES = 3 * MIB;
const MAX_BACKUPS = 10;
const MAX_JOBS = 6;
const ENDS = ['succeeded', 'failed', 'cancelled'];
/** Reasons for which a job may fail here: somebody deleted what it needs. */
const REASONS = ['NOT_FOUND', 'BACKUP_NEEDED', 'BACKUP_INCOMPLETE'];
/** And a scan, which asks for no cartridge: there is none in the drive, or a new one. */
const SCAN_REASONS = ['MEDIUM_ABSENT', 'MEDIUM_BLANK'];

type View = Json & { readonly id: string };

interface Begun {
  readonly kind: string;
  /** Backup that is made, or read. */
  readonly backup: string;
  /** Disk that a restore makes. */
  readonly disk?: string;
  id?: string;
  mayBeCancelled: boolean;
}

export class TapeLoad {
  client!: Client;
  readonly #random: Random;
  readonly #disks = new Map<string, Buffer>();
  /** Of which a write got no answer. */
  readonly #unsure = new Set<string>();
  /** What backups hold, by name; also of those that are being made. */
  readonly #contents = new Map<string, Buffer>();
  readonly #deleted = new Set<string>();
  #jobs: Begun[] = [];
  /** Of all jobs whose POST is known. */
  readonly #ids = new Set<string>();
  #names = 0;
  readonly counts = new Map<string, number>();

  constructor(random: Random) {
    this.#random = random;
  }

  isDeleted(backup: string): boolean {
    return this.#deleted.has(backup);
  }

  async open(): Promise<void> {
    const target = { name: 'vault', kind: 'virtual-tape', path: 'tapes', set: 'nightly' };
    await this.client.json('POST', '/targets', { json: target });
    for (const name of ['d1', 'd2', 'd3']) {
      await this.client.json('POST', '/disks', { json: { name, capacityBytes: 2 ** 32 } });
      this.#disks.set(name, Buffer.alloc(DISK_BYTES));
      await this.#write(name, 0, DISK_BYTES);
    }
  }

  /** @throws Lost when the daemon dies */
  async act(): Promise<void> {
    const random = this.#random;
    const act = random.weighted([
      [10, () => this.#backUp()],
      [5, () => this.#restore()],
      [2, () => this.#begin('verify', this.#readable(), (name) => `/backups/${name}/verify`)],
      [2, () => this.#begin('scan', '', () => '/targets/vault/scan')],
      [2, () => this.#delete()],
      [2, () => this.#cancel()],
      [8, () => this.#look()],
    ]);
    await act();
  }

  /** Settles jobs that have ended. @returns how many go on */
  async look(): Promise<number> {
    const views = (await this.client.list('/jobs')) as unknown as readonly View[];
    const there = new Map(views.map((view) => [view.id, view]));
    for (const job of [...this.#jobs]) {
      // Of a POST without an answer: one that nobody else has made.
      const id = job.id ?? views.find((each) => this.#isNew(each) && isOf(each, job))?.id;
      if (id !== undefined) this.#ids.add((job.id = id));
      const view = there.get(id ?? '');
      if (view !== undefined && !ENDS.includes(String(view.state))) continue;
      this.#jobs = this.#jobs.filter((each) => each !== job);
      if (view === undefined) {
        // The POST got no answer and made nothing.
        if (job.id !== undefined) throw new Violation('a job is gone', { job });
        this.#forget(job);
      } else await this.#settle(job, view);
    }
    return this.#jobs.length;
  }

  /** Every backup is there as it was acknowledged, unless it was deleted. */
  async check(): Promise<void> {
    const there = new Map((await this.client.list('/backups')).map((each) => [each.name, each]));
    const making = new Set(
      this.#jobs.filter(({ disk }) => disk === undefined).map((j) => j.backup),
    );
    for (const name of this.#contents.keys()) {
      const state = there.get(name)?.state;
      if (state === 'complete' || making.has(name)) continue;
      // A deletion that got no answer may be done, or be done in part.
      if (this.isDeleted(name)) {
        this.#contents.delete(name);
        continue;
      }
      throw new Violation(`backup ${name} is ${String(state)}`);
    }
  }

  /** Restores each backup and compares it. */
  async restoreAll(wait: () => Promise<void>): Promise<void> {
    for (const name of this.#contents.keys()) {
      await this.#restoreOne(name);
      while ((await this.look()) > 0) await wait();
    }
  }

  async #look(): Promise<void> {
    await this.look();
  }

  async #write(name: string, offset: number, length: number): Promise<void> {
    const content = this.#disks.get(name)!;
    const bytes = content.subarray(offset, offset + length);
    for (let at = 0; at + 4 <= length; at += 4) {
      bytes.writeUInt32LE(Math.floor(this.#random.next() * 2 ** 32), at);
    }
    this.#unsure.add(name);
    const path = `/disks/${name}/data?offset=${offset}`;
    const { status } = await this.client.ask('PUT', path, { body: bytes });
    if (status !== 204) throw new Violation('a write was refused', { status });
    this.#unsure.delete(name);
  }

  async #backUp(): Promise<void> {
    if (this.#jobs.length >= MAX_JOBS || this.#contents.size >= MAX_BACKUPS) return;
    const random = this.#random;
    const disk = random.pick([...this.#disks.keys()]) ?? 'd1';
    if (random.chance(0.5) || this.#unsure.has(disk)) await this.#write(disk, 0, DISK_BYTES);
    const name = this.#name('b');
    const incremental = { level: 'incremental', onMissingBase: 'full' };
    const json = {
      name,
      disk,
      target: 'vault',
      ...(random.chance(0.4) ? incremental : {}),
      ...(random.chance(0.3) ? { maxBytesPerSecond: 2 * MIB } : {}),
    };
    this.#contents.set(name, Buffer.from(this.#disks.get(disk)!));
    await this.#post({ kind: 'backup', backup: name, mayBeCancelled: false }, '/backups', json);
  }

  async #restore(): Promise<void> {
    const name = this.#readable();
    if (name !== undefined && this.#jobs.length < MAX_JOBS) await this.#restoreOne(name);
  }

  #restoreOne(backup: string): Promise<void> {
    const disk = this.#name('r');
    const job = { kind: 'restore', backup, disk, mayBeCancelled: false };
    return this.#post(job, `/backups/${backup}/restores`, { method: 'remap', disk });
  }

  async #begin(
    kind: string,
    backup: string | undefined,
    path: (backup: string) => string,
  ): Promise<void> {
    if (backup === undefined || this.#jobs.length >= MAX_JOBS) return;
    await this.#post({ kind, backup, mayBeCancelled: false }, path(backup), undefined);
  }

  async #delete(): Promise<void> {
    const name = this.#readable();
    if (name === undefined || this.#jobs.some(({ backup }) => backup === name)) return;
    this.#deleted.add(name);
    const answer = await this.client.ask('DELETE', `/backups/${name}`);
    if (answer.status === 204) {
      this.#contents.delete(name);
      this.#count('deleted');
      return;
    }
    this.#deleted.delete(name);
    const { code } = jsonOf(answer);
    if (!['BACKUP_NEEDED', 'BACKUP_IN_USE', 'TARGET_IN_USE'].includes(String(code))) {
      throw new Violation(`DELETE ${name} was refused`, { body: answer.body.toString() });
    }
  }

  async #cancel(): Promise<void> {
    const job = this.#random.pick(this.#jobs.filter(({ id }) => id !== undefined));
    if (job?.id === undefined) return;
    job.mayBeCancelled = true;
    if (job.kind === 'backup') this.#deleted.add(job.backup);
    await this.client.ask('POST', `/jobs/${job.id}/cancel`);
  }

  async #post(job: Begun, path: string, json: Json | undefined): Promise<void> {
    this.#jobs.push(job);
    const answer = await this.client.ask('POST', path, json === undefined ? {} : { json });
    this.#count(job.kind);
    if (answer.status === 202) {
      job.id = String(jsonOf(answer).id);
      this.#ids.add(job.id);
    } else {
      const { code } = jsonOf(answer);
      // Somebody reads, or writes, what is to be used.
      const passing = ['TARGET_IN_USE', 'BACKUP_IN_USE', 'NOT_FOUND', 'BACKUP_INCOMPLETE'];
      if (!passing.includes(String(code))) {
        throw new Violation(`POST ${path} was refused`, { body: answer.body.toString() });
      }
      this.#jobs = this.#jobs.filter((each) => each !== job);
      this.#forget(job);
    }
  }

  async #settle(job: Begun, view: Json): Promise<void> {
    this.#count(`${job.kind} ${String(view.state)}`);
    if (view.state === 'succeeded') {
      this.#deleted.delete(job.backup);
      if (job.disk !== undefined) await this.#compare(job.disk, job.backup);
      if (job.kind === 'verify' && (view.result as Json).ok !== true) {
        throw new Violation(`backup ${job.backup} does not verify`, { view });
      }
      return;
    }
    if (job.kind === 'backup') {
      this.#deleted.add(job.backup);
      this.#forget(job);
    }
    if (view.state === 'cancelled' && job.mayBeCancelled) return;
    const problem = view.problem as Json | null;
    const reasons = job.kind === 'scan' ? SCAN_REASONS : REASONS;
    if (view.state === 'failed' && reasons.includes(String(problem?.code))) return;
    throw new Violation('a job ended without a good reason', { job, view });
  }

  async #compare(disk: string, backup: string): Promise<void> {
    const path = `/disks/${disk}/data?offset=0&length=${DISK_BYTES}`;
    const answer = await this.client.ask('GET', path);
    const content = this.#contents.get(backup);
    if (content !== undefined && !answer.body.equals(content)) {
      throw new Violation(`disk ${disk} is not what backup ${backup} was made of`);
    }
    await this.client.ask('DELETE', `/disks/${disk}`);
  }

  #forget({ kind, backup }: Begun): void {
    if (kind === 'backup') this.#contents.delete(backup);
  }

  /** A backup whose job has ended. */
  #readable(): string | undefined {
    const making = new Set(this.#jobs.filter(({ kind }) => kind === 'backup').map((j) => j.backup));
    const names = [...this.#contents.keys()];
    return this.#random.pick(names.filter((each) => !making.has(each) && !this.isDeleted(each)));
  }

  #isNew({ id }: View): boolean {
    return !this.#ids.has(id);
  }

  #name(prefix: string): string {
    this.#names += 1;
    return `${prefix}${this.#names}`;
  }

  #count(what: string): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1);
  }
}

/** The job of a POST that got no answer. */
function isOf(view: Json, { kind, backup, disk }: Begun): boolean {
  if (view.kind !== kind) return false;
  const subject = view.subject as Json | null;
  if (disk !== undefined) return JSON.stringify(view).includes(`"${disk}"`);
  return kind === 'scan' || subject?.backup === backup;
}
