export interface BannerFacts {
  url: string
  /** The one line about Redis. */
  redis: string
  /** The pool that has an agent, if any has. */
  pool: string | null
  replicas: { name: string; pid: number; opsUrl: string }[]
}

/** What to try, ready to be copied, and where everything is. */
export function banner({ url, redis, pool, replicas }: BannerFacts): string {
  const body = JSON.stringify({ pool: pool ?? '<pool>', text: 'Tell me a story', stream: true })
  return [
    '',
    `Throughline is up: ${url}`,
    '',
    pool ? '  Ask the demo agent:' : '  Connect an agent to a pool, then ask it:',
    `    curl -N ${url}/api/v1/messages -H 'content-type: application/json' -d '${body}'`,
    '',
    '  Stop that in the middle, then go on after event 5 (the interaction id is in the first events):',
    `    curl -N ${url}/api/v1/interactions/int_…/events -H 'last-event-id: 5'`,
    '',
    `  OpenAI SDKs: base URL ${url}/v1, any API key, model "${pool ?? '<pool>'}"`,
    '',
    ...replicas.map(({ name, pid, opsUrl }) => `  ${name}: pid ${pid}, ${opsUrl}/readyz, ${opsUrl}/metrics`),
    replicas.length > 1
      ? `  Kill one in the middle of an answer (kill -9 ${replicas[0]!.pid}) and go on with the second command: nothing is lost.`
      : '  More replicas behind one port: npx throughline dev --replicas 3',
    '',
    `  ${redis}`,
    '  Ctrl-C stops everything.',
    '',
  ].join('\n')
}
