import { spawn } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { api, post } from '../../support/client.js'
import { eventually } from '../../support/eventually.js'
import { startNetwork } from '../../support/network.js'
import { secret } from '../../support/receiver.js'

test('the receiver in docs/pools.md takes what is genuine, and nothing else', async () => {
  const page = await readFile(fileURLToPath(new URL('../../../docs/pools.md', import.meta.url)), 'utf8')
  const dir = await mkdtemp(join(tmpdir(), 'throughline-receiver-'))
  const file = join(dir, 'receiver.mjs')
  await writeFile(file, /```js\n(.*?)```/s.exec(page)![1]!)
  const env = { ...process.env, NODE_OPTIONS: '', WEBHOOK_SECRET: secret('a'), PORT: '0' }
  const child = spawn(process.execPath, [file], { env, stdio: ['ignore', 'pipe', 'inherit'] })
  try {
    let said = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => (said += text))
    const port = await eventually(() => /port (\d+)/.exec(said)?.[1] ?? false)
    const url = `http://127.0.0.1:${port}/hook`
    await using net = await startNetwork({ env: { WEBHOOK_SECRET: secret('a'), WEBHOOK_ALLOW_HOSTS: '127.0.0.1' } })
    const { interaction } = await post(net.url(0), { pool: 'coder' }, 'go', { webhook: { url } })
    await api(net.url(0), `/interactions/${interaction}/cancel`, {})
    await eventually(() => expect(said).toContain(`turn.cancelled ${interaction}\n`))
    const forged = { method: 'POST', body: '{}', headers: { 'webhook-id': 'x', 'webhook-signature': 'v1,AAAA' } }
    expect((await fetch(url, forged)).status).toBe(401)
  } finally {
    child.kill('SIGKILL')
    await rm(dir, { recursive: true, force: true })
  }
})
