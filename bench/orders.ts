/** The child's half of `Child` in processes.ts: carries out orders of the parent, one answer each. */
interface Order {
  id: number
  order: string
  argument: unknown
}

/** Answers orders by name until the parent goes; then this process ends, whatever it was doing. */
export function answerOrders(handlers: Record<string, (argument: never) => unknown>): void {
  process.once('disconnect', () => process.exit(1))
  process.on('message', ({ id, order, argument }: Order) => {
    Promise.resolve()
      .then(() => handlers[order]!(argument as never))
      .then(
        (value) => tell({ id, value }),
        (err: unknown) => tell({ id, failure: err instanceof Error ? err.stack : String(err) }),
      )
  })
  tell({ id: 0, value: 'up' })
}

/** Tells the parent how far it is, unasked. */
export const progress = (count: number): void => tell({ id: -1, value: count })

function tell(news: { id: number; value?: unknown; failure?: string | undefined }): void {
  if (process.connected) process.send!(news)
}

/** What the parent gave this process on its way, as JSON. */
export const given = <T>(): T => JSON.parse(process.argv[2]!) as T
