import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { makeDocuments } from '../../scripts/openapi-documents.ts';
import { problemKinds } from '../../src/api/problem.ts';
import { errorCodes } from '../../src/base/errors.ts';
import { ApiWorld } from '../support/api-world.ts';

const root = join(import.meta.dirname, '..', '..');

describe('the OpenAPI documents', () => {
  it('that are committed are those of the routes (else: npm run openapi)', async () => {
    for (const [name, text] of Object.entries(await makeDocuments())) {
      expect(readFileSync(join(root, 'openapi', name), 'utf8') === text, name).toBe(true);
    }
  });

  it('are served, 3.1 from the routes and 3.0 as committed', async () => {
    const api = await ApiWorld.start();
    const served = await api.get('//openapi.json');
    expect(served.body).toMatchObject({ openapi: '3.1.0', info: { title: 'Spindle' } });
    const older = await api.get('//openapi-3.0.json');
    const committed = readFileSync(join(root, 'openapi', 'openapi-3.0.json'), 'utf8');
    expect(older.body).toEqual(JSON.parse(committed));
    expect(older.body.openapi).toMatch(/^3\.0\./);
    const page = await api.get('//docs/');
    expect(page.headers.get('content-type')).toContain('text/html');
    // nothing from elsewhere, and nothing that plain HTTP cannot give
    expect(page.headers.get('content-security-policy')).not.toMatch(/upgrade|https|swagger\.io/);
    const lost = await api.get('//docs/static/none.js');
    expect(lost.body).toMatchObject({ status: 404, code: 'ROUTE_NOT_FOUND' });
    for (const odd of ['a%00b', 'a%5c..%5cb', '..%2f..%2fpackage.json']) {
      const { body } = await api.get(`//docs/static/${odd}`);
      expect([400, 404]).toContain(body.status);
    }
  });

  it('name every operation, with tag, summary, and problems', async () => {
    const api = await ApiWorld.start();
    const { paths } = (await api.get('//openapi.json')).body;
    const operations = Object.values(paths as Record<string, Record<string, object>>)
      .flatMap((path) => Object.values(path))
      .map((operation) => operation as Record<string, object>);
    const ids = operations.map(({ operationId }) => operationId);
    expect(new Set(ids).size).toBe(operations.length);
    for (const operation of operations) {
      expect(operation.summary).toBeTruthy();
      expect(operation.tags).toHaveLength(1);
      expect(operation.responses).toHaveProperty('4XX.content.application/problem+json');
    }
  });
});

describe('docs/errors.md', () => {
  const page = readFileSync(join(root, 'docs', 'errors.md'), 'utf8');
  const rows = [...page.matchAll(/^\| `([A-Z_]+)` \| (\d{3}) \| (yes|no) \| (.+) \| (.+) \|$/gm)];

  it('has a line for each code, in the order of the table', () => {
    expect(rows.map(([, code]) => code)).toEqual([...errorCodes]);
  });

  it('tells each status and whether a repeat can succeed', () => {
    for (const [, code, status, retryable] of rows) {
      const kind = problemKinds[code as keyof typeof problemKinds];
      expect([code, Number(status), retryable === 'yes']).toEqual([
        code,
        kind.status,
        kind.retryable,
      ]);
    }
  });
});

describe('/metrics', () => {
  it('shows requests, data, pools, jobs and the loop', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    await api.put('/disks/d1/data', Buffer.alloc(1000, 1));
    await api.get('/disks/d1/data?length=10');
    await api.get('/nothing');
    const answer = await api.get('//metrics');
    expect(answer.headers.get('content-type')).toContain('text/plain');
    const text = answer.bytes.toString();
    for (const line of [
      'spindle_http_requests_total{method="POST",route="/v1/disks",status="201"} 1',
      'spindle_http_requests_total{method="GET",route="unknown",status="404"} 1',
      'spindle_disk_io_bytes_total{operation="write"} 1000',
      'spindle_disk_io_bytes_total{operation="read"} 10',
      'spindle_pool_state{pool="default",state="ready"} 1',
      'spindle_jobs{state="running"} 0',
      'spindle_ready 1',
    ]) {
      expect(text).toContain(line);
    }
    expect(text).toMatch(/spindle_pool_bytes\{pool="default",figure="free"\} \d+/);
    expect(text).toMatch(/spindle_metadata_bytes \d+/);
    expect(text).toMatch(/spindle_event_loop_delay_p99_seconds [\d.e-]+/);
    expect(text).toMatch(/spindle_http_request_duration_seconds_count\{.*\} \d/);
  });
});
