import { createHmac, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { exportJWK, exportSPKI, generateKeyPair, SignJWT, type JWK, type JWTPayload } from 'jose'
import { jwtAuth, type JwksPace } from '../../src/auth/jwt.js'
import type { ThroughlineError } from '../../src/protocol/errors.js'
import type { SessionId } from '../../src/protocol/ids.js'
import { api, type Posted } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startNetwork } from '../support/network.js'
import { SseReader } from '../support/sse.js'
import { storedKey } from '../support/stored-key.js'

const ISSUER = 'https://issuer.example'
const AUDIENCE = 'throughline'

/** A real issuer on loopback: signs, and publishes the keys that the test says. */
async function startIssuer({ up = true } = {}) {
  const keys = new Map<string, Awaited<ReturnType<typeof generateKeyPair>> & { jwk: JWK; alg: string }>()
  const it = { published: [] as string[], broken: false, asked: 0 }
  const server = createServer((_req, res) => {
    it.asked++
    if (it.broken) return void res.writeHead(500).end('out of order')
    res.setHeader('content-type', 'application/json')
    res.end(JSON.stringify({ keys: it.published.map((kid) => keys.get(kid)!.jwk) }))
  })
  async function listen(port: number): Promise<void> {
    server.listen(port, '127.0.0.1')
    await once(server, 'listening')
  }
  await listen(0)
  const { port } = server.address() as AddressInfo
  async function close(): Promise<void> {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }
  if (!up) await close()
  const rotate = async (kid: string, alg = 'RS256') => {
    const pair = await generateKeyPair(alg, { extractable: true })
    keys.set(kid, { ...pair, alg, jwk: { ...(await exportJWK(pair.publicKey)), kid, alg, use: 'sig' } })
    it.published = [kid]
  }
  await rotate('k1')
  return Object.assign(it, {
    url: `http://127.0.0.1:${port}/jwks.json`,
    rotate,
    key: (kid: string) => keys.get(kid)!,
    down: close,
    up: () => listen(port),
    token(claims: JWTPayload = {}, { kid = 'k1', expires = '5m' }: { kid?: string; expires?: string | number } = {}) {
      const { privateKey, alg } = keys.get(kid)!
      return new SignJWT({ sub: 'ann', iss: ISSUER, aud: AUDIENCE, ...claims })
        .setProtectedHeader({ alg, kid })
        .setIssuedAt()
        .setExpirationTime(expires)
        .sign(privateKey)
    },
    async [Symbol.asyncDispose]() {
      if (server.listening) await close()
    },
  })
}
type Issuer = Awaited<ReturnType<typeof startIssuer>>

const envFor = ({ url }: Pick<Issuer, 'url'>) => ({
  JWT_JWKS_URL: url,
  JWT_ISSUER: ISSUER,
  JWT_AUDIENCE: `another,${AUDIENCE}`,
})
interface Refused {
  error: { code: string; message: string }
}
const ask = (url: string, token: string, path = '/sessions') =>
  api<Refused>(url, path, undefined, { headers: { authorization: `Bearer ${token}` } })
const base64 = (value: object | string) =>
  Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url')
const nowS = () => Math.floor(Date.now() / 1000)

test('a token of the issuer opens what is its owner’s, beside keys of every sort', async () => {
  await using issuer = await startIssuer()
  await using net = await startNetwork({
    replicas: 2,
    env: { ...envFor(issuer), KEY_STORE: 'on', CLIENT_KEYS: 'ann=key-of-ann-1' },
  })
  const mine = { headers: { authorization: `Bearer ${await issuer.token()}` } }
  const { status, body } = await api<{ id: SessionId }>(net.url(0), '/sessions', { pool: 'coder' }, mine)
  expect(status).toBe(201)
  const stored = await storedKey(net, { owner: 'ann' })
  const path = `/sessions/${body.id}`
  for (const headers of [mine.headers, stored.headers, { authorization: 'Bearer key-of-ann-1' }])
    expect((await api(net.url(1), path, undefined, { headers })).status).toBe(200)
  expect((await ask(net.url(1), await issuer.token({ sub: 'bob' }), path)).status).toBe(404)
  expect((await ask(net.url(1), await issuer.token({ aud: ['x', AUDIENCE] }), path)).status).toBe(200)
  expect((await ask(net.url(1), '')).status).toBe(401)
  const openai = await fetch(`${net.url(1)}/v1/conversations/${body.id.replace('ses_', 'conv_')}`, mine)
  expect(openai.status).toBe(200)
  expect(net.logged('issuer_keys')).toHaveLength(2)
})

