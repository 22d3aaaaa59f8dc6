/**
 * Somebody who never stops writing to the disk: random blocks of an area, one after the other.
 */
import { randomFillSync, randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from './client.ts';

const BLOCK_BYTES = 65_536;
const PAUSE_MS = 1;

export interface Area {
  readonly offset: number;
  readonly length: number;
}

export class Writer {
  readonly #client: Client;
  readonly #disk: string;
  /** Where the next block goes. */
  area: Area;
  blocks = 0;
  #isStopped = false;
  readonly #running: Promise<void>;

  constructor(client: Client, disk: string, area: Area) {
    this.#client = client;
    this.#disk = disk;
    this.area = area;
    this.#running = this.#run();
    // stop() tells what went wrong
    this.#running.catch(() => undefined);
  }

  /** @throws what made it stop earlier */
  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#running;
  }

  async #run(): Promise<void> {
    const block = Buffer.alloc(BLOCK_BYTES);
    while (!this.#isStopped) {
      const { offset, length } = this.area;
      const at = offset + randomInt(length / BLOCK_BYTES) * BLOCK_BYTES;
      randomFillSync(block);
      await this.#client.put(`/disks/${this.#disk}/data?offset=${at}&durability=volatile`, block);
      this.blocks++;
      await sleep(PAUSE_MS);
    }
  }
}
