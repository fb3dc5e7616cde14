/**
 * Writes a random public model of a named shape, to try the product at a size by hand.
 * Usage: npx tsx scripts/bench/sizes/write.ts SHAPE DIR, with SHAPE one of tiny, 200M, 1B, 7B.
 */
import { writePublicModel } from './random-model.ts'
import { SHAPE_NAMES, SHAPES } from './shapes.ts'

const [given = '', dir] = process.argv.slice(2)
const name = SHAPE_NAMES.find((shape) => shape === given)
if (name === undefined || dir === undefined) {
  console.error(`usage: write.ts SHAPE DIR; SHAPE is one of ${SHAPE_NAMES.join(', ')}`)
  process.exit(2)
}
await writePublicModel(dir, SHAPES[name])
