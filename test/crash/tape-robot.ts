/**
 * Hands that bring what the jobs of a tape target ask for: at times the wrong cartridge first, at
 * times only after a while, and new ones labelled. Cartridges without backups are labelled anew.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client, Json } from './client.ts';
import type { Random } from './random.ts';
import { Violation } from './violation.ts';

const MIB = 1024 * 1024;
const KIB = 1024;
/** What may be refused while others use the drive. */
const PASSING = [
  'TARGET_IN_USE',
  'MEDIUM_ABSENT',
  'MEDIUM_UNEXPIRED',
  'MEDIUM_FOREIGN',
  'NAME_TAKEN',
  'NOT_FOUND',
  'MEDIUM_WRONG',
];

export class TapeRobot {
  readonly #random: Random;
  #made = 0;

  constructor(random: Random) {
    this.#random = random;
  }

  /** Serves until `isOver`. @throws Lost when the daemon dies */
  async serve(client: Client, isOver: () => boolean): Promise<void> {
    while (!isOver()) {
      await this.once(client);
      await sleep(this.#random.size(2, 60));
    }
  }

  /** One look at what is waited for, and perhaps a cartridge. */
  async once(client: Client): Promise<void> {
    const waiting = await client.list('/jobs?state=waiting');
    const needed = waiting
      .map(({ waitingFor }) => waitingFor as Json | null)
      .find((each) => each?.kind === 'medium');
    if (needed === undefined || needed === null) return;
    if (this.#random.chance(0.15)) await this.#loadAny(client);
    if (this.#random.chance(0.1)) await this.#hand(client, 'POST', '/targets/vault/unload');
    const { label } = needed;
    if (typeof label === 'string') await this.#load(client, label);
    else await this.#labelOne(client);
  }

  async #labelOne(client: Client): Promise<void> {
    const media = await client.list('/targets/vault/media');
    const blank =
      media.find(({ state }) => state === 'unlabelled') ??
      this.#random.pick(media.filter((each) => (each.backups as unknown[]).length === 0));
    let cartridge = blank?.cartridge;
    if (cartridge === undefined || this.#random.chance(0.2)) {
      this.#made += 1;
      cartridge = `C${process.pid % 1000}-${this.#made}`;
      const sizeBytes = Math.round(this.#random.size(MIB, 6 * MIB));
      const json = { cartridge, sizeBytes };
      await this.#hand(client, 'POST', '/targets/vault/media', json);
    }
    await this.#load(client, String(cartridge));
    const recordBytes = this.#random.pick([64, 128, 256]) ?? 64;
    const json = {
      recordBytes: recordBytes * KIB,
      expiresAt: new Date(Date.now() + 2000).toISOString(),
    };
    await this.#hand(client, 'POST', '/targets/vault/label', json);
  }

  async #loadAny(client: Client): Promise<void> {
    const media = await client.list('/targets/vault/media');
    const any = this.#random.pick(media);
    if (any !== undefined) await this.#load(client, String(any.cartridge));
  }

  #load(client: Client, medium: string): Promise<void> {
    return this.#hand(client, 'POST', '/targets/vault/load', { medium });
  }

  async #hand(client: Client, method: string, path: string, json?: Json): Promise<void> {
    const answer = await client.ask(method, path, json === undefined ? {} : { json });
    if (answer.status < 300) return;
    const code = String((JSON.parse(answer.body.toString()) as Json).code);
    if (!PASSING.includes(code)) {
      throw new Violation(`${method} ${path} was refused`, { body: answer.body.toString() });
    }
  }
}
