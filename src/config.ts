import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { hostname } from 'node:os'
import { createSecureContext } from 'node:tls'
import { z } from 'zod'
import { PoolName } from './protocol/agent-wire.js'
import { parsePoolPolicies } from './protocol/policy.js'

/** One setting: how it is called, what it means, and how its text becomes a value. */
interface Setting<T> {
  group: 'http' | 'redis' | 'agents' | 'turns' | 'webhooks' | 'limits' | 'operation' | 'tracing'
  /** As text, like the environment gives it. */
  default: string
  unit?: 'ms' | 'bytes' | 'events' | 'count'
  secret?: true
  meaning: string
  schema: z.ZodType<T, string>
}

const WEBHOOK_SECRET = /^(?:([^=,]+)=)?whsec_([A-Za-z0-9+/]{32,86}={0,2})$/
const isHttpUrl = (value: string): boolean => URL.canParse(value) && /^https?:$/.test(new URL(value).protocol)

function decodes(text: string): boolean {
  try {
    return decodeURIComponent(text) !== ''
  } catch {
    return false
  }
}

/** An origin as a browser names it: scheme, host and port, and nothing after them. */
const isOrigin = (value: string): boolean => isHttpUrl(value) && new URL(value).origin === value

const whole = (min: number, max: number) =>
  z
    .string()
    .regex(/^-?\d+$/, 'must be a whole number')
    .transform(Number)
    .refine((n) => n >= min && n <= max, `must be between ${min} and ${max}`)
const port = whole(0, 65535)
const ms = (min = 1) => whole(min, 31 * 24 * 3600_000)
const text = z.string().min(1, 'must not be empty')
const list = z.string().transform((value) =>
  value
    .split(',')
    .map((item) => item.trim())
    .filter(Boolean),
)
const named = z.string().transform((value, context) => {
  const keys: { name: string; key: string }[] = []
  for (const item of value
    .split(',')
    .map((part) => part.trim())
    .filter(Boolean)) {
    const at = item.indexOf('=')
    if (at < 1 || item.length - at - 1 < 8)
      context.addIssue({ code: 'custom', message: 'must be name=key,name=key with keys of at least 8 characters' })
    else keys.push({ name: item.slice(0, at), key: item.slice(at + 1) })
  }
  return keys
})

const poolPolicies = z.string().transform((value, context) => {
  const { policies, problems } = parsePoolPolicies(value)
  for (const message of problems) context.addIssue({ code: 'custom', message })
  return policies
})

/** A number of proxies, or what proxies have for addresses. All of them at once would believe anybody. */
const trustedProxies = list.transform((items, context): number | string[] => {
  if (items.length === 0) return 0
  if (items.length === 1 && /^\d{1,2}$/.test(items[0]!)) return Number(items[0])
  const wrong = items.find((item) => !isProxyNet(item))
  if (wrong !== undefined)
    context.addIssue({
      code: 'custom',
      message: `${wrong} is neither a number of proxies nor an address, a net such as 10.0.0.0/8, loopback, linklocal or uniquelocal`,
    })
  return items
})

function isProxyNet(text: string): boolean {
  if (/^(loopback|linklocal|uniquelocal)$/.test(text)) return true
  const [address, bits = '0', ...rest] = text.split('/')
  const family = isIP(address!)
  return family !== 0 && rest.length === 0 && /^\d{1,3}$/.test(bits) && Number(bits) <= (family === 4 ? 32 : 128)
}

/** Secrets of Standard Webhooks, each perhaps with the owner it is for: `whsec_…,ann=whsec_…`. */
const webhookSecrets = list.pipe(
  z
    .array(z.string().regex(WEBHOOK_SECRET, 'each must be whsec_ and base64 of 24 to 64 bytes, or owner=whsec_…'))
    .transform((items) =>
      items.map((item) => {
        const [, owner = null, base64] = WEBHOOK_SECRET.exec(item)!
        return { owner, key: Buffer.from(base64!, 'base64') }
      }),
    ),
)
const httpUrl = z.string().refine((value) => value === '' || isHttpUrl(value), 'must be an http:// or https:// URL')

const jwksUrl = httpUrl.refine(
  (value) => !isHttpUrl(value) || value.startsWith('https:') || isLoopback(new URL(value).hostname),
  'must be https://: whoever answers it decides who is let in (http:// for this machine only)',
)
/** A file, read at start; '' names none. */
const textOfFile = z.string().transform((path, context) => {
  if (path === '') return ''
  try {
    return readFileSync(path, 'utf8')
  } catch (err) {
    context.addIssue({ code: 'custom', message: `cannot be read: ${(err as Error).message}` })
    return ''
  }
})

const setting = <T>(it: Setting<T>): Setting<T> => it

