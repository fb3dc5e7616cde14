/** What a gate solved from an expert's router statistics would give it of public text. */
import type { HeldOutDocument } from '../model/evaluate.ts'
import { type RouterStatistics, solveGate } from '../model/solved-router.ts'
import type { NodeState } from '../node/node-state.ts'
import { gateShares, STATISTICS_WINDOW } from '../training/router-statistics.ts'

/** As solved: what calibration does for public text is no merit of a guest. */
const LOG_ODDS = { scale: 1, prior: 0 }

/**
 * Mean probability, over documents, of a guest beside the public expert in the gate that is solved for the two,
 * not calibrated: statistics of the public text itself take a half.
 * @throws RangeError without documents.
 */
export async function statisticsShare(
  state: Pick<NodeState, 'publicStatistics'>,
  statistics: RouterStatistics,
  documents: readonly HeldOutDocument[],
): Promise<number> {
  const gate = solveGate([await state.publicStatistics(), statistics], LOG_ODDS)
  return gateShares(gate, windowsOf(documents))[1] as number
}

function windowsOf(documents: readonly HeldOutDocument[]): Int32Array[] {
  return documents.flatMap(({ tokens }) =>
    Array.from({ length: Math.ceil(tokens.length / STATISTICS_WINDOW) }, (_, i) =>
      tokens.subarray(i * STATISTICS_WINDOW, (i + 1) * STATISTICS_WINDOW),
    ),
  )
}
