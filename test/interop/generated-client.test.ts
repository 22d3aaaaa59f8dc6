/**
 * A client that is generated from the committed document, compiled by the strictest rules, and
 * used: the document says what the daemon does, in words that a generator understands.
 */
import { copyFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { temporaryDirectory } from '../support/temporary.ts';
import { output } from './programs.ts';
import { root, Served } from './served.ts';

const bin = join(root, 'node_modules', '.bin');

const tsconfig = {
  compilerOptions: {
    target: 'es2024',
    module: 'nodenext',
    strict: true,
    types: ['node'],
    outDir: 'out',
  },
  files: ['session.ts'],
};

/** A package with the client in client/ and the session beside it. @returns its directory */
async function generate(document: string): Promise<string> {
  const directory = await temporaryDirectory();
  await symlink(join(root, 'node_modules'), join(directory, 'node_modules'));
  await writeFile(join(directory, 'package.json'), JSON.stringify({ type: 'module' }));
  await writeFile(join(directory, 'tsconfig.json'), JSON.stringify(tsconfig));
  const session = join(import.meta.dirname, 'generated-session.ts.txt');
  await copyFile(session, join(directory, 'session.ts'));
  const args = ['-i', join(root, 'openapi', document), '-o', 'client', '--no-log-file'];
  await output(join(bin, 'openapi-ts'), args, { cwd: directory });
  return directory;
}

describe('a client generated from the document', () => {
  it.each(['openapi.json', 'openapi-3.0.json'])(
    'of %s compiles in strict mode and goes through the whole session',
    async (document) => {
      const directory = await generate(document);
      expect(await output(join(bin, 'tsc'), [], { cwd: directory })).toBe('');
      const served = await Served.start();
      const origin = new URL(served.url).origin;
      await output(process.execPath, ['out/session.js', origin], { cwd: directory });
    },
  );
});
