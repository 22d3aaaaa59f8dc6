/**
 * A program that writes one backup after the other to a virtual library, to be killed at any moment
 * and started again. Its catalog is a file of lines of JSON, each durable before the next step.
 *
 *     node test/support/tape-job.ts DIRECTORY
 *
 * It tells each confirmed offset on standard output, after the catalog has it.
 */
import { appendFileSync, existsSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { systemClock, uuidv7 } from '../../src/base/clock.ts';
import { openForAppend } from '../../src/tape/append.ts';
import { resumePosition } from '../../src/tape/assemble.ts';
import type { VolumeLabel } from '../../src/tape/label.ts';
import { labelVolume } from '../../src/tape/label-volume.ts';
import { FIRST_PLACE } from '../../src/tape/parts.ts';
import type { PartEntry } from '../../src/tape/parts.ts';
import { TapeSetWriter } from '../../src/tape/set-writer.ts';
import type { SetWriterHost } from '../../src/tape/set-writer.ts';
import { VirtualLibrary } from '../../src/tape/virtual-library.ts';
import { releaseVolume, unlockDrive } from '../../src/tape/volume.ts';
import { VolumeWriter } from '../../src/tape/volume-writer.ts';

const KIB = 1024;
const setId = '0193e4c0-1111-7222-8333-444455556666';

/** A line of the catalog. */
type Line =
  | { readonly kind: 'volume'; readonly label: VolumeLabel }
  | { readonly kind: 'part'; readonly entry: PartEntry };

export interface KilledCatalog {
  readonly volumes: readonly VolumeLabel[];
  readonly parts: readonly PartEntry[];
}

/** What the catalog holds; a last line that was cut off is not there. */
export function readCatalog(directory: string): KilledCatalog {
  const path = join(directory, 'catalog.jsonl');
  const text = existsSync(path) ? readFileSync(path, 'utf8') : '';
  const lines = text.split('\n').slice(0, -1);
  const events = lines.map((line) => JSON.parse(line) as Line);
  return {
    volumes: events.flatMap((event) => (event.kind === 'volume' ? event.label : [])),
    parts: events.flatMap((event) => (event.kind === 'part' ? event.entry : [])),
  };
}

export const backupIdOf = (index: number) =>
  `${String(index).padStart(8, '0')}-1111-7222-8333-444455556666`;
export const cartridgeOf = ({ number }: VolumeLabel) => `T${String(number).padStart(3, '0')}`;

/** The bytes of a backup: they tell where they belong, and of which one they are. */
export function bytesOf(index: number): Buffer {
  const bytes = Buffer.alloc(200_000 + ((index * 777_777) % 2_000_000));
  for (let at = 0; at + 4 <= bytes.length; at += 4) {
    bytes.writeUInt32LE((at + index * 2 ** 26) % 2 ** 32, at);
  }
  return bytes;
}

class Job implements SetWriterHost {
  readonly #directory: string;
  readonly #library: VirtualLibrary;

  constructor(directory: string, library: VirtualLibrary) {
    this.#directory = directory;
    this.#library = library;
  }

  get #device() {
    return this.#library.device();
  }

  async run(): Promise<never> {
    await unlockDrive(this.#device);
    const last = this.#openVolume();
    if (last !== undefined) await releaseVolume((await this.#append(last)).volume);
    for (;;) await this.#write(this.#unfinished());
  }

  async nextVolume(): Promise<VolumeWriter> {
    for (;;) {
      const label = this.#openVolume() ?? (await this.#addVolume());
      const point = await this.#append(label);
      if (!point.isFull) return new VolumeWriter(point.volume, point.place);
      await releaseVolume(point.volume);
    }
  }

  async partWritten(entry: PartEntry): Promise<void> {
    this.#note({ kind: 'part', entry });
  }

  release(writer: VolumeWriter): Promise<void> {
    return writer.release();
  }

  async #write(index: number): Promise<void> {
    const backupId = backupIdOf(index);
    const from = resumePosition(this.#partsOf(backupId));
    const backup = { backupId, backup: `b${index}`, setId, info: null };
    const writer = new TapeSetWriter(this, backup, {
      clock: systemClock,
      partBytes: 300_000,
      from,
    });
    const bytes = bytesOf(index);
    for (let at = from.offset; at < bytes.length; at += 50_000) {
      await writer.write([bytes.subarray(at, at + 50_000)]);
      this.#tell(`confirmed ${index} ${writer.confirmedOffset}`);
    }
    await writer.commit(Buffer.from('{}'));
    this.#tell(`complete ${index}`);
  }

  #tell(line: string): void {
    writeSync(1, `${line}\n`);
  }

  #note(line: Line): void {
    appendFileSync(join(this.#directory, 'catalog.jsonl'), `${JSON.stringify(line)}\n`);
  }

  #partsOf(backupId: string): PartEntry[] {
    return readCatalog(this.#directory).parts.filter((part) => part.backupId === backupId);
  }

  /** Number of the first backup that is not complete. */
  #unfinished(): number {
    const { parts } = readCatalog(this.#directory);
    return parts.filter(({ state }) => state === 'final').length;
  }

  #openVolume(): VolumeLabel | undefined {
    const { volumes, parts } = readCatalog(this.#directory);
    const full = parts.filter(({ endsVolume }) => endsVolume).map(({ volumeId }) => volumeId);
    const last = volumes.at(-1);
    return last === undefined || full.includes(last.volumeId) ? undefined : last;
  }

  async #append(label: VolumeLabel) {
    await this.#library.load(cartridgeOf(label));
    const last = readCatalog(this.#directory).parts.filter(
      ({ volumeId }) => volumeId === label.volumeId,
    );
    const place = last.at(-1)?.end ?? FIRST_PLACE;
    const known = { place, partId: last.at(-1)?.partId ?? null };
    const point = await openForAppend(this.#device, label, known);
    for (const { entry } of point.adopted) this.#note({ kind: 'part', entry });
    return point;
  }

  async #addVolume(): Promise<VolumeLabel> {
    const { volumes } = readCatalog(this.#directory);
    const number = volumes.length + 1;
    const label: VolumeLabel = {
      volumeId: uuidv7(systemClock),
      label: `nightly-${number}`,
      set: 'nightly',
      setId,
      number,
      previousVolumeId: volumes.at(-1)?.volumeId ?? null,
      recordBytes: 64 * KIB,
      labelledAtMs: systemClock.nowMs(),
      expiresAtMs: null,
    };
    const name = cartridgeOf(label);
    const isThere = this.#library.cartridges().some((each) => each.name === name);
    if (!isThere) await this.#library.addCartridge(name, 2048 * KIB, 256 * KIB);
    await this.#library.load(name);
    // Killed in its midst, a labelling is done again: the catalog knows nothing on this cartridge.
    for (const force of [label.label, 'foreign']) {
      try {
        await labelVolume(this.#device, { label, nowMs: label.labelledAtMs, force });
        break;
      } catch (error) {
        if (force === 'foreign') throw error;
      }
    }
    this.#note({ kind: 'volume', label });
    return label;
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const directory = process.argv[2] ?? '.';
  await new Job(directory, await VirtualLibrary.open(directory, { slots: 500 })).run();
}
