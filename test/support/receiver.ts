import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface Received {
  path: string
  headers: IncomingHttpHeaders
  body: string
  /** `body` as JSON. */
  event: { id: string; object: string; type: string; created_at: number; data: Record<string, unknown> }
}

/** A receiver of webhooks that answers as the test says. */
export interface Receiver extends AsyncDisposable {
  url: string
  host: string
  got: Received[]
  /** Answers from here on; default 204. `hang`: never. */
  answer: number | 'hang' | ((nth: number) => number | 'hang')
  headers: Record<string, string>
}

export async function startReceiver(): Promise<Receiver> {
  const got: Received[] = []
  const server = createServer((req, res) => {
    let body = ''
    req.setEncoding('utf8').on('data', (text: string) => (body += text))
    req.on('end', () => {
      const event = JSON.parse(body || 'null') as Received['event']
      const nth = got.push({ path: req.url ?? '', headers: req.headers, body, event })
      const status = typeof it.answer === 'function' ? it.answer(nth) : it.answer
      if (status !== 'hang') res.writeHead(status, it.headers).end()
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const it: Receiver = {
    url: `http://127.0.0.1:${port}/hook`,
    host: `127.0.0.1:${port}`,
    got,
    answer: 204,
    headers: {},
    async [Symbol.asyncDispose]() {
      const closed = new Promise((resolve) => server.close(resolve))
      server.closeAllConnections()
      await closed
    },
  }
  return it
}

/** A secret of Standard Webhooks. */
export const secret = (letter: string): string => `whsec_${Buffer.from(letter.repeat(32)).toString('base64')}`