test('nothing that the issuer has not signed, for this gateway and for now, lets anybody in', async () => {
  await using issuer = await startIssuer()
  await using net = await startNetwork({ env: envFor(issuer) })
  const good = await issuer.token()
  expect((await ask(net.url(0), good)).status).toBe(200)
  const [head, payload, signature] = good.split('.') as [string, string, string]
  const claims = { sub: 'ann', iss: ISSUER, aud: AUDIENCE, exp: nowS() + 300 }
  const { publicKey, jwk } = issuer.key('k1')
  const withSecret = (secret: string | Buffer, header: object) => {
    const text = `${base64(header)}.${base64(claims)}`
    return `${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`
  }
  const stranger = await generateKeyPair('RS256')
  const unsigned: Record<string, string> = {
    'alg none': `${base64({ alg: 'none' })}.${base64(claims)}.`,
    'alg none, with the old signature': `${base64({ alg: 'none', kid: 'k1' })}.${payload}.${signature}`,
    'HS256 with the public key in PEM': withSecret(await exportSPKI(publicKey), { alg: 'HS256', kid: 'k1' }),
    'HS256 with the public key as JWK': withSecret(JSON.stringify(jwk), { alg: 'HS256', kid: 'k1' }),
    'HS256 with the modulus': withSecret(Buffer.from(jwk.n!, 'base64url'), { alg: 'HS256', kid: 'k1' }),
    'signed by a stranger under the same kid': await new SignJWT(claims)
      .setProtectedHeader({ alg: 'RS256', kid: 'k1' })
      .sign(stranger.privateKey),
    'a key of its own in the header': await new SignJWT(claims)
      .setProtectedHeader({ alg: 'RS256', kid: 'k1', jwk: await exportJWK(stranger.publicKey) })
      .sign(stranger.privateKey),
    'keys from elsewhere': await new SignJWT(claims)
      .setProtectedHeader({ alg: 'RS256', kid: 'x', jku: 'http://127.0.0.1:1/jwks' })
      .sign(stranger.privateKey),
    'an unknown kid': `${base64({ alg: 'RS256', kid: 'k9' })}.${payload}.${signature}`,
    'other claims': `${head}.${base64({ ...claims, sub: 'bob' })}.${signature}`,
    'a signature cut off': `${head}.${payload}.${signature.slice(0, -4)}`,
    'a critical header that nobody knows': `${base64({ alg: 'RS256', kid: 'k1', crit: ['x'], x: 1 })}.${payload}.${signature}`,
    'not JSON': `${base64('{')}.${payload}.${signature}`,
    rubbish: 'a.b.c',
  }
  for (const [what, token] of Object.entries(unsigned)) {
    const { status, body } = await ask(net.url(0), token)
    expect([what, status, body.error.message]).toEqual([what, 401, expect.stringContaining('No valid API key')])
  }
  // what the issuer did sign and is not good here is told why
  const signed: [string, Promise<string>, RegExp][] = [
    ['of another issuer', issuer.token({ iss: 'https://other.example' }), /another issuer/],
    ['of almost that issuer', issuer.token({ iss: `${ISSUER}/` }), /another issuer/],
    ['without an issuer', issuer.token({ iss: undefined }), /no claim|another issuer/],
    ['for another audience', issuer.token({ aud: 'payroll' }), /audience/],
    ['for no audience', issuer.token({ aud: undefined }), /audience/],
    ['expired', issuer.token({}, { expires: nowS() - 60 }), /expired/],
    ['not valid yet', issuer.token({ nbf: nowS() + 300 }), /not valid yet/],
    ['without a subject', issuer.token({ sub: undefined }), /no claim "sub"/],
    ['an empty subject', issuer.token({ sub: '' }), /claim "sub"/],
    ['a subject of many lines', issuer.token({ sub: 'ann\nbob' }), /claim "sub"/],
    ['a subject with a blank', issuer.token({ sub: 'ann ' }), /claim "sub"/],
    ['a very long subject', issuer.token({ sub: 'x'.repeat(257) }), /claim "sub"/],
    ['a subject that is no text', issuer.token({ sub: 7 } as unknown as JWTPayload), /sub/],
    [
      'for ever',
      new SignJWT({ sub: 'ann', iss: ISSUER, aud: AUDIENCE })
        .setProtectedHeader({ alg: 'RS256', kid: 'k1' })
        .sign(issuer.key('k1').privateKey),
      /no claim "exp"/,
    ],
  ]
  for (const [what, token, why] of signed) {
    const { status, body } = await ask(net.url(0), await token)
    expect([what, status, body.error.message]).toEqual([what, 401, expect.stringMatching(why)])
  }
  // clocks may be some seconds apart
  expect((await ask(net.url(0), await issuer.token({}, { expires: nowS() - 5 }))).status).toBe(200)
  expect((await ask(net.url(0), await issuer.token({ nbf: nowS() + 5 }))).status).toBe(200)
  expect(issuer.asked).toBeLessThanOrEqual(3) // and none of them made the gateway run to the issuer again and again
  expect(JSON.stringify(net.replicas[0]!.logs)).not.toContain(signature)
})

