import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

interface Message {
  role: string
  content: string | { type: string; text?: string }[]
}

const textOf = ({ content }: Message): string =>
  typeof content === 'string' ? content : content.map((part) => part.text ?? '').join('')

/** A chat completions server on loopback that says what it has heard: a model without a mind. */
export async function startFakeModel() {
  const asked: string[][] = []
  const server = createServer((req, res) => {
    void (async () => {
      const chunks: Buffer[] = []
      for await (const chunk of req) chunks.push(chunk as Buffer)
      const body = JSON.parse(Buffer.concat(chunks).toString('utf8') || '{}') as {
        messages?: Message[]
        stream?: boolean
      }
      const said = (body.messages ?? []).filter((message) => message.role === 'user').map(textOf)
      asked.push(said)
      const words = [`I heard ${said.length}:`, ...said.map((text) => ` <${text.trim().slice(-40)}>`)]
      const envelope = { id: 'c-1', created: 1, model: 'fake' }
      const usage = { prompt_tokens: 7, completion_tokens: 3, total_tokens: 10 }
      if (!body.stream) {
        const choices = [{ index: 0, finish_reason: 'stop', message: { role: 'assistant', content: words.join('') } }]
        res.setHeader('content-type', 'application/json')
        return void res.end(JSON.stringify({ ...envelope, object: 'chat.completion', choices, usage }))
      }
      res.setHeader('content-type', 'text/event-stream')
      const send = (more: object) =>
        res.write(`data: ${JSON.stringify({ ...envelope, object: 'chat.completion.chunk', ...more })}\n\n`)
      for (const content of words) send({ choices: [{ index: 0, delta: { role: 'assistant', content } }] })
      send({ choices: [{ index: 0, delta: {}, finish_reason: 'stop' }] })
      send({ choices: [], usage })
      res.end('data: [DONE]\n\n')
    })()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`,
    /** What users had said, per call. */
    asked,
    close: () => {
      server.closeAllConnections()
      server.close()
    },
  }
}