/** Every setting of a replica. `docs/config.md` and `throughline config` show this table. */
export const SETTINGS = {
  PORT: setting({
    group: 'http',
    default: '8080',
    meaning: 'Port of clients and agents; 0 takes a free one.',
    schema: port,
  }),
  HOST: setting({
    group: 'http',
    default: '',
    meaning: 'Address to listen on. Empty: all addresses when clients and agents both need a key, else loopback only.',
    schema: z.string(),
  }),
  OPS_PORT: setting({
    group: 'http',
    default: '9090',
    meaning: 'Port of /livez, /readyz and /metrics; 0 takes a free one.',
    schema: port,
  }),
  OPS_HOST: setting({
    group: 'http',
    default: '',
    meaning: 'Address of the ops port. Empty: as HOST.',
    schema: z.string(),
  }),
  CLIENT_KEYS: setting({
    group: 'http',
    default: '',
    secret: true,
    meaning:
      'Keys of clients: owner=key,owner=key. Without these, KEY_STORE and JWT_JWKS_URL no key is asked for, loopback only.',
    schema: named,
  }),
  AGENT_KEYS: setting({
    group: 'http',
    default: '',
    secret: true,
    meaning:
      'Keys of agents: pool=key or pool|pool=key; * is any pool. Without these and KEY_STORE no key is asked for, loopback only.',
    schema: named,
  }),
  TOKEN_SECRET: setting({
    group: 'http',
    default: '',
    secret: true,
    meaning:
      'Signs tokens that open one session each, for its agent or for reading its streams; at least 32 characters. Several, separated by commas: the first signs, all are accepted. Empty: there are no such tokens.',
    schema: list.pipe(z.array(z.string().min(32, 'each secret needs at least 32 characters'))),
  }),
  KEY_STORE: setting({
    group: 'http',
    default: 'off',
    meaning:
      'on: clients and agents may also use keys that `throughline keys` has made; they are kept in Redis, hashed.',
    schema: z.enum(['on', 'off']),
  }),
  JWT_JWKS_URL: setting({
    group: 'http',
    default: '',
    meaning:
      'Where the issuer of clients’ JWTs publishes its keys (JWKS), https://. Empty: JWTs are not accepted. With it JWT_ISSUER and JWT_AUDIENCE must be set.',
    schema: jwksUrl,
  }),
  JWT_ISSUER: setting({
    group: 'http',
    default: '',
    meaning: 'What `iss` of a JWT must be, letter for letter.',
    schema: z.string(),
  }),
  JWT_AUDIENCE: setting({
    group: 'http',
    default: '',
    meaning: 'What `aud` of a JWT must be or contain; one of several, separated by commas.',
    schema: list,
  }),
  JWT_OWNER_CLAIM: setting({
    group: 'http',
    default: 'sub',
    meaning: 'Claim of a JWT that names the owner. It must be one that users cannot choose for themselves.',
    schema: text,
  }),
  CORS_ORIGINS: setting({
    group: 'http',
    default: '',
    meaning:
      'Web pages that may call the gateway from a browser, and open WebSockets to it: origins as https://app.example.com, separated by commas, or * for all (only with keys). Empty: none but its own.',
    schema: list.pipe(
      z.array(
        z
          .string()
          .refine(
            (it) => it === '*' || isOrigin(it),
            'must be origins such as https://app.example.com, without a path',
          ),
      ),
    ),
  }),

  REDIS_URL: setting({
    group: 'redis',
    default: 'redis://127.0.0.1:6379',
    secret: true,
    meaning:
      'redis[s]://[user:password@]host:port[/db], redis[s]+sentinel://[user:password@]host:port,host:port/master or redis[s]+cluster://[user:password@]host:port,host:port. User and password percent-encoded; rediss is TLS. Redis 7.0 or newer.',
    schema: text.refine(
      (url) => /^[^@]*:\/\/(?:[^@/]*@)?[^@]*$/.test(url) && decodes(url),
      'a user name or password must be percent-encoded: @ is %40, / is %2F, % is %25',
    ),
  }),
  REDIS_CA_FILE: setting({
    group: 'redis',
    default: '',
    meaning:
      'PEM file of the authority that signed Redis’s certificate, read at start. Empty: the authorities that Node knows. The name in REDIS_URL is always checked against the certificate.',
    schema: textOfFile,
  }),
  REDIS_CERT_FILE: setting({
    group: 'redis',
    default: '',
    meaning: 'PEM file of the certificate that is shown to Redis and to Sentinels, read at start. Empty: none.',
    schema: textOfFile,
  }),
  REDIS_KEY_FILE: setting({
    group: 'redis',
    default: '',
    meaning: 'PEM file of the key of REDIS_CERT_FILE.',
    schema: textOfFile,
  }),
  REDIS_SENTINEL_USERNAME: setting({
    group: 'redis',
    default: '',
    meaning: 'User at the Sentinels themselves; user and password in REDIS_URL are for Redis. Empty: the default user.',
    schema: z.string(),
  }),
  REDIS_SENTINEL_PASSWORD: setting({
    group: 'redis',
    default: '',
    secret: true,
    meaning: 'Password at the Sentinels themselves. Empty: they ask for none.',
    schema: z.string(),
  }),
  DURABILITY: setting({
    group: 'redis',
    default: 'fast',
    meaning:
      'When a message is accepted, an agent’s event acknowledged and an end shown: fast, when Redis has it; safe, when DURABILITY_REPLICAS have it too. Not within REDIS_DEADLINE_MS: 503 not_durable.',
    schema: z.enum(['fast', 'safe']),
  }),
  DURABILITY_REPLICAS: setting({
    group: 'redis',
    default: '1',
    unit: 'count',
    meaning:
      'With DURABILITY=safe: replicas of each master that must have what is acknowledged. 0: the append-only file of one server that has none, with appendfsync always, or from Redis 7.2 on.',
    schema: whole(0, 10),
  }),
  KEY_PREFIX: setting({
    group: 'redis',
    default: 'tl:',
    meaning: 'Start of every key and channel. Gateways that share it are one.',
    schema: z.string().regex(/^[A-Za-z0-9:._-]{1,64}$/, 'must be 1–64 letters, digits or :._-'),
  }),
  REDIS_DEADLINE_MS: setting({
    group: 'redis',
    default: '3000',
    unit: 'ms',
    meaning: 'How long a request waits for Redis before it is answered 503.',
    schema: ms(50),
  }),
  LIVE_OUTAGE_MS: setting({
    group: 'redis',
    default: '60000',
    unit: 'ms',
    meaning: 'How long an open stream waits for Redis to come back before it ends with an error.',
    schema: ms(0),
  }),
  SESSION_TTL_MS: setting({
    group: 'redis',
    default: String(7 * 24 * 3600_000),
    unit: 'ms',
    meaning: 'A session, and the results of its turns, are forgotten after so long without a new message.',
    schema: ms(1000),
  }),
  RESUME_WINDOW_MS: setting({
    group: 'redis',
    default: String(3600_000),
    unit: 'ms',
    meaning: 'How long after its end a turn can be replayed event by event; later only its result is kept.',
    schema: ms(1000),
  }),
  IDEMPOTENCY_TTL_MS: setting({
    group: 'redis',
    default: String(24 * 3600_000),
    unit: 'ms',
    meaning: 'How long an Idempotency-Key is remembered.',
    schema: ms(1000),
  }),

  POOLS: setting({
    group: 'agents',
    default: '',
    meaning:
      'Pools that exist even before an agent has joined: name,name; those of POOL_POLICIES do too. Messages to other unknown pools are 404.',
    schema: list.pipe(z.array(PoolName)),
  }),
  POOL_POLICIES: setting({
    group: 'agents',
    default: '',
    meaning:
      'Settings of single pools, as JSON: {"coder": {"onAgentLoss": "retry", "agentWaitMs": 60000}}. Fields: onAgentLoss, agentWaitMs, staleAfterMs, agentSilentMs, toolLimitMs, maxAttempts, queueLimit, stickyWaitMs, agentPer; what is left out is as the settings of the same names say.',
    schema: poolPolicies,
  }),
  LEASE_TTL_MS: setting({
    group: 'agents',
    default: '15000',
    unit: 'ms',
    meaning:
      'How long a lease lives without renewal (renewed three times as often): bounds, with AGENT_GRACE_MS, a loss of replica and agent together.',
    schema: ms(300),
  }),
  AGENT_GRACE_MS: setting({
    group: 'agents',
    default: '15000',
    unit: 'ms',
    meaning: 'How long an agent whose connection broke may take to come back to its turn.',
    schema: ms(0),
  }),
  ACCEPT_MS: setting({
    group: 'agents',
    default: '5000',
    unit: 'ms',
    meaning:
      'A turn that the agent has not accepted after this time is sent again; after three times the connection is closed.',
    schema: ms(50),
  }),
  MAX_ATTEMPTS: setting({
    group: 'agents',
    default: '3',
    unit: 'count',
    meaning:
      'How often a turn is handed to agents before it fails with attempts_exhausted; once more, at any rate, when its thread was gone (thread_gone).',
    schema: whole(1, 100),
  }),
  ON_AGENT_LOSS: setting({
    group: 'agents',
    default: 'fail',
    meaning:
      'An agent lost after its first output: fail the turn (agent_disconnected), or retry it from the start (reset).',
    schema: z.enum(['fail', 'retry']),
  }),
  STICKY_WAIT_MS: setting({
    group: 'agents',
    default: '10000',
    unit: 'ms',
    meaning:
      'How long a session waits for the agent that has its thread, while that one is here but full; then any of the pool may take it.',
    schema: ms(0),
  }),

  HELIX_POOL: setting({
    group: 'agents',
    default: '',
    meaning:
      'Pool of sessions that POST /api/v1/sessions/chat makes, and of Helix agents that name neither a session nor a pool. Empty: neither is offered.',
    schema: z.union([z.literal(''), PoolName]),
  }),
  HELIX_AGENT_NAME: setting({
    group: 'agents',
    default: 'zed-agent',
    meaning: 'Kind of agent that a Helix agent (Zed) is asked for, unless the session’s metadata has an agent_name.',
    schema: text,
  }),
  HELIX_READY_MS: setting({
    group: 'agents',
    default: '60000',
    unit: 'ms',
    meaning: 'How long commands to a Helix agent wait for its agent_ready before they are sent all the same.',
    schema: ms(0),
  }),
  HELIX_QUIET_MS: setting({
    group: 'agents',
    default: '15000',
    unit: 'ms',
    meaning:
      'After a Helix agent has reconnected and is ready: silence after which a prompt without any output is sent again.',
    schema: ms(0),
  }),
  HELIX_LINGER_MS: setting({
    group: 'agents',
    default: '60000',
    unit: 'ms',
    meaning:
      'How long what a Helix agent said before its connection closed waits for a Redis that is away; then it is lost.',
    schema: ms(0),
  }),
  HELIX_BOUNCE_MS: setting({
    group: 'agents',
    default: '2000',
    unit: 'ms',
    meaning:
      'Pause before a prompt that a Helix agent ended without any answer is sent again; doubles each time, up to 30 s.',
    schema: ms(0),
  }),

  AGENT_WAIT_MS: setting({
    group: 'turns',
    default: '120000',
    unit: 'ms',
    meaning: 'How long a turn waits for an agent of its pool before it fails with agent_unavailable.',
    schema: ms(),
  }),
  STALE_AFTER_MS: setting({
    group: 'turns',
    default: '300000',
    unit: 'ms',
    meaning: 'A turn that started so long ago and has no output fails with stale.',
    schema: ms(),
  }),
  AGENT_SILENT_MS: setting({
    group: 'turns',
    default: '300000',
    unit: 'ms',
    meaning:
      'An agent that says nothing for so long fails its turn with agent_silent; a tool call in progress excuses it.',
    schema: ms(),
  }),
  TOOL_LIMIT_MS: setting({
    group: 'turns',
    default: String(3600_000),
    unit: 'ms',
    meaning: 'How long a tool call in progress excuses silence.',
    schema: ms(),
  }),
  SWEEP_EVERY_MS: setting({
    group: 'turns',
    default: '5000',
    unit: 'ms',
    meaning: 'How often stuck turns are looked for.',
    schema: ms(100),
  }),

  WEBHOOK_SECRET: setting({
    group: 'webhooks',
    default: '',
    secret: true,
    meaning:
      'Signs what is posted when a turn ends: whsec_ and base64 of 24 to 64 bytes, or owner=whsec_… for one owner. Several, separated by commas: all sign, so that receivers may change over. Empty: clients may not ask for webhooks.',
    schema: webhookSecrets,
  }),
  WEBHOOK_ALLOW_HOSTS: setting({
    group: 'webhooks',
    default: '',
    meaning:
      'Hosts that clients may have posted to although they are not public: name,name:port. All other private, loopback, link-local and metadata addresses are refused.',
    schema: list.transform((hosts) => hosts.map((host) => host.toLowerCase())),
  }),
  WEBHOOK_TIMEOUT_MS: setting({
    group: 'webhooks',
    default: '10000',
    unit: 'ms',
    meaning: 'How long one post may take until it is answered.',
    schema: whole(100, 120_000),
  }),
  WEBHOOK_ATTEMPTS: setting({
    group: 'webhooks',
    default: '10',
    unit: 'count',
    meaning: 'How often a turn’s end is posted until it is answered with 2xx.',
    schema: whole(1, 100),
  }),
  WEBHOOK_RETRY_MS: setting({
    group: 'webhooks',
    default: '5000',
    unit: 'ms',
    meaning: 'Pause after the first post that failed; it doubles with each, up to half of it is left out at random.',
    schema: whole(10, 3600_000),
  }),
  WEBHOOK_MAX_AGE_MS: setting({
    group: 'webhooks',
    default: String(24 * 3600_000),
    unit: 'ms',
    meaning: 'A turn’s end that is older is not posted any more.',
    schema: ms(1000),
  }),
  AGENT_WANTED_URL: setting({
    group: 'webhooks',
    default: '',
    meaning: 'Where to post agent.wanted when a session waits and no agent takes it. Empty: nowhere.',
    schema: httpUrl,
  }),
  AGENT_WANTED_SECRET: setting({
    group: 'webhooks',
    default: '',
    secret: true,
    meaning: 'Signs agent.wanted: whsec_ and base64 of 24 to 64 bytes. Several, separated by commas: all sign.',
    schema: webhookSecrets,
  }),
  AGENT_WANTED_EVERY_MS: setting({
    group: 'webhooks',
    default: '10000',
    unit: 'ms',
    meaning: 'agent.wanted is posted at most so often for one pool (or session, with agentPer), over all replicas.',
    schema: ms(100),
  }),
  AGENT_TOKEN_TTL_MS: setting({
    group: 'webhooks',
    default: String(24 * 3600_000),
    unit: 'ms',
    meaning: 'How long the session token in agent.wanted opens its session; there is one when TOKEN_SECRET is set.',
    schema: ms(1000),
  }),

  TRUST_PROXY: setting({
    group: 'limits',
    default: '',
    meaning:
      'Whose X-Forwarded-For says where a request came from: how many proxies stand before the gateway, or their addresses and nets, separated by commas (loopback, linklocal and uniquelocal are names for such). Empty: nobody’s, the address is that of the peer.',
    schema: trustedProxies,
  }),
  RATE_WINDOW_MS: setting({
    group: 'limits',
    default: '60000',
    unit: 'ms',
    meaning: 'Length of the windows in which requests, messages and failed authentications are counted; whole seconds.',
    schema: ms(1000).refine((n) => n % 1000 === 0, 'must be whole seconds'),
  }),
  MAX_REQUESTS_PER_OWNER: setting({
    group: 'limits',
    default: '0',
    unit: 'count',
    meaning: 'Requests of one owner in RATE_WINDOW_MS, over all replicas; one more is answered 429. 0: any number.',
    schema: whole(0, 1_000_000_000),
  }),
  MAX_MESSAGES_PER_OWNER: setting({
    group: 'limits',
    default: '0',
    unit: 'count',
    meaning: 'Messages of one owner to agents in RATE_WINDOW_MS, over all replicas; one more is 429. 0: any number.',
    schema: whole(0, 1_000_000_000),
  }),
  MAX_STREAMS_PER_OWNER: setting({
    group: 'limits',
    default: '0',
    unit: 'count',
    meaning:
      'Streams that one owner may have open, over all replicas. One more takes the place of the oldest that can resume, or is answered 429. 0: any number.',
    schema: whole(0, 100_000),
  }),
  MAX_AUTH_FAILURES: setting({
    group: 'limits',
    default: '60',
    unit: 'count',
    meaning:
      'Failed authentications of one address in RATE_WINDOW_MS; after more of them it is answered 429 until the window ends, except to callers that were let in before.',
    schema: whole(1, 1_000_000_000),
  }),
  QUEUE_LIMIT: setting({
    group: 'limits',
    default: '100',
    unit: 'count',
    meaning: 'Messages that may wait in one session; one more is answered 429.',
    schema: whole(0, 100_000),
  }),
  HISTORY_LIMIT: setting({
    group: 'limits',
    default: '1000',
    unit: 'count',
    meaning: 'Turns kept per session; the oldest finished ones go first.',
    schema: whole(1, 100_000),
  }),
  MAX_BODY_BYTES: setting({
    group: 'limits',
    default: String(4 * 1024 * 1024),
    unit: 'bytes',
    meaning: 'Largest request body.',
    schema: whole(1024, 1024 ** 3),
  }),
  MAX_LOG_EVENTS: setting({
    group: 'limits',
    default: '200000',
    unit: 'events',
    meaning: 'Most events of one turn; beyond it the turn fails with log_full.',
    schema: whole(10, 100_000_000),
  }),
  MAX_LOG_BYTES: setting({
    group: 'limits',
    default: String(64 * 1024 * 1024),
    unit: 'bytes',
    meaning: 'Most bytes of one turn’s events; beyond it the turn fails with log_full.',
    schema: whole(1024, 4 * 1024 ** 3),
  }),
  WAIT_LIMIT_MS: setting({
    group: 'limits',
    default: '280000',
    unit: 'ms',
    meaning: 'How long a blocking request waits for the end of its turn.',
    schema: ms(),
  }),
  SLOW_VIEWER_MS: setting({
    group: 'limits',
    default: '30000',
    unit: 'ms',
    meaning: 'A stream whose reader takes nothing for so long is cut; its cursor makes that safe.',
    schema: ms(),
  }),
  KEEP_ALIVE_MS: setting({
    group: 'limits',
    default: '620000',
    unit: 'ms',
    meaning:
      'An idle connection of a client or a balancer is closed after so long. Must be longer than the balancer keeps its own: nginx and AWS 60 s, Google 600 s.',
    schema: ms(1000),
  }),
  MAX_CONNECTIONS: setting({
    group: 'limits',
    default: '30000',
    unit: 'count',
    meaning: 'Connections per replica, of clients and agents together; one more is closed at once.',
    schema: whole(1, 10_000_000),
  }),
  HELIX_MAX_FRAME_BYTES: setting({
    group: 'limits',
    default: String(64 * 1024 * 1024),
    unit: 'bytes',
    meaning: 'Largest message of a Helix agent, which sends whole answers in one; a larger one ends its connection.',
    schema: whole(64 * 1024, 512 * 1024 * 1024),
  }),
  AGENT_MAX_FRAME_BYTES: setting({
    group: 'limits',
    default: String(4 * 1024 * 1024),
    unit: 'bytes',
    meaning: 'Largest frame of a native agent (Socket.IO); a larger one ends its connection.',
    schema: whole(1024 * 1024, 512 * 1024 * 1024),
  }),
  MAX_AGENTS: setting({
    group: 'limits',
    default: '10000',
    unit: 'count',
    meaning: 'Agent connections per replica; one more is told to try elsewhere.',
    schema: whole(1, 1_000_000),
  }),

  REPLICA_ID: setting({
    group: 'operation',
    default: '',
    meaning: 'Name of this replica in logs and in Redis. Empty: host name, process id and a random part.',
    schema: z.string().regex(/^[A-Za-z0-9._-]{0,128}$/, 'must be letters, digits, dots, dashes or underscores'),
  }),
  DRAIN_MS: setting({
    group: 'operation',
    default: '90000',
    unit: 'ms',
    meaning: 'Longest time from SIGTERM to the end of the process.',
    schema: ms(0),
  }),
  LOG_LEVEL: setting({
    group: 'operation',
    default: 'info',
    meaning: 'Least level of log lines.',
    schema: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']),
  }),
  PROBE_MS: setting({
    group: 'operation',
    default: '5000',
    unit: 'ms',
    meaning: 'How often the delivery path of pub/sub is probed.',
    schema: ms(100),
  }),

  OTEL_EXPORTER_OTLP_ENDPOINT: setting({
    group: 'tracing',
    default: '',
    meaning:
      'Collector of OpenTelemetry traces, by OTLP/HTTP: http://collector:4318; /v1/traces is added. Empty, like the next two: nothing is traced.',
    schema: httpUrl,
  }),
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: setting({
    group: 'tracing',
    default: '',
    meaning: 'The same as a whole address, to which nothing is added; goes before OTEL_EXPORTER_OTLP_ENDPOINT.',
    schema: httpUrl,
  }),
  OTEL_TRACES_EXPORTER: setting({
    group: 'tracing',
    default: '',
    meaning: 'otlp: trace, to http://localhost:4318 where no endpoint is set. none: do not, whatever else is set.',
    schema: z.string(),
  }),
  OTEL_SDK_DISABLED: setting({
    group: 'tracing',
    default: 'false',
    meaning: 'true: do not trace, whatever else is set.',
    schema: z.string().transform((value) => value.toLowerCase() === 'true'),
  }),
  OTEL_EXPORTER_OTLP_PROTOCOL: setting({
    group: 'tracing',
    default: 'http/protobuf',
    meaning: 'How traces are sent; there is one way. OTEL_EXPORTER_OTLP_TRACES_PROTOCOL is not read.',
    schema: z.string(),
  }),
  OTEL_TRACES_SAMPLER: setting({
    group: 'tracing',
    default: 'parentbased_always_on',
    meaning:
      'Which traces are kept: always_on, always_off, traceidratio, or parentbased_ before one of these: where a client sends a traceparent, as it has decided.',
    schema: z.string(),
  }),
  OTEL_TRACES_SAMPLER_ARG: setting({
    group: 'tracing',
    default: '1',
    meaning: 'For the two samplers by ratio: which part of the traces is kept, from 0 to 1.',
    schema: z.string(),
  }),
} as const