test('keys may be of any public sort, and the owner may be named by another claim', async () => {
  await using issuer = await startIssuer()
  for (const alg of ['ES256', 'PS256', 'EdDSA']) await issuer.rotate(alg, alg)
  issuer.published = ['ES256', 'PS256', 'EdDSA']
  const claim = 'https://example.com/tenant'
  await using net = await startNetwork({ env: { ...envFor(issuer), JWT_OWNER_CLAIM: claim } })
  for (const kid of issuer.published)
    expect((await ask(net.url(0), await issuer.token({ [claim]: 'acme' }, { kid }))).status).toBe(200)
  const { body } = await ask(net.url(0), await issuer.token({}, { kid: 'ES256' }))
  expect(body.error.message).toContain(`"${claim}"`)
})

/** A verifier of its own, with short pauses; gives what it says of a token. */
function verifier(issuer: Issuer, pace: Partial<JwksPace> = {}) {
  const logged: string[] = []
  const log = { info: () => {}, warn: (_fields: object, message: string) => void logged.push(message) }
  const settings = { jwksUrl: issuer.url, issuer: ISSUER, audience: [AUDIENCE], ownerClaim: 'sub' }
  const short = { timeout: 1000, maxAge: 600_000, cooldown: 100, retry: 100, lately: 3600_000, ...pace }
  const verify = jwtAuth(settings, log, short)
  const of = (token: string) =>
    verify(token).then(
      (found) => found?.owner ?? 'nobody',
      (err: ThroughlineError) => err.code,
    )
  return { of, logged }
}

test('the issuer may change its keys: a new one is fetched when it is met, one that was withdrawn is not accepted', async () => {
  await using issuer = await startIssuer()
  const { of } = verifier(issuer)
  const old = await issuer.token()
  expect(await of(old)).toBe('ann')
  await issuer.rotate('k2')
  const fresh = await issuer.token({}, { kid: 'k2' })
  await eventually(async () => (await of(fresh)) === 'ann')
  expect(await of(old)).toBe('nobody')
})

