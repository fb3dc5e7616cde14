/**
 * Measures a candidate beside the experts in use, on text that this node holds: bits per byte without and with it, and
 * the share of public text that it takes. Both numbers are those of a composition as this node would serve it: its
 * choice of router, the gate that this choice solves for exactly these experts, and its top-k. Does not know what is
 * allowed.
 */
import type { PublicModel } from '../checkpoint/public-model.ts'
import { createEvaluator, type Evaluation, type HeldOutDocument } from '../model/evaluate.ts'
import { Gates, type RouterChoice, routingOf, statisticsOf } from '../model/gates.ts'
import { type Expert, mixtureWeights, zeroRows } from '../model/params.ts'
import type { SequenceRouting } from '../model/routing-plan.ts'
import { LEFT_OUT } from '../model/routing-plan.ts'
import type { RouterStatistics } from '../model/solved-router.ts'
import type { Engine } from '../tensor/engine.ts'
import { statisticsShare } from './gate-share.ts'
import type { Loss, Measurement } from './measurement-checks.ts'

export interface MeasureInit {
  readonly engine: Engine
  readonly publicModel: PublicModel
  /** Maximum number of experts that are active for a token. */
  readonly topK: number
  readonly router: RouterChoice
  /** Held-out public text; at least one document. */
  publicText(): Promise<readonly HeldOutDocument[]>
  /** Held-out text of this node's own trainings; may be empty. */
  ownText(): Promise<readonly HeldOutDocument[]>
  publicStatistics(): Promise<RouterStatistics>
}

/**
 * Scores each text under two compositions: that of the baseline alone, as it routes without the candidate, and that of
 * all experts. One pass through the model serves both compositions and all texts.
 * @param baseline experts beside which the candidate is measured
 * @param onProgress receives the share of the work that is done, 0 to 1
 * @throws the signal's reason; as `WeightSource.read`.
 */
export async function measure(
  init: MeasureInit,
  baseline: readonly Expert[],
  candidate: Expert,
  signal: AbortSignal,
  onProgress?: (share: number) => void,
): Promise<Measurement> {
  const { config, weights, tokenizer } = init.publicModel
  const experts = [...baseline, candidate]
  const E = experts.length + 1
  const isGated = init.router !== 'rows' && experts.some(({ statistics }) => statistics !== undefined)
  const publicStatistics = isGated ? await init.publicStatistics() : undefined
  const mixture = mixtureWeights(config, weights, zeroRows(config), experts)
  const gates = new Gates(statisticsOf(publicStatistics, experts))
  /** The routing of a composition of the first experts of the mixture; the others are left out. */
  const routed = (first: readonly Expert[]): SequenceRouting => {
    const { router, used } = routingOf(init.router, publicStatistics, first)
    const mask = new Float32Array(E).fill(LEFT_OUT, 1)
    used.forEach((isUsed, i) => {
      if (isUsed) mask[i + 1] = 0
    })
    return { mask, gate: router === 'rows' ? undefined : gates.gate(mask) }
  }
  const routings = [routed(baseline), routed(experts)]
  const publicText = await init.publicText()
  const ownText = await init.ownText()
  const texts = (ownText.length === 0 ? [publicText] : [publicText, ownText]).map((documents) => ({
    documents,
    routings,
  }))
  const evaluator = createEvaluator(init.engine, config, mixture, {
    E,
    topK: Math.min(init.topK, E),
    endOfText: tokenizer.endOfText,
  })
  try {
    const [shared, own] = await evaluator.evaluateAll(texts, { signal, onProgress })
    const { statistics } = candidate
    return {
      public: lossOf(shared as Evaluation[]),
      publicLoadShare: (shared as Evaluation[])[1]?.loadShares[E - 1] as number,
      ...(statistics === undefined
        ? {}
        : { publicGateShare: statisticsShare(await init.publicStatistics(), statistics, publicText) }),
      ...(own === undefined ? {} : { own: lossOf(own) }),
    }
  } finally {
    await evaluator.dispose()
  }
}

/** @param scores without and with the candidate */
function lossOf([before, after]: readonly Evaluation[]): Loss {
  return { before: (before as Evaluation).bitsPerByte, after: (after as Evaluation).bitsPerByte }
}
