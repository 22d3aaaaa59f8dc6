/**
 * A daemon with a tape target, in a process of its own, and somebody who brings the cartridges that
 * its jobs ask for.
 */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { DaemonProcess } from './daemons.ts';
import type { DaemonTapeHands } from './tape-hands.ts';
import { temporaryDirectory } from './temporary.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const LOOK_MS = 50;

/** As the interface answers; what is used of it is checked where it is used. */
export type Json = ReturnType<typeof JSON.parse>;

export interface Served {
  /** The job at its end. */
  readonly job: Json;
  /** Labels that it asked for, null for a new cartridge. */
  readonly asked: (string | null)[];
}

export class TapeSite {
  readonly directory: string;
  readonly hands: DaemonTapeHands;
  #daemon: DaemonProcess | undefined;
  /** Blank ones, in the order in which they are used. */
  #blank: string[] = [];
  /** Cartridges by label. */
  readonly cartridges = new Map<string, string>();

  private constructor(directory: string, hands: DaemonTapeHands) {
    this.directory = directory;
    this.hands = hands;
  }

  /** With blank cartridges of a size, the target `vault`, the directory `shelf`, a disk `d1`. */
  static async open(
    makeHands: (dataDir: string) => DaemonTapeHands,
    options: { cartridges: number; cartridgeBytes: number; dataBytes: number },
  ): Promise<{ site: TapeSite; data: Buffer<ArrayBuffer> }> {
    const directory = await temporaryDirectory();
    const site = new TapeSite(directory, makeHands(join(directory, 'data')));
    await site.start();
    await site.post('/targets', { name: 'vault', set: 'nightly', ...site.hands.target });
    await site.post('/targets', { name: 'shelf', kind: 'directory', path: 'shelf' });
    const { cartridges, cartridgeBytes, dataBytes } = options;
    site.#blank = await site.hands.bring(site.client, 'vault', cartridges, cartridgeBytes);
    await site.post('/disks', { name: 'd1', capacityBytes: 2 ** 40 });
    const data = Buffer.from(randomBytes(dataBytes));
    await site.put('d1', 0, data);
    return { site, data };
  }

  get client(): DaemonProcess {
    if (this.#daemon === undefined) throw new Error('no daemon');
    return this.#daemon;
  }

  get blank(): readonly string[] {
    return this.#blank;
  }

  async start(): Promise<void> {
    this.#daemon = await DaemonProcess.ready({
      SPINDLE_DATA_DIR: join(this.directory, 'data'),
      SPINDLE_POOL_BYTES: String(96 * MIB),
      ...this.hands.settings,
    });
  }

  /** In good order, so that the drive is free. */
  async stop(): Promise<void> {
    const { code } = await this.client.end('SIGTERM');
    if (code !== 0) throw new Error(`SIGTERM ended with ${code ?? '?'}`);
  }

  async kill(): Promise<void> {
    await this.client.end('SIGKILL');
  }

  async get(path: string): Promise<Json> {
    return answerOf(await this.client.fetch(path));
  }

  async post(path: string, body: unknown = {}): Promise<Json> {
    return answerOf(await this.client.post(path, body));
  }

  async put(disk: string, offset: number, data: Uint8Array<ArrayBuffer>): Promise<void> {
    const answer = await this.client.put(`/disks/${disk}/data?offset=${offset}`, data);
    if (!answer.ok) throw new Error(`PUT: ${answer.status} ${await answer.text()}`);
  }

  async data(disk: string, length: number): Promise<Buffer> {
    return this.client.bytes(`/disks/${disk}/data?offset=0&length=${length}`);
  }

  /** The job when it is as `isIt` says, or at its end. */
  async jobWhen(id: string, isIt: (job: Json) => boolean): Promise<Json> {
    for (;;) {
      const job = await this.get(`/jobs/${id}`);
      if (isIt(job) || isEnd(job)) return job;
      await sleep(LOOK_MS);
    }
  }

  /** Brings every cartridge that a job asks for, new ones labelled, until it ends. */
  async serve(
    id: string,
    bring: (label: string | null) => Promise<void> = this.bring,
  ): Promise<Served> {
    const asked: (string | null)[] = [];
    let before = '';
    for (;;) {
      const job = await this.jobWhen(id, ({ waitingFor }) => keyOf(waitingFor) !== before);
      if (isEnd(job)) return { job, asked };
      before = keyOf(job.waitingFor);
      if (job.waitingFor?.kind !== 'medium') continue;
      const { label } = job.waitingFor;
      asked.push(label);
      await bring(label);
    }
  }

  /** The cartridge with that label, or a new one. */
  readonly bring = async (label: string | null): Promise<void> => {
    if (label !== null) {
      const cartridge = this.cartridges.get(label);
      if (cartridge === undefined) throw new Error(`nobody has labelled ${label}`);
      await this.hands.insert(this.client, 'vault', cartridge);
    } else await this.labelNext();
  };

  async labelNext(more: Readonly<Record<string, unknown>> = {}): Promise<Json> {
    const cartridge = this.#blank.shift();
    if (cartridge === undefined) throw new Error('no blank cartridge is left');
    await this.hands.insert(this.client, 'vault', cartridge);
    const made = await this.post('/targets/vault/label', { recordBytes: 64 * KIB, ...more });
    this.cartridges.set(made.label, cartridge);
    return made;
  }
}

export function isEnd({ state }: Json): boolean {
  return ['succeeded', 'failed', 'cancelled'].includes(state);
}

function keyOf(waitingFor: Json): string {
  if (waitingFor === null || waitingFor === undefined) return '';
  const { kind, label, volumeNumber } = waitingFor;
  return JSON.stringify([kind, label, volumeNumber]);
}

async function answerOf(answer: Response): Promise<Json> {
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${answer.url}: ${answer.status} ${text}`);
  return text === '' ? undefined : JSON.parse(text);
}
