/**
 * Measures how many bits per byte coded weights cost: `evaluate` scores the example texts with models/small and the
 * demo's three experts, once with each format of weights.
 */
import { join } from 'node:path'
import type { WeightFormat } from '../../../src/inference/weight-format.ts'
import { foundHome, ROOT } from '../node-process.ts'
import type { Rows } from './findings.ts'
import { runMeasured } from './measured-process.ts'

/** The demo's institutions, and the steps of its trainings. */
const INSTITUTIONS = ['hospital', 'archive', 'university'] as const
const STEPS = 200
const KILOBYTES = 64

export interface Quality {
  /** Bits per byte with coded weights divided by those with float32, minus 1. */
  readonly int8?: number
  readonly int4?: number
}

export async function measureQuality(work: string, rows: Rows, steps = STEPS): Promise<Quality> {
  const home = join(work, 'small')
  await foundHome(home)
  for (const name of INSTITUTIONS) {
    const data = join(ROOT, 'examples', name, 'text')
    await runMeasured(['train', '--name', name, '--data', data, '--steps', String(steps), '--home', home])
    await runMeasured(['publish', name, '--yes', '--home', home])
    rows.say(`trained and published ${name}`)
  }
  const fp32 = await bitsPerByte(home, 'fp32')
  const lossOf = async (format: WeightFormat): Promise<number | undefined> => {
    const bits = await rows.measure(`bits per byte with ${format}`, async () => {
      const coded = await bitsPerByte(home, format)
      // Codes change the last digits of every score.
      if (coded === fp32)
        throw new Error(`evaluate gives ${coded} as with fp32: it does not score with the codes`)
      return coded
    })
    if (bits === undefined) return undefined
    rows.say(`${bits.toFixed(5)} bits per byte with ${format}, ${fp32.toFixed(5)} with fp32`)
    return bits / fp32 - 1
  }
  const int8 = await lossOf('int8')
  const int4 = await lossOf('int4')
  return { ...(int8 === undefined ? {} : { int8 }), ...(int4 === undefined ? {} : { int4 }) }
}

/** Mean over the three texts and public text, with the composition of all experts. */
async function bitsPerByte(home: string, weights: WeightFormat): Promise<number> {
  const data = INSTITUTIONS.map((name) => join(ROOT, 'examples', name, 'text'))
  const options = ['--kilobytes', String(KILOBYTES), '--weights', weights, '--json', '--home', home]
  const { out } = await runMeasured(['evaluate', '--data', ...data, ...options])
  return (JSON.parse(out.at(-1) as string) as { macro: { composed: number } }).macro.composed
}