type SettingName = keyof typeof SETTINGS
type Values = { [K in SettingName]: (typeof SETTINGS)[K] extends Setting<infer T> ? T : never }

/** A checked configuration, by the part of the gateway that it is for. */
export type Config = ReturnType<typeof group>

/** All that is wrong with an environment, one line per variable. */
export class ConfigError extends Error {
  readonly problems: string[]

  constructor(problems: string[]) {
    super(`The configuration is not usable:\n${problems.map((problem) => `  ${problem}`).join('\n')}`)
    this.name = 'ConfigError'
    this.problems = problems
  }
}

/** Reads and checks the environment. Throws ConfigError with every mistake at once. */
export function readConfig(env: Record<string, string | undefined> = process.env): Config {
  const values: Record<string, unknown> = {}
  const problems: string[] = []
  for (const [name, it] of Object.entries(SETTINGS) as [SettingName, Setting<unknown>][]) {
    const parsed = it.schema.safeParse(env[name] ?? it.default)
    if (parsed.success) values[name] = parsed.data
    else problems.push(`${name}: ${parsed.error.issues.map((issue) => issue.message).join('; ')}`)
  }
  const v = values as Values
  if (problems.length === 0) {
    const keyless = Object.values(keylessOf(v)).filter((sentence) => sentence !== null)
    if (v.HOST !== '' && !isLoopback(v.HOST) && keyless.length > 0)
      problems.push(`HOST: ${v.HOST} is reachable from outside, and ${keyless.join('; ')}`)
    if (v.CORS_ORIGINS.includes('*') && keyless.length > 0)
      problems.push(`CORS_ORIGINS: with * every web page could use a gateway where ${keyless.join('; ')}`)
    if (v.JWT_JWKS_URL !== '')
      for (const name of ['JWT_ISSUER', 'JWT_AUDIENCE'] as const)
        if (v[name].length === 0)
          problems.push(`${name}: must be set with JWT_JWKS_URL; else tokens for others would open this gateway`)
    if (v.JWT_JWKS_URL === '' && (v.JWT_ISSUER !== '' || v.JWT_AUDIENCE.length > 0))
      problems.push('JWT_JWKS_URL: must be set with JWT_ISSUER and JWT_AUDIENCE; without it no JWT is accepted')
    if (v.LEASE_TTL_MS > v.STALE_AFTER_MS) problems.push('LEASE_TTL_MS: must not be longer than STALE_AFTER_MS')
    for (const [pool, { staleAfterMs }] of Object.entries(v.POOL_POLICIES))
      if (staleAfterMs !== undefined && v.LEASE_TTL_MS > staleAfterMs)
        problems.push(`POOL_POLICIES: ${pool}.staleAfterMs: must not be shorter than LEASE_TTL_MS`)
    if (v.AGENT_WANTED_URL !== '' && v.AGENT_WANTED_SECRET.length === 0)
      problems.push('AGENT_WANTED_SECRET: must be set with AGENT_WANTED_URL; its receiver could not tell who asks')
    problems.push(...problemsOfRedis(v))
    problems.push(...tracingProblems(v))
    if (v.RESUME_WINDOW_MS > v.SESSION_TTL_MS) problems.push('RESUME_WINDOW_MS: must not be longer than SESSION_TTL_MS')
  }
  if (problems.length > 0) throw new ConfigError(problems)
  return group(v)
}

