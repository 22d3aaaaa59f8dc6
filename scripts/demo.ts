/**
 * `npm run demo`: the whole job on real input, with nothing to configure and nothing left behind.
 *
 * It starts a daemon in a temporary directory and talks to it over HTTP as any client would. What
 * must be equal is compared by digest, and file systems are looked at by e2fsck. Exit code 0 only
 * if all of that holds.
 */
import { mkdtemp, rm, stat, statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client, digestOf } from './demo/client.ts';
import type { Answer } from './demo/client.ts';
import { DemoDaemon } from './demo/daemon.ts';
import { makeInput } from './demo/input.ts';
import type { Input } from './demo/input.ts';
import { number, Report, size } from './demo/report.ts';
import { run } from './demo/run.ts';
import { Writer } from './demo/writer.ts';

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;
const TIB = 1024 ** 4;

const POOL_BYTES = 2 * GIB;
const NEEDED_BYTES = 4 * GIB;
/** Far away from the file system: written until the freeze. */
const FAR = { offset: TIB / 2, length: 16 * MIB };

const restoreProgram = join(import.meta.dirname, '..', 'tools', 'spindle-restore.py');

const report = new Report();

/** What the demo works with, from step to step. */
interface Stage {
  readonly directory: string;
  readonly daemon: DemoDaemon;
  readonly client: Client;
  readonly input: Input;
  /** Digest of the file system's image. */
  readonly wanted: string;
}

interface Frozen {
  readonly copy: Answer;
  /** Digest of the far end as the copy has it. */
  readonly far: string;
  readonly writer: Writer;
}

async function makeDisk(directory: string, daemon: DemoDaemon): Promise<Stage> {
  report.step('A real file system', 'Files of this project in ext4, made without mounting it.');
  const input = await report.timed('file system built', () => makeInput(directory));
  const { files, fileBytes, sizeBytes, withoutFileSystem } = input;
  if (withoutFileSystem !== undefined) {
    report.fact(`${withoutFileSystem}: pseudo-random bytes stand in for it`);
  }
  report.fact(`${number(files)} files of ${size(fileBytes)} in an image of ${size(sizeBytes)}`);
  const { sha256: wanted } = await digestOf(input.path);

  report.step('A disk of 1 TiB, in a pool of 2 GiB', 'Room is taken by what is written, no more.');
  const client = new Client(await daemon.url);
  await report.timed('disk made', () => client.post('/disks', { name: 'd1', capacity: '1TiB' }));
  await report.timed(
    'file system written to it, HTTP PUT',
    () => client.send('PUT', '/disks/d1/data?offset=0', input.path),
    () => sizeBytes,
  );
  const used = (await client.get('/disks/d1')).number('usedBytes');
  report.fact(`${size(sizeBytes)} sent, ${size(used)} used: blocks of zeros take no room`);
  return { directory, daemon, client, input, wanted };
}

async function freeze({ client, input }: Stage): Promise<Frozen> {
  report.step('A copy, while somebody writes', 'Writing halts for an instant; nothing is copied.');
  const writer = new Writer(client, 'd1', FAR);
  while (writer.blocks < 100) await client.get('/disks/d1');
  const copy = await report.timed('frozen', () =>
    client.post('/disks/d1/copies', { name: 'monday' }),
  );
  // from now on the writer goes for what the copy must keep
  writer.area = { offset: 0, length: input.sizeBytes };
  report.fact(`writing was halted for ${number(copy.number('haltMicroseconds'))} µs`);
  const [capacity, source] = [copy.number('capacityBytes'), copy.number('sourceCapacityBytes')];
  report.fact(`the copy is ${size(capacity)} long, its source ${size(source)}`);
  const { sha256: far } = await client.receive(`/copies/monday/data?${rangeOf('full', FAR)}`);
  return { copy, far, writer };
}

