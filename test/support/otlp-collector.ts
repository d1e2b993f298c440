import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { buffer, text } from 'node:stream/consumers'

/** A span as it came over the wire. Times in ms. */
export interface CollectedSpan {
  trace: string
  id: string
  /** '' for a root. */
  parent: string
  name: string
  kind: number
  from: number
  to: number
  state: string
  attributes: Record<string, unknown>
  events: string[]
  links: { trace: string; id: string }[]
  /** 0 unset, 1 ok, 2 error. */
  status: number
  /** Of the process that made it. */
  resource: Record<string, unknown>
}

/** A collector of OTLP/HTTP in protobuf, as small as it may be: it keeps what it is sent. */
export interface Collector extends AsyncDisposable {
  endpoint: string
  spans: CollectedSpan[]
  requests: { contentType: string; headers: IncomingMessage['headers'] }[]
  named(name: string): CollectedSpan[]
}

export async function startCollector(
  { answer = () => 200 }: { answer?: () => number | 'never' } = {},
  port = 0,
): Promise<Collector> {
  const spans: CollectedSpan[] = []
  const requests: Collector['requests'] = []
  const server = createServer((req, res) => {
    const status = answer()
    if (req.url !== '/v1/traces' || status !== 200) {
      if (status === 'never') return
      void text(req).then(() => res.writeHead(status === 200 ? 404 : status).end())
      return
    }
    void buffer(req).then((body) => {
      requests.push({ contentType: req.headers['content-type'] ?? '', headers: req.headers })
      spans.push(...decode(body))
      res.writeHead(200, { 'content-type': 'application/x-protobuf' }).end()
    })
  })
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    spans,
    requests,
    named: (name) => spans.filter((span) => span.name === name),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

/** The fields of a protobuf message: number → values, nested ones as bytes. */
function fieldsOf(bytes: Buffer): Map<number, (Buffer | bigint)[]> {
  const fields = new Map<number, (Buffer | bigint)[]>()
  let at = 0
  function varint(): bigint {
    for (let value = 0n, shift = 0n; ; shift += 7n) {
      const byte = bytes[at++]!
      value |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) return value
    }
  }
  while (at < bytes.length) {
    const tag = Number(varint())
    const type = tag & 7
    let value: Buffer | bigint
    if (type === 0) value = varint()
    else {
      const length = type === 1 ? 8 : type === 5 ? 4 : Number(varint())
      value = bytes.subarray(at, (at += length))
    }
    fields.set(tag >> 3, [...(fields.get(tag >> 3) ?? []), value])
  }
  return fields
}

/** `ExportTraceServiceRequest` of opentelemetry-proto 1.x. */
function decode(body: Buffer): CollectedSpan[] {
  return nested(body, 1).flatMap((resourceSpans) => {
    const resource = attributesOf(nested(resourceSpans, 1)[0] ?? Buffer.alloc(0), 1)
    return nested(resourceSpans, 2)
      .flatMap((scopeSpans) => nested(scopeSpans, 2))
      .map((span) => {
        const fields = fieldsOf(span)
        const hex = (n: number) => (fields.get(n)?.[0] as Buffer | undefined)?.toString('hex') ?? ''
        const string = (n: number) => (fields.get(n)?.[0] as Buffer | undefined)?.toString() ?? ''
        const ms = (n: number) => Number((fields.get(n)![0] as Buffer).readBigUInt64LE()) / 1e6
        const [status] = nested(span, 15)
        return {
          trace: hex(1),
          id: hex(2),
          parent: hex(4),
          name: string(5),
          kind: Number(fields.get(6)?.[0] ?? 0),
          from: ms(7),
          to: ms(8),
          state: string(3),
          attributes: attributesOf(span, 9),
          events: nested(span, 11).map((event) => String(fieldsOf(event).get(2)?.[0])),
          links: nested(span, 13).map((link) => {
            const [trace, id] = [1, 2].map((n) => (fieldsOf(link).get(n)![0] as Buffer).toString('hex'))
            return { trace: trace!, id: id! }
          }),
          status: status ? Number(fieldsOf(status).get(3)?.[0] ?? 0) : 0,
          resource,
        }
      })
  })
}

const nested = (bytes: Buffer, field: number): Buffer[] => (fieldsOf(bytes).get(field) ?? []) as Buffer[]

function attributesOf(bytes: Buffer, field: number): Record<string, unknown> {
  const pairs = nested(bytes, field).map((pair) => {
    const value = fieldsOf(nested(pair, 2)[0] ?? Buffer.alloc(0))
    const [string, flag, whole, double] = [1, 2, 3, 4].map((n) => value.get(n)?.[0])
    return [
      String(nested(pair, 1)[0]),
      string !== undefined
        ? String(string)
        : flag !== undefined
          ? flag === 1n
          : whole !== undefined
            ? Number(whole)
            : (double as Buffer | undefined)?.readDoubleLE(),
    ]
  })
  return Object.fromEntries(pairs) as Record<string, unknown>
}
