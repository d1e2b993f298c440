import { Trails } from '../../src/observe/trails.js'
import { NO_TRAIL } from '../../src/protocol/trail.js'

const trail = (requestId: string) => ({ ...NO_TRAIL, requestId })

test('the last ten thousand turns are known, those of long ago are not', () => {
  const trails = new Trails()
  for (let i = 0; i < 50_000; i++) trails.note(`int_${i}`, trail(String(i)))
  for (const i of [40_000, 49_999]) expect(trails.of(`int_${i}`)).toEqual(trail(String(i)))
  expect(trails.of('int_20000')).toBe(NO_TRAIL)
})

test('a turn without a trail takes no place', () => {
  const trails = new Trails()
  trails.note('int_1', trail('1'))
  for (let i = 0; i < 50_000; i++) trails.note(`int_x${i}`, NO_TRAIL)
  expect(trails.of('int_1')).toEqual(trail('1'))
})