function problemsOfRedis(v: Values): string[] {
  const problems: string[] = []
  const { REDIS_URL: url, REDIS_CA_FILE: ca, REDIS_CERT_FILE: cert, REDIS_KEY_FILE: key } = v
  for (const name of ['REDIS_CA_FILE', 'REDIS_CERT_FILE', 'REDIS_KEY_FILE'] as const)
    if (v[name] !== '' && !url.startsWith('rediss'))
      problems.push(`${name}: REDIS_URL must begin with rediss for TLS; as it is, nothing would be encrypted`)
  if ((v.REDIS_SENTINEL_USERNAME || v.REDIS_SENTINEL_PASSWORD) && !/^rediss?\+sentinel:/.test(url))
    problems.push('REDIS_SENTINEL_USERNAME, REDIS_SENTINEL_PASSWORD: REDIS_URL names no Sentinels')
  if (v.DURABILITY === 'safe' && v.DURABILITY_REPLICAS === 0 && /^rediss?\+/.test(url))
    problems.push('DURABILITY_REPLICAS: 0 is not safe with Sentinels or a Cluster: in a failover the file stays behind')
  if ((cert === '') !== (key === '')) problems.push('REDIS_CERT_FILE, REDIS_KEY_FILE: set both or none')
  const readable = (name: string, read: () => unknown) => {
    try {
      read()
    } catch (err) {
      problems.push(`${name}: ${(err as Error).message}`)
    }
  }
  if (ca !== '') readable('REDIS_CA_FILE', () => new X509Certificate(ca))
  if (cert !== '' && key !== '') readable('REDIS_CERT_FILE, REDIS_KEY_FILE', () => createSecureContext({ cert, key }))
  return problems
}

