/**
 * The interface as tests use it: over a real socket, each JSON answer compared with the document.
 */
import type { AddressInfo } from 'node:net';
import { pino } from 'pino';
import { Compile } from 'typebox/compile';
import { expect, onTestFinished } from 'vitest';
import { buildApp } from '../../src/api/app.ts';
import type { ApiDeps } from '../../src/api/app.ts';
import type { ApiInstance } from '../../src/api/context.ts';
import type { Services } from '../../src/api/services.ts';
import { makeServices } from './make-services.ts';
import type { MadeServices } from './make-services.ts';

interface Operation {
  readonly responses: Record<string, { content?: Record<string, { schema: object }> }>;
}

/** Bodies come as they come. */
export type AnyJson = ReturnType<typeof JSON.parse>;

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly bytes: Buffer;
  /** Of a JSON body. */
  readonly body: AnyJson;
}

export interface Asked {
  readonly method?: string;
  readonly headers?: Record<string, string>;
  /** Sent as JSON. */
  readonly json?: unknown;
  readonly body?: Buffer | string | ReadableStream;
}

export class ApiWorld {
  readonly app: ApiInstance;
  readonly made: MadeServices;
  readonly origin: string;
  readonly port: number;
  readonly logs: string[];

  private constructor(app: ApiInstance, made: MadeServices, logs: string[]) {
    this.app = app;
    this.made = made;
    this.logs = logs;
    this.port = (app.server.address() as AddressInfo).port;
    this.origin = `http://127.0.0.1:${this.port}`;
  }

  /** Closed when the test is over. */
  static async start(options: Partial<ApiDeps> = {}): Promise<ApiWorld> {
    const made = await makeServices();
    const logs: string[] = [];
    const logger = pino({ level: 'info' }, { write: (line: string) => void logs.push(line) });
    const app = await buildApp({ services: made.services, logger, version: '0.0.0', ...options });
    await app.listen({ host: '127.0.0.1', port: 0 });
    onTestFinished(async () => {
      await app.close();
    });
    return new ApiWorld(app, made, logs);
  }

  get services(): Services {
    return this.made.services;
  }

  /** Of a path below /v1, or of a whole one if it begins with `//`. */
  async ask(path: string, asked: Asked = {}): Promise<Answer> {
    const { json, body, method = 'GET' } = asked;
    const headers: Record<string, string> = { ...asked.headers };
    if (json !== undefined) headers['content-type'] ??= 'application/json';
    const sent = json === undefined ? body : JSON.stringify(json);
    const init = sent === undefined ? {} : { body: sent as RequestInit['body'], duplex: 'half' };
    const url = path.startsWith('//') ? path.slice(1) : `/v1${path}`;
    const response = await fetch(`${this.origin}${url}`, {
      method,
      headers,
      ...(init as RequestInit),
    });
    const bytes = Buffer.from(await response.arrayBuffer());
    const type = response.headers.get('content-type') ?? '';
    const isJson = /^application\/(problem\+)?json/.test(type);
    const parsed = isJson && bytes.length > 0 ? JSON.parse(bytes.toString()) : undefined;
    if (parsed !== undefined && method !== 'HEAD') {
      this.checkShape(method, url, response.status, type, parsed);
    }
    return { status: response.status, headers: response.headers, bytes, body: parsed };
  }

  async get(path: string, headers: Record<string, string> = {}): Promise<Answer> {
    return this.ask(path, { headers });
  }

  async post(path: string, json?: unknown, headers: Record<string, string> = {}): Promise<Answer> {
    return this.ask(path, { method: 'POST', json, headers });
  }

  async put(path: string, body: Buffer, headers: Record<string, string> = {}): Promise<Answer> {
    return this.ask(path, { method: 'PUT', body, headers });
  }

  /** The answer, which has to be this problem and look like one. */
  async refused(path: string, asked: Asked, status: number, code: string): Promise<AnyJson> {
    const answer = await this.ask(path, asked);
    expect(answer.body).toMatchObject({ status, code });
    expect(answer.status).toBe(status);
    expect(answer.headers.get('content-type')).toBe('application/problem+json');
    return answer.body;
  }

  /** A disk of 64 MiB, unless said otherwise. */
  async disk(name: string, more: Record<string, unknown> = {}): Promise<AnyJson> {
    const answer = await this.post('/disks', { name, capacityBytes: 64 * 1024 * 1024, ...more });
    expect(answer.status).toBe(201);
    return answer.body;
  }

  async copyOf(disk: string, name: string): Promise<AnyJson> {
    const answer = await this.post(`/disks/${disk}/copies`, { name });
    expect(answer.status).toBe(201);
    return answer.body;
  }

  /** Every JSON answer has exactly the fields that the document tells. */
  checkShape(method: string, url: string, status: number, type: string, body: unknown): void {
    const path = url.split('?')[0]!;
    const document = this.app.swagger() as unknown as {
      paths: Record<string, Record<string, Operation>>;
      components: { schemas: Record<string, object> };
    };
    const found = Object.entries(document.paths).find(([pattern]) =>
      new RegExp(`^${pattern.replaceAll(/\{[^}]+\}/g, '[^/]+')}$`).test(path),
    );
    const { schemas } = document.components;
    const responses = found?.[1][method.toLowerCase()]?.responses;
    const response = responses?.[String(status)] ?? responses?.[`${String(status)[0]!}XX`];
    if (response === undefined) {
      if (status >= 400) expectFit(schemas.Problem!, schemas, body, url);
      return;
    }
    const schema = response.content?.[type.split(';')[0]!]?.schema;
    if (schema === undefined) throw new Error(`${method} ${url}: ${type} ${status} is no answer`);
    expectFit(schema, schemas, body, `${method} ${url}`);
  }
}

/** By the schema as text: each app makes its document anew, always the same. */
const validators = new Map<string, ReturnType<typeof Compile>>();

function validatorOf(schema: object, schemas: Record<string, object>): ReturnType<typeof Compile> {
  const text = JSON.stringify(schema);
  const found = validators.get(text) ?? Compile(closed(schema, schemas) as object);
  validators.set(text, found);
  return found;
}

function expectFit(
  schema: object,
  schemas: Record<string, object>,
  body: unknown,
  what: string,
): void {
  const validator = validatorOf(schema, schemas);
  if (validator.Check(body)) return;
  const errors = JSON.stringify(validator.Errors(body).slice(0, 3));
  throw new Error(`${what}: ${errors} in ${JSON.stringify(body)}`);
}

/** References put in place; fields that the document does not tell are refused. */
function closed(schema: unknown, schemas: Record<string, object>): unknown {
  if (Array.isArray(schema)) return schema.map((part) => closed(part, schemas));
  if (typeof schema !== 'object' || schema === null) return schema;
  if ('$ref' in schema) {
    return closed(schemas[String(schema.$ref).replace('#/components/schemas/', '')], schemas);
  }
  const entries = Object.entries(schema).map(([key, part]) => [key, closed(part, schemas)]);
  const isBare = 'properties' in schema && !('additionalProperties' in schema);
  return { ...Object.fromEntries(entries), ...(isBare ? { additionalProperties: false } : {}) };
}
