/**
 * The OpenAPI document: what @fastify/swagger makes of the route schemas.
 *
 * 3.1 is generated while running; the 3.0 form, for generators that need it, is made from that by
 * scripts/openapi.ts and committed. A test fails if either file is stale.
 */
import type { FastifyDynamicSwaggerOptions } from '@fastify/swagger';
import type { FastifySchema } from 'fastify';
import { packageJson } from '../base/package-files.ts';

const tags = [
  { name: 'pools', description: 'Physical storage: preallocated files, cut into blocks.' },
  { name: 'disks', description: 'Thin virtual disks and their data.' },
  { name: 'copies', description: 'Point-in-time copies, their views and tables.' },
  { name: 'groups', description: 'Copies of several disks, frozen at one instant.' },
  { name: 'targets', description: 'Where backups live.' },
  { name: 'backups', description: 'Images on targets.' },
  { name: 'restores', description: 'Back from copies, backups and uploaded images.' },
  { name: 'schedules', description: 'Backups by the clock, and retention.' },
  { name: 'jobs', description: 'Long work.' },
  { name: 'service', description: 'Health, figures, checks.' },
];

/**
 * What the page of the documents may load: this service's own files, also over plain HTTP, and
 * nothing from anywhere else.
 */
export const documentPolicy = {
  'default-src': "'self'",
  'base-uri': "'self'",
  'font-src': "'self' data:",
  'frame-ancestors': "'self'",
  'img-src': "'self' data:",
  'object-src': "'none'",
  'script-src': "'self'",
  'script-src-attr': "'none'",
  'style-src': "'self'",
};

export function swaggerOptions(version: string): FastifyDynamicSwaggerOptions {
  return {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Spindle',
        version,
        description:
          'Storage controller: thin virtual disks, compact point-in-time copies, ' +
          'self-describing backups.',
        license: { name: 'Apache-2.0', url: 'https://www.apache.org/licenses/LICENSE-2.0' },
      },
      servers: [{ url: '/', description: 'This service' }],
      tags,
      components: {
        securitySchemes: {
          bearer: {
            type: 'http',
            scheme: 'bearer',
            description: 'Needed on /v1 and /metrics if the service was given a token.',
          },
        },
      },
      security: [{ bearer: [] }, {}],
    },
    refResolver: {
      buildLocalReference: (json, _baseUri, _fragment, index) =>
        typeof json.$id === 'string' ? json.$id : `schema-${index}`,
    },
    transform: ({ schema, url, route }) => ({
      url,
      schema: withBinaryBody(schema, route.config),
    }),
  };
}

/** Bodies of bytes have no schema for the validator, only one for the document. */
function withBinaryBody(schema: FastifySchema | undefined, config: unknown): FastifySchema {
  const found = schema ?? {};
  if (typeof config !== 'object' || config === null || !('binaryBody' in config)) return found;
  const body = { type: 'string', format: 'binary', description: config.binaryBody };
  return Object.assign({ body, consumes: ['application/octet-stream'] }, found);
}

let converted: unknown;

/** The committed 3.0 form. */
export function openApi30(): unknown {
  converted ??= packageJson('openapi/openapi-3.0.json');
  return converted;
}