export const isLoopback = (host: string): boolean => /^(localhost|127\.\d+\.\d+\.\d+|::1|\[::1\])$/.test(host)

/** Who needs no key, in a sentence that says how to change that; null where one is asked for. */
const keylessOf = (v: Values) => ({
  clients:
    v.CLIENT_KEYS.length === 0 && v.KEY_STORE === 'off' && v.JWT_JWKS_URL === ''
      ? 'clients need no key: set CLIENT_KEYS, KEY_STORE=on or JWT_JWKS_URL'
      : null,
  agents:
    v.AGENT_KEYS.length === 0 && v.KEY_STORE === 'off' ? 'agents need no key: set AGENT_KEYS or KEY_STORE=on' : null,
})

function group(v: Values) {
  const { clients, agents } = keylessOf(v)
  const keyless = [clients, agents].filter((sentence) => sentence !== null)
  const host = v.HOST || (keyless.length > 0 ? '127.0.0.1' : '0.0.0.0')
  return {
    http: {
      port: v.PORT,
      host,
      opsPort: v.OPS_PORT,
      opsHost: v.OPS_HOST || host,
      clientKeys: v.CLIENT_KEYS,
      agentKeys: v.AGENT_KEYS,
      tokenSecrets: v.TOKEN_SECRET,
      keyStore: v.KEY_STORE === 'on',
      jwt:
        v.JWT_JWKS_URL === ''
          ? null
          : {
              jwksUrl: v.JWT_JWKS_URL,
              issuer: v.JWT_ISSUER,
              audience: v.JWT_AUDIENCE,
              ownerClaim: v.JWT_OWNER_CLAIM,
            },
      /** Somebody may connect without a key. */
      keyless: keyless.length > 0,
      /** Who, and what to set so that they may not. */
      keylessBecause: keyless.join('; '),
      trustProxy: v.TRUST_PROXY,
      rates: {
        windowMs: v.RATE_WINDOW_MS,
        requests: v.MAX_REQUESTS_PER_OWNER,
        messages: v.MAX_MESSAGES_PER_OWNER,
        failures: v.MAX_AUTH_FAILURES,
      },
      maxStreamsPerOwner: v.MAX_STREAMS_PER_OWNER,
      origins: { origins: v.CORS_ORIGINS, loopbackOnly: keyless.length > 0 },
      maxBodyBytes: v.MAX_BODY_BYTES,
      waitLimitMs: v.WAIT_LIMIT_MS,
      slowViewerMs: v.SLOW_VIEWER_MS,
      maxAgents: v.MAX_AGENTS,
      agentMaxFrameBytes: v.AGENT_MAX_FRAME_BYTES,
      connections: { keepAliveMs: v.KEEP_ALIVE_MS, maxConnections: v.MAX_CONNECTIONS },
    },
    helix: {
      pool: v.HELIX_POOL,
      agentName: v.HELIX_AGENT_NAME,
      readyMs: v.HELIX_READY_MS,
      quietMs: v.HELIX_QUIET_MS,
      bounceMs: v.HELIX_BOUNCE_MS,
      lingerMs: v.HELIX_LINGER_MS,
      maxFrameBytes: v.HELIX_MAX_FRAME_BYTES,
    },
    redis: {
      url: v.REDIS_URL,
      ca: v.REDIS_CA_FILE,
      cert: v.REDIS_CERT_FILE,
      key: v.REDIS_KEY_FILE,
      sentinelUsername: v.REDIS_SENTINEL_USERNAME,
      sentinelPassword: v.REDIS_SENTINEL_PASSWORD,
    },
    /** How many replicas must confirm; null: Redis' own answer is enough. */
    durability: v.DURABILITY === 'safe' ? { replicas: v.DURABILITY_REPLICAS } : null,
    store: {
      prefix: v.KEY_PREFIX,
      sessionTtlMs: v.SESSION_TTL_MS,
      resumeWindowMs: v.RESUME_WINDOW_MS,
      leaseTtlMs: v.LEASE_TTL_MS,
      agentGraceMs: v.AGENT_GRACE_MS,
      maxLogEvents: v.MAX_LOG_EVENTS,
      maxLogBytes: v.MAX_LOG_BYTES,
      redisDeadlineMs: v.REDIS_DEADLINE_MS,
      replicaTtlMs: 15_000,
      probeEveryMs: v.PROBE_MS,
    },
    core: {
      policy: {
        onAgentLoss: v.ON_AGENT_LOSS,
        agentWaitMs: v.AGENT_WAIT_MS,
        staleAfterMs: v.STALE_AFTER_MS,
        agentSilentMs: v.AGENT_SILENT_MS,
        toolLimitMs: v.TOOL_LIMIT_MS,
        maxAttempts: v.MAX_ATTEMPTS,
        queueLimit: v.QUEUE_LIMIT,
        stickyWaitMs: v.STICKY_WAIT_MS,
        agentPer: 'pool' as const,
      },
      poolPolicies: v.POOL_POLICIES,
      historyLimit: v.HISTORY_LIMIT,
      agentGraceMs: v.AGENT_GRACE_MS,
      leaseTtlMs: v.LEASE_TTL_MS,
      acceptMs: v.ACCEPT_MS,
      sweepEveryMs: v.SWEEP_EVERY_MS,
      idempotencyTtlMs: v.IDEMPOTENCY_TTL_MS,
      liveOutageMs: v.LIVE_OUTAGE_MS,
      pools: [...new Set([...v.POOLS, ...Object.keys(v.POOL_POLICIES), ...(v.HELIX_POOL ? [v.HELIX_POOL] : [])])],
    },
    webhooks: {
      keys: v.WEBHOOK_SECRET,
      open: v.WEBHOOK_ALLOW_HOSTS,
      timeoutMs: v.WEBHOOK_TIMEOUT_MS,
      attempts: v.WEBHOOK_ATTEMPTS,
      retryMs: v.WEBHOOK_RETRY_MS,
      maxAgeMs: v.WEBHOOK_MAX_AGE_MS,
      wanted:
        v.AGENT_WANTED_URL === ''
          ? null
          : {
              url: v.AGENT_WANTED_URL,
              keys: v.AGENT_WANTED_SECRET.map(({ key }) => key),
              everyMs: v.AGENT_WANTED_EVERY_MS,
              tokenTtlMs: v.AGENT_TOKEN_TTL_MS,
            },
    },
    tracing: traced(v),
    replica: v.REPLICA_ID || `${hostname()}-${process.pid}-${Math.random().toString(36).slice(2, 8)}`,
    drainMs: v.DRAIN_MS,
    logLevel: v.LOG_LEVEL,
  }
}

