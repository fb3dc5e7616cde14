/**
 * Measures a candidate beside the experts in use, on text that this node holds: bits per byte without and with it, and
 * the share of public text that it takes. Both numbers are those of a composition as this node would serve it: its
 * choice of router, the gate that this choice solves for exactly these experts, and its top-k. Knows nothing about what
 * is allowed.
 */
import type { PublicModel } from '../checkpoint/public-model.ts'
import { createEvaluator, type HeldOutDocument } from '../model/evaluate.ts'
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
 * Evaluate two compositions on each text: that of the baseline alone, as it routes without the candidate, and that of
 * all experts. Compiles one mixture for both.
 * @param baseline experts beside which the candidate is measured
 * @throws the signal's reason.
 */
export async function measure(
  init: MeasureInit,
  baseline: readonly Expert[],
  candidate: Expert,
  signal: AbortSignal,
): Promise<Measurement> {
  const { config, weights, tokenizer } = init.publicModel
  const experts = [...baseline, candidate]
  const E = experts.length + 1
  const isGated = init.router !== 'rows' && experts.some(({ statistics }) => statistics !== undefined)
  const publicStatistics = isGated ? await init.publicStatistics() : undefined
  const mixture = mixtureWeights(config, weights, zeroRows(config), experts)
  const evaluator = await createEvaluator(init.engine, config, mixture, {
    E,
    topK: Math.min(init.topK, E),
    endOfText: tokenizer.endOfText,
    gate: isGated,
  })
  try {
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
    const without = routed(baseline)
    const beside = routed(experts)
    const compare = async (documents: readonly HeldOutDocument[]): Promise<{ loss: Loss; share: number }> => {
      const before = await evaluator.evaluate(documents, without, signal)
      const after = await evaluator.evaluate(documents, beside, signal)
      return {
        loss: { before: before.bitsPerByte, after: after.bitsPerByte },
        share: after.loadShares[E - 1] as number,
      }
    }
    const publicText = await init.publicText()
    const shared = await compare(publicText)
    const ownText = await init.ownText()
    const own = ownText.length > 0 ? await compare(ownText) : undefined
    const { statistics } = candidate
    return {
      public: shared.loss,
      publicLoadShare: shared.share,
      ...(statistics === undefined
        ? {}
        : { publicGateShare: statisticsShare(await init.publicStatistics(), statistics, publicText) }),
      ...(own === undefined ? {} : { own: own.loss }),
    }
  } finally {
    await evaluator.dispose()
  }
}
