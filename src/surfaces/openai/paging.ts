import { z } from 'zod'

/** Query of a list: OpenAI's lists are newest first unless asked otherwise. */
export const ListQuery = z.looseObject({
  limit: z.coerce.number().int().min(1).max(100).default(20),
  order: z.enum(['asc', 'desc']).default('desc'),
  after: z.string().optional(),
})

/** A page in OpenAI's shape. */
export const listOf = <Item extends { id: string }>(data: Item[], hasMore: boolean) => ({
  object: 'list',
  data,
  first_id: data[0]?.id ?? null,
  last_id: data.at(-1)?.id ?? null,
  has_more: hasMore,
})