/** @returns bytes on the medium */
async function backUp({ client, directory }: Stage, { copy, writer }: Frozen): Promise<number> {
  report.step(
    'Backups, while somebody writes',
    'One pass over what is used; the rest of the 1 TiB costs nothing.',
  );
  const before = writer.blocks;
  const image = join(directory, 'monday.spindle');
  const download = await report.timed(
    'image downloaded, HTTP GET',
    () => client.receive('/copies/monday/image', image),
    ({ bytes }) => bytes,
  );
  await client.post('/targets', { name: 'shelf', kind: 'directory', path: 'backups' });
  const wanted = { name: 'b1', copy: 'monday', target: 'shelf' };
  const mediumOf = (job: Answer): number => job.object('result').number('mediumBytes');
  const job = await report.timed(
    'backup to a directory, by a job',
    () => client.run('/backups', wanted),
    mediumOf,
  );
  await report.timed(
    'backup verified, every checksum',
    () => client.run('/backups/b1/verify'),
    () => download.bytes,
  );
  report.fact(`${number(writer.blocks - before)} blocks of the disk were overwritten meanwhile`);
  const stored = await digestOf(storedImage(directory));
  report.prove(writer.blocks > before, 'the writer went on all the time');
  report.prove(stored.sha256 === download.sha256, 'download and backup are the same bytes');
  const mediumBytes = mediumOf(job);
  const bound = 1.001 * copy.number('capacityBytes') + 65_536;
  report.prove(mediumBytes <= bound, 'the medium holds what is used, plus at most 0.1 %');
  return mediumBytes;
}

async function restoreEachWay(stage: Stage, frozen: Frozen): Promise<void> {
  const { client, directory } = stage;
  const used = frozen.copy.number('capacityBytes');
  const isMoved = (): number => used;
  report.step('Restores, each way', 'From the live copy, from the backup, from any image.');

  await report.timed('copy → new disk (no data moves)', () =>
    client.post('/copies/monday/restores', { method: 'remap', disk: 'd0' }),
  );
  await proveView(stage, frozen, '/disks/d0/data?');

  const asCopy = { method: 'copy', copy: 'tuesday' };
  const restore = '/backups/b1/restores';
  await report.timed('backup → compact copy', () => client.run(restore, asCopy), isMoved);
  await proveView(stage, frozen, '/copies/tuesday/data?view=full&');

  const asDisk = { method: 'remap', disk: 'd2' };
  await report.timed('backup → new disk of 1 TiB', () => client.run(restore, asDisk), isMoved);
  await proveView(stage, frozen, '/disks/d2/data?');

  const image = join(directory, 'monday.spindle');
  const upload = '/restores?method=remap&disk=d3';
  const send = (): Promise<Answer> => client.send('POST', upload, image);
  await report.timed('uploaded image → new disk of 1 TiB', send, isMoved);
  await proveView(stage, frozen, '/disks/d3/data?');

  await frozen.writer.stop();
  const changed = await client.receive(`/disks/d1/data?length=${stage.input.sizeBytes}`);
  report.prove(changed.sha256 !== stage.wanted, 'the working disk itself has moved on');
  const back = { method: 'write-back', disk: 'd1' };
  await report.timed(
    'backup → back into the working disk',
    () => client.run(restore, back),
    isMoved,
  );
  await proveView(stage, frozen, '/disks/d1/data?');
  const usedNow = (await client.get('/disks/d1')).number('usedBytes');
  report.prove(usedNow === used, 'and it takes as much room as on monday');
}

/** Proves what a stranger reads there. @param path of data, ready for more parameters */
async function proveView(stage: Stage, { far }: Frozen, path: string): Promise<void> {
  const { client, input, directory, wanted } = stage;
  const hasFileSystem = input.withoutFileSystem === undefined;
  const file = join(directory, 'seen.img');
  const seen = await client.receive(`${path}offset=0&length=${input.sizeBytes}`, file);
  const seenFar = await client.receive(`${path}offset=${FAR.offset}&length=${FAR.length}`);
  report.prove(
    seen.sha256 === wanted && seenFar.sha256 === far && (!hasFileSystem || isClean(file)),
    `same SHA-256 at both ends of the disk${hasFileSystem ? ', e2fsck finds nothing' : ''}`,
  );
  await rm(file);
}