const SAMPLERS = ['always_on', 'always_off', 'traceidratio'].flatMap((name) => [name, `parentbased_${name}`])

/** Where traces go; null: nowhere. Samplers, batches, headers and time-outs the SDK reads from the standard variables. */
function traced(v: Values): { url: string | undefined } | null {
  const base = v.OTEL_EXPORTER_OTLP_ENDPOINT.replace(/\/$/, '')
  const url = v.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT || (base && `${base}/v1/traces`) || undefined
  const wanted = v.OTEL_TRACES_EXPORTER === '' ? url !== undefined : v.OTEL_TRACES_EXPORTER !== 'none'
  return wanted && !v.OTEL_SDK_DISABLED ? { url } : null
}

/** What the SDK would pass over in silence. Such variables may be there for other programs: of no account unless we trace. */
function tracingProblems(v: Values): string[] {
  if (!traced(v)) return []
  const problems = []
  if (!['', 'otlp'].includes(v.OTEL_TRACES_EXPORTER))
    problems.push('OTEL_TRACES_EXPORTER: must be otlp or none; no other exporter is built in')
  if (v.OTEL_EXPORTER_OTLP_PROTOCOL !== 'http/protobuf')
    problems.push('OTEL_EXPORTER_OTLP_PROTOCOL: must be http/protobuf (port 4318 of a collector); no other is built in')
  if (!SAMPLERS.includes(v.OTEL_TRACES_SAMPLER))
    problems.push(`OTEL_TRACES_SAMPLER: must be one of ${SAMPLERS.join(', ')}`)
  const ratio = Number(v.OTEL_TRACES_SAMPLER_ARG.trim() || NaN)
  if (v.OTEL_TRACES_SAMPLER.endsWith('traceidratio') && !(ratio >= 0 && ratio <= 1))
    problems.push('OTEL_TRACES_SAMPLER_ARG: must be a number from 0 to 1')
  return problems
}

