import { createHmac } from 'node:crypto'

/**
 * The headers of Standard Webhooks over this body. `id` names the event, the same at every attempt; `seconds` is when it
 * is sent, Unix time. One signature per secret, so that a receiver may know the old or the new one while they rotate.
 */
export function signed(id: string, seconds: number, body: string, keys: Buffer[]): Record<string, string> {
  const signature = (key: Buffer) => createHmac('sha256', key).update(`${id}.${seconds}.${body}`).digest('base64')
  return {
    'webhook-id': id,
    'webhook-timestamp': String(seconds),
    'webhook-signature': keys.map((key) => `v1,${signature(key)}`).join(' '),
  }
}
