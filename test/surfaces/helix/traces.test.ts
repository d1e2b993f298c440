import type { InteractionId } from '../../../src/protocol/ids.js'
import { eventually } from '../../support/eventually.js'
import type { HelixAgent } from '../../support/helix-agent.js'
import { tell, type Shown, type Story } from './story.js'
import { TRACES, type Step } from './traces.js'

/** Plays a trace against a gateway: agent on one replica, client on the other. */
class Player {
  readonly #story: Story
  readonly #requests: string[] = []
  #zed: HelixAgent
  /** Commands of this connection that the trace has named. */
  #seen = 0

  constructor(story: Story, zed: HelixAgent) {
    this.#story = story
    this.#zed = zed
  }

  async play(step: Step): Promise<void> {
    if ('post' in step) await this.#story.post(step.post, step.interrupt && { interrupt: true }, 1)
    else if ('from' in step) this.#zed.say(step.from, this.#named(step.data))
    else if ('to' in step) await this.#expect(step.to, step.with)
    else if ('turn' in step) await this.#ended(step)
    else if ('cancel' in step) {
      const { id } = await this.#turn(step.cancel)
      await fetch(`${this.#story.net.url(1)}/api/v1/interactions/${id}/cancel`, { method: 'POST' })
    } else {
      await this.#zed[Symbol.asyncDispose]()
      this.#zed = await this.#story.connect(1, { ready: false })
      this.#seen = 0
    }
  }

  /** The next command is this one; of a prompt's request id the trace does not know more than its place. */
  async #expect(type: string, fields: Record<string, unknown>): Promise<void> {
    const next = await eventually(() => this.#zed.commands[this.#seen] ?? false, { limitMs: 10_000 })
    this.#seen++
    if (type === 'chat_message') this.#requests.push(String(next.data['request_id']))
    expect(next).toMatchObject({ type, data: this.#named(fields) })
  }

  #named(fields: Record<string, unknown>): Record<string, unknown> {
    const name = (value: unknown) =>
      typeof value === 'string' && /^R\d$/.test(value) ? this.#requests[Number(value[1]) - 1] : value
    return Object.fromEntries(Object.entries(fields).map(([field, value]) => [field, name(value)]))
  }

  async #ended({ turn, status, text, origin }: Extract<Step, { turn: string }>): Promise<void> {
    const { id } = await this.#turn(turn)
    expect(await this.#story.become(id, status as Shown['status'])).toMatchObject({
      text,
      origin: origin ?? 'client',
    })
  }

  #turn(input: string): Promise<{ id: InteractionId }> {
    return eventually(async () => {
      for (const { id } of await this.#story.sessions()) {
        const found = (await this.#story.turns(id)).find((turn) => turn.input === input)
        if (found) return found
      }
      return false
    })
  }

  /** Nothing was sent that the trace does not have. */
  end(): void {
    expect(this.#zed.commands.slice(this.#seen)).toEqual([])
  }
}

test.each(Object.keys(TRACES))('the trace "%s" is played as it was seen', async (name) => {
  await using story = await tell({ replicas: 2 })
  const player = new Player(story, await story.connect(0, { ready: false }))
  for (const step of TRACES[name]!) await player.play(step)
  player.end()
})
