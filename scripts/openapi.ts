/**
 * Writes the OpenAPI documents: `npm run openapi`.
 *
 * openapi.json (3.1) comes from the route schemas, openapi-3.0.json is made from that for
 * generators that need it. Both are committed; a test fails if they are stale.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeDocuments } from './openapi-documents.ts';

const folder = join(import.meta.dirname, '..', 'openapi');
mkdirSync(folder, { recursive: true });
for (const [name, text] of Object.entries(await makeDocuments())) {
  writeFileSync(join(folder, name), text);
  console.log(`openapi/${name}: ${text.length} characters`);
}
