import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'

/** A request for a chat completion, in the hands of the test. */
export interface Asked {
  body: { model: string; stream: boolean; messages: { role: string; content: string }[]; stream_options?: unknown }
  headers: IncomingMessage['headers']
  response: ServerResponse
  /** Sends one chunk of the stream. */
  chunk(chunk: object): void
  /** Sends a piece of text. */
  text(content: string): void
  /** The last chunks, `[DONE]`, and the end. */
  finish(reason?: string, usage?: object): void
  /** Whether the one who asked has gone before the end. */
  readonly gone: boolean
}

/** A model server that speaks the OpenAI API on loopback and says what the test says. */
export interface ModelServer extends AsyncDisposable {
  readonly url: string
  readonly asked: Asked[]
  close(): Promise<void>
}

/** Starts one; `answer` is called with every request. */
export async function startModelServer(answer: (asked: Asked) => void | Promise<void>): Promise<ModelServer> {
  const asked: Asked[] = []
  const server = createServer((request, response) => {
    void (async () => {
      let text = ''
      for await (const bytes of request) text += String(bytes)
      const write = (data: string) => {
        if (!response.headersSent) response.writeHead(200, { 'content-type': 'text/event-stream' })
        response.write(`data: ${data}\n\n`)
      }
      let gone = false
      response.on('close', () => (gone = !response.writableFinished))
      const it: Asked = {
        body: JSON.parse(text) as Asked['body'],
        headers: request.headers,
        response,
        chunk: (chunk) => write(JSON.stringify({ object: 'chat.completion.chunk', ...chunk })),
        text: (content) => it.chunk({ choices: [{ index: 0, delta: { content }, finish_reason: null }] }),
        finish(reason = 'stop', usage) {
          it.chunk({ choices: [{ index: 0, delta: {}, finish_reason: reason }] })
          if (usage) it.chunk({ choices: [], usage })
          write('[DONE]')
          response.end()
        },
        get gone() {
          return gone
        },
      }
      asked.push(it)
      await answer(it)
    })()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const close = async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`,
    asked,
    close,
    [Symbol.asyncDispose]: close,
  }
}
