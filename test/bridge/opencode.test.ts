import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { startNetwork } from '../support/network.js'
import { answered, ask, folder, startBridge } from './bridge.js'
import { startFakeModel } from './fake-model.js'

/**
 * A real coding agent, OpenCode, with a model that only says what it heard. Opt-in, since it has 350 MB: TEST_OPENCODE=1
 * installs it into a temporary folder, TEST_OPENCODE=/a/folder keeps it there.
 */
const wanted = process.env['TEST_OPENCODE']
const optIn = wanted ? test : test.skip
const TAP = fileURLToPath(new URL('./programs/tap.js', import.meta.url))

const VERSION = '1.18.33'

async function install(into: string): Promise<string> {
  mkdirSync(into, { recursive: true })
  const bin = join(into, 'node_modules', '.bin', 'opencode')
  const args = ['i', '--no-save', '--no-audit', '--no-fund', '--prefix', into, `opencode-ai@${VERSION}`]
  if (!existsSync(bin)) await promisify(execFile)('npm', args, { cwd: into })
  return bin
}

optIn.each([
  ['session/load', 'resume'],
  ['session/resume', ''], // it offers both
])(
  'OpenCode answers, has the conversation again after a restart of the bridge by %s, and nothing of it is said twice',
  async (method, hidden) => {
    await using net = await startNetwork()
    const model = await startFakeModel()
    net.onDispose(() => model.close())
    const [home, cwd] = [folder(net), folder(net)]
    const command = [process.execPath, TAP, hidden, await install(wanted === '1' ? folder(net) : wanted!), 'acp']
    writeFileSync(
      join(cwd, 'opencode.json'),
      JSON.stringify({
        autoupdate: false,
        share: 'disabled',
        model: 'local/fake',
        small_model: 'local/fake',
        provider: {
          local: {
            npm: '@ai-sdk/openai-compatible',
            name: 'local',
            options: { baseURL: model.url, apiKey: 'none' },
            models: { fake: { name: 'fake', limit: { context: 100_000, output: 10_000 } } },
          },
        },
      }),
    )
    for (const name of ['config', 'data', 'cache']) mkdirSync(join(home, name))
    const env = {
      HOME: home,
      XDG_CONFIG_HOME: join(home, 'config'),
      XDG_DATA_HOME: join(home, 'data'),
      XDG_CACHE_HOME: join(home, 'cache'),
      OPENCODE_DISABLE_MODELS_FETCH: '1',
      OPENCODE_DISABLE_AUTOUPDATE: '1',
    }
    const start = async () => {
      const bridge = startBridge(net, { command, env, options: ['--cwd', cwd] })
      await bridge.joined()
      return bridge
    }
    const first = await start()
    const one = await ask(net, 'remember the word apple')
    expect(await answered(one.seen)).toBe('I heard 1: <remember the word apple>')
    expect(await first.end('SIGTERM')).toBe(0)

    const second = await start()
    const two = await ask(net, 'and the word pear', one.session)
    expect(await answered(two.seen)).toBe('I heard 2: <remember the word apple> <and the word pear>')
    expect(two.seen.turn.attempt).toBe(1) // its session was there
    expect(two.seen.turn.usage?.outputTokens).toBeGreaterThan(0)
    expect(second.log()).toContain(`[agent] asked for ${method}\n`)
  },
  300_000,
)
