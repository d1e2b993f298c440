import { figure, millis, replicas, times, total, whole } from './figures.js'
import type { Findings } from './findings.js'
import type { Result } from './measure.js'

/** What the figures say and do not say, with the figures of this run. */
export function reading({ results }: Findings): string[] {
  const [little, moderate, , single, bursts, watched, flood] = results.map(({ byRig }) => byRig)
  const added = (it: typeof little, than: 'Redis pub/sub' | 'Socket.IO relay') =>
    millis(it!['Throughline'].p50 - it![than].p50)
  const rate = (it: Result) => `${whole(it.events / it.seconds)} events/s`
  const perCore = (it: Result) => whole(1e6 / Math.max(it.cpu['replica A'] ?? NaN, it.cpu['replica B'] ?? NaN))
  const ours = single!['Throughline']
  const relay = single!['Socket.IO relay']
  return [
    `- **Latency.** At 200 events/s the median way takes ${millis(little!['Throughline'].p50)} ms: ${added(little, 'Redis pub/sub')} ms more than the bare Redis hop (two more processes to wake) and ${added(little, 'Socket.IO relay')} ms more than the relay. At 2,000 events/s it is ${millis(moderate!['Throughline'].p50)} ms, ${added(moderate, 'Socket.IO relay')} ms more than the relay. The difference is the order of things: an event is fenced, numbered and written before anybody sees it, and the next one of its session waits for that answer. A reader of tokens does not see milliseconds; a long p99 is mostly five processes taking turns on the cores of one machine.`,
    `- **Throughput.** An event a message, the whole chain brings ${rate(ours)}, the relay ${rate(relay)} (${times(ours.events / ours.seconds, relay.events / relay.seconds)}), bare pub/sub ${rate(single!['Redis pub/sub'])}. When agents say more at a time it is ${rate(bursts!['Throughline'])} against ${rate(bursts!['Socket.IO relay'])}: what arrives while an append is in flight goes with the next one, so batches grow as the load does. That is also why the CPU per event falls from ${figure(total(moderate!['Throughline'].cpu))} µs at 2,000 events/s to ${figure(total(ours.cpu))} µs at saturation.`,
    `- **Where the time goes.** At saturation the two replicas together take ${figure(replicas(ours))} µs an event, the relay's two ${figure(replicas(relay))} µs. Redis takes ${figure(ours.cpu['Redis'])} µs against ${figure(relay.cpu['Redis'])} µs for a relayed and ${figure(single!['Redis pub/sub'].cpu['Redis'])} µs for a bare PUBLISH: an append is a script that looks at the lease, writes the stream and the append-only file and then publishes. This is what is slower, and it is what durability costs; it is paid per append, so in bursts it is ${figure(bursts!['Throughline'].cpu['Redis'])} µs.`,
    `- **Fan-out.** A viewer more costs a write to its socket: an event is parsed and encoded once per replica. With 100 viewers replica B takes ${figure(flood!['Throughline'].cpu['replica B'])} µs a delivery at saturation (the relay's: ${figure(flood!['Socket.IO relay'].cpu['replica B'])} µs) and ${figure(watched!['Throughline'].cpu['replica B'])} µs at 40 events/s, where each event is a write of its own.`,
    `- **What follows for sizes.** By its own CPU time at saturation a replica would carry about ${perCore(ours)} events/s of this kind per core when nobody else uses it. Plan for half.`,
    '- **What it does not say.** Agents, viewers, replicas and Redis share the cores of one machine, so throughput is that of the chain and not of a replica. Nothing here has TLS, a proxy, a network or keys. A single run on a shared machine differs from the next by tens of percent: trust the ratios, and look at *elsewhere* before trusting a row.',
  ]
}
