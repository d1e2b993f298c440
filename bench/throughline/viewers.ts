/** Throughline's clients: they post messages to replica B and follow the answers there, one HTTP connection each. */
import { once } from 'node:events'
import { Agent, get, type ClientRequest, type IncomingMessage } from 'node:http'
import { createParser } from 'eventsource-parser'
import { given } from '../orders.js'
import { listener } from '../listener.js'

const { url, pool } = given<{ url: string; pool: string }>()
const connections = new Agent({ keepAlive: true })
const open: ClientRequest[] = []

listener({
  async open({ number, load }, heard) {
    for (let session = 0; session < load.sessions; session++) {
      const interaction = await post({ run: String(number), session: String(session) })
      const viewers = Array.from({ length: load.viewersPerSession }, () => view(interaction, heard))
      await Promise.all(viewers)
    }
  },
  async close() {
    for (const request of open.splice(0)) request.destroy()
  },
})

async function post(metadata: Record<string, string>): Promise<string> {
  const response = await fetch(`${url}/api/v1/messages`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ pool, text: 'go', metadata }),
  })
  if (response.status !== 202) throw new Error(`${response.status}: ${await response.text()}`)
  return ((await response.json()) as { interaction: string }).interaction
}

async function view(interaction: string, heard: (text: string) => void): Promise<void> {
  const request = get(`${url}/api/v1/interactions/${interaction}/events`, { agent: connections })
  open.push(request)
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  if (response.statusCode !== 200) throw new Error(`the stream of ${interaction} got ${response.statusCode}`)
  request.on('error', () => {}) // we end it ourselves, in the middle of an answer
  let seen = 0
  const parser = createParser({
    onEvent({ id, event, data }) {
      if (id !== undefined && Number(id) !== ++seen) throw new Error(`after event ${seen - 1} came ${id}`)
      if (event === 'entry.append') heard((JSON.parse(data) as { text: string }).text)
    },
  })
  response.setEncoding('utf8').on('data', (chunk: string) => parser.feed(chunk))
  response.on('error', () => {})
}