test('unknown kids make the gateway ask the issuer at most once per pause', async () => {
  await using issuer = await startIssuer()
  const { of } = verifier(issuer, { cooldown: 60_000 })
  expect(await of(await issuer.token())).toBe('ann')
  await issuer.rotate('k2')
  const unknown = await issuer.token({}, { kid: 'k2' })
  for (const _ of Array(20)) expect(await of(unknown)).toBe('nobody')
  expect(issuer.asked).toBe(1)
})

test('keys that are known count while the issuer is away, for a time; of others nothing can be said', async () => {
  await using issuer = await startIssuer()
  const { of, logged } = verifier(issuer, { maxAge: 100, cooldown: 0 })
  const known = await issuer.token()
  expect(await of(known)).toBe('ann')
  await issuer.rotate('k2')
  issuer.published = ['k1', 'k2']
  const unknown = await issuer.token({}, { kid: 'k2' })
  await issuer.down()
  expect(await of(unknown)).toBe('issuer_unavailable')
  expect(await of(known)).toBe('ann')
  expect(logged[0]).toMatch(/accepted for 60 more minutes.*check JWT_JWKS_URL/)
  issuer.broken = true // it answers, with an error
  await issuer.up()
  await eventually(() => issuer.asked > 1 || of(unknown).then(() => false))
  expect(await of(unknown)).toBe('issuer_unavailable')
  expect(await of(known)).toBe('ann')
  issuer.broken = false
  await eventually(async () => (await of(unknown)) === 'ann')

  const short = verifier(issuer, { maxAge: 0, lately: 300 })
  expect(await short.of(known)).toBe('ann')
  await issuer.down()
  await eventually(async () => (await short.of(known)) === 'issuer_unavailable')
})

test('without the issuer’s keys a token is neither accepted nor called wrong: 503, and the log says what to do', async () => {
  await using issuer = await startIssuer({ up: false })
  await using net = await startNetwork({ env: { ...envFor(issuer), CLIENT_KEYS: 'ann=key-of-ann-1' } })
  const token = await issuer.token()
  const refused = await ask(net.url(0), token)
  expect(refused).toMatchObject({ status: 503, body: { error: { code: 'issuer_unavailable' } } })
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
  expect((await ask(net.url(0), 'key-of-ann-1')).status).toBe(200)
  expect((await ask(net.url(0), `${base64({ alg: 'none' })}.${base64({ sub: 'ann' })}.`)).status).toBe(401)
  const said = net.logged('issuer_unavailable')
  expect(said.length).toBeGreaterThan(0)
  expect(said[0]!['msg']).toMatch(/check JWT_JWKS_URL/)
  await issuer.up()
  await eventually(async () => (await ask(net.url(0), token)).status === 200, { limitMs: 15_000, everyMs: 200 })
})

test('a viewer that can resume is sent away when its token expires, and must bring a new one', async () => {
  await using issuer = await startIssuer()
  await using net = await startNetwork({ env: envFor(issuer) })
  const token = await issuer.token({}, { expires: nowS() - 27 }) // three of the thirty seconds are left
  const headers = { authorization: `Bearer ${token}` }
  const { session } = (await api<Posted>(net.url(0), '/messages', { pool: 'coder', text: 'x' }, { headers })).body
  await using viewer = await SseReader.open(`${net.url(0)}/api/v1/sessions/${session}/events`, { headers })
  expect((await viewer.all()).at(-1)!.lines).toEqual([expect.stringMatching(/^retry: \d+$/)])
  await eventually(async () => (await ask(net.url(0), token)).status === 401)
  expect((await ask(net.url(0), await issuer.token(), `/sessions/${session}`)).status).toBe(200)
})

test('tokens open no agent’s door', async () => {
  await using issuer = await startIssuer()
  await using net = await startNetwork({
    env: { ...envFor(issuer), AGENT_KEYS: 'coder=key-of-coder', TOKEN_SECRET: randomBytes(20).toString('hex') },
  })
  const agent = await net.rawAgent({ pool: 'coder', key: await issuer.token() })
  expect(agent.welcome).toMatchObject({ ok: false, code: 'unauthorized' })
})