/** Every secret that stands in an environment, alone and as it was written; for those who must not let it out. */
export function secretsIn(env: Record<string, string | undefined> = process.env): string[] {
  return (Object.entries(SETTINGS) as [SettingName, Setting<unknown>][]).flatMap(([name, it]) => {
    const given = env[name]
    if (!it.secret || !given) return []
    if (name === 'REDIS_URL') return passwordsIn(given)
    if (name === 'REDIS_SENTINEL_PASSWORD') return [given] // no list: it may have commas
    return given.split(',').flatMap((item) => [item.trim(), item.slice(item.indexOf('=') + 1).trim()])
  })
}

/** The password of a Redis URL, encoded and not. */
function passwordsIn(url: string): string[] {
  const password = /\/\/[^:@/]*:(.*)@/.exec(url)?.[1]
  return password ? [password, decodeURIComponent(password)] : []
}

/** The table with the values of this environment, secrets masked. */
export function describeConfig(env: Record<string, string | undefined> = process.env) {
  return (Object.entries(SETTINGS) as [SettingName, Setting<unknown>][]).map(([name, it]) => {
    const given = env[name]
    return {
      name,
      group: it.group,
      value: it.secret && given ? '********' : (given ?? it.default),
      default: it.default,
      unit: it.unit ?? '',
      meaning: it.meaning,
      given: given !== undefined,
    }
  })
}
