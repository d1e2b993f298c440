import { connect } from 'node:net'
import type { Routes } from '../../../src/surfaces/http/app.js'
import type { HttpParts } from '../../../src/surfaces/http/parts.js'
import { comment, EventStream, frame, sharedFrames } from '../../../src/surfaces/http/sse.js'
import { eventually } from '../../support/eventually.js'
import { SseReader } from '../../support/sse.js'
import { startKit, type Kit } from './kit.js'

type Show = (stream: EventStream) => Promise<void>

/** A route that shows what the test says. */
const showing =
  (show: Show, resumable = true) =>
  (parts: HttpParts): Routes => ({
    '/stream': {
      async get(call, req, res) {
        const kind = {
          surface: 'test',
          keepAlive: comment('ka'),
          ...(resumable && { leave: parts.draining }),
          cut: parts.hardStop,
        }
        const stream = new EventStream(parts, call, req, res, kind)
        stream.open()
        await show(stream)
      },
    },
  })

const untilGone = (stream: EventStream) =>
  new Promise<void>((resolve) => stream.signal.addEventListener('abort', () => resolve()))

/** Connects, asks, and then reads nothing. */
function deafViewer({ port }: Kit) {
  const socket = connect(port, '127.0.0.1', () => socket.write('GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n'))
  socket.pause()
  socket.on('error', () => {}) // it will be cut off
  return { [Symbol.dispose]: () => void socket.destroy() }
}

test('the head is there at once, as proxies and browsers need it', async () => {
  await using kit = await startKit(showing(untilGone))
  await using viewer = await SseReader.open(`${kit.url}/api/stream`)
  const { headers, status } = viewer.response
  expect(status).toBe(200)
  expect(headers.get('content-type')).toBe('text/event-stream; charset=utf-8')
  expect(headers.get('cache-control')).toBe('no-store, no-transform')
  expect(headers.get('x-accel-buffering')).toBe('no')
  expect(headers.get('connection')).toBe('keep-alive')
  expect(headers.get('content-length')).toBeNull()
})

test('frames are what was written, in order, and the end is clean', async () => {
  await using kit = await startKit(
    showing(async (stream) => {
      await stream.write([frame({ retry: 1000 })])
      await stream.write([frame({ id: '1', event: 'a', data: { text: 'two\nlines' } }), frame({ id: '2', data: 3 })])
      stream.end('done')
    }),
  )
  await using viewer = await SseReader.open(`${kit.url}/api/stream`)
  expect((await viewer.all()).map(({ lines }) => lines)).toEqual([
    ['retry: 1000'],
    ['id: 1', 'event: a', 'data: {"text":"two\\nlines"}'],
    ['id: 2', 'data: 3'],
  ])
  await eventually(() => kit.streams.closed.length === 1)
  expect(kit.streams).toEqual({ opened: 1, closed: ['done'] })
})

test('silence is broken by keep-alives, output is not', async () => {
  await using kit = await startKit(showing(untilGone), { limits: { keepAliveMs: 20 } })
  await using viewer = await SseReader.open(`${kit.url}/api/stream`)
  expect((await viewer.next())?.comment).toBe('ka')
  expect((await viewer.next())?.comment).toBe('ka')
})

test('a viewer that leaves ends what is done for it', async () => {
  let gone = false
  await using kit = await startKit(showing(async (stream) => untilGone(stream).then(() => void (gone = true))))
  const viewer = await SseReader.open(`${kit.url}/api/stream`)
  viewer.close()
  await eventually(() => gone)
  await eventually(() => kit.streams.closed.includes('left'))
})

test('for a viewer that left before its first frame nothing is begun', async () => {
  let late: EventStream | undefined
  await using kit = await startKit((parts) => ({
    '/stream': {
      async get(call, req, res) {
        const stream = new EventStream(parts, call, req, res, { surface: 'test', keepAlive: comment('ka') })
        await untilGone(stream)
        stream.open()
        await stream.write([frame({ data: 1 })])
        late = stream
      },
    },
  }))
  const stop = new AbortController()
  const asked = fetch(`${kit.url}/api/stream`, { signal: stop.signal })
  setTimeout(() => stop.abort(), 50)
  await expect(asked).rejects.toThrow()
  await eventually(() => late !== undefined)
  expect(late!.opened).toBe(false)
  expect(kit.streams).toEqual({ opened: 0, closed: [] })
})

test('a viewer that does not read is not buffered for, and is cut off in the end', async () => {
  let written = 0
  const big = frame({ data: 'x'.repeat(100_000) })
  const flood: Show = async (stream) => {
    for (; !stream.signal.aborted; written++) await stream.write([big])
  }
  await using kit = await startKit(showing(flood), { limits: { slowViewerMs: 200 } })
  using _ = deafViewer(kit)
  await eventually(() => kit.streams.closed.includes('slow'))
  expect(written * big.length).toBeLessThan(32 * 1024 * 1024) // what the two kernels took
})

test('a slow viewer gets everything, at its own pace', async () => {
  const frames = Array.from({ length: 300 }, (_, i) => frame({ id: String(i + 1), data: 'x'.repeat(50_000) }))
  await using kit = await startKit(
    showing(async (stream) => {
      await stream.write(frames)
      stream.end('done')
    }),
  )
  await using viewer = await SseReader.open(`${kit.url}/api/stream`)
  await new Promise((resolve) => setTimeout(resolve, 100)) // until the sockets are full
  expect((await viewer.all()).map(({ id }) => Number(id))).toEqual(frames.map((_, i) => i + 1))
})

test('a leaving replica lets a resumable viewer say goodbye', async () => {
  await using kit = await startKit(
    showing(async (stream) => {
      await untilGone(stream)
      if (stream.leaving) await stream.write([frame({ retry: 5 })])
      stream.end('drained')
    }),
  )
  await using viewer = await SseReader.open(`${kit.url}/api/stream`)
  kit.drain.abort()
  expect(await viewer.all()).toMatchObject([{ retry: 5 }])
  await eventually(() => kit.streams.closed.includes('drained'))
})

test('one that cannot resume runs on, and at the hard stop is destroyed, not ended', async () => {
  await using kit = await startKit(showing(untilGone, false))
  await using viewer = await SseReader.open(`${kit.url}/api/stream`)
  kit.drain.abort()
  expect(kit.streams.closed).toEqual([])
  kit.hardStop.abort()
  await expect(viewer.next()).rejects.toThrow('terminated')
  await eventually(() => kit.streams.closed.includes('cut'))
})

test('HEAD gets the head of a stream', async () => {
  await using kit = await startKit(showing(untilGone))
  const reply = await fetch(`${kit.url}/api/stream`, { method: 'HEAD' })
  expect(reply.headers.get('content-type')).toContain('text/event-stream')
})

test('an event is encoded once for all its viewers', () => {
  let encoded = 0
  const bytes = sharedFrames((event: { n: number }) => frame({ data: event.n + encoded++ }))
  const event = { n: 1 }
  expect(bytes(event)).toBe(bytes(event))
  expect(encoded).toBe(1)
})
