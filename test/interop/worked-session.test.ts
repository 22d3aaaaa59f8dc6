/**
 * The session of the README, run with curl as it is printed there, against `npm start`.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { digest } from './content.ts';
import { needs, output, run } from './programs.ts';
import { brokenPromises, promisedStatus, readmeSession } from './readme-session.ts';
import type { Step } from './readme-session.ts';
import { Served } from './served.ts';
import type { AnyJson } from './served.ts';

const TIB = 1024 ** 4;
const BLOCK_BYTES = 65_536;

/** What the page must show, whatever else it shows. */
const shown = [
  `curl $U/disks -H "$J" -d '{"name":"d1","capacityBytes":1099511627776}'`,
  'curl -T fs.img "$U/disks/d1/data?offset=0"',
  'curl "$U/disks/d1/data?offset=4096&length=512" -o part',
  `curl $U/disks/d1/copies -H "$J" -d '{"name":"monday"}'`,
  'curl $U/copies/monday/correspondence',
  'curl "$U/copies/monday/data?view=full&offset=0&length=4096" -o head',
  'curl $U/copies/monday/image -o monday.spindle',
  `curl $U/copies/monday/restores -H "$J" -d '{"method":"remap","disk":"d0"}'`,
  `curl $U/targets -H "$J" -d '{"name":"shelf","kind":"directory","path":"backups"}'`,
  `curl $U/backups -H "$J" -d '{"name":"b1","copy":"monday","target":"shelf"}'`,
  `curl "$U/jobs/$ID" -H 'Prefer: wait=30'`,
  'curl -X POST $U/backups/b1/verify',
  `curl $U/backups/b1/restores -H "$J" -d '{"method":"remap","disk":"d2"}'`,
  `curl $U/backups/b1/restores -H "$J" -d '{"method":"write-back","disk":"d1"}'`,
  'curl -X POST -T monday.spindle "$U/restores?method=remap&disk=d3"',
  'curl $U/check',
  `curl $U/groups -H "$J" -d '{"name":"g1","disks":["x","y","z"]}'`,
];

interface Answered {
  readonly status: number;
  readonly body: AnyJson;
}

/** Runs the steps as one person types them, in one directory. */
class Shell {
  readonly #served: Served;
  /** Ids of the jobs that were answered, the last one being what a person has at hand. */
  readonly jobs: string[] = [];
  /** Lines that set variables. */
  #settings = '';

  constructor(served: Served) {
    this.#served = served;
  }

  async run({ command }: Step): Promise<Answered | undefined> {
    if (command.startsWith('ID=')) {
      expect(await this.#bash(`${command}; printf %s "$ID"`)).toMatchObject({
        stdout: Buffer.from(this.jobs.at(-1) ?? 'none'),
      });
      return undefined;
    }
    if (/^\w+=/.test(command)) {
      this.#settings += `${command}\n`;
      return undefined;
    }
    const { stdout, stderr } = await this.#bash(command);
    if (!command.startsWith('curl')) return undefined;
    const text = stdout.toString();
    const body: AnyJson = text.startsWith('{') ? JSON.parse(text) : undefined;
    const answered = { status: Number(stderr.slice(-3)), body };
    if (answered.status === 202) this.jobs.push(body.id);
    return answered;
  }

  async #bash(command: string): Promise<{ stdout: Buffer; stderr: string }> {
    const script = [
      'curl() { command curl --silent --show-error --write-out "%{stderr}%{http_code}" "$@"; }',
      this.#settings,
      `U=${this.#served.url} ID=${this.jobs.at(-1) ?? 'none'}`,
      command,
    ].join('\n');
    const { directory: cwd } = this.#served;
    const { status, stdout, stderr } = await run('bash', ['-c', script], { cwd });
    expect(status, `${command}\n${stderr}`).toBe(0);
    return { stdout, stderr };
  }
}

it('the README shows the session that the interface promises', () => {
  const commands = readmeSession().map(({ command }) => command);
  expect([...new Set(commands)].filter((command) => shown.includes(command))).toEqual(shown);
});

it('every command of the session answers as printed, and moves the right bytes', async (test) => {
  needs(test, 'curl', 'bash', 'truncate');
  const served = await Served.start({ SPINDLE_POOL_BYTES: '2GiB' });
  const file = (name: string): Buffer => readFileSync(join(served.directory, name));
  const shell = new Shell(served);
  for (const step of readmeSession()) {
    const answered = await shell.run(step);
    if (answered === undefined) continue;
    const { status, body } = answered;
    const said = `${step.command}\n${JSON.stringify(body)}`;
    expect(status, said).toBe(promisedStatus(step));
    expect(brokenPromises(step, body), said).toEqual([]);
  }
  expect(shell.jobs).toHaveLength(4);
  for (const id of shell.jobs) await served.succeeded(id);

  const image = file('fs.img');
  const used = blocksOf(image).length * BLOCK_BYTES;
  expect(used).toBeGreaterThan(0);
  expect(used).toBeLessThan(image.length);
  expect(file('part')).toEqual(image.subarray(4096, 4096 + 512));
  expect(file('head')).toEqual(image.subarray(0, 4096));
  const folder = served.backupFolder('backups', 'b1');
  expect(digest(readFileSync(join(folder, 'image.spindle')))).toBe(digest(file('monday.spindle')));
  expect(JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8'))).toBeTypeOf('object');
  const copy = await served.get('/copies/monday');
  expect(copy.capacityBytes).toBe(used);
  expect(copy.imageBytes).toBe(file('monday.spindle').length);
  expect((await served.get('/backups/b1')).mediumBytes).toBe(copy.imageBytes);
  for (const name of ['d0', 'd1', 'd2', 'd3']) {
    const disk = await served.get(`/disks/${name}`);
    expect(disk).toMatchObject({ capacityBytes: TIB, usedBytes: used, state: 'ready', users: [] });
    const bytes = await served.bytes(`/disks/${name}/data?length=${image.length}`);
    expect(digest(bytes)).toBe(digest(image));
  }
});

it('curl reads a part by Range with 206, and resumes a cut download of an image', async (test) => {
  needs(test, 'curl');
  const served = await Served.start();
  const bytes = Buffer.alloc(3 * BLOCK_BYTES, 'range');
  await served.post('/disks', { name: 'd1', capacity: '1GiB' });
  await served.put('/disks/d1/data?offset=65536', bytes);
  await served.post('/disks/d1/copies', { name: 'monday' });
  const curl = (...args: string[]): Promise<string> =>
    output('curl', ['-sS', '-w', '%{http_code}', ...args], { cwd: served.directory });

  const range = await curl('-r', '65541-65545', `${served.url}/disks/d1/data`);
  expect(range).toBe('range206');
  const url = `${served.url}/copies/monday/image`;
  expect(await curl('-o', 'whole', url)).toBe('200');
  expect(await curl('-o', 'cut', '-r', '0-99999', url)).toBe('206');
  expect(await curl('-o', 'cut', '-C', '-', url)).toBe('206');
  const [whole, cut] = ['whole', 'cut'].map((name) => readFileSync(join(served.directory, name)));
  expect(cut).toEqual(whole);
});

/** Indexes of the blocks that are not all zeros. */
function blocksOf(bytes: Buffer): number[] {
  const zeros = Buffer.alloc(BLOCK_BYTES);
  return Array.from({ length: bytes.length / BLOCK_BYTES }, (_, block) => block).filter((block) => {
    const at = block * BLOCK_BYTES;
    return !bytes.subarray(at, at + BLOCK_BYTES).equals(zeros);
  });
}
