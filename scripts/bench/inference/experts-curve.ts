/**
 * Measures decode time by the number of composed experts, top-2, on model M. The router picks two of them, so more
 * experts should cost little. Each number alternates with two experts, so that drift of the machine cancels out.
 */

import { mulberry32 } from '../../../src/lib/random.ts'
import { mixtureWeights } from '../../../src/model/params.ts'
import { rounded } from '../machine.ts'
import { CONFIGS } from '../reference-configs.ts'
import { compare } from './compare.ts'
import { startOurs } from './our-server.ts'
import { promptSource, referenceExpert, referencePublicModel, routerRows, TOP_K } from './reference-models.ts'

const COUNTS = [2, 4, 8, 16, 32, 64] as const
const PROMPT_TOKENS = 32
const NEW_TOKENS = 64
const ROUNDS = 5
const SEED = 2

export interface ExpertsCurve {
  /** Milliseconds for one token, by number of experts including the public one. */
  readonly milliseconds: Record<string, number>
  /** Time with the most experts divided by the time with two in the same rounds. */
  readonly growth: number
}

export async function measureExpertsCurve(say: (line: string) => void): Promise<ExpertsCurve> {
  const config = CONFIGS.M
  const random = mulberry32(SEED)
  const publicModel = referencePublicModel(config, random)
  const rows = routerRows(config, random)
  const guests = Array.from({ length: Math.max(...COUNTS) - 1 }, () => referenceExpert(config, random))
  const start = (E: number) =>
    startOurs(config, mixtureWeights(config, publicModel, rows, guests.slice(0, E - 1)), { E, topK: TOP_K })
  const nextPrompt = promptSource(config, PROMPT_TOKENS, SEED)
  const milliseconds: Record<string, number> = {}
  let growth = 1
  const two = await start(2)
  try {
    for (const E of COUNTS) {
      const server = await start(E)
      try {
        const { ours, peer } = await compare(server, two, nextPrompt, ROUNDS, NEW_TOKENS, false)
        milliseconds[E] = rounded(ours.decodeMs)
        growth = rounded(ours.decodeMs / peer.decodeMs)
        say(`${E} experts: ${ours.decodeMs.toFixed(2)} ms a token, ${growth} times the time of two`)
      } finally {
        await server.stop()
      }
    }
  } finally {
    await two.stop()
  }
  return { milliseconds, growth }
}
