import { z } from 'zod'
import { createDocument, type ZodOpenApiPathsObject, type ZodOpenApiResponsesObject } from 'zod-openapi'
import { ERRORS, type ErrorCode } from '../../protocol/errors.js'

/** One reply of an operation; without a schema it has no body. `frames`: `event:` → `data:` of an event stream. */
export interface Reply {
  description: string
  /** Content type → schema of the body. */
  content?: Record<string, z.ZodType>
  frames?: Record<string, z.ZodType>
  headers?: z.ZodObject
}

/** What the document says of one method of one route, in the schemas that validate it. */
export interface Operation {
  /** Unique; SDK generators name functions by it. */
  id: string
  summary: string
  description?: string
  query?: z.ZodObject
  headers?: z.ZodObject
  body?: z.ZodType
  bodyOptional?: true
  replies: Record<number, Reply>
  /** What it may be refused with, besides what any route may. */
  errors: readonly ErrorCode[]
  /** Also opened by `?token=`. */
  token?: true
}

/** A surface as the document shows it. `operations` has the patterns and methods of its router, no more and no less. */
export interface Described {
  /** Where the surface hangs. */
  path: string
  tag: { name: string; description: string }
  params: Record<string, z.ZodType>
  operations: Record<string, Partial<Record<'get' | 'post' | 'delete', Operation>>>
  /** The body of an error that has one of these codes. */
  errorBody: (codes: [string, ...string[]]) => z.ZodType
}

/** Any route may answer with these; one that reads a body with those, too. */
const ANYWHERE: readonly ErrorCode[] = [
  'invalid_request',
  'unauthorized',
  'rate_limit_exceeded',
  'internal',
  'store_unavailable',
  'not_durable',
]
const WITH_BODY: readonly ErrorCode[] = ['body_too_large', 'unsupported_media_type']

/** The OpenAPI 3.1 document of these surfaces: plain JSON. */
export function openApiDocument(version: string, surfaces: readonly Described[]): object {
  const frames: Record<string, z.ZodType> = {}
  const paths: ZodOpenApiPathsObject = {}
  for (const surface of surfaces)
    for (const [pattern, methods] of Object.entries(surface.operations)) {
      const names = [...pattern.matchAll(/:(\w+)/g)].map(([, name]) => name!)
      const path = z.object(Object.fromEntries(names.map((name) => [name, surface.params[name]!])))
      paths[surface.path + pattern.replaceAll(/:(\w+)/g, '{$1}')] = Object.fromEntries(
        Object.entries(methods).map(([method, operation]) => {
          const { id, summary, description, query, headers, body, bodyOptional, token } = operation
          return [
            method,
            {
              operationId: id,
              tags: [surface.tag.name],
              summary,
              ...(description && { description }),
              requestParams: {
                ...(names.length && { path }),
                ...(query && { query }),
                ...(headers && { header: headers }),
              },
              ...(body && {
                requestBody: { required: bodyOptional !== true, content: { 'application/json': { schema: body } } },
              }),
              security: [{ key: [] }, ...(token ? [{ token: [] }] : [])],
              responses: responsesOf(surface, operation, frames),
            },
          ]
        }),
      )
    }
  return createDocument(
    {
      openapi: '3.1.1',
      info: {
        title: 'Throughline',
        version,
        description: DESCRIPTION,
        license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      },
      servers: [{ url: '/', description: 'This gateway, at any replica.' }],
      tags: surfaces.map(({ tag }) => tag),
      paths,
      components: {
        schemas: frames,
        securitySchemes: {
          key: { type: 'http', scheme: 'bearer', description: 'A client’s key. A gateway without keys asks for none.' },
          token: {
            type: 'apiKey',
            in: 'query',
            name: 'token',
            description: 'A token that reads one session’s streams.',
          },
        },
      },
    },
    {
      // readers ignore what they do not know: a later version may say more
      override({ jsonSchema, zodSchema, io }) {
        if (io === 'output' && zodSchema._zod.def.type === 'object') delete jsonSchema.additionalProperties
      },
    },
  )
}

const DESCRIPTION = `A gateway between HTTP clients and remote coding agents. Every route answers the same at any replica.

Every reply has a header \`x-request-id\`; send your own, or quote ours. Unknown fields of a request are refused, unknown
fields of a reply are to be ignored. A POST that is repeated with its \`Idempotency-Key\` is done once.`

function responsesOf(
  surface: Described,
  { replies, errors, body }: Operation,
  frames: Record<string, z.ZodType>,
): ZodOpenApiResponsesObject {
  const responses: Record<string, object> = {}
  for (const [status, { description, content = {}, frames: events, headers }] of Object.entries(replies)) {
    Object.assign(frames, Object.fromEntries(Object.values(events ?? {}).map((schema) => [nameOf(schema), schema])))
    responses[status] = {
      description: events ? `${description}\n\n${tableOf(events)}` : description,
      ...(headers && { headers }),
      content: {
        ...Object.fromEntries(Object.entries(content).map(([type, schema]) => [type, { schema }])),
        ...(events && { 'text/event-stream': streamOf(events) }),
      },
    }
  }
  const codes = [...new Set([...ANYWHERE, ...(body ? WITH_BODY : []), ...errors])]
  for (const status of [...new Set(codes.map((code) => ERRORS[code].status))].sort()) {
    const of = codes.filter((code) => ERRORS[code].status === status) as [ErrorCode, ...ErrorCode[]]
    responses[status] = {
      description: of.map((code) => `\`${code}\`: ${ERRORS[code].sentence}`).join('\n\n'),
      content: { 'application/json': { schema: surface.errorBody(of) } },
      ...(of.some((code) => 'retryAfterS' in ERRORS[code]) && { headers: RETRY_AFTER }),
    }
  }
  return responses as ZodOpenApiResponsesObject
}

const RETRY_AFTER = z.object({
  'Retry-After': z.string().optional().meta({ description: 'Seconds to wait before sending the request again.' }),
})

/** OpenAPI 3.1 has no word for the items of a stream: as is the custom, the schema is that of each event. */
const streamOf = (events: Record<string, z.ZodType>) => ({
  schema: {
    description: 'Server-sent events. This is the schema of each.',
    oneOf: Object.entries(events).map(([event, schema]) => ({
      type: 'object' as const,
      required: ['event', 'data'],
      properties: {
        event: { const: event },
        id: { type: 'string' as const, description: 'A cursor: send it as Last-Event-ID to go on after this.' },
        data: {
          type: 'string' as const,
          contentMediaType: 'application/json',
          contentSchema: { $ref: `#/components/schemas/${nameOf(schema)}` },
        },
      },
    })),
  },
})

const tableOf = (events: Record<string, z.ZodType>): string =>
  ['| event | data | |', '| --- | --- | --- |']
    .concat(
      Object.entries(events).map(
        ([event, schema]) => `| \`${event}\` | ${nameOf(schema)} | ${schema.meta()?.description ?? ''} |`,
      ),
    )
    .join('\n')

const nameOf = (schema: z.ZodType): string => schema.meta()!.id!
