import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'

import { checkRedis } from '../../src/local/check-redis.js'
import { freePort } from '../../src/local/free-port.js'
import { SetUpError } from '../../src/local/set-up-error.js'

test('a Redis that answers tells its version', async () => {
  await expect(checkRedis(process.env.TEST_REDIS_URL!)).resolves.toEqual({
    version: expect.stringMatching(/^\d+\./) as string,
  })
})

test('one that does not answer is named, without its password', async () => {
  const err = await failure(`redis://user:secret@127.0.0.1:${await freePort()}`)
  expect(err.message).toMatch(/127\.0\.0\.1:\d+ \(REDIS_URL\) cannot be used: .*ECONNREFUSED/)
  expect(err.message).not.toContain('secret')
  expect(err.exitCode).toBe(78)
})

test('one that accepts and says nothing is given up after 3 s', async () => {
  await using silent = await startServer(() => undefined)
  expect((await failure(silent.url)).message).toContain('no answer within 3 s')
})

test('one that is too old is refused', async () => {
  const info = 'redis_version:6.2.14\r\n'
  await using old = await startServer((command) =>
    command.includes('INFO') ? `$${info.length}\r\n${info}\r\n` : '+OK\r\n',
  )
  expect((await failure(old.url)).message).toContain('is 6.2.14; Throughline needs 7.0 or newer')
})

test('what is no URL of a Redis is said to be none', async () => {
  expect((await failure('localhost:6379')).message).toContain('must look like redis://')
})

async function failure(url: string): Promise<SetUpError> {
  const err: unknown = await checkRedis(url).catch((reason: unknown) => reason)
  expect(err).toBeInstanceOf(SetUpError)
  return err as SetUpError
}

/** Answers each command, upper-cased, with what `answer` gives. */
async function startServer(answer: (command: string) => string | undefined) {
  const server = createServer((socket) => {
    socket.on('error', () => {}).setEncoding('utf8')
    socket.on('data', (text: string) => {
      for (const command of text.split(/^\*/m).slice(1)) socket.write(answer(command.toUpperCase()) ?? '')
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `redis://127.0.0.1:${(server.address() as AddressInfo).port}`,
    [Symbol.asyncDispose]: async () => {
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
