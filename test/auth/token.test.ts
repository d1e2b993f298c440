import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { SignJWT } from 'jose'
import { agentAuth, mayServe } from '../../src/auth/agent.js'
import { tokens } from '../../src/auth/token.js'
import { sessionId } from '../../src/protocol/ids.js'

const SECRET = 'a secret of more than thirty-two characters'
const mine = sessionId(1, new Uint8Array(16))
const other = sessionId(2, new Uint8Array(16))

test('a token opens its own session, for its own use, until it expires', async () => {
  const signer = tokens([SECRET])!
  const token = await signer.mint('agent', mine, 60_000)
  expect(await signer.verify('agent', token)).toBe(mine)
  expect(await signer.verify('stream', token)).toBeUndefined()
  expect(await signer.verify('agent', await signer.mint('agent', mine, -5000))).toBeUndefined()
})

test('what somebody else signed, or nobody, is no token', async () => {
  const signer = tokens([SECRET])!
  const forged = await tokens(['another secret that is long enough too'])!.mint('agent', mine, 60_000)
  const unsigned = `${Buffer.from('{"alg":"none"}').toString('base64url')}.${Buffer.from(
    JSON.stringify({ iss: 'throughline', aud: 'agent', sub: mine }),
  ).toString('base64url')}.`
  const stranger = await new SignJWT().setProtectedHeader({ alg: 'HS256' }).setSubject(mine).sign(Buffer.from(SECRET))
  for (const token of [forged, unsigned, stranger, '', 'rubbish'])
    expect(await signer.verify('agent', token)).toBeUndefined()
})

test('secrets are rotated: the new one signs, the old one is still accepted', async () => {
  const old = await tokens([SECRET])!.mint('agent', mine, 60_000)
  const both = tokens(['the new secret is long enough as well', SECRET])!
  expect(await both.verify('agent', old)).toBe(mine)
  const fresh = await both.mint('agent', mine, 60_000)
  expect(await tokens([SECRET])!.verify('agent', fresh)).toBeUndefined()
})

test('an agent with a session token serves that session and joins no pool', async () => {
  const signer = tokens([SECRET])!
  const authenticate = agentAuth({ keys: [{ name: 'coder', key: 'coder-key' }], tokens: signer })
  const principal = (await authenticate(await signer.mint('agent', mine, 60_000)))!
  expect(principal).toEqual({ pools: [], session: mine })
  expect(mayServe(principal, mine, 'coder')).toBe(true)
  expect(mayServe(principal, other, 'coder')).toBe(false)
  expect(await authenticate('coder-key')).toEqual({ pools: ['coder'] })
  expect(await authenticate('rubbish')).toBeUndefined()
})

test('the command prints a token that a replica with the same secret accepts', async () => {
  const main = fileURLToPath(new URL('../../dist/main.js', import.meta.url))
  const run = (env: Record<string, string>, session: string) =>
    spawnSync(process.execPath, [main, 'token', '--session', session], {
      env: { ...process.env, ...env },
      encoding: 'utf8',
    })
  const said = run({ TOKEN_SECRET: SECRET }, mine)
  expect(await tokens([SECRET])!.verify('agent', said.stdout.trim())).toBe(mine)
  expect(run({}, mine)).toMatchObject({ status: 78, stderr: expect.stringContaining('TOKEN_SECRET') as string })
  expect(run({ TOKEN_SECRET: SECRET }, 'ses_rubbish').status).toBe(64)
})