/** True if e2fsck has nothing to say. */
function isClean(file: string): boolean {
  const checked = run('e2fsck', ['-fn', file]);
  if (checked?.status === 0) return true;
  report.fact(checked?.output ?? 'e2fsck is missing');
  return false;
}

async function restoreAlone(stage: Stage, frozen: Frozen): Promise<void> {
  const { directory, daemon, client, input, wanted } = stage;
  report.step('Without us', 'An image needs neither the daemon nor its database: only the format.');
  client.close();
  report.prove(await daemon.stop(), 'the daemon has stopped in good order');
  if (run('python3', ['--version']) === undefined) {
    report.fact('python3 is missing: tools/spindle-restore.py was not tried');
    return;
  }
  const output = join(directory, 'alone.img');
  const args = [restoreProgram, 'restore', storedImage(directory), output];
  const ran = await report.timed(
    'tools/spindle-restore.py, Python’s standard library',
    async () => run('python3', args),
    () => frozen.copy.number('capacityBytes'),
  );
  if (ran?.status !== 0) {
    report.fact(ran?.output ?? '');
    report.prove(false, 'it restores the image');
    return;
  }
  const { blocks, size: length } = await stat(output);
  const near = await digestOf(output, 0, input.sizeBytes);
  const far = await digestOf(output, FAR.offset, FAR.length);
  report.prove(
    near.sha256 === wanted && far.sha256 === frozen.far && length === TIB,
    `the same bytes, in a file of ${size(length)} that takes ${size(blocks * 512)}`,
  );
}

function storedImage(directory: string): string {
  return join(directory, 'data', 'backups', 'b1', 'image.spindle');
}

function rangeOf(view: string, { offset, length }: { offset: number; length: number }): string {
  return `view=${view}&offset=${offset}&length=${length}`;
}

async function show(directory: string, daemon: DemoDaemon): Promise<void> {
  const stage = await makeDisk(directory, daemon);
  const frozen = await freeze(stage);
  const mediumBytes = await backUp(stage, frozen);
  await restoreEachWay(stage, frozen);
  const { peakBytes } = daemon;
  await restoreAlone(stage, frozen);
  const used = frozen.copy.number('capacityBytes');
  const over = `${((mediumBytes / used - 1) * 100).toFixed(3)} %`;
  report.table([
    ['virtual size', size(TIB)],
    ['used', size(used)],
    ['bytes on the medium', `${size(mediumBytes)}, ${over} over what is used`],
    ['writing halted for the copy', `${number(frozen.copy.number('haltMicroseconds'))} µs`],
    ['most memory of the daemon', peakBytes === 0 ? 'not known here' : size(peakBytes)],
  ]);
}

/** @returns the exit code */
async function main(): Promise<number> {
  const began = performance.now();
  report.headline('Spindle: a terabyte disk, frozen in an instant, backed up by what it holds');
  const { bavail, bsize } = await statfs(tmpdir());
  if (bavail * bsize < NEEDED_BYTES) {
    console.log(`This needs ${size(NEEDED_BYTES)} of room in ${tmpdir()}; set TMPDIR elsewhere.`);
    return 1;
  }
  const directory = await mkdtemp(join(tmpdir(), 'spindle-demo-'));
  const daemon = new DemoDaemon({ dataDir: join(directory, 'data'), poolBytes: POOL_BYTES });
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      void daemon.stop().then(() => rm(directory, { recursive: true, force: true }));
    });
  }
  try {
    await show(directory, daemon);
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    report.prove(false, `everything works: ${text}`);
    console.log(`The daemon’s last words:\n${daemon.log}`);
  } finally {
    await daemon.stop();
    await rm(directory, { recursive: true, force: true });
  }
  return report.verdict(performance.now() - began) ? 0 : 1;
}

process.exitCode = await main();
