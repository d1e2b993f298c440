export type { Connection } from '../store/redis.js'
