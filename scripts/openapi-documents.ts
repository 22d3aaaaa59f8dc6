/**
 * Both OpenAPI documents as text, by file name.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Converter } from '@apiture/openapi-down-convert';
import { makeDocument } from '../src/api/document.ts';

export async function makeDocuments(): Promise<Record<string, string>> {
  const root = join(import.meta.dirname, '..');
  const packageJson: unknown = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const document = await makeDocument(versionOf(packageJson));
  const nullable = withNullable(document);
  if (typeof nullable !== 'object' || nullable === null) throw new Error('no document');
  const converted: unknown = new Converter(nullable, {}).convert();
  return {
    'openapi.json': `${JSON.stringify(document, null, 2)}\n`,
    'openapi-3.0.json': `${JSON.stringify(converted, null, 2)}\n`,
  };
}

function versionOf(packageJson: unknown): string {
  if (typeof packageJson === 'object' && packageJson !== null && 'version' in packageJson) {
    return String(packageJson.version);
  }
  throw new Error('package.json has no version');
}

/** A reference or null, which the converter leaves alone, as 3.0 says it. */
function withNullable(part: unknown): unknown {
  if (Array.isArray(part)) return part.map(withNullable);
  if (typeof part !== 'object' || part === null) return part;
  const entries = Object.entries(part).map(([key, value]): [string, unknown] => {
    return [key, withNullable(value)];
  });
  const rest = new Map(entries);
  const anyOf = rest.get('anyOf');
  if (!Array.isArray(anyOf)) return Object.fromEntries(entries);
  const others: unknown[] = anyOf.filter((one) => JSON.stringify(one) !== '{"type":"null"}');
  if (others.length === anyOf.length) return Object.fromEntries(entries);
  rest.delete('anyOf');
  return { ...Object.fromEntries(rest), type: 'object', nullable: true, allOf: others };
}
