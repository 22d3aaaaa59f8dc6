/**
 * A random walk over a tape drive, from a seed: the same steps on any drive, each with what came of
 * it, as lines of text to be compared.
 */
import { isTapeError } from '../../src/tape/drive.ts';
import type { TapeDrive, TapeStatus } from '../../src/tape/drive.ts';
import { buffer, large, record } from '../contract/tape-bench.ts';
import type { TapeHarness } from '../contract/tape-bench.ts';
import { Random } from '../crash/random.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const FLAGS = ['atBeginning', 'atFilemark', 'atEndOfData', 'earlyWarning'] as const;

/** A step that needs an open drive. */
type Step = (drive: TapeDrive) => Promise<unknown>;
type NamedStep = readonly [name: string, step: Step];

function statusLine(status: TapeStatus): string {
  const flags = FLAGS.filter((flag) => status[flag]);
  const door = status.online ? 'online' : status.doorOpen ? 'no cartridge' : 'not loaded';
  const tab = status.writeProtected ? ['protected'] : [];
  return [door, `file ${status.file} block ${status.block}`, ...tab, ...flags].join(' ');
}

/** Reaches the end of the medium now and then. */
async function fill(drive: TapeDrive): Promise<string> {
  const results: string[] = [];
  for (let count = 0; count < 8; count += 1) {
    results.push(await result(() => drive.write(record(256 * KIB))));
  }
  return results.join(' ');
}

function chooseTransfer(random: Random): NamedStep {
  const size = random.pick([1000, 64 * KIB, 256 * KIB]) ?? 0;
  return random.weighted<NamedStep>([
    [30, [`write ${size}`, (drive) => drive.write(record(size))]],
    [4, [`fill`, fill]],
    [2, [`write ${large.length} unaligned`, (drive) => drive.write(large)]],
    [22, ['read', (drive) => drive.read(buffer)]],
    [2, ['read 512', (drive) => drive.read(buffer.subarray(0, 512))]],
  ]);
}

function chooseMotion(random: Random): NamedStep {
  const count = random.int(1, 3) * (random.chance(0.5) ? 1 : -1);
  const object = random.int(0, 14);
  const marks = random.int(1, 2);
  return random.weighted<NamedStep>([
    [10, [`filemarks ${marks}`, (drive) => drive.writeFilemarks(marks)]],
    [3, ['filemarks 0', (drive) => drive.writeFilemarks(0)]],
    [8, ['tell', (drive) => drive.tell()]],
    [10, ['status', async (drive) => statusLine(await drive.status())]],
    [6, [`seek ${object}`, (drive) => drive.seek(object)]],
    [4, ['rewind', (drive) => drive.rewind()]],
    [6, [`space filemarks ${count}`, (drive) => drive.spaceFilemarks(count)]],
    [6, [`space records ${count}`, (drive) => drive.spaceRecords(count)]],
    [4, ['end of data', (drive) => drive.seekEndOfData()]],
    [1, ['erase', (drive) => drive.erase()]],
    [2, ['lock', (drive) => drive.lock()]],
    [4, ['unlock', (drive) => drive.unlock()]],
    [0.5, ['unload', (drive) => drive.unload()]],
    [2, ['load', (drive) => drive.load()]],
    [3, ['record mode', (drive) => drive.setRecordMode()]],
  ]);
}

/** What hands from outside do. */
function chooseHands(random: Random, harness: TapeHarness): NamedStep {
  const cartridge = random.pick(['A', 'B'] as const) ?? 'A';
  const operation = random.pick(['read', 'write', 'filemarks'] as const) ?? 'read';
  return random.weighted<NamedStep>([
    [
      4,
      [
        `change to ${cartridge}`,
        async () => {
          const isOut = await harness.eject();
          if (isOut) await harness.load(cartridge);
          return isOut;
        },
      ],
    ],
    [0.5, ['eject', () => harness.eject()]],
    [0.5, [`protect ${cartridge}`, () => harness.protect(cartridge, true)]],
    [3, [`unprotect ${cartridge}`, () => harness.protect(cartridge, false)]],
    [4, [`let a ${operation} fail`, () => harness.fail(operation, 0)]],
  ]);
}

async function result(work: () => Promise<unknown>): Promise<string> {
  try {
    const value = await work();
    const isWorthTelling = ['string', 'number', 'boolean'].includes(typeof value);
    return isWorthTelling ? `${value as string | number | boolean}` : 'ok';
  } catch (error) {
    if (isTapeError(error)) return error.code;
    throw error;
  }
}

/** @returns one line a step, then the objects on each cartridge */
export async function walkTape(
  harness: TapeHarness,
  seed: number,
  steps: number,
): Promise<string[]> {
  const random = new Random(seed);
  const lines: string[] = [];
  let drive: TapeDrive | undefined;
  await harness.administer({ asyncWrites: true });
  for (const cartridge of ['A', 'B'] as const) await harness.resize(cartridge, 4 * MIB, MIB);
  for (let step = 0; step < steps; step += 1) {
    if (drive === undefined) {
      const mode = random.chance(0.92) ? 'write' : 'read';
      drive = await harness.device.open(mode);
      lines.push(`open ${mode}`);
      continue;
    }
    const open = drive;
    const [name, body] = random.weighted<NamedStep>([
      [50, chooseTransfer(random)],
      [60, chooseMotion(random)],
      [10, chooseHands(random, harness)],
      [12, ['close', () => open.close()]],
    ]);
    if (name === 'close') drive = undefined;
    lines.push(`${name} → ${await result(() => body(open))}`);
  }
  const last = drive;
  if (last !== undefined) lines.push(`close → ${await result(() => last.close())}`);
  for (const cartridge of ['A', 'B'] as const) {
    const objects = await harness.objects(cartridge);
    lines.push(`${cartridge}: ${objects.length === 0 ? 'blank' : objects.join(' ')}`);
  }
  return lines;
}
