/**
 * `node scripts/bundle.mjs FOLDER`: makes the files that the daemon is started from.
 *
 * Every module of ours and of typebox goes into a few files: more than a thousand small modules
 * would cost the daemon about 10 MiB of memory and a third of its time to start. Other packages
 * stay where they are, some have files of their own (binaries, pages). Comments are left out, and
 * all is ASCII: V8 keeps the sources, with two bytes for a character as soon as one needs them.
 * Names and lines stay as they are, so that a stack can be read.
 *
 * A program of its own, so that the daemon never loads the bundler.
 */
import { join } from 'node:path';
import { rolldown } from 'rolldown';

/** What is started by itself: the process and the threads, by their modules in src/. */
export const entries = [
  'main',
  'backup/worker',
  'check/check-task',
  'meta/snapshot-worker',
  'meta/worker',
];

const root = join(import.meta.dirname, '..');

/** All files lie directly in `dir`; src/base/package-files.ts depends on it. */
export async function bundle(dir) {
  const named = entries.map((entry) => [
    entry.replaceAll('/', '-'),
    join(root, 'src', `${entry}.ts`),
  ]);
  const made = await rolldown({
    cwd: root,
    input: Object.fromEntries(named),
    platform: 'node',
    external: (id) => /^[a-z@]/.test(id) && !id.startsWith('typebox'),
  });
  await made.write({
    dir,
    format: 'esm',
    entryFileNames: '[name].js',
    chunkFileNames: '[name].js',
    sourcemap: true,
    charset: 'ascii',
    comments: false,
    minify: { compress: false, mangle: false, codegen: { removeWhitespace: false } },
    codeSplitting: { groups: [{ name: 'packages', test: /node_modules/ }] },
  });
}

if (process.argv[1] === import.meta.filename) await bundle(process.argv[2]);
